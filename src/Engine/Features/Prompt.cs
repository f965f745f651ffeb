using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Tiller.Chat;

namespace Tiller.Features;

/// <summary>A prompt of a list: a text, a chat, or token ids.</summary>
public abstract record Prompt
{
    // Length of the first words in an error message: enough to find the prompt.
    private const int OpeningLength = 40;

    private protected Prompt()
    {
    }

    /// <summary>The text by which a list of prompts is hashed: a text as it is, chats and token ids as JSON.</summary>
    internal abstract string Identity { get; }

    /// <summary>The kind of the prompt, with its article, for messages.</summary>
    internal abstract string Kind { get; }

    private protected abstract string Start { get; }

    /// <summary>Makes a prompt of a text.</summary>
    /// <param name="text">The text, used unchanged.</param>
    public static implicit operator Prompt(string text) => new TextPrompt(text);

    /// <summary>Makes a chat of the prompt: a text becomes a user's message; a chat stays a chat.</summary>
    /// <param name="system">Text of a system message for the beginning; null for none.</param>
    /// <exception cref="ContrastSetException">A system message is given and the chat has its own, or the prompt is token ids.</exception>
    public abstract ChatPrompt AsChat(string? system = null);

    /// <summary>The name of the prompt in messages: its list, its number counted from 1, and its first words.</summary>
    internal string NameIn(string list, int index)
    {
        string read = Start[..Math.Min(Start.Length, 4 * OpeningLength)];
        string words = string.Join(' ', read.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        bool whole = words.Length <= OpeningLength && read.Length == Start.Length;
        if (words.Length > OpeningLength)
        {
            int space = words.LastIndexOf(' ', OpeningLength);
            words = words[..(space > OpeningLength / 2 ? space : OpeningLength)];
        }

        words = words.Length > 0 && char.IsHighSurrogate(words[^1]) ? words[..^1] : words;
        return $"{list} prompt {index + 1} (\"{words}{(whole ? "" : " …")}\")";
    }
}

/// <summary>A text, encoded with the tokenizer's template. Special tokens written in the text stay plain text.</summary>
public sealed record TextPrompt : Prompt
{
    /// <summary>Makes a prompt of a text.</summary>
    /// <param name="text">The text, taken as it is: a feature is read at its last token, so trailing space matters.</param>
    public TextPrompt(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        Text = text;
    }

    /// <summary>The text.</summary>
    public string Text { get; }

    internal override string Identity => Text;

    internal override string Kind => "a text";

    private protected override string Start => Text;

    /// <inheritdoc/>
    public override ChatPrompt AsChat(string? system = null) => new([.. ChatPrompt.Begin(system), new ChatMessage(ChatPrompt.UserRole, Text)]);
}

/// <summary>
/// A chat, rendered in the checkpoint's chat format and followed by the beginning of the assistant's next message. Its last token is the token from
/// which an answer is steered.
/// </summary>
public sealed record ChatPrompt : Prompt
{
    internal const string SystemRole = "system";
    internal const string UserRole = "user";

    /// <summary>Makes a prompt of the messages of a chat.</summary>
    /// <param name="messages">The messages, at least one. The chat format determines the permitted roles and their order.</param>
    /// <exception cref="ArgumentException">There is no message, or one is null.</exception>
    public ChatPrompt(IReadOnlyList<ChatMessage> messages)
    {
        ArgumentNullException.ThrowIfNull(messages);
        if (messages.Count == 0 || messages.Contains(null!))
        {
            throw new ArgumentException("A chat needs at least one message, and none of them may be null.", nameof(messages));
        }

        Messages = messages;
    }

    /// <summary>The messages.</summary>
    public IReadOnlyList<ChatMessage> Messages { get; }

    /// <summary>Text of the system message at the beginning of the chat; null if the first message has another role.</summary>
    public string? System => Messages[0].Role == SystemRole ? Messages[0].Content : null;

    internal override string Identity
    {
        get
        {
            using var bytes = new MemoryStream();
            using (var json = new Utf8JsonWriter(bytes, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
            {
                json.WriteStartArray();
                foreach (var message in Messages)
                {
                    json.WriteStartObject();
                    json.WriteString("role", message.Role);
                    json.WriteString("content", message.Content);
                    json.WriteEndObject();
                }

                json.WriteEndArray();
            }

            return Encoding.UTF8.GetString(bytes.GetBuffer(), 0, (int)bytes.Length);
        }
    }

    internal override string Kind => "a chat";

    private protected override string Start => (Messages.FirstOrDefault(m => m.Role != SystemRole) ?? Messages[0]).Content ?? "";

    /// <inheritdoc/>
    public override ChatPrompt AsChat(string? system = null) =>
        system is null ? this
        : System is null ? new([.. Begin(system), .. Messages])
        : throw new ContrastSetException("The chat has its own system message; leave the other one out.");

    internal static ChatMessage[] Begin(string? system) => system is null ? [] : [new ChatMessage(SystemRole, system)];
}

/// <summary>Token ids, used unchanged: no template is added.</summary>
public sealed record TokenPrompt : Prompt
{
    /// <summary>Makes a prompt of token ids.</summary>
    /// <param name="ids">Token ids, at least one, each below the model's V.</param>
    public TokenPrompt(IReadOnlyList<int> ids)
    {
        ArgumentNullException.ThrowIfNull(ids);
        Ids = ids;
    }

    /// <summary>The ids.</summary>
    public IReadOnlyList<int> Ids { get; }

    internal override string Identity => $"[{string.Join(',', Ids)}]";

    internal override string Kind => "token ids";

    // A message shows fewer than a hundred ids.
    private protected override string Start => string.Join(' ', Ids.Take(100));

    /// <inheritdoc/>
    public override ChatPrompt AsChat(string? system = null) =>
        throw new ContrastSetException("Token ids already have a form; only texts and chats can be rendered in the chat format.");
}
