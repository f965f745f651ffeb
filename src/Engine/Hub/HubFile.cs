using System.Globalization;

namespace Tiller.Hub;

/// <summary>A file of a model as the hub announces it.</summary>
/// <param name="Name">Its name in the model's folder.</param>
/// <param name="Tag">
/// What its content is known by, and the blob's name in the cache: of a large file the SHA-256, of a small one git's name of the blob, a SHA-1; of a
/// hub that is not Hugging Face's perhaps something else.
/// </param>
/// <param name="SizeInBytes">Its bytes.</param>
internal sealed record HubFile(string Name, string Tag, long SizeInBytes)
{
    private const int Sha1Length = 40;
    private const int Sha256Length = 64;
    private const int LongestTag = 128;

    /// <summary>Whether the content can be compared with its tag.</summary>
    public bool HasHash => IsHex(Tag) && Tag.Length is Sha1Length or Sha256Length;

    /// <summary>A file from what headers say, or null: the tag becomes a file's name, and is no path.</summary>
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

    /// <summary>Whether a text is a number in base 16, in lower case.</summary>
    public static bool IsHex(string text) => text.Length > 0 && text.All(char.IsAsciiHexDigitLower);

    /// <summary>Takes the content, from its first byte to its last.</summary>
    public ContentHash Hash() => new(Tag.Length == Sha256Length, SizeInBytes);

    /// <summary>Whether a content whose hash was taken is the announced one.</summary>
    public bool Is(ContentHash hash) => !HasHash || hash.End() == Tag;
}
