using System.Collections.Frozen;
using System.Text;

namespace Tiller.Jinja;

/// <summary>Python's full case mappings, by which one letter may become several.</summary>
internal static class PythonCase
{
    // Letters whose full mapping (Unicode's SpecialCasing) differs from the simple one, each followed by the result.
    private const string Upper =
        "\u00dfSS \u0131I \u0149\u02bcN \u017fS \u01f0J\u030c \u0390\u0399\u0308\u0301 \u03b0\u03a5\u0308\u0301 \u0587\u0535\u0552 "
        + "\u1e96H\u0331 \u1e97T\u0308 \u1e98W\u030a \u1e99Y\u030a \u1e9aA\u02be \u1f50\u03a5\u0313 \u1f52\u03a5\u0313\u0300 "
        + "\u1f54\u03a5\u0313\u0301 \u1f56\u03a5\u0313\u0342 \u1f80\u1f08\u0399 \u1f81\u1f09\u0399 \u1f82\u1f0a\u0399 \u1f83\u1f0b\u0399 "
        + "\u1f84\u1f0c\u0399 \u1f85\u1f0d\u0399 \u1f86\u1f0e\u0399 \u1f87\u1f0f\u0399 \u1f88\u1f08\u0399 \u1f89\u1f09\u0399 "
        + "\u1f8a\u1f0a\u0399 \u1f8b\u1f0b\u0399 \u1f8c\u1f0c\u0399 \u1f8d\u1f0d\u0399 \u1f8e\u1f0e\u0399 \u1f8f\u1f0f\u0399 "
        + "\u1f90\u1f28\u0399 \u1f91\u1f29\u0399 \u1f92\u1f2a\u0399 \u1f93\u1f2b\u0399 \u1f94\u1f2c\u0399 \u1f95\u1f2d\u0399 "
        + "\u1f96\u1f2e\u0399 \u1f97\u1f2f\u0399 \u1f98\u1f28\u0399 \u1f99\u1f29\u0399 \u1f9a\u1f2a\u0399 \u1f9b\u1f2b\u0399 "
        + "\u1f9c\u1f2c\u0399 \u1f9d\u1f2d\u0399 \u1f9e\u1f2e\u0399 \u1f9f\u1f2f\u0399 \u1fa0\u1f68\u0399 \u1fa1\u1f69\u0399 "
        + "\u1fa2\u1f6a\u0399 \u1fa3\u1f6b\u0399 \u1fa4\u1f6c\u0399 \u1fa5\u1f6d\u0399 \u1fa6\u1f6e\u0399 \u1fa7\u1f6f\u0399 "
        + "\u1fa8\u1f68\u0399 \u1fa9\u1f69\u0399 \u1faa\u1f6a\u0399 \u1fab\u1f6b\u0399 \u1fac\u1f6c\u0399 \u1fad\u1f6d\u0399 "
        + "\u1fae\u1f6e\u0399 \u1faf\u1f6f\u0399 \u1fb2\u1fba\u0399 \u1fb3\u0391\u0399 \u1fb4\u0386\u0399 \u1fb6\u0391\u0342 "
        + "\u1fb7\u0391\u0342\u0399 \u1fbc\u0391\u0399 \u1fc2\u1fca\u0399 \u1fc3\u0397\u0399 \u1fc4\u0389\u0399 \u1fc6\u0397\u0342 "
        + "\u1fc7\u0397\u0342\u0399 \u1fcc\u0397\u0399 \u1fd2\u0399\u0308\u0300 \u1fd3\u0399\u0308\u0301 \u1fd6\u0399\u0342 "
        + "\u1fd7\u0399\u0308\u0342 \u1fe2\u03a5\u0308\u0300 \u1fe3\u03a5\u0308\u0301 \u1fe4\u03a1\u0313 \u1fe6\u03a5\u0342 "
        + "\u1fe7\u03a5\u0308\u0342 \u1ff2\u1ffa\u0399 \u1ff3\u03a9\u0399 \u1ff4\u038f\u0399 \u1ff6\u03a9\u0342 \u1ff7\u03a9\u0342\u0399 "
        + "\u1ffc\u03a9\u0399 \ufb00FF \ufb01FI \ufb02FL \ufb03FFI \ufb04FFL \ufb05ST \ufb06ST \ufb13\u0544\u0546 \ufb14\u0544\u0535 "
        + "\ufb15\u0544\u053b \ufb16\u054e\u0546 \ufb17\u0544\u053d";

