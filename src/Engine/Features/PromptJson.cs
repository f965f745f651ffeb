using System.Text.Json;
using Tiller.Chat;
using Tiller.Tokens;

namespace Tiller.Features;

/// <summary>Reads prompts that are written as JSON: a whole file of it, or one value a line. Errors tell places and kinds, and no content.</summary>
internal static class PromptJson
{
    // Of one prompt; a file of them nests one deeper.
    private const int MaxDepth = 8;

    private const string Shapes = "a prompt: a string, an object with \"prompt\" or \"text\" (a string), or a chat, "
        + "which is an object with \"messages\" or an array of messages";

    private static readonly JsonDocumentOptions s_line = new() { AllowDuplicateProperties = false, MaxDepth = MaxDepth };
    private static readonly JsonDocumentOptions s_file = s_line with { MaxDepth = MaxDepth + 1 };

    private static readonly string[] s_roles = [ChatPrompt.SystemRole, ChatPrompt.UserRole, "assistant", "tool"];

    /// <summary>The prompts of a file that is one value. JSON lines under the name of a .json file are read as what they are.</summary>
    /// <exception cref="PromptFileException">It is not JSON, or not of a shape that prompts have.</exception>
    public static List<Prompt> Parse(string path, string text)
    {
        JsonDocument json;
        try
        {
            json = JsonDocument.Parse(text, s_file);
        }
        catch (Exception e) when (IsMalformed(e))
        {
            if (BeginsWithAValueOnItsLine(text))
            {
                return ParseLines(path, text);
            }

            int line = (int)((e as JsonException)?.LineNumber ?? -1) + 1;
            throw new PromptFileException(path, line, $"is not JSON, which a file that ends in .json must be. {e.Message}", e);
        }

        using (json)
        {
            return Guarded(new Place(path, 0, "$"), place => Root(json.RootElement, place));
        }
    }

    /// <summary>The prompts of a file with a value a line; blank lines are skipped.</summary>
    /// <exception cref="PromptFileException">A line is not JSON, or not of a shape that prompts have.</exception>
    public static List<Prompt> ParseLines(string path, string text)
    {
        var prompts = new List<Prompt>();
        int number = 0;
        foreach (string line in PromptFile.Lines(text))
        {
            number++;
            if (string.IsNullOrWhiteSpace(line))
            {
                continue;
            }

            try
            {
                using var json = JsonDocument.Parse(line, s_line);
                prompts.Add(Guarded(new Place(path, number, "$"), place => One(json.RootElement, place)));
            }
            catch (Exception e) when (IsMalformed(e))
            {
                bool array = line.AsSpan().TrimStart().StartsWith('[');
                throw new PromptFileException(
                    path, number,
                    $"is not a line of JSONL (the file ends in .jsonl or begins with '{{'). {e.Message}"
                    + (array ? " A JSON array over several lines belongs in a file that ends in .json." : ""), e);
            }
        }

        return prompts;
    }

    /// <summary>Whether a text is one JSON array, or has one on every line.</summary>
    public static bool IsArray(string text) =>
        text.AsSpan().TrimStart().StartsWith('[')
        && (IsArrayItself(text) || PromptFile.Lines(text).Where(line => !string.IsNullOrWhiteSpace(line)).All(IsArrayItself));

    private static bool IsArrayItself(string text)
    {
        if (!text.AsSpan().TrimStart().StartsWith('['))
        {
            return false;
        }

        try
        {
            using var json = JsonDocument.Parse(text, new JsonDocumentOptions { MaxDepth = 256 });
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private static bool BeginsWithAValueOnItsLine(string text)
    {
        try
        {
            string first = PromptFile.Lines(text).First(line => !string.IsNullOrWhiteSpace(line));
            using var json = JsonDocument.Parse(first, s_line);
            return true;
        }
        catch (Exception e) when (IsMalformed(e))
        {
            return false;
        }
    }

    // A key with a lone surrogate escape is JSON, but cannot be compared with others.
    private static bool IsMalformed(Exception e) => e is JsonException or InvalidOperationException;

    // The same in a value, which cannot be read as text.
    private static T Guarded<T>(Place place, Func<Place, T> read)
    {
        try
        {
            return read(place);
        }
        catch (InvalidOperationException e)
        {
            throw place.Fail($"holds text that is not Unicode: half a surrogate pair. {e.Message}", e);
        }
    }

    private static List<Prompt> Root(JsonElement root, Place place)
    {
        if (root.ValueKind != JsonValueKind.Array || IsMessage(root.EnumerateArray().FirstOrDefault()))
        {
            RefuseSeveralChats(root, place);
            return [One(root, place)];
        }

        return [.. root.EnumerateArray().Select((item, i) => Guarded(place.At(i), at => One(item, at)))];
    }

    // [{"role":"user",…},{"role":"user",…}] is one chat by its form and a list of prompts by its looks.
    private static void RefuseSeveralChats(JsonElement root, Place place)
    {
        if (root.ValueKind == JsonValueKind.Array && root.GetArrayLength() > 1
            && root.EnumerateArray().All(item => IsMessage(item) && item.GetProperty("role").ValueEquals(ChatPrompt.UserRole)))
        {
            throw place.Fail(
                "an array of messages is one chat, but here all of them are the user's. Write several chats as an array of arrays of messages.");
        }
    }

    private static bool IsMessage(JsonElement value) =>
        value.ValueKind == JsonValueKind.Object && value.TryGetProperty("role", out var role) && role.ValueKind == JsonValueKind.String;

    private static Prompt One(JsonElement value, Place place)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.String:
                return Text(value, place);
            case JsonValueKind.Array when IsMessage(value.EnumerateArray().FirstOrDefault()):
                return Chat(value, place);
            case JsonValueKind.Object:
                bool hasText = value.TryGetProperty("text", out var text);
                bool hasPrompt = value.TryGetProperty("prompt", out var prompt);
                bool hasMessages = value.TryGetProperty("messages", out var messages);
                if ((hasText, hasPrompt, hasMessages) is (true, false, false) or (false, true, false))
                {
                    return Text(hasText ? text : prompt, place.At(hasText ? "text" : "prompt"));
                }

                if ((hasText, hasPrompt, hasMessages) is (false, false, true))
                {
                    return Chat(messages, place.At("messages"));
                }

                break;
        }

        throw place.Fail($"expected {Shapes}; got {Describe(value)}.");
    }

