using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Tiller.Checkpoint;
using Tiller.Jinja;
using Tiller.Tokens;

namespace Tiller.Chat;

/// <summary>One message of a chat.</summary>
/// <param name="Role"><c>system</c>, <c>user</c>, <c>assistant</c>, or another that the template knows.</param>
/// <param name="Content">Text; special tokens written in it stay plain text.</param>
public sealed record ChatMessage(string Role, string Content);

/// <summary>
/// Chat messages → ids, by the checkpoint's own chat template, which is interpreted. The ids are those of the published code, with one difference:
/// special tokens count only where the template itself writes them, and text of messages and variables never becomes one
/// (<see cref="ChatOptions.ParseContent"/> lifts that). Immutable and thread-safe.
/// </summary>
public sealed class ChatFormat
{
    // Names of common formats, by what their templates write.
    private static readonly (string Mark, string Name)[] s_names =
    [
        ("<|start_header_id|>", "llama-3"), ("<|im_start|>", "chatml"), ("<start_of_turn>", "gemma"), ("<<SYS>>", "llama-2"), ("[INST]", "mistral"),
    ];

    /// <summary>The template of ChatML, the format that most chat models without another were taught.</summary>
    public const string ChatMl =
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    // Ids are made of it to see how an answer ends: no template can contain it.
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

    /// <summary>Name of the format by the marks that the template writes: llama-3, chatml, gemma, llama-2 or mistral; other for any other.</summary>
    public string Name { get; }

    /// <summary>Names of the checkpoint's templates; one alone is named default.</summary>
    public IReadOnlyList<string> TemplateNames => [.. templates.Names];

    /// <summary>SHA-256 of the default template's text in UTF-8, in lower-case hexadecimal: what a controller fitted on chats is bound to.</summary>
    public string TemplateSha256 { get; }

    /// <summary>
    /// Ids that end an answer: the special token that the template writes behind one, and eos_token. A text ends at those of the checkpoint's other
    /// files, too (<c>LanguageModel.EndIds</c>).
    /// </summary>
    public IReadOnlyList<int> StopIds { get; }

    /// <summary>Reads the chat template of a checkpoint.</summary>
    /// <param name="directory">Folder with chat_template.jinja (and additional_chat_templates/), or with a chat_template in
    /// tokenizer_config.json.</param>
    /// <param name="tokenizer">The tokenizer of the same checkpoint.</param>
    /// <exception cref="ChatException">There is no template, or it cannot be read or used.</exception>
    public static ChatFormat Load(string directory, Tokenizer tokenizer) => Load(directory, tokenizer, TimeProvider.System);

    /// <summary>Reads the chat template of a checkpoint; templates that write today's date take it from a clock.</summary>
    /// <param name="directory">Folder with chat_template.jinja (and additional_chat_templates/), or with a chat_template in
    /// tokenizer_config.json.</param>
    /// <param name="tokenizer">The tokenizer of the same checkpoint.</param>
    /// <param name="clock">Read whenever a template asks for the time, in its local time zone.</param>
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

    /// <summary>Ids of a chat.</summary>
    /// <param name="messages">At least one; the template says which roles it takes, and in which order.</param>
    /// <param name="addGenerationPrompt">The opening of the assistant's next message is added, where the template has one.</param>
    /// <param name="cancellationToken">Checked while the template runs and between words.</param>
    /// <exception cref="ChatException">No messages, or the template refuses them.</exception>
    /// <exception cref="TokenizerException">A content is not valid UTF-16.</exception>
    public int[] Encode(IReadOnlyList<ChatMessage> messages, bool addGenerationPrompt = true, CancellationToken cancellationToken = default) =>
        Encode(messages, new ChatOptions { AddGenerationPrompt = addGenerationPrompt }, cancellationToken);

    /// <summary>Ids of a chat, with tools, documents and whatever else the template reads.</summary>
    /// <param name="messages">At least one; the template says which roles it takes, and in which order.</param>
    /// <param name="options">Variables and the rest.</param>
    /// <param name="cancellationToken">Checked while the template runs and between words.</param>
    /// <exception cref="ChatException">No messages, or the template refuses them or the variables.</exception>
    /// <exception cref="TokenizerException">A content is not valid UTF-16.</exception>
    public int[] Encode(IReadOnlyList<ChatMessage> messages, ChatOptions options, CancellationToken cancellationToken = default) =>
        Encode(Render(messages, options, cancellationToken), options, cancellationToken);

    /// <summary>Ids of a chat whose messages have more than a role and a text: parts, tool calls, reasoning.</summary>
    /// <param name="messages">A JSON array of objects, as the published code takes it.</param>
    /// <param name="options">Variables and the rest.</param>
    /// <param name="cancellationToken">Checked while the template runs and between words.</param>
    /// <exception cref="ChatException">No messages, or the template refuses them or the variables.</exception>
    /// <exception cref="TokenizerException">A content is not valid UTF-16.</exception>
    public int[] Encode(JsonElement messages, ChatOptions options, CancellationToken cancellationToken = default) =>
        Encode(Render(messages, options, cancellationToken), options, cancellationToken);

    /// <summary>The text of a chat, and which of it is content.</summary>
    /// <param name="messages">At least one.</param>
    /// <param name="options">Variables and the rest.</param>
    /// <param name="cancellationToken">Checked while the template runs.</param>
    /// <exception cref="ChatException">No messages, or the template refuses them or the variables.</exception>
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

    /// <summary>The text of a chat whose messages have more than a role and a text, and which of it is content.</summary>
    /// <param name="messages">A JSON array of objects, as the published code takes it; keys whose value is null are left out, as there.</param>
    /// <param name="options">Variables and the rest.</param>
    /// <param name="cancellationToken">Checked while the template runs.</param>
    /// <exception cref="ChatException">No messages, or the template refuses them or the variables.</exception>
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
            throw new ArgumentException("The messages are given as such; a variable of that name would replace them.", nameof(options));
        }

        if (options.Continue is not null && options.AddGenerationPrompt)
        {
            throw new ArgumentException("A chat whose last message is to be continued opens no next one: set AddGenerationPrompt to false.",
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

    // A caller that replaces a special token by another of the tokenizer's means it as one.
    private JinjaValue Value(string name, JsonElement value) =>
        name.EndsWith("_token", StringComparison.Ordinal) && value.ValueKind == JsonValueKind.String && text.Find(value.GetString()!) is not null
            ? JinjaValue.TemplateText(value.GetString()!) : JinjaValue.FromJson(value);

    // The special token that the template writes behind an answer, with nothing but white space between.
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
