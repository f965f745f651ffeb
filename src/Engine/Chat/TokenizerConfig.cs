using System.Text;
using System.Text.Json;
using Tiller.Checkpoint;

namespace Tiller.Chat;

/// <summary>
/// Text settings of a checkpoint outside tokenizer.json: special tokens by role, from tokenizer_config.json, and chat templates by name, from that
/// file, chat_template.jinja and additional_chat_templates/. Template files take precedence over tokenizer_config.json, as in transformers.
/// </summary>
internal sealed class TokenizerConfig
{
    /// <summary>Name of the template that a chat uses by default.</summary>
    public const string DefaultTemplate = "default";

    private const int LargestFile = 16 << 20;

    // Special tokens with a role in transformers.
    private static readonly string[] s_roles = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

    private readonly Dictionary<string, string> _tokens = new(StringComparer.Ordinal);
    private readonly Dictionary<string, string> _templates = new(StringComparer.Ordinal);

    private TokenizerConfig()
    {
    }

    /// <summary>Text of every special token with a role: bos_token, eos_token and so on.</summary>
    public IReadOnlyDictionary<string, string> SpecialTokens => _tokens;

    /// <summary>Text of the other special tokens; null if they are not listed.</summary>
    public IReadOnlyList<string>? AdditionalSpecialTokens { get; private set; }

    /// <summary>Source of every chat template, by name.</summary>
    public IReadOnlyDictionary<string, string> Templates => _templates;

    /// <summary>Text of eos_token; empty for none.</summary>
    public string Eos => _tokens.GetValueOrDefault("eos_token") ?? "";

    /// <summary>Reads the files. Any of them may be missing.</summary>
    /// <exception cref="ChatException">A file exists but cannot be read.</exception>
    public static TokenizerConfig Read(string directory)
    {
        var read = new TokenizerConfig();
        if (ReadText(Path.Combine(directory, "tokenizer_config.json")) is { } config)
        {
            try
            {
                using JsonDocument document = JsonDocument.Parse(config);
                read.Take(document.RootElement);
            }
            catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
            {
                throw new ChatException(ChatError.Unreadable, $"tokenizer_config.json is not valid JSON, or not of the expected form: {e.Message}",
                    e);
            }
        }

        if (ReadText(Path.Combine(directory, "chat_template.jinja")) is { } own)
        {
            read._templates[DefaultTemplate] = own;
        }

        string more = Path.Combine(directory, "additional_chat_templates");
        foreach (string path in Directory.Exists(more) ? Directory.GetFiles(more, "*.jinja") : [])
        {
            read._templates[Path.GetFileNameWithoutExtension(path)] = ReadText(path)!;
        }

        return read;
    }

    /// <summary>The same with one template in place of all.</summary>
    public TokenizerConfig With(string template)
    {
        _templates.Clear();
        _templates[DefaultTemplate] = template;
        return this;
    }

    private void Take(JsonElement config)
    {
        if (config.ValueKind != JsonValueKind.Object)
        {
            return;
        }

        foreach (JsonProperty property in config.EnumerateObject())
        {
            // Some keys with the same ending, such as add_bos_token, are not tokens.
            bool isRole = s_roles.Contains(property.Name);
            if ((isRole || property.Name.EndsWith("_token", StringComparison.Ordinal)) && TokenText(property.Value, isRole) is { } text)
            {
                _tokens[property.Name] = text;
            }
        }

        if (config.TryGetProperty("additional_special_tokens", out JsonElement more) && more.ValueKind == JsonValueKind.Array)
        {
            AdditionalSpecialTokens = [.. more.EnumerateArray().Select(static token => TokenText(token, must: true) ?? "")];
        }

        if (!config.TryGetProperty("chat_template", out JsonElement template))
        {
            return;
        }

        if (template.ValueKind != JsonValueKind.Array)
        {
            if (template.GetString() is { } one)
            {
                _templates[DefaultTemplate] = one;
            }

            return;
        }

        // Several templates, each with a name.
        foreach (JsonElement item in template.EnumerateArray())
        {
            _templates[item.GetProperty("name").GetString()!] = item.GetProperty("template").GetString()!;
        }
    }

    // The text of a token, which is a string or the content of an object; null if there is none.
    private static string? TokenText(JsonElement token, bool must) => token.ValueKind switch
    {
        JsonValueKind.Object when must || token.TryGetProperty("content", out _) => token.GetProperty("content").GetString(),
        JsonValueKind.String or JsonValueKind.Null => token.GetString(),
        _ => must ? throw new InvalidOperationException($"a special token is a string or an object with its content, not {token.ValueKind}") : null,
    };

    private static string? ReadText(string path)
    {
        if (!Path.Exists(path))
        {
            return null;
        }

        try
        {
            return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(BoundedFile.Read(path, LargestFile, size =>
                new ChatException(ChatError.Unreadable, $"'{path}' has {size} bytes; at most {LargestFile} are read.")));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or DecoderFallbackException)
        {
            throw new ChatException(ChatError.Unreadable, $"'{path}' cannot be read: {e.Message}", e);
        }
    }
}
