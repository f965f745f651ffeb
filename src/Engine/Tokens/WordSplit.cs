namespace Tiller.Tokens;

/// <summary>
/// The known splits of byte-level tokenizers, as scanners over valid UTF-8. Each scanner finds where the regular expression's match that
/// begins at a position ends; the expressions match at every position, so words tile the text.
/// </summary>
internal enum WordSplit
{
    /// <summary>No split: the text is one word.</summary>
    Whole,

    /// <summary>GPT-2: contractions, letters, numbers, others, each with an optional leading space.</summary>
    Gpt2,

    /// <summary>Llama-3 (cl100k): numbers in groups of up to three.</summary>
    Llama3,

    /// <summary>Qwen2: numbers one by one.</summary>
    Qwen2,
}

/// <summary>Scanners of <see cref="WordSplit"/>.</summary>
internal static class WordSplits
{
    private const string Contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
    private const string ContractionsShort = "'(?i:[sdmt]|ll|ve|re)";
    private const string Tail = @"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    private const string TailPossessive = @"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
    private const string Letters = @"|[^\r\n\p{L}\p{N}]?\p{L}+";
    private const string LettersPossessive = @"|[^\r\n\p{L}\p{N}]?+\p{L}+";

    // The same language in the spellings under which it was published.
    private static readonly Dictionary<string, WordSplit> Known = new(StringComparer.Ordinal)
    {
        [@"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"] = WordSplit.Gpt2,
        [@"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"] = WordSplit.Gpt2,
        [Contractions + Letters + @"|\p{N}{1,3}" + Tail] = WordSplit.Llama3,
        [ContractionsShort + LettersPossessive + @"|\p{N}{1,3}" + TailPossessive] = WordSplit.Llama3,
        [ContractionsShort + Letters + @"|\p{N}{1,3}" + Tail] = WordSplit.Llama3,
        [Contractions + Letters + @"|\p{N}" + Tail] = WordSplit.Qwen2,
        [ContractionsShort + Letters + @"|\p{N}" + Tail] = WordSplit.Qwen2,
    };

    /// <summary>The split a regular expression stands for, or null if it is none of the known ones.</summary>
    public static WordSplit? OfRegex(string regex) => Known.TryGetValue(regex, out WordSplit split) ? split : null;

    /// <summary>End of the word that starts at <paramref name="i"/> &lt; text.Length.</summary>
    public static int End(WordSplit split, ReadOnlySpan<byte> text, int i) => split switch
    {
        WordSplit.Gpt2 => EndGpt2(text, i),
        WordSplit.Llama3 => EndModern(text, i, 3),
        WordSplit.Qwen2 => EndModern(text, i, 1),
        _ => text.Length,
    };

    private static int EndGpt2(ReadOnlySpan<byte> text, int i)
    {
        if (text[i] == '\'' && Contraction(text, i, ignoreCase: false) is > 0 and int end)
        {
            return end;
        }

        int j = text[i] == ' ' && i + 1 < text.Length ? i + 1 : i;
        CharClass at = CharClasses.At(text, j, out int length);
        return at == CharClass.Space ? EndOfSpaces(text, i, newlines: false) : EndOfRun(text, j + length, at);
    }

    private static int EndModern(ReadOnlySpan<byte> text, int i, int digits)
    {
        byte first = text[i];
        if (first == '\'' && Contraction(text, i, ignoreCase: true) is > 0 and int end)
        {
            return end;
        }

        CharClass at = CharClasses.At(text, i, out int length);
        if (at == CharClass.Letter)
        {
            return EndOfRun(text, i + length, CharClass.Letter);
        }

        int j = i + length;
        if (at == CharClass.Number)
        {
            for (int n = 1; n < digits && j < text.Length && CharClasses.At(text, j, out length) == CharClass.Number; n++)
            {
                j += length;
            }

            return j;
        }

        CharClass next = j < text.Length ? CharClasses.At(text, j, out length) : CharClass.Space;
        if (next == CharClass.Letter && first is not ((byte)'\r' or (byte)'\n'))
        {
            return EndOfRun(text, j + length, CharClass.Letter);
        }

        if (at == CharClass.Other || (first == ' ' && next == CharClass.Other))
        {
            j = EndOfRun(text, j, CharClass.Other);
            while (j < text.Length && text[j] is (byte)'\r' or (byte)'\n')
            {
                j++;
            }

            return j;
        }

        return EndOfSpaces(text, i, newlines: true);
    }

    private static int EndOfRun(ReadOnlySpan<byte> text, int i, CharClass run)
    {
        while (i < text.Length && CharClasses.At(text, i, out int length) == run)
        {
            i += length;
        }

        return i;
    }

    // \s*[\r\n]+ (if newlines), then \s+(?!\S), then \s+.
    private static int EndOfSpaces(ReadOnlySpan<byte> text, int i, bool newlines)
    {
        int j = i;
        int last = i;
        int afterNewline = -1;
        while (j < text.Length && CharClasses.At(text, j, out int length) == CharClass.Space)
        {
            last = j;
            j += length;
            if (text[last] is (byte)'\r' or (byte)'\n')
            {
                afterNewline = j;
            }
        }

        if (newlines && afterNewline > 0)
        {
            return afterNewline;
        }

        return j == text.Length || last == i ? j : last;
    }

    // End of the contraction at an apostrophe, or 0. U+017F (C5 BF) folds to s.
    private static int Contraction(ReadOnlySpan<byte> text, int i, bool ignoreCase)
    {
        int fold = ignoreCase ? 0x20 : 0;
        int a = i + 1 < text.Length ? text[i + 1] | fold : 0;
        int b = i + 2 < text.Length ? text[i + 2] | fold : 0;
        switch (a)
        {
            case 's' or 't' or 'm' or 'd':
                return i + 2;
            case 'r' or 'v' when b == 'e':
            case 'l' when b == 'l':
                return i + 3;
            default:
                return ignoreCase && text[(i + 1)..].StartsWith("ſ"u8) ? i + 3 : 0;
        }
    }
}
