using System.Buffers;

namespace Tiller.Tokens;

/// <summary>A token that is searched for in the text itself, before the text reaches the model.</summary>
internal sealed record AddedToken(int Id, byte[] Content, bool SingleWord, bool StripLeft, bool StripRight, bool Normalized, bool Special);

/// <summary>A part of a text: an added token, or, with Id = -1, the text between two added tokens.</summary>
internal readonly record struct TextPart(int Start, int End, int Id);

/// <summary>Finds added tokens in a text: the leftmost match, and of several at one position the longest.</summary>
internal sealed class AddedTokens
{
    private readonly PrefixTree _tree = new(); // its ids are indices of _tokens
    private readonly List<AddedToken> _tokens = [];
    private readonly SearchValues<byte> _firsts;

    /// <summary>Makes the search for these tokens.</summary>
    /// <param name="tokens">The tokens, each with the text to search for.</param>
    public AddedTokens(IEnumerable<(byte[] Text, AddedToken Token)> tokens)
    {
        var starts = new HashSet<byte>();
        foreach ((byte[] text, AddedToken token) in tokens)
        {
            starts.Add(text[0]);
            _tree.Add(text, _tokens.Count);
            _tokens.Add(token);
        }

        _firsts = SearchValues.Create([.. starts]);
        IsEmpty = starts.Count == 0;
    }

    public bool IsEmpty { get; }

    /// <summary>The token with exactly this text; null if there is none.</summary>
    public AddedToken? Exactly(ReadOnlySpan<byte> text) => Longest(text, out int length) is { } token && length == text.Length ? token : null;

    /// <summary>Appends the parts of a text, which together cover it.</summary>
    /// <param name="text">Valid UTF-8.</param>
    /// <param name="start">Where to begin.</param>
    /// <param name="end">Where to end. Text outside this range still counts for the conditions on a token's neighbours.</param>
    /// <param name="special">Whether special tokens are found too; if not, they stay plain text.</param>
    /// <param name="parts">Receives the parts.</param>
    public void Split(ReadOnlySpan<byte> text, int start, int end, bool special, List<TextPart> parts)
    {
        int from = start;
        for (int i = start; i < end;)
        {
            int skip = text[i..end].IndexOfAny(_firsts);
            if (skip < 0)
            {
                break;
            }

            i += skip;
            AddedToken? token = Longest(text[i..end], out int length);
            if (token is null)
            {
                i++;
                continue;
            }

            int stop = i + length;
            if ((special || !token.Special) && !(token.SingleWord && InsideWord(text, i, stop)))
            {
                int left = token.StripLeft ? Math.Max(SpacesBefore(text, i), from) : i;
                int right = token.StripRight ? SpacesAfter(text, stop, end) : stop;
                if (from < left)
                {
                    parts.Add(new TextPart(from, left, -1));
                }

                parts.Add(new TextPart(left, right, token.Id));
                from = right;
            }

            i = stop;
        }

        if (from < end)
        {
            parts.Add(new TextPart(from, end, -1));
        }
    }

    private static bool InsideWord(ReadOnlySpan<byte> text, int start, int end) =>
        (start > 0 && CharClasses.IsWord(CharClasses.CodeAt(text, CharClasses.StartBefore(text, start), out _)))
        || (end < text.Length && CharClasses.IsWord(CharClasses.CodeAt(text, end, out _)));

    /// <summary>Start of the run of white space that ends at <paramref name="i"/>.</summary>
    internal static int SpacesBefore(ReadOnlySpan<byte> text, int i)
    {
        while (i > 0 && CharClasses.StartBefore(text, i) is var start && CharClasses.At(text, start, out _) == CharClass.Space)
        {
            i = start;
        }

        return i;
    }

    /// <summary>End of the run of white space that starts at <paramref name="i"/>.</summary>
    internal static int SpacesAfter(ReadOnlySpan<byte> text, int i, int end)
    {
        while (i < end && CharClasses.At(text, i, out int length) == CharClass.Space)
        {
            i += length;
        }

        return i;
    }

    private AddedToken? Longest(ReadOnlySpan<byte> text, out int length)
    {
        AddedToken? found = null;
        length = 0;
        int node = 0;
        for (int i = 0; i < text.Length && _tree.Step(ref node, text[i], out int place); i++)
        {
            if (place >= 0)
            {
                found = _tokens[place];
                length = i + 1;
            }
        }

        return found;
    }
}
