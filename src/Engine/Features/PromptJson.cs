using System.Globalization;
using System.Text.Json;
using Tiller.Chat;
using Tiller.Tokens;

namespace Tiller.Features;

/// <summary>Reads prompts written as JSON: a whole file, or one value on each line. Errors name positions and kinds, but no content.</summary>
internal static class PromptJson
{
    // Maximum depth of one prompt; a file of prompts has one level more.
    private const int MaxDepth = 64;

    private const string Shapes = "a prompt: a string, an object with \"prompt\" or \"text\" or another usual name (a string), or a chat, "
        + "which is an object with \"messages\" or \"conversations\", or an array of messages";

    private static readonly JsonDocumentOptions s_line = new() { AllowDuplicateProperties = false, MaxDepth = MaxDepth };
    private static readonly JsonDocumentOptions s_file = s_line with { MaxDepth = MaxDepth + 1 };

    private static readonly string[] s_roles = [ChatPrompt.SystemRole, ChatPrompt.UserRole, "assistant", "tool"];

    /// <summary>Reads the prompts of a file that is one JSON value. JSON lines in a file named .json are read as JSON lines.</summary>
    /// <exception cref="PromptFileException">The file is not JSON, or a value has not the shape of a prompt.</exception>
    public static List<Prompt> Parse(string path, string text, string? field, RecordSieve? sieve = null) =>
        [.. Whole(
            path, text, (root, place) => Root(root, field, place, sieve), (item, place) => Sieved(item, field, place, sieve)).OfType<Prompt>()];

    /// <summary>Reads the prompts of a file with one value on each line; blank lines are skipped.</summary>
    /// <exception cref="PromptFileException">A line is not JSON, or has not the shape of a prompt.</exception>
    public static List<Prompt> ParseLines(string path, string text, string? field, RecordSieve? sieve = null) =>
        [.. Lines(path, text, (item, place) => Sieved(item, field, place, sieve)).OfType<Prompt>()];

    /// <summary>Reads the items of a file: the items of an array, or one value on each line.</summary>
    /// <param name="path">Name of the file, as for <see cref="PromptFile"/>.</param>
    /// <param name="text">Content of the file.</param>
    /// <param name="lines">Whether the file has one value on each line, whatever its name.</param>
    /// <param name="read">Returns the result of an item.</param>
    /// <exception cref="PromptFileException">It is not JSON, or an item is refused.</exception>
    public static List<T> Items<T>(string path, string text, bool lines, Func<JsonElement, Place, T> read)
    {
        return lines ? Lines(path, text, read) : Whole(path, text, Each, read);

        List<T> Each(JsonElement root, Place place) => root.ValueKind == JsonValueKind.Array
            ? [.. root.EnumerateArray().Select((item, i) => Guarded(place.At(i), at => read(item, at)))]
            : [read(root, place)];
    }

