using System.Text.Json;
using Tiller.Jinja;
using Tiller.Tokens;

namespace Tiller.Chat;

/// <summary>Prepares the input of a chat template as transformers does.</summary>
internal static class ChatInput
{
    private const string Marker = "CONTINUE_FINAL_MESSAGE_TAG ";

    // Keys under which different templates read the same reasoning text.
    private static readonly string[] s_reasoning = ["reasoning_content", "thinking", "reasoning"];

    /// <summary>The variables that every template gets, and those that the caller adds or replaces.</summary>
    public static Dictionary<string, JinjaValue> Variables(
        JinjaValue messages, bool addGenerationPrompt, IEnumerable<KeyValuePair<string, JinjaValue>> others)
    {
        var variables = new Dictionary<string, JinjaValue>(StringComparer.Ordinal)
        {
            ["messages"] = messages,
            ["tools"] = JinjaValue.None,
            ["documents"] = JinjaValue.None,
            ["add_generation_prompt"] = JinjaValue.Of(addGenerationPrompt),
        };
        foreach ((string name, JinjaValue value) in others)
        {
            variables[name] = value;
        }

        return variables;
    }

    /// <summary>Converts messages from a JSON array of objects.</summary>
    public static IReadOnlyList<JinjaValue> Messages(JsonElement messages, bool dropNull)
    {
        if (messages.ValueKind != JsonValueKind.Array)
        {
            throw new ChatException(ChatError.Unreadable, $"Messages have to be a JSON array of objects, found {messages.ValueKind}.");
        }

        return [.. messages.EnumerateArray().Select(message => Message(JinjaValue.FromJson(message), dropNull))];
    }

    /// <summary>Removes null keys from a message if asked to, and adds its reasoning under every key that templates read.</summary>
    public static JinjaValue Message(JinjaValue message, bool dropNull)
    {
        if (message is not MapValue map)
        {
            return message;
        }

        bool reasons = s_reasoning.Any(name => map.Find(name) is not (null or NoneValue));
        if (!reasons && !(dropNull && Enumerable.Range(0, map.Count).Any(i => map.At(i) is NoneValue)))
        {
            return message;
        }

        var prepared = new MapBuilder(null);
        for (int i = 0; i < map.Count; i++)
        {
            if (!dropNull || map.At(i) is not NoneValue)
            {
                prepared.Set(map.KeyAt(i), map.At(i));
            }
        }

        if (reasons)
        {
            JinjaValue thought = map.Find(s_reasoning.First(name => map.Find(name) is not (null or NoneValue)))!;
            prepared.Set(JinjaValue.ContentText("reasoning_content"), thought);
            if (map.Find("thinking") is null || (dropNull && map.Find("thinking") is NoneValue))
            {
                prepared.Set(JinjaValue.ContentText("thinking"), thought);
            }
        }

        return prepared.ToMap(content: true);
    }

    /// <summary>Marks the end of a field of the last message, whose text is to be continued.</summary>
    /// <exception cref="ChatException">The last message has no text in this field.</exception>
    public static IReadOnlyList<JinjaValue> Mark(IReadOnlyList<JinjaValue> messages, string field)
    {
        if (messages.Count == 0 || messages[^1] is not MapValue last || Marked(last.Find(field)) is not { } marked)
        {
            throw new ChatException(ChatError.Empty,
                $"There is nothing to continue: the last message has no text in its field '{TokenizerException.Escape(field)}'.");
        }

        string? text = (last.Find(field) as Text)?.Value;
        bool isReasoning = Array.IndexOf(s_reasoning, field) >= 0;
        var changed = new MapBuilder(null);
        for (int i = 0; i < last.Count; i++)
        {
            string? name = (last.KeyAt(i) as Text)?.Value;
            bool same = name == field || (isReasoning && s_reasoning.Contains(name) && text is not null && last.At(i) is Text other
                && other.Value == text);
            changed.Set(last.KeyAt(i), same ? marked : last.At(i));
        }

        return [.. messages.Take(messages.Count - 1), changed.ToMap(content: true)];
    }

    /// <summary>Finds the end of the text that is to be continued in a rendered text.</summary>
    /// <exception cref="ChatException">The template does not write the message.</exception>
    public static int EndOfMarked(string rendered)
    {
        int at = rendered.LastIndexOf(Marker.TrimEnd(), StringComparison.Ordinal);
        if (at < 0)
        {
            throw new ChatException(ChatError.Failed, "The chat template leaves out the text that is to be continued.");
        }

        return rendered.AsSpan(at).StartsWith(Marker) ? at : PythonChars.Strip("|" + rendered[..at]).Length - 1;
    }

    private static JinjaValue? Marked(JinjaValue? value)
    {
        switch (value)
        {
            case Text text:
                return JinjaValue.ContentText(text.Value + Marker);
            case ListValue parts:
                int at = Array.FindLastIndex(parts.Values, static part => part is MapValue map && map.Find("text") is Text);
                if (at < 0)
                {
                    return null;
                }

                var part = (MapValue)parts.Values[at];
                var changed = new MapBuilder(null);
                for (int i = 0; i < part.Count; i++)
                {
                    changed.Set(part.KeyAt(i), part.KeyAt(i) is Text { Value: "text" } ? JinjaValue.ContentText(((Text)part.At(i)).Value + Marker)
                        : part.At(i));
                }

                return JinjaValue.List([.. parts.Values[..at], changed.ToMap(content: true), .. parts.Values[(at + 1)..]]);
            default:
                return null;
        }
    }
}
