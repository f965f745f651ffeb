using System.Globalization;

namespace Tiller.Hub;

/// <summary>A file of a model, as announced by the hub.</summary>
/// <param name="Name">Name in the model's folder.</param>
/// <param name="Tag">
/// Identifier of the content, and name of the blob in the cache: the SHA-256 of a large file, the git blob id (a SHA-1) of a small one. Hubs other
/// than Hugging Face may use something else.
/// </param>
/// <param name="SizeInBytes">Size of the file.</param>
internal sealed record HubFile(string Name, string Tag, long SizeInBytes)
{
    private const int Sha1Length = 40;
    private const int Sha256Length = 64;
    private const int LongestTag = 128;

    /// <summary>Whether the tag is a hash that the content can be checked against.</summary>
    public bool HasHash => IsHex(Tag) && Tag.Length is Sha1Length or Sha256Length;

    /// <summary>Creates a file from headers; null if they are not valid. The tag becomes a file name, so it must not be a path.</summary>
    public static HubFile? TryCreate(string name, string? tag, string? size)
    {
        tag = tag?.Trim();
        tag = tag?.StartsWith("W/", StringComparison.Ordinal) == true ? tag[2..] : tag;
        tag = tag?.Trim('"');
        return tag is { Length: > 0 and <= LongestTag } && tag.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_')
            && long.TryParse(size, NumberStyles.None, CultureInfo.InvariantCulture, out long bytes)
                ? new HubFile(name, tag, bytes)
                : null;
    }

    /// <summary>Whether a text consists of lower-case hexadecimal digits.</summary>
    public static bool IsHex(string text) => text.Length > 0 && text.All(char.IsAsciiHexDigitLower);

    /// <summary>Creates the hash for the whole content.</summary>
    public ContentHash Hash() => new(Tag.Length == Sha256Length, SizeInBytes);

    /// <summary>Whether the hashed content is the announced one.</summary>
    public bool Is(ContentHash hash) => !HasHash || hash.End() == Tag;
}
