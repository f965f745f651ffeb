namespace Tiller.Tokens;

/// <summary>
/// A search in a text: for a string, a class of characters or an expression. Matches are found from left to right and do not overlap.
/// </summary>
internal abstract class TextPattern
{
    /// <summary>Prepares the search of one text.</summary>
    /// <param name="text">Valid UTF-8, not empty.</param>
    /// <param name="state">State of the search.</param>
    public virtual void Begin(ReadOnlySpan<byte> text, PatternState state)
    {
    }

    /// <summary>Finds the next match.</summary>
    /// <param name="text">The text of <see cref="Begin"/>.</param>
    /// <param name="from">End of the previous match, 0 at first.</param>
    /// <param name="state">The state of <see cref="Begin"/>.</param>
    /// <param name="start">Start of the match.</param>
    /// <param name="end">End of the match; a match may be empty.</param>
    /// <returns>Whether there is a match.</returns>
    public abstract bool Next(ReadOnlySpan<byte> text, int from, PatternState state, out int start, out int end);
}

/// <summary>State of a search, for patterns that search a copy of the text.</summary>
internal sealed class PatternState
{
    /// <summary>The copy, with one symbol for each code point.</summary>
    public char[] Copy { get; set; } = [];

    public int Length { get; set; }

    /// <summary>A position in the copy; <see cref="ByteAt"/> is the same position in the text.</summary>
    public int At { get; set; }

    public int ByteAt { get; set; }

    /// <summary>End of the last match in the copy, -1 before the first.</summary>
    public int LastEnd { get; set; }

    /// <summary>Counts the steps of the call; null for none.</summary>
    public EncodeSteps? Steps { get; init; }
}

/// <summary>Matches a string.</summary>
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

/// <summary>Matches one character of a class.</summary>
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

/// <summary>
/// Matches characters of one class, perhaps with a character of another before them: <c>[…]</c>, <c>[…]+</c>, <c>[…]{1,n}</c> or
/// <c>[…]?[…]+</c>, as most of the expressions that DeepSeek's tokenizers apply one after another.
/// </summary>
/// <param name="run">The class.</param>
/// <param name="most">Most characters of the class in a match.</param>
/// <param name="lead">The class of the character before them, with any number of them; null for none.</param>
internal sealed class RunPattern(CodePointSet run, int most, CodePointSet? lead) : TextPattern
{
    private readonly bool[] ascii = [.. Enumerable.Range(0, 0x80).Select(run.Contains)];

    public override bool Next(ReadOnlySpan<byte> text, int from, PatternState state, out int start, out int end)
    {
        start = from;
        int before = -1; // start of the character of the other class before the current one
        for (end = from; end < text.Length;)
        {
            int code = CharClasses.CodeAt(text, end, out int length);
            if (Belongs(code))
            {
                start = before >= 0 ? before : end;
                int count = 0;
                do
                {
                    end += length;
                    count++;
                }
                while (count < most && end < text.Length && Belongs(CharClasses.CodeAt(text, end, out length)));
                return true;
            }

            before = lead?.Contains(code) == true ? end : -1;
            end += length;
        }

        return false;
    }

    private bool Belongs(int code) => code < ascii.Length ? ascii[code] : run.Contains(code);
}

/// <summary>Matches <c>\w+|[^\w\s]+</c>, as Rust's regex defines it.</summary>
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

/// <summary>Matches <c>\s+$</c>: white space before the end of the text or of a line.</summary>
internal sealed class TrailingSpacePattern : TextPattern
{
    public const string Expression = @"\s+$";

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

/// <summary>Matches one of the known splits of byte-level tokenizers.</summary>
internal sealed class WordPattern(WordSplit split) : TextPattern
{
    public override bool Next(ReadOnlySpan<byte> text, int from, PatternState state, out int start, out int end)
    {
        for (start = from; start < text.Length;)
        {
            end = WordSplits.End(split, text, start);
            if (end > 0)
            {
                return true;
            }

            CharClasses.CodeAt(text, start, out int length);
            start += length;
        }

        end = start;
        return false;
    }
}