    private static TextPrompt Text(JsonElement value, Place place)
    {
        string? text = value.ValueKind == JsonValueKind.String ? value.GetString() : null;
        return !string.IsNullOrEmpty(text) ? new TextPrompt(text) : throw place.Fail($"expected a string that is not empty; got {Describe(value)}.");
    }

    private static ChatPrompt Chat(JsonElement value, Place place)
    {
        if (value.ValueKind != JsonValueKind.Array || value.GetArrayLength() == 0)
        {
            throw place.Fail($"expected an array of messages, at least one; got {Describe(value)}.");
        }

        return new ChatPrompt([.. value.EnumerateArray().Select((message, i) => Guarded(place.At(i), at => Message(message, at)))]);
    }

    private static ChatMessage Message(JsonElement value, Place place)
    {
        if (value.ValueKind != JsonValueKind.Object)
        {
            throw place.Fail($"expected a message, an object with \"role\" and \"content\"; got {Describe(value)}.");
        }

        // What a template may read besides would be lost.
        foreach (var property in value.EnumerateObject())
        {
            if (property.Name is not ("role" or "content") && property.Value.ValueKind != JsonValueKind.Null)
            {
                throw place.At(Shown(property.Name)).Fail(
                    "a message holds \"role\" and \"content\" and nothing else; leave this out, or make it null.");
            }
        }

        string role = Member(value, "role", place);
        return Array.IndexOf(s_roles, role) >= 0
            ? new ChatMessage(role, Member(value, "content", place))
            : throw place.At("role").Fail($"expected one of {string.Join(", ", s_roles)}; got '{Shown(role)}'.");
    }

    private static string Member(JsonElement message, string name, Place place)
    {
        if (!message.TryGetProperty(name, out var value))
        {
            throw place.Fail($"expected a message, an object with \"role\" and \"content\"; this has no \"{name}\".");
        }

        return Guarded(
            place.At(name),
            at => value.ValueKind == JsonValueKind.String ? value.GetString()! : throw at.Fail($"expected a string; got {Describe(value)}."));
    }

    // Kinds and names of keys, never content.
    private static string Describe(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.String => value.ValueEquals("") ? "an empty string" : "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.True or JsonValueKind.False => "true or false",
        JsonValueKind.Null => "null",
        JsonValueKind.Array when value.GetArrayLength() == 0 => "an empty array",
        JsonValueKind.Array => $"an array that begins with {Describe(value[0])}",
        _ => Keys(value),
    };

    private static string Keys(JsonElement value)
    {
        const int Most = 5;
        string[] names = [.. value.EnumerateObject().Select(property => property.Name).Take(Most + 1)];
        string named = string.Join(", ", names.Take(Most).Select(name => $"\"{Shown(name)}\""));
        return names.Length == 0 ? "an empty object" : $"an object with {named}{(names.Length > Most ? " and more" : "")}";
    }

    private static string Shown(string name) => TokenizerException.Escape(name.Length <= 40 ? name : name[..40] + "…");

    // Where a value stands.
    private readonly record struct Place(string File, int Line, string Path)
    {
        public Place At(int index) => this with { Path = $"{Path}[{index}]" };

        public Place At(string name) => this with { Path = $"{Path}.{name}" };

        public PromptFileException Fail(string message, Exception? cause = null) => new(File, Line, message, cause, Path);
    }
}
