using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Tiller.Tokens;

/// <summary>A JSON value with its path. Its members throw typed errors.</summary>
internal readonly struct TokenizerNode
{
    private const int Depth = 64;

    private readonly JsonElement _element;

    private TokenizerNode(JsonElement element, string path)
    {
        _element = element;
        Path = path;
    }

    public string Path { get; }

    public bool IsNull => _element.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined;

    public bool IsObject => _element.ValueKind == JsonValueKind.Object;

    public bool IsString => _element.ValueKind == JsonValueKind.String;

    public bool IsArray => _element.ValueKind == JsonValueKind.Array;

    /// <summary>Parses a value. Duplicate keys are errors.</summary>
    public static TokenizerNode Parse(ReadOnlyMemory<byte> json, string path)
    {
        var options = new JsonDocumentOptions { AllowDuplicateProperties = false, MaxDepth = Depth };
        try
        {
            using JsonDocument document = JsonDocument.Parse(json, options);
            return new TokenizerNode(document.RootElement.Clone(), path);
        }
        catch (JsonException e) when (e.Message.Contains("uplicate", StringComparison.Ordinal))
        {
            throw new TokenizerException(TokenizerError.Duplicate, path, null, $"a key occurs twice: {e.Message}", e);
        }
        catch (JsonException e)
        {
            throw new TokenizerException(TokenizerError.Json, path, null, $"not valid JSON, or nested deeper than {Depth}: {e.Message}", e);
        }
    }

    public TokenizerNode this[string name] =>
        new(_element.ValueKind == JsonValueKind.Object && _element.TryGetProperty(name, out JsonElement child) ? child : default, $"{Path}.{name}");

    public IEnumerable<TokenizerNode> Items()
    {
        if (!IsArray)
        {
            throw Wrong("an array");
        }

        int i = 0;
        foreach (JsonElement item in _element.EnumerateArray())
        {
            yield return new TokenizerNode(item, $"{Path}[{i++}]");
        }
    }

    public IEnumerable<(string Name, TokenizerNode Value)> Properties()
    {
        if (!IsObject)
        {
            throw Wrong("an object");
        }

        foreach (JsonProperty property in _element.EnumerateObject())
        {
            yield return (property.Name, new TokenizerNode(property.Value, $"{Path}.{property.Name}"));
        }
    }

    public string Text()
    {
        if (!IsString)
        {
            throw Wrong("a string");
        }

        try
        {
            return _element.GetString()!;
        }
        catch (InvalidOperationException e)
        {
            throw new TokenizerException(TokenizerError.Json, Path, null, "a string holds half of a surrogate pair, which is not a character.", e);
        }
    }

    public string? TextOrNull() => IsNull ? null : Text();

    public bool Flag(bool absent) => _element.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        JsonValueKind.Null or JsonValueKind.Undefined => absent,
        _ => throw Wrong("true or false"),
    };

    public int Integer(int least, int most)
    {
        if (_element.ValueKind != JsonValueKind.Number)
        {
            throw Wrong("a whole number");
        }

        if (!_element.TryGetInt64(out long value) || value < least || value > most)
        {
            throw new TokenizerException(TokenizerError.Range, Path, Raw(), $"expected a whole number from {least} to {most}.");
        }

        return (int)value;
    }

    public double Real() => _element.ValueKind == JsonValueKind.Number ? _element.GetDouble() : throw Wrong("a number");

    public string Kind() => this["type"].Text();

    public TokenizerException Wrong(string expected)
    {
        string what = _element.ValueKind == JsonValueKind.Undefined ? "nothing" : Raw();
        return new TokenizerException(TokenizerError.Schema, Path, what, $"expected {expected}.");
    }

    public TokenizerException Unsupported(string value, string supported) =>
        new(TokenizerError.Unsupported, Path, value, $"this kind is not implemented; implemented: {supported}.");

    private string Raw()
    {
        string text = _element.GetRawText();
        return string.Create(CultureInfo.InvariantCulture, $"{text.AsSpan(0, Math.Min(text.Length, 200))}");
    }

    /// <summary>A text of one character, in UTF-8.</summary>
    public byte[] Character() => Text().EnumerateRunes().Count() == 1 ? Utf8() : throw Wrong("one character");

    /// <summary>The text, in UTF-8.</summary>
    public byte[] Utf8() => Encoding.UTF8.GetBytes(Text());
}