    private static List<T> Whole<T>(string path, string text, Func<JsonElement, Place, List<T>> read, Func<JsonElement, Place, T> readLine)
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
                return Lines(path, text, readLine);
            }

            int line = (int)((e as JsonException)?.LineNumber ?? -1) + 1;
            throw new PromptFileException(path, line, $"is not JSON, which a file that ends in .json must be. {e.Message}", e);
        }

        using (json)
        {
            return Guarded(new Place(path, 0, "$"), place => read(json.RootElement, place));
        }
    }

    private static List<T> Lines<T>(string path, string text, Func<JsonElement, Place, T> read)
    {
        var items = new List<T>();
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
                items.Add(Guarded(new Place(path, number, "$"), place => read(json.RootElement, place)));
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

        return items;
    }

    /// <summary>Reads a chat that is written in the cell of a table.</summary>
    /// <param name="cell">An array of messages, each with "from" and "value" or with "role" and "content".</param>
    /// <param name="isConversation">Whether it is a conversation by the name of its column; otherwise its messages decide.</param>
    /// <param name="system">A system message for a conversation without one; null for none.</param>
    /// <param name="fail">Makes an error of the row.</param>
    /// <returns>Null if it is a conversation without a prompt.</returns>
    /// <exception cref="PromptFileException">It is no such array.</exception>
    public static ChatPrompt? Cell(string cell, bool isConversation, string? system, Func<string, PromptFileException> fail)
    {
        try
        {
            using var json = JsonDocument.Parse(cell, s_line);
            JsonElement chat = json.RootElement;
            return Guarded(new Place("", 0, "$"), place => isConversation || chat.ValueKind != JsonValueKind.Array
                || ConversationRecipe.IsMessage(chat.EnumerateArray().FirstOrDefault())
                ? ConversationRecipe.Prompt(chat, system, place)
                : Chat(chat, place));
        }
        catch (PromptFileException e)
        {
            throw fail($"a chat that cannot be read{e.Message}");
        }
        catch (Exception e) when (IsMalformed(e))
        {
            throw fail($"expected a chat, which is an array of messages in JSON. {e.Message}");
        }
    }

    /// <summary>Whether a text is one JSON array, or has an array on every line.</summary>
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

    // A key with the escape of a lone surrogate is JSON, but cannot be compared with other keys.
    private static bool IsMalformed(Exception e) => e is JsonException or InvalidOperationException;

    // A value with the escape of a lone surrogate is JSON, but cannot be read as text.
    internal static T Guarded<T>(Place place, Func<Place, T> read)
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

    // Null for an item that is not taken, and for what is no prompt.
    private static Prompt? Sieved(JsonElement item, string? field, Place place, RecordSieve? sieve)
    {
        if (sieve is null)
        {
            return One(item, field, place);
        }

        var record = new JsonRecord(item);
        var prompt = sieve.Takes(record) ? One(item, field, place) : null;
        if (prompt is not null)
        {
            sieve.Took(record);
        }

        return prompt;
    }

    private static List<Prompt?> Root(JsonElement root, string? field, Place place, RecordSieve? sieve)
    {
        // At the root, a field may lead to a list; the rest of it then leads to the prompt of each item. In an array, all of it does.
        if (field is not null && root.ValueKind == JsonValueKind.Object)
        {
            JsonElement? whole = Follow(root, field);
            for (int end = field.Length; end > 0; end = whole is null ? field.LastIndexOf('.', end - 1) : 0)
            {
                if (Follow(root, field[..end]) is { ValueKind: JsonValueKind.Array } list)
                {
                    (root, place, field) = (list, place.At(Shown(field[..end])), end == field.Length ? null : field[(end + 1)..]);
                    break;
                }
            }
        }

        JsonElement first = root.ValueKind == JsonValueKind.Array ? root.EnumerateArray().FirstOrDefault() : root;
        if (root.ValueKind != JsonValueKind.Array || IsMessage(first) || ConversationRecipe.IsMessage(first))
        {
            RefuseSeveralChats(root, place);
            return [Sieved(root, field, place, sieve)];
        }

        return [.. root.EnumerateArray().Select((item, i) => Guarded(place.At(i), at => Sieved(item, field, at, sieve)))];
    }

    // [{"role":"user",…},{"role":"user",…}] is one chat, but probably meant as a list of prompts.
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

    // Null for an empty string, which is skipped like a blank line of a text.
    private static Prompt? One(JsonElement value, string? field, Place place)
    {
        if (field is not null)
        {
            JsonElement found = Follow(value, field)
                ?? throw place.Fail($"PromptSelection.Field is '{Shown(field)}', which is not in {Describe(value)}.");
            (value, place) = (found, place.At(Shown(field)));
        }

        switch (value.ValueKind)
        {
            case JsonValueKind.String:
                return value.ValueEquals("") ? null : Text(value, place);
            case JsonValueKind.Array when IsMessage(value.EnumerateArray().FirstOrDefault()):
                return Chat(value, place);
            case JsonValueKind.Array when ConversationRecipe.IsMessage(value.EnumerateArray().FirstOrDefault()):
                return ConversationRecipe.Prompt(value, system: null, place);
            case JsonValueKind.Object:
                bool hasText = value.TryGetProperty("text", out var text);
                bool hasPrompt = value.TryGetProperty("prompt", out var prompt);
                bool hasMessages = value.TryGetProperty("messages", out var messages);
                switch (hasText, hasPrompt, hasMessages)
                {
                    case (true, false, false):
                        return Text(text, place.At("text"));
                    case (false, true, false):
                        // RealToxicityPrompts: an object that holds the text and its scores. Preference data: a chat.
                        return prompt.ValueKind == JsonValueKind.Object && prompt.TryGetProperty("text", out text)
                            ? Text(text, place.At("prompt").At("text"))
                            : prompt.ValueKind == JsonValueKind.Array && IsMessage(prompt.EnumerateArray().FirstOrDefault())
                            ? Chat(prompt, place.At("prompt"))
                            : Text(prompt, place.At("prompt"));
                    case (false, false, true):
                        return Chat(messages, place.At("messages"));
                    case (false, false, false) when ConversationRecipe.Find(value) is var (name, conversation):
                        return ConversationRecipe.Prompt(conversation, ConversationRecipe.SystemOf(new JsonRecord(value)), place.At(name));
                    case (false, false, false) when PromptRecipe.Text(new JsonRecord(value)) is { } usual:
                        return usual.Length > 0
                            ? new TextPrompt(usual)
                            : throw place.Fail($"expected a prompt that is not empty in {Describe(value)}.");
                    default:
                        break;
                }

                throw place.Fail($"expected {Shapes}; got {Describe(value)}. Set PromptSelection.Field to the field that holds the prompt.");
            default:
                throw place.Fail($"expected {Shapes}; got {Describe(value)}.");
        }
    }

    // Follows a property, or properties separated by dots; numbers are indices of arrays. Null if the path leads nowhere.
    private static JsonElement? Follow(JsonElement value, string field)
    {
        if (value.ValueKind == JsonValueKind.Object && value.TryGetProperty(field, out var found))
        {
            return found;
        }

        int dot = field.IndexOf('.', StringComparison.Ordinal);
        string first = dot < 0 ? field : field[..dot];
        JsonElement? inner = value.ValueKind switch
        {
            JsonValueKind.Object when dot > 0 && value.TryGetProperty(first, out found) => found,
            JsonValueKind.Array when int.TryParse(first, NumberStyles.None, null, out int index) && index < value.GetArrayLength() => value[index],
            _ => null,
        };
        return inner is null || dot < 0 ? inner : Follow(inner.Value, field[(dot + 1)..]);
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

        // Other properties, which a template might read, would be lost.
        foreach (var property in value.EnumerateObject())
        {
            if (property.Name is not ("role" or "content") && property.Value.ValueKind != JsonValueKind.Null)
            {
                throw place.At(Shown(property.Name)).Fail(
                    "a message holds \"role\" and \"content\" and nothing else; leave this out, or make it null.");
            }
        }

        string role = Member(value, "role", "content", "role", place);
        return Array.IndexOf(s_roles, role) >= 0
            ? new ChatMessage(role, Member(value, "role", "content", "content", place))
            : throw place.At("role").Fail($"expected one of {string.Join(", ", s_roles)}; got '{Shown(role)}'.");
    }

    /// <summary>The text of a member of a message.</summary>
    /// <param name="message">The message.</param>
    /// <param name="who">The name of the member that tells who speaks.</param>
    /// <param name="what">The name of the member with the text.</param>
    /// <param name="name">The one of them that is wanted.</param>
    /// <param name="place">Where the message is.</param>
    /// <exception cref="PromptFileException">It has no such member, or no text in it.</exception>
    internal static string Member(JsonElement message, string who, string what, string name, Place place)
    {
        if (!message.TryGetProperty(name, out var value))
        {
            throw place.Fail($"expected a message, an object with \"{who}\" and \"{what}\"; this has no \"{name}\".");
        }

        return Guarded(
            place.At(name),
            at => value.ValueKind == JsonValueKind.String ? value.GetString()! : throw at.Fail($"expected a string; got {Describe(value)}."));
    }

    /// <summary>Describes a value by its kind and the names of its keys, without content.</summary>
    public static string Describe(JsonElement value) => value.ValueKind switch
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
        const int Max = 5;
        string[] names = [.. value.EnumerateObject().Select(property => property.Name).Take(Max + 1)];
        string named = string.Join(", ", names.Take(Max).Select(name => $"\"{Shown(name)}\""));
        return names.Length == 0 ? "an empty object" : $"an object with {named}{(names.Length > Max ? " and more" : "")}";
    }

    /// <summary>The beginning of a name, for messages.</summary>
    internal static string Shown(string name) => TokenizerException.Escape(name.Length <= 40 ? name : name[..40] + "…");

    // The position of a value in a file.
    internal readonly record struct Place(string File, int Line, string Path)
    {
        public Place At(int index) => this with { Path = $"{Path}[{index}]" };

        public Place At(string name) => this with { Path = $"{Path}.{name}" };

        public PromptFileException Fail(string message, Exception? cause = null) => new(File, Line, message, cause, Path);
    }

    /// <summary>A JSON object as an item of a data set.</summary>
    internal sealed class JsonRecord(JsonElement value) : DataRecord
    {
        public override IReadOnlyList<string> Choices => Find("choices") is { ValueKind: JsonValueKind.Array } list
            ? [.. list.EnumerateArray().Where(static x => x.ValueKind == JsonValueKind.String).Select(static x => x.GetString()!)]
            : base.Choices;

        public override string? Text(string name) => Find(name) is { ValueKind: JsonValueKind.String } text ? text.GetString() : null;

        public override string? Scalar(string name) => Find(name) switch
        {
            { ValueKind: JsonValueKind.Number or JsonValueKind.True or JsonValueKind.False } scalar => scalar.GetRawText(),
            _ => Text(name),
        };

        // TruthfulQA: an object whose keys are the answers and whose values are 1 or 0; on the hub, one of two lists, "choices" and "labels".
        public override IReadOnlyList<(string Answer, bool IsTrue)>? Targets(string name) => Find(name) is { ValueKind: JsonValueKind.Object } targets
            ? targets.TryGetProperty("choices", out var choices) && choices.ValueKind == JsonValueKind.Array
                && targets.TryGetProperty("labels", out var labels) && labels.ValueKind == JsonValueKind.Array
                ? choices.GetArrayLength() == labels.GetArrayLength()
                    ? [.. choices.EnumerateArray().Zip(labels.EnumerateArray()).Where(static x => x.First.ValueKind == JsonValueKind.String)
                        .Select(static x => (x.First.GetString()!, IsOne(x.Second)))]
                    : null
                : [.. targets.EnumerateObject().Select(static x => (x.Name, IsOne(x.Value)))]
            : null;

        private static bool IsOne(JsonElement value) => value.ValueKind == JsonValueKind.Number && value.GetDouble() == 1;

        private JsonElement? Find(string name)
        {
            if (value.ValueKind != JsonValueKind.Object)
            {
                return null;
            }

            foreach (JsonProperty property in value.EnumerateObject())
            {
                if (string.Equals(property.Name, name, StringComparison.OrdinalIgnoreCase))
                {
                    return property.Value;
                }
            }

            return name.Contains('.', StringComparison.Ordinal) ? Follow(value, name) : null;
        }
    }
}
