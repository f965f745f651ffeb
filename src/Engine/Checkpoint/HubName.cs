using System.Buffers;

namespace Tiller.Checkpoint;

/// <summary>A model on the hub and a revision, written OWNER/NAME or OWNER/NAME@REVISION.</summary>
/// <param name="Repository">OWNER/NAME.</param>
/// <param name="Revision">A branch, a tag or a commit; null if none is named.</param>
internal sealed record HubName(string Repository, string? Revision)
{
    /// <summary>The form of a name, for messages.</summary>
    public const string Form = "OWNER/NAME or OWNER/NAME@REVISION";

    private const int LongestRepository = 96;
    private const int LongestRevision = 200;

    private static readonly SearchValues<char> s_letters = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._");

    /// <summary>
    /// Parses a name; null if the text is not one. Only characters that the hub allows are accepted, so that a name cannot lead out of its folder.
    /// </summary>
    public static HubName? TryParse(string text)
    {
        int at = text.IndexOf('@', StringComparison.Ordinal);
        string repository = at < 0 ? text : text[..at];
        string? revision = at < 0 ? null : text[(at + 1)..];
        string[] parts = repository.Split('/');
        return parts.Length == 2 && repository.Length <= LongestRepository && Array.TrueForAll(parts, IsPart)
            && (revision is null || IsRevision(revision))
            ? new HubName(repository, revision)
            : null;
    }

    /// <summary>Whether a text can name a branch, a tag or a commit, and can be the path of its reference file.</summary>
    public static bool IsRevision(string text) =>
        text.Length <= LongestRevision && Array.TrueForAll(text.Split('/'), part => IsWord(part) && part[0] is not ('.' or '-') && part[^1] != '.');

    public override string ToString() => Revision is null ? Repository : $"{Repository}@{Revision}";

    // Two dashes are not allowed, because they stand for the slash in folder names of the cache.
    private static bool IsPart(string part) => IsWord(part) && part[0] is not ('-' or '.') && part[^1] is not ('-' or '.')
        && !part.Contains("--", StringComparison.Ordinal) && !part.EndsWith(".git", StringComparison.Ordinal);

    private static bool IsWord(string part) => part.Length > 0 && !part.AsSpan().ContainsAnyExcept(s_letters)
        && !part.Contains("..", StringComparison.Ordinal);
}