    // Letters whose title case differs from the upper case, each followed by the result; and Georgian letters, which do not change.
    private const string Title =
        "\u00dfSs \u01c4\u01c5 \u01c5\u01c5 \u01c6\u01c5 \u01c7\u01c8 \u01c8\u01c8 \u01c9\u01c8 \u01ca\u01cb \u01cb\u01cb \u01cc\u01cb "
        + "\u01f1\u01f2 \u01f2\u01f2 \u01f3\u01f2 \u0587\u0535\u0582 \u1f80\u1f88 \u1f81\u1f89 \u1f82\u1f8a \u1f83\u1f8b \u1f84\u1f8c "
        + "\u1f85\u1f8d \u1f86\u1f8e \u1f87\u1f8f \u1f88\u1f88 \u1f89\u1f89 \u1f8a\u1f8a \u1f8b\u1f8b \u1f8c\u1f8c \u1f8d\u1f8d \u1f8e\u1f8e "
        + "\u1f8f\u1f8f \u1f90\u1f98 \u1f91\u1f99 \u1f92\u1f9a \u1f93\u1f9b \u1f94\u1f9c \u1f95\u1f9d \u1f96\u1f9e \u1f97\u1f9f \u1f98\u1f98 "
        + "\u1f99\u1f99 \u1f9a\u1f9a \u1f9b\u1f9b \u1f9c\u1f9c \u1f9d\u1f9d \u1f9e\u1f9e \u1f9f\u1f9f \u1fa0\u1fa8 \u1fa1\u1fa9 \u1fa2\u1faa "
        + "\u1fa3\u1fab \u1fa4\u1fac \u1fa5\u1fad \u1fa6\u1fae \u1fa7\u1faf \u1fa8\u1fa8 \u1fa9\u1fa9 \u1faa\u1faa \u1fab\u1fab \u1fac\u1fac "
        + "\u1fad\u1fad \u1fae\u1fae \u1faf\u1faf \u1fb2\u1fba\u0345 \u1fb3\u1fbc \u1fb4\u0386\u0345 \u1fb7\u0391\u0342\u0345 \u1fbc\u1fbc "
        + "\u1fc2\u1fca\u0345 \u1fc3\u1fcc \u1fc4\u0389\u0345 \u1fc7\u0397\u0342\u0345 \u1fcc\u1fcc \u1ff2\u1ffa\u0345 \u1ff3\u1ffc "
        + "\u1ff4\u038f\u0345 \u1ff7\u03a9\u0342\u0345 \u1ffc\u1ffc \ufb00Ff \ufb01Fi \ufb02Fl \ufb03Ffi \ufb04Ffl \ufb05St \ufb06St "
        + "\ufb13\u0544\u0576 \ufb14\u0544\u0565 \ufb15\u0544\u056b \ufb16\u054e\u0576 \ufb17\u0544\u056d";

    private const int Sigma = 0x3A3;

    private static readonly FrozenDictionary<Rune, string> s_upper = Table(Upper);
    private static readonly FrozenDictionary<Rune, string> s_title = Table(Title);

    public static string ToUpper(string text)
    {
        var upper = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            AppendUpper(rune, upper);
        }

