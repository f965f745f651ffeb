using System.Text;

namespace Tiller.Decode;

/// <summary>A list of stop strings is not valid.</summary>
public sealed class StopStringsException : TillerException
{
    internal StopStringsException(string message)
        : base(message)
    {
    }
}

/// <summary>
/// Strings that end a generation, each with its table for matching in one pass (Knuth, Morris, Pratt 1977). They are compared by UTF-16 code unit.
/// The object is immutable, so sessions may share it; <see cref="StopFilter"/> holds the state of one generation.
/// </summary>
public sealed class StopStrings
{
    /// <summary>Maximum number of stop strings.</summary>
    public const int MaxCount = 64;

    /// <summary>Maximum number of characters in a stop string.</summary>
    public const int MaxLength = 1024;

    private readonly string[] _strings;
    private readonly int[][] _fallback;   // per string: length of the longest proper prefix of s[..i] that also ends it

    /// <summary>Prepares the search for the given strings.</summary>
    /// <param name="strings">From 0 to <see cref="MaxCount"/> strings of 1 to <see cref="MaxLength"/> characters.</param>
    /// <exception cref="StopStringsException">There are too many strings, or one is empty or too long.</exception>
    public StopStrings(IReadOnlyCollection<string> strings)
    {
        ArgumentNullException.ThrowIfNull(strings);
        if (strings.Count > MaxCount)
        {
            throw new StopStringsException($"At most {MaxCount} stop strings are allowed, got {strings.Count}.");
        }

        foreach (string s in strings)
        {
            if (string.IsNullOrEmpty(s) || s.Length > MaxLength)
            {
                throw new StopStringsException($"A stop string must have 1 to {MaxLength} characters, got {s?.Length ?? 0}.");
            }
        }

        _strings = [.. strings];
        _fallback = [.. _strings.Select(Fallback)];
    }

    /// <summary>No stop strings.</summary>
    public static StopStrings None { get; } = new([]);

    /// <summary>Number of strings.</summary>
    public int Count => _strings.Length;

    /// <summary>The <paramref name="index"/>-th string.</summary>
    public string this[int index] => _strings[index];

    // Length of the longest prefix of string i that ends the text, given the length before c was appended.
    internal int Advance(int i, int matched, char c)
    {
        string s = _strings[i];
        while (matched > 0 && s[matched] != c)
        {
            matched = _fallback[i][matched];
        }

        return s[matched] == c ? matched + 1 : 0;
    }

    private static int[] Fallback(string s)
    {
        var fallback = new int[s.Length + 1];
        for (int i = 1, matched = 0; i < s.Length; i++)
        {
            while (matched > 0 && s[matched] != s[i])
            {
                matched = fallback[matched];
            }

            matched += s[matched] == s[i] ? 1 : 0;
            fallback[i + 1] = matched;
        }

        return fallback;
    }
}

/// <summary>
/// Passes text on until a stop string is complete. Text that may be the start of a stop string is held back until it is certain that it is not. No
/// part of a stop string is ever passed on. The result does not depend on how the text is cut into pieces.
/// </summary>
public sealed class StopFilter
{
    private readonly StopStrings _stops;
    private readonly int[] _matched;                  // per string: characters of it that end the text so far
    private readonly StringBuilder _held = new();

    /// <summary>Creates a filter at the beginning of a text.</summary>
    public StopFilter(StopStrings stops)
    {
        ArgumentNullException.ThrowIfNull(stops);
        _stops = stops;
        _matched = new int[stops.Count];
    }

    /// <summary>
    /// The stop string that was found; null until then. It is the first to be complete, or the longest if several are complete at once.
    /// </summary>
    public string? Found { get; private set; }

    /// <summary>Takes the next piece of text.</summary>
    /// <param name="piece">The text; ignored after a stop string was found.</param>
    /// <returns>Text that is safe to show. It ends before the stop string if that is found.</returns>
    public string Push(string piece)
    {
        ArgumentNullException.ThrowIfNull(piece);
        if (Found is not null)
        {
            return "";
        }

        if (_stops.Count == 0)
        {
            return piece;
        }

        for (int at = 0; at < piece.Length; at++)
        {
            int longest = -1;
            for (int i = 0; i < _matched.Length; i++)
            {
                _matched[i] = _stops.Advance(i, _matched[i], piece[at]);
                bool complete = _matched[i] == _stops[i].Length;
                longest = complete && (longest < 0 || _matched[i] > _matched[longest]) ? i : longest;
            }

            if (longest >= 0)
            {
                Found = _stops[longest];
                _held.Append(piece, 0, at + 1);
                return Release(_held.Length - Found.Length);
            }
        }

        int hold = _matched.Max();
        if (_held.Length == 0 && hold == 0)
        {
            return piece;
        }

        _held.Append(piece);
        return Release(_held.Length - hold);
    }

    /// <summary>Ends the text.</summary>
    /// <returns>The text held back; empty if a stop string was found.</returns>
    public string Finish() => Found is null ? Release(_held.Length) : "";

    private string Release(int length)
    {
        string text = _held.ToString(0, length);
        _held.Remove(0, length);
        return text;
    }
}
