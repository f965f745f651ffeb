namespace Tiller.Tokens;

/// <summary>
/// What is looked for in a text: a string, a class of characters, an expression. Matches are found from the left and do not overlap.
/// </summary>
internal abstract class TextPattern
{
    /// <summary>Prepares the search of one text.</summary>
    /// <param name="text">Valid UTF-8, not empty.</param>
    /// <param name="state">Room for one search.</param>
    public virtual void Begin(ReadOnlySpan<byte> text, PatternState state)
    {
    }

    /// <summary>The next match.</summary>
    /// <param name="text">The text of <see cref="Begin"/>.</param>
    /// <param name="from">End of the match before, 0 at first.</param>
    /// <param name="state">That of <see cref="Begin"/>.</param>
    /// <param name="start">Where it starts.</param>
    /// <param name="end">Where it ends; a match may be empty.</param>
    /// <returns>Whether there is one.</returns>
    public abstract bool Next(ReadOnlySpan<byte> text, int from, PatternState state, out int start, out int end);

    /// <summary>The next matches of a pattern whose matches always tile the text, several at once.</summary>
    /// <param name="text">The text of <see cref="Begin"/>.</param>
    /// <param name="from">End of the match before, 0 at first; less than the text's length.</param>
    /// <param name="ends">Takes where they end; each starts at the end of the one before.</param>
    /// <returns>How many; 0 of a pattern whose matches need not tile.</returns>
    public virtual int NextTiles(ReadOnlySpan<byte> text, int from, Span<int> ends) => 0;
}

/// <summary>Where the search of one text stands, for patterns that search a copy of it.</summary>
internal sealed class PatternState
{
    /// <summary>The copy, one character for each code point.</summary>
    public char[] Copy { get; set; } = [];

    public int Length { get; set; }

    /// <summary>A place in the copy, and the same in the text.</summary>
    public int At { get; set; }

    public int ByteAt { get; set; }

    /// <summary>End of the last match in the copy, or -1.</summary>
    public int LastEnd { get; set; }

    /// <summary>Steps of the call.</summary>
    public EncodeSteps? Steps { get; init; }
}

/// <summary>A string.</summary>
internal sealed class StringPattern(byte[] pattern) : TextPattern
{
    public override bool Next(ReadOnlySpan<byte> text, int from, PatternState state, out int start, out int end)
    {
        int at = text[from..].IndexOf(pattern);
        start = from + at;
        end = start + pattern.Length;
        return at >= 0;
    }
}

/// <summary>One character of a class.</summary>
internal sealed class CharacterPattern(Func<int, bool> belongs) : TextPattern
{
    public override bool Next(ReadOnlySpan<byte> text, int from, PatternState state, out int start, out int end)
    {
        for (start = from; start < text.Length; start = end)
        {
            int code = CharClasses.CodeAt(text, start, out int length);
            end = start + length;
            if (belongs(code))
            {
                return true;
            }
        }

        end = start;
        return false;
    }
}

/// <summary>An optional white space, then as many characters of a class as there are: <c>\s?[…]+</c>, or without the space.</summary>
internal sealed class RunPattern(Func<int, bool> belongs, bool spaceBefore) : TextPattern
{
    public override bool Next(ReadOnlySpan<byte> text, int from, PatternState state, out int start, out int end)
    {
        start = from;
        int before = -1; // where the white space stands that ends at the present character
        for (end = from; end < text.Length;)
        {
            int code = CharClasses.CodeAt(text, end, out int length);
            if (belongs(code))
            {
                start = before >= 0 ? before : end;
                do
                {
                    end += length;
                }
                while (end < text.Length && belongs(CharClasses.CodeAt(text, end, out length)));
                return true;
            }

            before = spaceBefore && CharClasses.IsSpace(code) ? end : -1;
            end += length;
        }

        return false;
    }
}

/// <summary><c>\w+|[^\w\s]+</c>, as Rust's regex has it.</summary>
internal sealed class WordOrSymbolsPattern : TextPattern
{
    public override bool Next(ReadOnlySpan<byte> text, int from, PatternState state, out int start, out int end)
    {
        start = AddedTokens.SpacesAfter(text, from, text.Length);
        end = start;
        if (start == text.Length)
        {
            return false;
        }

        bool word = CharClasses.IsWord(CharClasses.CodeAt(text, start, out int length));
        do
        {
            end += length;
        }
        while (end < text.Length && CharClasses.CodeAt(text, end, out length) is var code && CharClasses.IsWord(code) == word
            && !CharClasses.IsSpace(code));
        return true;
    }
}

/// <summary><c>\s+$</c>: white space before the end of the text or of a line.</summary>
internal sealed class TrailingSpacePattern : TextPattern
{
    public override bool Next(ReadOnlySpan<byte> text, int from, PatternState state, out int start, out int end)
    {
        for (int i = from; i < text.Length;)
        {
            if (CharClasses.At(text, i, out int length) != CharClass.Space)
            {
                i += length;
                continue;
            }

            start = i;
            int stop = AddedTokens.SpacesAfter(text, i, text.Length);
            end = stop == text.Length ? stop : start + Math.Max(text[start..stop].LastIndexOf((byte)'\n'), 0);
            if (end > start)
            {
                return true;
            }

            i = stop;
        }

        start = end = text.Length;
        return false;
    }
}

/// <summary>One of the known splits of byte-level tokenizers: matches tile the text.</summary>
internal sealed class WordPattern(WordSplit split) : TextPattern
{
    public override bool Next(ReadOnlySpan<byte> text, int from, PatternState state, out int start, out int end)
    {
        start = from;
        end = from < text.Length ? WordSplits.End(split, text, from) : from;
        return from < text.Length;
    }

    public override int NextTiles(ReadOnlySpan<byte> text, int from, Span<int> ends)
    {
        int count = 0;
        for (; count < ends.Length && from < text.Length; count++)
        {
            from = WordSplits.End(split, text, from);
            ends[count] = from;
        }

        return count;
    }
}
