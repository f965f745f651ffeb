using System.Buffers;

namespace Tiller.Checkpoint;

/// <summary>A model on the hub and the revision that is meant, written OWNER/NAME or OWNER/NAME@REVISION.</summary>
/// <param name="Repository">OWNER/NAME.</param>
/// <param name="Revision">A branch, a tag or a commit; null where none is named.</param>
internal sealed record HubName(string Repository, string? Revision)
{
    /// <summary>What a name must be, for messages.</summary>
    public const string Form = "OWNER/NAME or OWNER/NAME@REVISION";

    private const int LongestRepository = 96;
    private const int LongestRevision = 200;

    private static readonly SearchValues<char> s_letters = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._");

    /// <summary>The name that a text is, or null. What a text may hold is what the hub allows: no such name leads out of a folder.</summary>
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

    /// <summary>Whether a text can name a branch, a tag or a commit, and be the path of its reference.</summary>
    public static bool IsRevision(string text) =>
        text.Length <= LongestRevision && Array.TrueForAll(text.Split('/'), part => IsWord(part) && part[0] is not ('.' or '-') && part[^1] != '.');

    public override string ToString() => Revision is null ? Repository : $"{Repository}@{Revision}";

    // Two dashes are the slash of a folder in the cache.
    private static bool IsPart(string part) => IsWord(part) && part[0] is not ('-' or '.') && part[^1] is not ('-' or '.')
        && !part.Contains("--", StringComparison.Ordinal) && !part.EndsWith(".git", StringComparison.Ordinal);

    private static bool IsWord(string part) => part.Length > 0 && !part.AsSpan().ContainsAnyExcept(s_letters)
        && !part.Contains("..", StringComparison.Ordinal);
}