        return upper.ToString();
    }

    public static string ToLower(string text)
    {
        var lower = new StringBuilder(text.Length);
        AppendLower(text, 0, text.Length, lower);
        return lower.ToString();
    }

    /// <summary>str.capitalize().</summary>
    public static string Capitalize(string text)
    {
        var all = new StringBuilder(text.Length);
        int first = text.Length == 0 ? 0 : Rune.TryGetRuneAt(text, 0, out Rune rune) ? rune.Utf16SequenceLength : 1;
        if (first > 0)
        {
            AppendTitle(RuneAt(text, 0), all);
        }

        AppendLower(text, first, text.Length, all);
        return all.ToString();
    }

    /// <summary>str.title(): a letter after another letter becomes lower case, any other letter title case.</summary>
    public static string ToTitle(string text)
    {
        var title = new StringBuilder(text.Length);
        bool afterCased = false;
        for (int i = 0; i < text.Length;)
        {
            Rune rune = RuneAt(text, i);
            int units = Units(text, i);
            if (afterCased)
            {
                AppendLower(text, i, i + units, title);
            }
            else
            {
                AppendTitle(rune, title);
            }

            afterCased = PythonChars.IsCased(rune);
            i += units;
        }

        return title.ToString();
    }

    public static string Swap(string text)
    {
        var swapped = new StringBuilder(text.Length);
        for (int i = 0; i < text.Length;)
        {
            Rune rune = RuneAt(text, i);
            int units = Units(text, i);
            if (PythonChars.IsUpper(rune))
            {
                AppendLower(text, i, i + units, swapped);
            }
            else if (PythonChars.IsLower(rune))
            {
                AppendUpper(rune, swapped);
            }
            else
            {
                swapped.Append(text, i, units);
            }

            i += units;
        }

        return swapped.ToString();
    }

    /// <summary>str.casefold(): the lower case of the upper case, with few exceptions.</summary>
    public static string Fold(string text)
    {
        var folded = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            switch (rune.Value)
            {
                case 0x131:
                    folded.Append(rune);
                    break;
                case 0x1E9E:
                    folded.Append("ss");
                    break;
                case >= 0x13A0 and <= 0x13F5:
                    folded.Append(rune);
                    break;
                case >= 0xAB70 and <= 0xABBF:
                    folded.Append((char)(rune.Value - 0xAB70 + 0x13A0));
                    break;
                case >= 0x13F8 and <= 0x13FD:
                    folded.Append((char)(rune.Value - 8));
                    break;
                default:
                    var upper = new StringBuilder();
                    AppendUpper(rune, upper);
                    foreach (Rune capital in upper.ToString().EnumerateRunes())
                    {
                        folded.Append(Lower(capital));
                    }

                    break;
            }
        }

        return folded.ToString();
    }

    public static void AppendUpper(Rune rune, StringBuilder to) =>
        to.Append(s_upper.TryGetValue(rune, out string? upper) ? upper : Rune.ToUpperInvariant(rune).ToString());

    private static void AppendTitle(Rune rune, StringBuilder to)
    {
        if (rune.Value is >= 0x10D0 and <= 0x10FF)
        {
            to.Append(rune);
        }
        else if (s_title.TryGetValue(rune, out string? title))
        {
            to.Append(title);
        }
        else
        {
            AppendUpper(rune, to);
        }
    }

    private static void AppendLower(string text, int start, int end, StringBuilder to)
    {
        for (int i = start; i < end;)
        {
            Rune rune = RuneAt(text, i);
            to.Append(rune.Value == Sigma && IsFinal(text, i) ? "\u03c2" : Lower(rune));
            i += Units(text, i);
        }
    }

    private static string Lower(Rune rune) => rune.Value == 0x130 ? "i\u0307" : Rune.ToLowerInvariant(rune).ToString();

    // Whether a sigma is final: after a letter and not before one.
    private static bool IsFinal(string text, int at)
    {
        int i = at - 1;
        while (i >= 0 && PythonChars.IsCaseIgnorable(RuneAt(text, i)))
        {
            i--;
        }

        if (i < 0 || !PythonChars.IsCased(RuneAt(text, i)))
        {
            return false;
        }

        i = at + 1;
        while (i < text.Length && PythonChars.IsCaseIgnorable(RuneAt(text, i)))
        {
            i += Units(text, i);
        }

        return i >= text.Length || !PythonChars.IsCased(RuneAt(text, i));
    }

    private static Rune RuneAt(string text, int i) =>
        Rune.TryGetRuneAt(text, i, out Rune rune) || (char.IsLowSurrogate(text[i]) && i > 0 && Rune.TryGetRuneAt(text, i - 1, out rune)) ? rune
            : Rune.ReplacementChar;

    private static int Units(string text, int i) => Rune.TryGetRuneAt(text, i, out Rune rune) ? rune.Utf16SequenceLength : 1;

    private static FrozenDictionary<Rune, string> Table(string entries) =>
        entries.Split(' ').ToFrozenDictionary(static entry => Rune.GetRuneAt(entry, 0), static entry => entry[1..]);
}
