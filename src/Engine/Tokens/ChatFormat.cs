using System.Security.Cryptography;
using System.Text;
using Tiller.Checkpoint;

namespace Tiller.Tokens;

/// <summary>One message of a chat.</summary>
/// <param name="Role"><c>system</c>, <c>user</c> or <c>assistant</c>.</param>
/// <param name="Content">Text; special tokens written in it stay plain text.</param>
public sealed record ChatMessage(string Role, string Content);

/// <summary>
/// Chat messages → ids, in the format of the checkpoint's own chat template: Llama-3, ChatML, Gemma, Llama-2 and Mistral. The template is
/// recognised, not interpreted: one that is not known exactly is refused, so that ids are never silently different. Immutable and thread-safe.
/// </summary>
public sealed class ChatFormat
{
    private readonly Tokenizer tokenizer;
    private readonly ChatStyle style;
    private readonly AddedTokens special;
    private readonly string bos;
    private readonly string eos;

    private ChatFormat(Tokenizer tokenizer, ChatStyle style, string template, string bos, string eos)
    {
        TemplateSha256 = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(template)));
        this.tokenizer = tokenizer;
        this.style = style;
        this.bos = bos;
        this.eos = eos;
        special = new AddedTokens(tokenizer.Added.Where(static x => x.Special).Select(static x => (x.Content, x)));

        var stops = new List<int>();
        foreach (string need in style.Needs)
        {
            if (Special(need) is null)
            {
                throw new ChatException(ChatError.MissingSpecialToken,
                    $"The chat format {style.Name} needs the special token {need}, which the tokenizer lacks.");
            }
        }

        foreach (string stop in style.Needs.Take(1).Append(eos))
        {
            if (Special(stop) is { } token && !stops.Contains(token.Id))
            {
                stops.Add(token.Id);
            }
        }

        StopIds = stops;
        foreach (string text in style.Needs.Append(bos).Append(eos))
        {
            if (Special(text) is { Normalized: true } token && tokenizer.NormalizerChanges(token.Content))
            {
                throw new ChatException(ChatError.Unrecognised,
                    $"The special token {text} is matched in normalised text, where the tokenizer writes it differently; such tokenizers are not supported for chats.");
            }
        }
    }

    /// <summary>Name of the format: llama-3, chatml, gemma, llama-2 or mistral.</summary>
    public string Name => style.Name;

    /// <summary>SHA-256 of the template's text in UTF-8, in lower-case hexadecimal: what a controller fitted on chats is bound to.</summary>
    public string TemplateSha256 { get; }

    /// <summary>Ids that end an answer in this format; a text ends at those of the checkpoint's other files, too (<c>LanguageModel.EndIds</c>).</summary>
    public IReadOnlyList<int> StopIds { get; }

    /// <summary>Recognises the chat format of a checkpoint.</summary>
    /// <param name="directory">As for <see cref="Tokenizer.Load"/>; with chat_template.jinja, or a chat_template in tokenizer_config.json.</param>
    /// <param name="tokenizer">The tokenizer of the same checkpoint.</param>
    /// <exception cref="ChatException">There is no template, it is not a known one, or the tokenizer lacks its tokens.</exception>
    public static ChatFormat Load(string directory, Tokenizer tokenizer) => Load(directory, tokenizer, TimeProvider.System);

    /// <summary>Recognises the chat format of a checkpoint; templates that write today's date (Llama 3.2) take it from a clock.</summary>
    /// <param name="directory">As for <see cref="Tokenizer.Load"/>; with chat_template.jinja, or a chat_template in tokenizer_config.json.</param>
    /// <param name="tokenizer">The tokenizer of the same checkpoint.</param>
    /// <param name="clock">Read once, here, in its local time zone.</param>
    /// <exception cref="ChatException">There is no template, it is not a known one, or the tokenizer lacks its tokens.</exception>
    public static ChatFormat Load(string directory, Tokenizer tokenizer, TimeProvider clock)
    {
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(clock);
        directory = HubCache.Resolve(directory);
        return Of(TokenizerConfig.Read(directory), directory, tokenizer, clock);
    }

    internal static ChatFormat Of(TokenizerConfig config, string directory, Tokenizer tokenizer, TimeProvider clock)
    {
        if (string.IsNullOrWhiteSpace(config.ChatTemplate))
        {
            throw new ChatException(ChatError.NoTemplate,
                $"'{directory}' has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json): it is not a chat model. "
                + "Prompt it with plain text.");
        }

        string program = ChatProgram.Of(config.ChatTemplate);
        ChatStyle known = KnownTemplates.Find(program, clock) ?? throw Unrecognised(program);
        return new ChatFormat(tokenizer, known, config.ChatTemplate, config.Bos, config.Eos);
    }

    /// <summary>Ids of a chat. Only the template's own special tokens become special ids.</summary>
    /// <param name="messages">At least one. Llama-2, Mistral and Gemma alternate user and assistant, user first, after an optional system message
    /// (Gemma and early Mistral have none).</param>
    /// <param name="addGenerationPrompt">The opening of the assistant's next message is added (Llama-2 and Mistral need none).</param>
    /// <param name="cancellationToken">Looked at between words, and within long ones.</param>
    /// <exception cref="ChatException">No messages, an unknown role, or roles in the wrong order.</exception>
    /// <exception cref="TokenizerException">A content is not valid UTF-16.</exception>
    public int[] Encode(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt = true, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        if (messages.Count == 0)
        {
            throw new ChatException(ChatError.Empty, "Expected at least one message, found none.");
        }

        for (int i = 0; i < messages.Count; i++)
        {
            if (messages[i].Role is not (ChatStyle.System or ChatStyle.User or ChatStyle.Assistant))
            {
                throw new ChatException(ChatError.Role,
                    $"Message {i} has the role '{TokenizerException.Escape(messages[i].Role)}'; expected system, user or assistant.");
            }

            if (messages[i].Content is null)
            {
                throw new ChatException(ChatError.Empty, $"Message {i} has no content; expected text, which may be empty.");
            }
        }

        var text = new ChatText(tokenizer, special);
        style.Write(messages, addGenerationPrompt, bos, eos, text);
        return text.Encode(cancellationToken);
    }

    private static ChatException Unrecognised(string program)
    {
        string what = program.Contains("<think>", StringComparison.Ordinal) ? "It treats reasoning (<think>), which is not implemented. "
            : program.Contains("tool", StringComparison.Ordinal) ? "It treats tools in a way that is not implemented. "
            : "";
        return new ChatException(ChatError.Unrecognised,
            $"The chat template is none of the known ones (Llama-3 and 3.1, ChatML as in Qwen2 and Qwen2.5, Gemma, Llama-2, Mistral). {what}"
            + "Write the prompt yourself and encode it with Tokenizer.Encode(parseSpecial: true). "
            + $"Reduced, the template reads: {TokenizerException.Escape(program)}");
    }

    private AddedToken? Special(string text) => text.Length == 0 ? null : special.Exactly(Encoding.UTF8.GetBytes(text));
}
