using System.Collections.Concurrent;
using Tiller.Jinja;
using Tiller.Tokens;

namespace Tiller.Chat;

/// <summary>The chat templates of a checkpoint, by name, and the special tokens that they may write. Each template is parsed on first use.</summary>
internal sealed class ChatTemplates
{
    private const string ToolUse = "tool_use";

    private readonly ConcurrentDictionary<string, JinjaTemplate> parsed = new(StringComparer.Ordinal);
    private readonly TokenizerConfig config;
    private readonly string directory;

    /// <summary>Takes the templates of a checkpoint.</summary>
    /// <param name="config">Its templates and special tokens.</param>
    /// <param name="directory">Folder of the checkpoint, for messages.</param>
    /// <exception cref="ChatException">The checkpoint has no template.</exception>
    public ChatTemplates(TokenizerConfig config, string directory)
    {
        (this.config, this.directory) = (config, directory);
        if (config.Templates.Values.All(string.IsNullOrWhiteSpace))
        {
            throw new ChatException(ChatError.NoTemplate,
                $"'{directory}' has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json): it is not a chat model. "
                + "Prompt it with plain text.");
        }

        foreach (var (name, text) in config.SpecialTokens)
        {
            SpecialTokens[name] = JinjaValue.TemplateText(text);
        }

        if (config.AdditionalSpecialTokens is { } more)
        {
            SpecialTokens["additional_special_tokens"] = JinjaValue.List(more.Select(JinjaValue.TemplateText));
        }
    }

    /// <summary>bos_token, eos_token and the other special tokens of tokenizer_config.json, as the template's own text.</summary>
    public Dictionary<string, JinjaValue> SpecialTokens { get; } = new(StringComparer.Ordinal);

    /// <summary>Text of eos_token; empty if there is none.</summary>
    public string Eos => config.Eos;

    public IEnumerable<string> Names => config.Templates.Keys.Order(StringComparer.Ordinal);

    /// <summary>Finds a template and its text.</summary>
    /// <exception cref="ChatException">There is no template of this name, or it cannot be parsed.</exception>
    public (JinjaTemplate Template, string Source) Find(string? name, bool withTools)
    {
        name ??= withTools && config.Templates.ContainsKey(ToolUse) ? ToolUse : TokenizerConfig.DefaultTemplate;
        if (!config.Templates.TryGetValue(name, out string? source))
        {
            throw new ChatException(ChatError.NoTemplate,
                $"'{directory}' has no chat template named '{TokenizerException.Escape(name)}'; it has: "
                + $"{TokenizerException.Escape(string.Join(", ", Names))}. Name one of them.");
        }

        return (parsed.GetOrAdd(name, static (_, text) => Parse(text), source), source);
    }

    private static JinjaTemplate Parse(string source)
    {
        try
        {
            return JinjaTemplate.Parse(source);
        }
        catch (JinjaException e)
        {
            throw new ChatException(ChatError.Unrecognised, $"The chat template cannot be used: {e.Message}", e);
        }
    }
}
