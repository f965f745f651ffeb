using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Tiller.Checkpoint;
using Tiller.Jinja;
using Tiller.Tokens;

namespace Tiller.Chat;

/// <summary>One message of a chat.</summary>
/// <param name="Role"><c>system</c>, <c>user</c>, <c>assistant</c>, or another that the template knows.</param>
/// <param name="Content">The text. Special tokens written in it are read as plain text.</param>
public sealed record ChatMessage(string Role, string Content);

/// <summary>
/// Turns chat messages into token ids by interpreting the checkpoint's own chat template. The ids are those of the published code, with one
/// difference: only the template itself can write special tokens, and text of messages and variables never becomes one
/// (<see cref="ChatOptions.ParseContent"/> lifts this restriction). Immutable and thread-safe.
/// </summary>
public sealed class ChatFormat
{
    // Names of common formats, by marks that their templates write.
    private static readonly (string Mark, string Name)[] s_names =
    [
        ("<|start_header_id|>", "llama-3"), ("<|im_start|>", "chatml"), ("<start_of_turn>", "gemma"), ("<<SYS>>", "llama-2"), ("[INST]", "mistral"),
    ];

    /// <summary>The template of ChatML, the format that most chat models without another were taught.</summary>
    public const string ChatMl =
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    // A sample answer that shows how the template ends an answer. Its private-use characters cannot occur in a template.
    private const string Probe = "\uE0F1answer\uE0F1";

    private readonly Tokenizer tokenizer;
    private readonly ChatTemplates templates;
    private readonly ChatText text;
    private readonly TimeProvider clock;

