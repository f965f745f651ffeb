using System.Buffers;
using System.Globalization;

namespace Tiller.Tokens;

/// <summary>
/// The known splits of byte-level tokenizers, as scanners over valid UTF-8. A scanner finds the end of the regular expression's match that begins at
/// a position. The expressions match at every position, so that words cover the text, but for the last one.
/// </summary>
internal enum WordSplit
{
    /// <summary>GPT-2: contractions, letters, numbers, others, each with an optional leading space.</summary>
    Gpt2,

    /// <summary>Llama-3 (cl100k): numbers in groups of up to three.</summary>
    Llama3,

    /// <summary>Qwen2: numbers one by one.</summary>
    Qwen2,

    /// <summary>Qwen3.5: as Qwen2, and marks belong to words.</summary>
    Qwen35,

    /// <summary>
    /// o200k: a capital after a small letter begins a new word, and contractions belong to words; numbers in groups of up to three.
    /// </summary>
    O200k,

    /// <summary>Tekken: as o200k, without contractions, and numbers one by one.</summary>
    Tekken,

    /// <summary>
    /// The last of DeepSeek-V3's three: marks belong to words, and one character of punctuation of ASCII to the letters of ASCII after it. Numbers
    /// are no words, because the first of the three takes them.
    /// </summary>
    DeepSeek3,
}

/// <summary>The scanners of <see cref="WordSplit"/>.</summary>
internal static class WordSplits
{
    private const string Contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
    private const string ContractionsShort = "'(?i:[sdmt]|ll|ve|re)";
    private const string Tail = @"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    private const string TailPossessive = @"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
    private const string Letters = @"|[^\r\n\p{L}\p{N}]?\p{L}+";
    private const string LettersPossessive = @"|[^\r\n\p{L}\p{N}]?+\p{L}+";

