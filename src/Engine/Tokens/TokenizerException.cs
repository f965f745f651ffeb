using System.Text;

namespace Tiller.Tokens;

/// <summary>The kind of error in a tokenizer file, or in a text for the tokenizer.</summary>
public enum TokenizerError
{
    /// <summary>The file is missing or cannot be read.</summary>
    Io,

    /// <summary>The file is not JSON: wrong syntax, invalid UTF-8, a lone surrogate, or nested too deeply.</summary>
    Json,

    /// <summary>The file is JSON, but not in the form of a tokenizer.json.</summary>
    Schema,

    /// <summary>A key, token or id occurs twice.</summary>
    Duplicate,

    /// <summary>A number is out of range.</summary>
    Range,

    /// <summary>The file is well-formed, but of a kind that is not implemented.</summary>
    Unsupported,

    /// <summary>The file or a part of it is larger than the reader accepts.</summary>
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

    /// <summary>The unknown token is not in the vocabulary, or a character needs it and there is none.</summary>
    UnknownToken,

    /// <summary>A byte has no token and there is no unknown token, so that text would be lost.</summary>
    MissingByte,

    /// <summary>An added token contradicts the vocabulary.</summary>
    AddedTokenMismatch,

    /// <summary>A template names a special token that is not defined.</summary>
    MissingSpecialToken,

    /// <summary>The text to encode is not valid UTF-16.</summary>
    InvalidText,
}

/// <summary>A tokenizer.json cannot be used, or a text or id cannot be encoded or decoded.</summary>
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

    /// <summary>The position in the file, for example <c>$.model.merges[3]</c>; empty if the error does not concern the content of a file.</summary>
    public string JsonPath { get; }

    /// <summary>The offending value, escaped and shortened to about 200 characters; null if there is none.</summary>
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
