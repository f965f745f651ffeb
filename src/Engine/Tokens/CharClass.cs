using System.Globalization;

namespace Tiller.Tokens;

/// <summary>Character classes of the regular expressions that split text.</summary>
internal enum CharClass : byte
{
    /// <summary>All other characters, including marks (\p{M}).</summary>
    Other,

    /// <summary>\p{L}.</summary>
    Letter,

    /// <summary>\p{N}: Nd, Nl and No.</summary>
    Number,

    /// <summary>\s: White_Space.</summary>
    Space,
}

/// <summary>Classes of code points, read from valid UTF-8. The Unicode version is that of the .NET runtime, with or without ICU.</summary>
internal static class CharClasses
{
    private static readonly CharClass[] s_bmp = MakeBmp();

    /// <summary>Class of the code point at <paramref name="i"/>, and its length in bytes.</summary>
    public static CharClass At(ReadOnlySpan<byte> utf8, int i, out int length)
    {
        byte b = utf8[i];
        if (b < 0x80)
        {
            length = 1;
            return s_bmp[b];
        }

        int code = CodeAt(utf8, i, out length);
        return ClassAt(code);
    }

    /// <summary>Code point at <paramref name="i"/> in valid UTF-8, and its length in bytes.</summary>
    public static int CodeAt(ReadOnlySpan<byte> utf8, int i, out int length)
    {
        byte b = utf8[i];
        switch (b)
        {
            case < 0x80:
                length = 1;
                return b;
            case < 0xE0:
                length = 2;
                return ((b & 0x1F) << 6) | (utf8[i + 1] & 0x3F);
            case < 0xF0:
                length = 3;
                return ((b & 0x0F) << 12) | ((utf8[i + 1] & 0x3F) << 6) | (utf8[i + 2] & 0x3F);
            default:
                length = 4;
                return ((b & 0x07) << 18) | ((utf8[i + 1] & 0x3F) << 12) | ((utf8[i + 2] & 0x3F) << 6) | (utf8[i + 3] & 0x3F);
        }
    }

    /// <summary>Number of code points.</summary>
    public static int Count(ReadOnlySpan<byte> utf8)
    {
        int count = 0;
        foreach (byte b in utf8)
        {
            count += (b & 0xC0) != 0x80 ? 1 : 0;
        }

        return count;
    }

    /// <summary>Start of the code point that ends before <paramref name="end"/>, which must be above 0.</summary>
    public static int StartBefore(ReadOnlySpan<byte> utf8, int end)
    {
        int i = end - 1;
        while ((utf8[i] & 0xC0) == 0x80)
        {
            i--;
        }

        return i;
    }

    /// <summary>\s: White_Space.</summary>
    public static bool IsSpace(int code) => code < 0x10000 && s_bmp[code] == CharClass.Space;

    /// <summary>\p{N}.</summary>
    public static bool IsNumber(int code) => ClassAt(code) == CharClass.Number;

    /// <summary>\p{M}.</summary>
    public static bool IsMark(int code) =>
        code >= 0x300 && CharUnicodeInfo.GetUnicodeCategory(code) is >= UnicodeCategory.NonSpacingMark and <= UnicodeCategory.EnclosingMark;

    /// <summary>\p{Mn}.</summary>
    public static bool IsMarkWithoutSpacing(int code) => code >= 0x300 && CharUnicodeInfo.GetUnicodeCategory(code) == UnicodeCategory.NonSpacingMark;

    /// <summary>Control, format and private use: \p{Cc}, \p{Cf}, \p{Co}.</summary>
    public static bool IsControl(int code) => CharUnicodeInfo.GetUnicodeCategory(code)
        is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.PrivateUse;

    /// <summary>Punctuation as tokenizers define it: \p{P} and the symbols of ASCII.</summary>
    public static bool IsPunctuation(int code) => code < 0x80
        ? code is > ' ' and < 0x7F && !char.IsAsciiLetterOrDigit((char)code)
        : CharUnicodeInfo.GetUnicodeCategory(code) is >= UnicodeCategory.ConnectorPunctuation and <= UnicodeCategory.OtherPunctuation;

    /// <summary>\p{P} and \p{S}, which for ASCII is the same as <see cref="IsPunctuation"/>.</summary>
    public static bool IsPunctuationOrSymbol(int code) => code < 0x80 ? IsPunctuation(code)
        : CharUnicodeInfo.GetUnicodeCategory(code) is >= UnicodeCategory.ConnectorPunctuation and <= UnicodeCategory.OtherSymbol;

    /// <summary>
    /// \w as Rust's regex defines it: Alphabetic, marks, decimal digits, connector punctuation and join controls (UTS 18, annex C).
    /// </summary>
    public static bool IsWord(int code)
    {
        switch (CharUnicodeInfo.GetUnicodeCategory(code))
        {
            case UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter:
            case UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter or UnicodeCategory.LetterNumber:
            case UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark:
            case UnicodeCategory.DecimalDigitNumber or UnicodeCategory.ConnectorPunctuation:
                return true;
            default:
                // Alphabetic symbols (circled and squared letters), and the join controls U+200C and U+200D.
                return code is >= 0x24B6 and <= 0x24E9 or >= 0x1F130 and <= 0x1F149 or >= 0x1F150 and <= 0x1F169
                    or >= 0x1F170 and <= 0x1F189 or 0x200C or 0x200D;
        }
    }

    private static CharClass ClassAt(int code) => code < 0x10000 ? s_bmp[code] : ClassOf(code);

    private static CharClass ClassOf(int code) => CharUnicodeInfo.GetUnicodeCategory(code) switch
    {
        <= UnicodeCategory.OtherLetter => CharClass.Letter,
        >= UnicodeCategory.DecimalDigitNumber and <= UnicodeCategory.OtherNumber => CharClass.Number,
        _ => CharClass.Other,
    };

    private static CharClass[] MakeBmp()
    {
        var classes = new CharClass[0x10000];
        for (int code = 0; code < classes.Length; code++)
        {
            classes[code] = char.IsWhiteSpace((char)code) ? CharClass.Space : ClassOf(code);
        }

        return classes;
    }
}
