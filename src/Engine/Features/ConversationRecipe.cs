using System.Text.Json;
using Tiller.Chat;

namespace Tiller.Features;

/// <summary>
/// Turns a recorded conversation (ShareGPT's "conversations", whose messages have "from" and "value") into a prompt: the conversation up to the last
/// message that a model did not write, so that the answer comes next (docs/data.md).
/// </summary>
internal static class ConversationRecipe
{
    private const string Assistant = "assistant";

    private static readonly string[] s_names = ["conversations", "conversation"];

    // Published names of those who speak, and roles of a chat.
    private static readonly Dictionary<string, string> s_roles = new(StringComparer.Ordinal)
    {
        ["system"] = ChatPrompt.SystemRole,
        ["human"] = ChatPrompt.UserRole,
        ["user"] = ChatPrompt.UserRole,
        ["gpt"] = Assistant,
        ["chatgpt"] = Assistant,
        ["bard"] = Assistant,
        ["bing"] = Assistant,
        ["model"] = Assistant,
        ["assistant"] = Assistant,
        ["tool"] = "tool",
        ["observation"] = "tool",
    };

    /// <summary>Whether a field or column of this name holds a conversation.</summary>
    public static bool IsUsual(string name) => s_names.Contains(name, StringComparer.OrdinalIgnoreCase);

    /// <summary>Whether a value is a message of such a conversation.</summary>
    public static bool IsMessage(JsonElement value) => value.ValueKind == JsonValueKind.Object && value.TryGetProperty("from", out JsonElement from)
        && from.ValueKind == JsonValueKind.String && value.TryGetProperty("value", out _);

    /// <summary>The conversation of an item; null if it has none.</summary>
    public static (string Name, JsonElement Value)? Find(JsonElement item)
    {
        foreach (string name in s_names)
        {
            if (item.TryGetProperty(name, out JsonElement value))
            {
                return (name, value);
            }
        }

        return null;
    }

    /// <summary>The system message that an item has beside its conversation; null if it has none.</summary>
    public static string? SystemOf(DataRecord item) => (item.Text("system") ?? item.Text("system_prompt")) is { Length: > 0 } system ? system : null;

    /// <summary>Makes the prompt of a conversation.</summary>
    /// <param name="conversation">An array of messages.</param>
    /// <param name="system">A system message for a conversation without one; null for none.</param>
    /// <param name="place">Where the conversation is, for errors.</param>
    /// <returns>Null if nobody but the model and the system speaks: the conversation is no prompt.</returns>
    /// <exception cref="PromptFileException">It is no array of messages.</exception>
    public static ChatPrompt? Prompt(JsonElement conversation, string? system, PromptJson.Place place)
    {
        if (conversation.ValueKind != JsonValueKind.Array)
        {
            throw place.Fail($"expected an array of messages; got {PromptJson.Describe(conversation)}.");
        }

        List<ChatMessage> messages =
            [.. conversation.EnumerateArray().Select((message, i) => PromptJson.Guarded(place.At(i), at => Message(message, at)))];
        int end = messages.FindLastIndex(static x => x.Role is not (Assistant or ChatPrompt.SystemRole)) + 1;
        if (end == 0)
        {
            return null;
        }

        // A recording may begin in the middle, with an answer to a question that it does not have.
        int begin = messages[0].Role == ChatPrompt.SystemRole ? 1 : 0;
        int asked = messages.FindIndex(begin, static x => x.Role != Assistant);
        IEnumerable<ChatMessage> opening = begin == 1 ? messages.Take(1) : ChatPrompt.Begin(system);
        return new ChatPrompt([.. opening, .. messages.Take(asked..end)]);
    }

    private static ChatMessage Message(JsonElement value, PromptJson.Place place)
    {
        if (value.ValueKind != JsonValueKind.Object)
        {
            throw place.Fail($"expected a message, an object with \"from\" and \"value\"; got {PromptJson.Describe(value)}.");
        }

        (string who, string what) = value.TryGetProperty("from", out _) ? ("from", "value") : ("role", "content");
        foreach (JsonProperty property in value.EnumerateObject())
        {
            // Numbers and truth values are marks for training, such as "weight". A text would be lost.
            if (property.Name != who && property.Name != what && property.Value.ValueKind
                is not (JsonValueKind.Null or JsonValueKind.Number or JsonValueKind.True or JsonValueKind.False))
            {
                throw place.At(PromptJson.Shown(property.Name)).Fail(
                    $"a message of a conversation holds \"{who}\" and \"{what}\", and besides only numbers and truth values; leave this out, or make "
                    + "it null.");
            }
        }

        string name = PromptJson.Member(value, who, what, who, place);
        return s_roles.TryGetValue(name, out string? role)
            ? new ChatMessage(role, PromptJson.Member(value, who, what, what, place))
            : throw place.At(who).Fail($"expected one of {string.Join(", ", s_roles.Keys)}; got '{PromptJson.Shown(name)}'.");
    }
}
