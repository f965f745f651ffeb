using System.Text;

namespace Tiller.Tokens;

/// <summary>What is wrong with a tokenizer file, or with a text handed to it.</summary>
public enum TokenizerError
{
    /// <summary>The file is missing or cannot be read.</summary>
    Io,

    /// <summary>Not JSON: syntax, invalid UTF-8, a lone surrogate, or nested too deeply.</summary>
    Json,

    /// <summary>JSON, but not of the form of a tokenizer.json.</summary>
    Schema,

    /// <summary>A key, token or id stands there twice.</summary>
    Duplicate,

    /// <summary>A number outside its range.</summary>
    Range,

    /// <summary>Well-formed, but a kind that is not implemented.</summary>
    Unsupported,

    /// <summary>Larger than the reader accepts.</summary>
    Limit,

    /// <summary>The model has no vocabulary or no merges.</summary>
    MissingVocabulary,

    /// <summary>One side of a merge is not in the vocabulary.</summary>
    MergeTokenOutOfVocabulary,

    /// <summary>The result of a merge is not in the vocabulary.</summary>
    MergeOutOfVocabulary,

    /// <summary>A merge is not two non-empty parts.</summary>
    BadMerge,

    /// <summary>Dropout is not a probability.</summary>
    InvalidDropout,

    /// <summary>The unknown token is not in the vocabulary, or a character needs one and there is none.</summary>
    UnknownToken,

    /// <summary>Some byte has no token and no unknown token stands in for it: text would be dropped.</summary>
    MissingByte,

    /// <summary>An added token contradicts the vocabulary.</summary>
    AddedTokenMismatch,

    /// <summary>A template names a special token that is not defined.</summary>
    MissingSpecialToken,

    /// <summary>The text to encode is not valid UTF-16.</summary>
    InvalidText,
}

/// <summary>A tokenizer.json that cannot be used, or a text or id that cannot be encoded or decoded.</summary>
public sealed class TokenizerException : TillerException
{
    private const int LongestValue = 200;

    internal TokenizerException(TokenizerError code, string path, string? value, string message, Exception? cause = null)
        : base(Compose(code, path, value, message), cause)
    {
        Code = code;
        JsonPath = path;
        Value = value is null ? null : Escape(value);
    }

    /// <summary>The kind of error.</summary>
    public TokenizerError Code { get; }

    /// <summary>Where in the file, for example <c>$.model.merges[3]</c>; empty if the error is not in a file's content.</summary>
    public string JsonPath { get; }

    /// <summary>The offending value, escaped and at most 200 characters; null if there is none.</summary>
    public string? Value { get; }

    internal static string Escape(string value)
    {
        var text = new StringBuilder();
        foreach (char c in value)
        {
            if (text.Length >= LongestValue - 6)
            {
                return text.Append('…').ToString();
            }

            if (c is < ' ' or > '~' and < '\u00a1' || char.IsSurrogate(c) || c is '\u2028' or '\u2029')
            {
                text.Append("\\u").Append(((int)c).ToString("x4"));
            }
            else
            {
                text.Append(c);
            }
        }

        return text.ToString();
    }

    private static string Compose(TokenizerError code, string path, string? value, string message)
    {
        string where = path.Length == 0 ? "" : $" at {path}";
        string what = value is null ? "" : $" (found: {Escape(value)})";
        return $"Tokenizer{where}: {message}{what} [{code}]";
    }
}
