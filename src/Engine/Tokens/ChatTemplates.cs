using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using Tiller.Jinja;

namespace Tiller.Tokens;

/// <summary>The chat templates of a checkpoint, by name, and the special tokens that they may write.</summary>
internal sealed class ChatTemplates
{
    private const string Default = "default";
    private const string ToolUse = "tool_use";

    private readonly Dictionary<string, string> sources = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, JinjaTemplate> parsed = new(StringComparer.Ordinal);
    private readonly string directory;

    private ChatTemplates(string directory)
    {
        this.directory = directory;
    }

    /// <summary>bos_token, eos_token and the others of tokenizer_config.json, as the template's own text.</summary>
    public Dictionary<string, JinjaValue> SpecialTokens { get; } = new(StringComparer.Ordinal);

    /// <summary>Text of eos_token; empty if there is none.</summary>
    public string Eos { get; private set; } = "";

    public IEnumerable<string> Names => sources.Keys.Order(StringComparer.Ordinal);

    /// <summary>Reads chat_template.jinja, additional_chat_templates/ and tokenizer_config.json; files take precedence.</summary>
    /// <exception cref="ChatException">One of them cannot be read, or there is no template.</exception>
    public static ChatTemplates Load(string directory)
    {
        var templates = new ChatTemplates(directory);
        if (Read(Path.Combine(directory, "tokenizer_config.json")) is { } config)
        {
            try
            {
                using JsonDocument document = JsonDocument.Parse(config);
                templates.ReadConfig(document.RootElement);
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
            {
                throw new ChatException(ChatError.Unreadable, $"tokenizer_config.json is not valid JSON, or not of the expected form: {e.Message}",
                    e);
            }
        }

        if (Read(Path.Combine(directory, "chat_template.jinja")) is { } own)
        {
            templates.sources[Default] = own;
        }

        string more = Path.Combine(directory, "additional_chat_templates");
        foreach (string path in Directory.Exists(more) ? Directory.GetFiles(more, "*.jinja") : [])
        {
            templates.sources[Path.GetFileNameWithoutExtension(path)] = Read(path)!;
        }

        return templates.sources.Values.Any(static source => !string.IsNullOrWhiteSpace(source)) ? templates
            : throw new ChatException(ChatError.NoTemplate,
            $"'{directory}' has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json): it is not a chat model. "
            + "Prompt it with plain text.");
    }

    /// <summary>The template to use, and its text.</summary>
    /// <exception cref="ChatException">There is none of this name, or it cannot be parsed.</exception>
    public (JinjaTemplate Template, string Source) Find(string? name, bool withTools)
    {
        name ??= withTools && sources.ContainsKey(ToolUse) ? ToolUse : Default;
        if (!sources.TryGetValue(name, out string? source))
        {
            string names = TokenizerException.Escape(string.Join(", ", Names));
            throw new ChatException(ChatError.NoTemplate,
                $"'{directory}' has no chat template named '{TokenizerException.Escape(name)}'; it has: {names}. Name one of them.");
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

    private static string? Read(string path)
    {
        try
        {
            return File.Exists(path) ? new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(File.ReadAllBytes(path)) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or DecoderFallbackException)
        {
            throw new ChatException(ChatError.Unreadable, $"'{path}' cannot be read: {e.Message}", e);
        }
    }

    private void ReadConfig(JsonElement config)
    {
        if (config.ValueKind != JsonValueKind.Object)
        {
            throw new InvalidOperationException("expected an object");
        }

        foreach (JsonProperty property in config.EnumerateObject())
        {
            if (property.Name.EndsWith("_token", StringComparison.Ordinal) && TokenText(property.Value) is { } text)
            {
                SpecialTokens[property.Name] = JinjaValue.TemplateText(text);
                Eos = property.Name == "eos_token" ? text : Eos;
            }
        }

        if (config.TryGetProperty("additional_special_tokens", out JsonElement more) && more.ValueKind == JsonValueKind.Array)
        {
            SpecialTokens["additional_special_tokens"] = JinjaValue.List(more.EnumerateArray().Select(static token =>
                JinjaValue.TemplateText(TokenText(token) ?? "")));
        }

        if (!config.TryGetProperty("chat_template", out JsonElement template))
        {
            return;
        }

        // One, or a list of several with names.
        if (template.ValueKind != JsonValueKind.Array)
        {
            if (template.GetString() is { } one)
            {
                sources[Default] = one;
            }

            return;
        }

        foreach (JsonElement item in template.EnumerateArray())
        {
            sources[item.GetProperty("name").GetString()!] = item.GetProperty("template").GetString()!;
        }
    }

    private static string? TokenText(JsonElement token) => token.ValueKind switch
    {
        JsonValueKind.String => token.GetString(),
        JsonValueKind.Object => token.GetProperty("content").GetString(),
        _ => null,
    };
}