    private ChatFormat(Tokenizer tokenizer, ChatTemplates templates, TimeProvider clock)
    {
        this.tokenizer = tokenizer;
        this.templates = templates;
        this.clock = clock;
        text = new ChatText(tokenizer);
        string? first = templates.Names.Contains("default") ? null : templates.Names.First();
        (_, string source) = templates.Find(first, withTools: false);
        Name = Array.Find(s_names, pair => source.Contains(pair.Mark, StringComparison.Ordinal)).Name ?? "other";
        TemplateSha256 = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(source)));
        StopIds = [.. new[] { EndOfAnswer(first), text.Find(templates.Eos)?.Id }.OfType<int>().Distinct()];
    }

    /// <summary>
    /// Name of the format, recognised by the marks that the template writes: llama-3, chatml, gemma, llama-2 or mistral; "other" for any other
    /// format.
    /// </summary>
    public string Name { get; }

    /// <summary>Names of the checkpoint's templates. A single template is named default.</summary>
    public IReadOnlyList<string> TemplateNames => [.. templates.Names];

    /// <summary>SHA-256 of the default template's text in UTF-8, in lower-case hexadecimal. A controller fitted on chats is bound to it.</summary>
    public string TemplateSha256 { get; }

    /// <summary>
    /// Ids that end an answer: the special token that the template writes after one, and eos_token. A text also ends at the ids in the checkpoint's
    /// other files (<c>LanguageModel.EndIds</c>).
    /// </summary>
    public IReadOnlyList<int> StopIds { get; }

    /// <summary>Reads the chat template of a checkpoint.</summary>
    /// <param name="directory">Folder with chat_template.jinja (and additional_chat_templates/), or with a chat_template in
    /// tokenizer_config.json.</param>
    /// <param name="tokenizer">The tokenizer of the same checkpoint.</param>
    /// <exception cref="ChatException">There is no template, or it cannot be read or used.</exception>
    public static ChatFormat Load(string directory, Tokenizer tokenizer) => Load(directory, tokenizer, TimeProvider.System);

    /// <summary>Reads the chat template of a checkpoint. Templates that write today's date take it from the given clock.</summary>
    /// <param name="directory">Folder with chat_template.jinja (and additional_chat_templates/), or with a chat_template in
    /// tokenizer_config.json.</param>
    /// <param name="tokenizer">The tokenizer of the same checkpoint.</param>
    /// <param name="clock">Gives the time when a template asks for it, in the clock's local time zone.</param>
    /// <exception cref="ChatException">There is no template, or it cannot be read or used.</exception>
    public static ChatFormat Load(string directory, Tokenizer tokenizer, TimeProvider clock)
    {
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(clock);
        directory = HubCache.Resolve(directory);
        return Of(TokenizerConfig.Read(directory), directory, tokenizer, clock);
    }

    /// <summary>A format by a template of the caller's, for a checkpoint that has none, or another.</summary>
    /// <param name="template">Text of the template, in Jinja.</param>
    /// <param name="directory">The checkpoint's folder, whose special tokens the template finds.</param>
    /// <param name="tokenizer">The tokenizer of the same checkpoint.</param>
    /// <exception cref="ChatException">The template cannot be used, or a file of the checkpoint cannot be read.</exception>
    public static ChatFormat FromTemplate(string template, string directory, Tokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(template);
        ArgumentNullException.ThrowIfNull(directory);
        ArgumentNullException.ThrowIfNull(tokenizer);
        directory = HubCache.Resolve(directory);
        return Of(TokenizerConfig.Read(directory).With(template), directory, tokenizer, TimeProvider.System);
    }

    internal static ChatFormat Of(TokenizerConfig config, string directory, Tokenizer tokenizer, TimeProvider clock) =>
        new(tokenizer, new ChatTemplates(config, directory), clock);

    /// <summary>Turns a chat into ids.</summary>
    /// <param name="messages">At least one message. The template determines which roles it accepts, and in which order.</param>
    /// <param name="addGenerationPrompt">Whether to add the opening of the assistant's next message, if the template has one.</param>
    /// <param name="cancellationToken">Checked while the template runs and between words.</param>
    /// <exception cref="ChatException">There are no messages, or the template refuses them.</exception>
    /// <exception cref="TokenizerException">A content is not valid UTF-16.</exception>
    public int[] Encode(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt = true, CancellationToken cancellationToken = default) =>
        Encode(messages, new ChatOptions { AddGenerationPrompt = addGenerationPrompt }, cancellationToken);

    /// <summary>Turns a chat into ids, with tools, documents and other variables of the template.</summary>
    /// <param name="messages">At least one message. The template determines which roles it accepts, and in which order.</param>
    /// <param name="options">Variables of the template and other options.</param>
    /// <param name="cancellationToken">Checked while the template runs and between words.</param>
    /// <exception cref="ChatException">There are no messages, or the template refuses the messages or variables.</exception>
    /// <exception cref="TokenizerException">A content is not valid UTF-16.</exception>
    public int[] Encode(IReadOnlyList<ChatMessage> messages, ChatOptions options, CancellationToken cancellationToken = default) =>
        Encode(Render(messages, options, cancellationToken), options, cancellationToken);

    /// <summary>Turns a chat into ids whose messages have more than a role and a text, such as parts, tool calls or reasoning.</summary>
    /// <param name="messages">A JSON array of objects, in the form that the published code takes.</param>
    /// <param name="options">Variables of the template and other options.</param>
    /// <param name="cancellationToken">Checked while the template runs and between words.</param>
    /// <exception cref="ChatException">There are no messages, or the template refuses the messages or variables.</exception>
    /// <exception cref="TokenizerException">A content is not valid UTF-16.</exception>
    public int[] Encode(JsonElement messages, ChatOptions options, CancellationToken cancellationToken = default) =>
        Encode(Render(messages, options, cancellationToken), options, cancellationToken);

    /// <summary>Renders a chat as text that marks which characters are content.</summary>
    /// <param name="messages">At least one message.</param>
    /// <param name="options">Variables of the template and other options.</param>
    /// <param name="cancellationToken">Checked while the template runs.</param>
    /// <exception cref="ChatException">There are no messages, or the template refuses the messages or variables.</exception>
    public JinjaRendering Render(IReadOnlyList<ChatMessage> messages, ChatOptions options, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        var values = new JinjaValue[messages.Count];
        for (int i = 0; i < values.Length; i++)
        {
            if (messages[i].Role is null || messages[i].Content is null)
            {
                throw new ChatException(ChatError.Empty,
                    $"Message {i} has no {(messages[i].Role is null ? "role" : "content")}; expected text, which may be empty.");
            }

            values[i] = JinjaValue.Map([new("role", JinjaValue.ContentText(messages[i].Role)),
                new("content", JinjaValue.ContentText(messages[i].Content))]);
        }

        return Render(values, options, cancellationToken);
    }

    /// <summary>Renders a chat whose messages have more than a role and a text. The result marks which characters are content.</summary>
    /// <param name="messages">
    /// A JSON array of objects, in the form that the published code takes. Keys with the value null are left out, as in that code.
    /// </param>
    /// <param name="options">Variables of the template and other options.</param>
    /// <param name="cancellationToken">Checked while the template runs.</param>
    /// <exception cref="ChatException">There are no messages, or the template refuses the messages or variables.</exception>
    public JinjaRendering Render(JsonElement messages, ChatOptions options, CancellationToken cancellationToken = default) =>
        Render(Guard(() => ChatInput.Messages(messages, dropNull: true)), options, cancellationToken);

    private static T Guard<T>(Func<T> run)
    {
        try
        {
            return run();
        }
        catch (JinjaException e) when (e.Code == JinjaError.Raised)
        {
            throw new ChatException(ChatError.Refused, $"The chat template refuses these messages: {TokenizerException.Escape(e.Detail)}", e);
        }
        catch (JinjaException e)
        {
            throw new ChatException(ChatError.Failed,
                $"The chat template fails on these messages and variables, {TokenizerException.Escape(e.Message)}", e);
        }
    }

    private int[] Encode(JinjaRendering rendering, ChatOptions options, CancellationToken cancellationToken) => options.ParseContent
        ? tokenizer.Encode(rendering.Text, addSpecial: false, parseSpecial: true, cancellationToken)
        : text.Encode(rendering, cancellationToken);

    private JinjaRendering Render(IReadOnlyList<JinjaValue> messages, ChatOptions options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (messages.Count == 0)
        {
            throw new ChatException(ChatError.Empty, "Expected at least one message, found none.");
        }

        if (options.Variables.ContainsKey("messages"))
        {
            throw new ArgumentException("A variable named messages would replace the given messages: leave it out.", nameof(options));
        }

        if (options.Continue is not null && options.AddGenerationPrompt)
        {
            throw new ArgumentException("A chat that continues its last message cannot open a new one: set AddGenerationPrompt to false.",
                nameof(options));
        }

        messages = options.Continue is null ? messages : ChatInput.Mark(messages, options.Continue);
        bool withTools = options.Variables.TryGetValue("tools", out JsonElement tools) && tools.ValueKind != JsonValueKind.Null;
        JinjaTemplate template = templates.Find(options.Template, withTools).Template;
        return Guard(() =>
        {
            IEnumerable<KeyValuePair<string, JinjaValue>> given = options.Variables.Select(pair =>
                KeyValuePair.Create(pair.Key, Value(pair.Key, pair.Value)));
            JinjaRendering rendering = template.Render(
                ChatInput.Variables(JinjaValue.List(messages), options.AddGenerationPrompt, templates.SpecialTokens.Concat(given)), clock, null,
                    cancellationToken);
            return options.Continue is null ? rendering : rendering.Until(ChatInput.EndOfMarked(rendering.Text));
        });
    }

    // If a caller replaces a special token by another one of the tokenizer, that is a special token too.
    private JinjaValue Value(string name, JsonElement value) =>
        name.EndsWith("_token", StringComparison.Ordinal) && value.ValueKind == JsonValueKind.String && text.Find(value.GetString()!) is not null
            ? JinjaValue.TemplateText(value.GetString()!) : JinjaValue.FromJson(value);

    // The special token that the template writes after an answer, with only white space between.
    private int? EndOfAnswer(string? template)
    {
        try
        {
            var options = new ChatOptions { AddGenerationPrompt = false, Template = template };
            JinjaRendering rendering = Render([new ChatMessage("user", "a"), new ChatMessage("assistant", Probe)], options);
            int end = rendering.Text.LastIndexOf(Probe, StringComparison.Ordinal) + Probe.Length;
            (int start, AddedToken? token) = text.Marks(rendering).Find(mark => mark.Start >= end);
            return end >= Probe.Length && token is not null && string.IsNullOrWhiteSpace(rendering.Text[end..start]) ? token.Id : null;
        }
        catch (ChatException e) when (e.Code is ChatError.Refused or ChatError.Failed)
        {
            return null;
        }
    }
}