    private const string Capitals = @"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]";
    private const string Smalls = @"[\p{Ll}\p{Lm}\p{Lo}\p{M}]";
    private const string Lead = @"[^\r\n\p{L}\p{N}]?";
    private const string TailSlash = @"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    private static readonly SearchValues<byte> s_asciiLetters = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"u8);

    // The published spellings of each expression (ExpressionPatternTests says where), with escapes for the ends of lines.
    private static readonly Dictionary<string, WordSplit> Known = new(StringComparer.Ordinal)
    {
        [@"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"] = WordSplit.Gpt2,
        [@"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"] = WordSplit.Gpt2,
        [Contractions + Letters + @"|\p{N}{1,3}" + Tail] = WordSplit.Llama3,
        [ContractionsShort + LettersPossessive + @"|\p{N}{1,3}" + TailPossessive] = WordSplit.Llama3,
        [Contractions + Letters + @"|\p{N}" + Tail] = WordSplit.Qwen2,
        [ContractionsShort + LettersPossessive + @"|\p{N}" + TailPossessive] = WordSplit.Qwen2,
        [Contractions + @"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"] = WordSplit.Qwen35,
        [$"{Lead}{Capitals}*{Smalls}+{Contractions}?|{Lead}{Capitals}+{Smalls}*{Contractions}?" + @"|\p{N}{1,3}" + TailSlash] = WordSplit.O200k,
        [$"{Lead}{Capitals}*{Smalls}+|{Lead}{Capitals}+{Smalls}*" + @"|\p{N}" + TailSlash] = WordSplit.Tekken,
        [@"[!""#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"] =
            WordSplit.DeepSeek3,
    };

    /// <summary>The split of GPT-2, which the ByteLevel pre-tokenizer uses too.</summary>
    public static TextPattern Gpt2 { get; } = new WordPattern(WordSplit.Gpt2);

    /// <summary>All expressions that have a scanner.</summary>
    internal static IEnumerable<string> KnownExpressions => [.. Known.Keys, TrailingSpacePattern.Expression];

    /// <summary>The scanner of a known regular expression; null if it has none.</summary>
    public static TextPattern? OfRegex(string regex) =>
        Known.TryGetValue(regex.Replace("\r", @"\r", StringComparison.Ordinal).Replace("\n", @"\n", StringComparison.Ordinal), out WordSplit split)
            ? new WordPattern(split)
            : regex == TrailingSpacePattern.Expression ? new TrailingSpacePattern() : null;

    /// <summary>
    /// End of the word that starts at <paramref name="i"/>, which must be below text.Length; 0 if none starts there, which only
    /// <see cref="WordSplit.DeepSeek3"/> has.
    /// </summary>
    public static int End(WordSplit split, ReadOnlySpan<byte> text, int i) => split switch
    {
        WordSplit.Gpt2 => EndGpt2(text, i),
        WordSplit.Llama3 => EndModern(text, i, 3),
        WordSplit.Qwen2 => EndModern(text, i, 1),
        WordSplit.Qwen35 => EndMarked(text, i),
        WordSplit.O200k => EndCased(text, i, 3, contractions: true),
        WordSplit.Tekken => EndCased(text, i, 1, contractions: false),
        WordSplit.DeepSeek3 => EndDeepSeek3(text, i),
        _ => throw new ArgumentOutOfRangeException(nameof(split)),
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
            return EndOfNewlines(text, EndOfRun(text, j, CharClass.Other));
        }

        return EndOfSpaces(text, i, newlines: true);
    }

    private static int EndMarked(ReadOnlySpan<byte> text, int i)
    {
        if (text[i] == '\'' && Contraction(text, i, ignoreCase: true) is > 0 and int end)
        {
            return end;
        }

        CharClass at = CharClasses.At(text, i, out int length);
        int after = i + length;
        if (at == CharClass.Number)
        {
            return after;
        }

        int word = at != CharClass.Letter && text[i] is not ((byte)'\r' or (byte)'\n') && after < text.Length && IsLetterOrMark(text, after, out _)
            ? after
            : i;
        if (word > i || IsLetterOrMark(text, i, out _))
        {
            return EndOfLettersAndMarks(text, word);
        }

        int j = text[i] == ' ' ? i + 1 : i;
        return j < text.Length && IsOther(text, j, out _) ? EndOfOthers(text, j, slash: false, marks: false) : EndOfSpaces(text, i, newlines: true);

        static bool IsOther(ReadOnlySpan<byte> text, int i, out int length) =>
            CharClasses.At(text, i, out length) == CharClass.Other && !CharClasses.IsMark(CharClasses.CodeAt(text, i, out _));
    }

    private static int EndDeepSeek3(ReadOnlySpan<byte> text, int i)
    {
        byte first = text[i];
        int code = CharClasses.CodeAt(text, i, out int length);
        int after = i + length;
        bool isSymbol = CharClasses.IsPunctuationOrSymbol(code);
        if (isSymbol && code < 0x80 && after < text.Length && char.IsAsciiLetter((char)text[after]))
        {
            int letters = text[after..].IndexOfAnyExcept(s_asciiLetters);
            return letters < 0 ? text.Length : after + letters;
        }

        if (IsLetterOrMark(text, i, out _))
        {
            return EndOfLettersAndMarks(text, i);
        }

        if (!isSymbol && first is not ((byte)'\r' or (byte)'\n') && after < text.Length && IsLetterOrMark(text, after, out _))
        {
            return EndOfLettersAndMarks(text, after);
        }

        int j = first == ' ' && after < text.Length ? after : i;
        if (CharClasses.IsPunctuationOrSymbol(CharClasses.CodeAt(text, j, out length)))
        {
            do
            {
                j += length;
            }
            while (j < text.Length && CharClasses.IsPunctuationOrSymbol(CharClasses.CodeAt(text, j, out length)));
            return EndOfNewlines(text, j);
        }

        return CharClasses.At(text, i, out _) == CharClass.Space ? EndOfSpaces(text, i, newlines: true) : 0;
    }

    private static bool IsLetterOrMark(ReadOnlySpan<byte> text, int i, out int length) =>
        CharClasses.At(text, i, out length) == CharClass.Letter || CharClasses.IsMark(CharClasses.CodeAt(text, i, out _));

    private static int EndOfLettersAndMarks(ReadOnlySpan<byte> text, int i)
    {
        while (i < text.Length && IsLetterOrMark(text, i, out int length))
        {
            i += length;
        }

        return i;
    }

    private static int EndOfNewlines(ReadOnlySpan<byte> text, int i)
    {
        while (i < text.Length && text[i] is (byte)'\r' or (byte)'\n')
        {
            i++;
        }

        return i;
    }

    private static int EndCased(ReadOnlySpan<byte> text, int i, int digits, bool contractions)
    {
        CharClass at = CharClasses.At(text, i, out int length);
        int after = i + length;
        bool lead = at is CharClass.Other or CharClass.Space && text[i] is not ((byte)'\r' or (byte)'\n') && after < text.Length;
        bool word = at == CharClass.Letter || (at == CharClass.Other && CharClasses.IsMark(CharClasses.CodeAt(text, i, out _)));
        if (lead || word)
        {
            int end = lead ? EndOfSmalls(text, after) : 0;
            end = end == 0 && word ? EndOfSmalls(text, i) : end;
            int capitals = end == 0 && lead ? EndOfCapitals(text, after, out _) : 0;
            end = capitals > after ? capitals : end;
            end = end == 0 && word ? EndOfCapitals(text, i, out _) : end;
            if (end > i)
            {
                return contractions && end < text.Length && text[end] == '\'' && Contraction(text, end, ignoreCase: true) is > 0 and int longer
                    ? longer
                    : end;
            }
        }

        if (at == CharClass.Number)
        {
            for (int n = 1; n < digits && after < text.Length && CharClasses.At(text, after, out length) == CharClass.Number; n++)
            {
                after += length;
            }

            return after;
        }

        int j = text[i] == ' ' ? i + 1 : i;
        return j < text.Length && CharClasses.At(text, j, out _) == CharClass.Other
            ? EndOfOthers(text, j, slash: true, marks: true)
            : EndOfSpaces(text, i, newlines: true);
    }

    // Matches characters of the class Other, then newlines (and slashes).
    private static int EndOfOthers(ReadOnlySpan<byte> text, int i, bool slash, bool marks)
    {
        while (i < text.Length && CharClasses.At(text, i, out int length) == CharClass.Other
            && (marks || !CharClasses.IsMark(CharClasses.CodeAt(text, i, out _))))
        {
            i += length;
        }

        while (i < text.Length && (text[i] is (byte)'\r' or (byte)'\n' || (slash && text[i] == '/')))
        {
            i++;
        }

        return i;
    }

    // End of [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+, or 0. If no small letter follows the capitals, the match backtracks to the
    // last character that belongs to both classes.
    private static int EndOfSmalls(ReadOnlySpan<byte> text, int i)
    {
        i = EndOfCapitals(text, i, out int endOfBoth);
        int start = i;
        while (i < text.Length && IsSmall(CharClasses.CodeAt(text, i, out int length)))
        {
            i += length;
        }

        return i > start ? i : endOfBoth;
    }

    // End of [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*, and the end of its last character that belongs to both classes, or 0.
    private static int EndOfCapitals(ReadOnlySpan<byte> text, int i, out int endOfBoth)
    {
        endOfBoth = 0;
        while (i < text.Length)
        {
            int code = CharClasses.CodeAt(text, i, out int length);
            bool small = IsSmall(code);
            if (small ? code < 0x80 || CharUnicodeInfo.GetUnicodeCategory(code) == UnicodeCategory.LowercaseLetter : !IsCapital(code))
            {
                break;
            }

            i += length;
            endOfBoth = small ? i : endOfBoth;
        }

        return i;
    }

    private static bool IsCapital(int code) =>
        code < 0x80
            ? code is >= 'A' and <= 'Z'
            : CharUnicodeInfo.GetUnicodeCategory(code) is UnicodeCategory.UppercaseLetter or UnicodeCategory.TitlecaseLetter;

    // Lm, Lo and M count as small and as capital.
    private static bool IsSmall(int code) => code < 0x80
        ? code is >= 'a' and <= 'z'
        : CharUnicodeInfo.GetUnicodeCategory(code) is UnicodeCategory.LowercaseLetter or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter
            or UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark;

    private static int EndOfRun(ReadOnlySpan<byte> text, int i, CharClass run)
    {
        // Most words are letters of ASCII, which need no table.
        if (run == CharClass.Letter)
        {
            while (i < text.Length && char.IsAsciiLetter((char)text[i]))
            {
                i++;
            }
        }

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
