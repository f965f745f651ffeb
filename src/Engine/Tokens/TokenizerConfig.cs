using System.Text;
using System.Text.Json;
using Tiller.Checkpoint;

namespace Tiller.Tokens;

/// <summary>
/// What a checkpoint says about its text beside tokenizer.json: tokenizer_config.json, and chat_template.jinja, which goes before its chat_template.
/// </summary>
/// <param name="Bos">Text of bos_token; empty for none.</param>
/// <param name="Eos">Text of eos_token; empty for none.</param>
/// <param name="ChatTemplate">The template of chats; null for none.</param>
internal sealed record TokenizerConfig(string Bos, string Eos, string? ChatTemplate)
{
    private const int LargestFile = 16 << 20;

    /// <summary>Reads both files; either may be missing.</summary>
    /// <exception cref="ChatException">Unreadable.</exception>
    public static TokenizerConfig Read(string directory)
    {
        string? template = ReadText(Path.Combine(directory, "chat_template.jinja"));
        if (ReadText(Path.Combine(directory, "tokenizer_config.json")) is not { } config)
        {
            return new TokenizerConfig("", "", template);
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(config);
            JsonElement root = document.RootElement;
            return new TokenizerConfig(TokenText(root, "bos_token"), TokenText(root, "eos_token"), template ?? Template(root));
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            throw new ChatException(ChatError.Unreadable, $"tokenizer_config.json is not valid JSON, or not of the expected form: {e.Message}", e);
        }
    }

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

    private static string TokenText(JsonElement config, string name)
    {
        if (config.ValueKind != JsonValueKind.Object || !config.TryGetProperty(name, out JsonElement token))
        {
            return "";
        }

        return token.ValueKind == JsonValueKind.Object ? token.GetProperty("content").GetString() ?? "" : token.GetString() ?? "";
    }

    // A string, or a list of named templates of which "default" counts.
    private static string? Template(JsonElement config)
    {
        if (config.ValueKind != JsonValueKind.Object || !config.TryGetProperty("chat_template", out JsonElement template))
        {
            return null;
        }

        if (template.ValueKind != JsonValueKind.Array)
        {
            return template.GetString();
        }

        foreach (JsonElement item in template.EnumerateArray())
        {
            if (item.TryGetProperty("name", out JsonElement name) && name.GetString() == "default" && item.TryGetProperty("template", out JsonElement text))
            {
                return text.GetString();
            }
        }

        return null;
    }
}
