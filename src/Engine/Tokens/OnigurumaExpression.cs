using System.Globalization;
using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// Translates an expression from Oniguruma's Ruby syntax, which tokenizer.json uses, to .NET, so that it has the same meaning. Syntax that both share
/// is kept, syntax that differs is translated, and an error names syntax that .NET cannot express or that is not known to have the same meaning.
/// Groups capture nothing, because no caller needs captures.
/// </summary>
internal sealed class OnigurumaExpression
{
    /// <summary>A symbol that \w matches.</summary>
    internal const char WordSymbol = '\u24B6';

    private const int LongestSource = 8192;
    private const int Deepest = 64;
    private const int MaxRepeats = 1000;

    // \w: Alphabetic, marks, decimal digits and connectors. The alphabetic symbols are the circled letters. .NET's \w lacks these symbols and \p{Nl}.
    private const string Word = @"\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\u24B6-\u24E9";

    private static readonly HashSet<string> Categories = new(StringComparer.Ordinal)
    {
        "L", "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po",
        "S", "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp", "C", "Cc", "Cf", "Co", "Cn",
    };

    private readonly string _source;
    private readonly string _path;
    private readonly StringBuilder _ranges = new(); // first and last characters of the ranges that the expression names
    private int _at;
    private int _depth;
    private bool _ignoreCase;
    private bool _lookingBehind;
    private char _before; // the previous letter if case is ignored: two letters may fold to one character

    private OnigurumaExpression(string source, string path)
    {
        _source = source;
        _path = path;
    }

    /// <summary>The translated expression.</summary>
    public string Text { get; private set; } = "";

    /// <summary>Translates an expression.</summary>
    /// <param name="source">The expression in the file.</param>
    /// <param name="path">Its path in the file, for errors.</param>
    /// <exception cref="TokenizerException">Unsupported: the expression is invalid, or not known to have the same meaning.</exception>
    public static OnigurumaExpression Translate(string source, string path)
    {
        var result = new OnigurumaExpression(source, path);
        if (source.Length is 0 or > LongestSource)
        {
            throw result.Refused($"an expression of {source.Length} characters (1 to {LongestSource} can be read)");
        }

        result.Text = result.Alternatives();
        return result._at == source.Length ? result : throw result.Refused("a ')' without '('");
    }

    /// <summary>Finds, for each general category, a character that the expression does not name.</summary>
    /// <exception cref="TokenizerException">Unsupported: the expression names all characters of a category.</exception>
    public char[] StandIns(string expression, string place)
    {
        var result = new char[(int)UnicodeCategory.OtherNotAssigned + 1];
        int missing = result.Length - 1; // valid text has no surrogates
        for (int code = 0xFFFD; code > 0 && missing > 0; code--)
        {
            char c = (char)code;
            UnicodeCategory category = CharUnicodeInfo.GetUnicodeCategory(c);
            if (category != UnicodeCategory.Surrogate && result[(int)category] == 0 && !Names(c) && c is not (>= WordSymbol and <= '\u24E9'))
            {
                result[(int)category] = c;
                missing--;
            }
        }

        // Categories without characters beyond U+FFFF need none.
        foreach (UnicodeCategory category in (UnicodeCategory[])[UnicodeCategory.UppercaseLetter, UnicodeCategory.LowercaseLetter,
            UnicodeCategory.OtherLetter,
            UnicodeCategory.ModifierLetter, UnicodeCategory.NonSpacingMark, UnicodeCategory.SpacingCombiningMark, UnicodeCategory.DecimalDigitNumber,
            UnicodeCategory.LetterNumber, UnicodeCategory.OtherNumber, UnicodeCategory.OtherPunctuation, UnicodeCategory.DashPunctuation,
            UnicodeCategory.MathSymbol, UnicodeCategory.CurrencySymbol, UnicodeCategory.ModifierSymbol, UnicodeCategory.OtherSymbol,
            UnicodeCategory.Format, UnicodeCategory.PrivateUse, UnicodeCategory.OtherNotAssigned])
        {
            if (result[(int)category] == 0)
            {
                throw new TokenizerException(TokenizerError.Unsupported, place, expression,
                    $"this expression names every character of the category {category} up to U+FFFF, but none beyond, so that the latter cannot be "
                    + "distinguished here.");
            }
        }

        return result;
    }

    private bool Names(char c)
    {
        for (int i = 0; i < _ranges.Length; i += 2)
        {
            if (c >= _ranges[i] && c <= _ranges[i + 1])
            {
                return true;
            }
        }

        return false;
    }

    private TokenizerException Refused(string what) =>
        new(TokenizerError.Unsupported, _path, _source, $"this expression has {what}, which .NET writes differently or not at all. "
            + "Only known and simple expressions can be read.");

    private bool Takes(string text)
    {
        if (string.CompareOrdinal(_source, _at, text, 0, text.Length) != 0)
        {
            return false;
        }

        _at += text.Length;
        return true;
    }

    private string Alternatives()
    {
        if (++_depth > Deepest)
        {
            throw Refused($"groups nested deeper than {Deepest}");
        }

        var text = new StringBuilder();
        _before = '\0';
        while (_at < _source.Length && _source[_at] != ')')
        {
            if (_source[_at] == '|')
            {
                _at++;
                _before = '\0';
                text.Append('|');
            }
            else
            {
                text.Append(Repeated());
            }
        }

        _depth--;
        _before = '\0';
        return text.ToString();
    }

    // An atom and its quantifiers. Each further quantifier applies to the atom with those before it.
    private string Repeated()
    {
        int start = _at;
        string atom = Atom(out bool isPlace);
        bool any = false;
        while (_at < _source.Length && Quantifier() is { } quantifier)
        {
            if (isPlace)
            {
                throw Refused($"a quantifier after '{_source[start.._at]}'");
            }

            atom = any ? $"(?:{atom})" : atom;
            any = true;
            bool braces = quantifier[0] == '{';
            bool exact = braces && !quantifier.Contains(',', StringComparison.Ordinal);
            atom += quantifier;
            if (!braces && Takes("+"))
            {
                atom = _lookingBehind ? throw Refused("a possessive quantifier in a look-behind") : $"(?>{atom})";
            }
            else if (!exact && Takes("?"))
            {
                atom += "?"; // {n}? is an optional {n}, and {n,m}+ repeats {n,m}: the next turn reads both
            }
        }

        _before = any ? '\0' : _before;
        return atom;
    }

    // The quantifier at this position, in .NET's syntax; null if there is none.
    private string? Quantifier()
    {
        if (_source[_at] is '*' or '+' or '?')
        {
            return _source[_at++].ToString();
        }

        int end = _source[_at] == '{' ? _source.IndexOf('}', _at) : -1;
        string inside = end > 0 ? _source[(_at + 1)..end] : "";
        string[] parts = inside.Split(',');
        if (end < 0 || parts.Length > 2 || inside is "" or "," || !parts.All(static p => p.All(char.IsAsciiDigit)))
        {
            return null; // a plain '{'
        }

        int least = Count(parts[0], 0);
        int most = parts.Length == 1 ? least : Count(parts[1], int.MaxValue);
        if (least > most)
        {
            throw Refused($"'{{{inside}}}'");
        }

        _at = end + 1;
        return parts.Length == 1 ? $"{{{least}}}" : parts[1].Length == 0 ? $"{{{least},}}" : $"{{{least},{most}}}";

        int Count(string digits, int absent) => digits.Length == 0 ? absent
            : digits.Length <= 4 && int.Parse(digits, CultureInfo.InvariantCulture) is <= MaxRepeats and var count ? count
            : throw Refused($"'{{{inside}}}' (at most {MaxRepeats})");
    }

    private string Atom(out bool isPlace)
    {
        isPlace = false;
        char c = _source[_at++];
        switch (c)
        {
            case '(':
                return Group(out isPlace);
            case '[':
                _before = '\0';
                return Class();
            case '.':
                _before = '\0';
                return @"[^\n]";
            case '^':
                isPlace = true;
                return @"(?:\A|(?<=\n)(?!\z))"; // start of a line, but not after a newline at the end of the text
            case '$':
                isPlace = true;
                return "(?m:$)"; // end of a line
            case '\\':
                return Escape(out isPlace);
            case '*' or '+' or '?':
                throw Refused($"'{c}' with nothing before it");
            default:
                _at--;
                return Literal(CodePoint());
        }
    }

    private string Group(out bool isPlace)
    {
        isPlace = false;
        bool outerCase = _ignoreCase;
        bool outerBehind = _lookingBehind;
        string open;
        if (Takes("?:"))
        {
            open = "(?:";
        }
        else if (Takes("?="))
        {
            open = "(?=";
        }
        else if (Takes("?!"))
        {
            open = "(?!";
        }
        else if (Takes("?<="))
        {
            (open, _lookingBehind) = ("(?<=", true);
        }
        else if (Takes("?<!"))
        {
            (open, _lookingBehind) = ("(?<!", true);
        }
        else if (Takes("?>"))
        {
            open = _lookingBehind ? throw Refused("an atomic group in a look-behind") : "(?>";
        }
        else if (Takes("?i:"))
        {
            (open, _ignoreCase) = ("(?:", true);
        }
        else if (Takes("?-i:"))
        {
            (open, _ignoreCase) = ("(?:", false);
        }
        else if (_at < _source.Length && _source[_at] is '?' or '*')
        {
            int end = Math.Min(_at + 4, _source.Length);
            throw Refused($"'({_source[_at..end]}'");
        }
        else
        {
            open = "(?:";
        }

        isPlace = open is "(?=" or "(?!" or "(?<=" or "(?<!";
        string inside = Alternatives();
        (_ignoreCase, _lookingBehind) = (outerCase, outerBehind);
        return Takes(")") ? $"{open}{inside})" : throw Refused("a '(' without ')'");
    }

    private string Escape(out bool isPlace)
    {
        isPlace = false;
        if (_at == _source.Length)
        {
            throw Refused("a '\\' at its end");
        }

        switch (_source[_at])
        {
            case 'A' or 'z' or 'Z':
                isPlace = true;
                return $"\\{_source[_at++]}";
            case 'b':
                _at++;
                isPlace = true;
                return $"(?:(?<=[{Word}])(?![{Word}])|(?<![{Word}])(?=[{Word}]))";
            case 'B':
                _at++;
                isPlace = true;
                return $"(?:(?<=[{Word}])(?=[{Word}])|(?<![{Word}])(?![{Word}]))";
            case 'W':
                _at++;
                _before = '\0';
                return $"[^{Word}]";
            case 'H':
                _at++;
                _before = '\0';
                return "[^0-9A-Fa-f]";
            default:
                if (SetEscape() is { } set)
                {
                    _before = '\0';
                    return $"[{set}]";
                }

                return Literal(CharacterEscape());
        }
    }

    // \s, \d, \w, \h or \p{…} after the backslash, in the syntax of a class; null for another escape.
    private string? SetEscape()
    {
        char c = _source[_at];
        switch (c)
        {
            case 's' or 'S' or 'd' or 'D':
                _at++;
                return $"\\{c}";
            case 'w':
                _at++;
                return Word;
            case 'h':
                _at++;
                return "0-9A-Fa-f";
            case 'p' or 'P':
                _at++;
                int end = _source.IndexOf('}', _at);
                if (!Takes("{") || end < 0)
                {
                    throw Refused($"'\\{c}'");
                }

                bool not = c == 'P';
                if (Takes("^"))
                {
                    not = !not;
                }

                string name = _source[_at..end];
                _at = end + 1;
                if (!Categories.Contains(name) || (_ignoreCase && name is "Lu" or "Ll" or "Lt"))
                {
                    throw Refused($"the property '{name}'");
                }

                return name == "C" && !not ? @"\p{Cc}\p{Cf}\p{Co}\p{Cn}" : $"\\{(not ? 'P' : 'p')}{{{name}}}";
            default:
                return null;
        }
    }

    // A character escape, after the backslash.
    private int CharacterEscape()
    {
        char c = _source[_at++];
        switch (c)
        {
            case 't':
                return '\t';
            case 'n':
                return '\n';
            case 'r':
                return '\r';
            case 'f':
                return '\f';
            case 'v':
                return '\v';
            case 'a':
                return '\a';
            case 'e':
                return 0x1B;
            case 'u':
                return Hex(4, 4, most: 0xFFFF);
            case 'x' when Takes("{"):
                int code = Hex(1, 6, most: 0x10FFFF);
                return Takes("}") ? code : throw Refused("'\\x{' without '}'");
            case 'x':
                return Hex(1, 2, most: 0x7F); // above 0x7F it is a byte of UTF-8, not a character
            default:
                _at--;
                int literal = CodePoint();
                return literal < 0x80 && !char.IsAsciiLetterOrDigit((char)literal) ? literal : throw Refused($"'\\{c}'");
        }
    }

    private int Hex(int least, int longest, int most)
    {
        int start = _at;
        while (_at < _source.Length && _at - start < longest && char.IsAsciiHexDigit(_source[_at]))
        {
            _at++;
        }

        int code = _at - start >= least ? int.Parse(_source.AsSpan(start, _at - start), NumberStyles.HexNumber, CultureInfo.InvariantCulture) : -1;
        return code >= 0 && code <= most ? code : throw Refused("a hexadecimal escape out of range");
    }

    private int CodePoint()
    {
        if (char.IsHighSurrogate(_source[_at]) && _at + 1 < _source.Length && char.IsLowSurrogate(_source[_at + 1]))
        {
            _at += 2;
            return char.ConvertToUtf32(_source[_at - 2], _source[_at - 1]);
        }

        return _source[_at++];
    }

    // Records a character or range that the expression names, and returns its first character.
    private char Named(int first, int last)
    {
        if (last > 0xFFFF || (first <= 0xDFFF && last >= 0xD800))
        {
            throw Refused($"a character beyond U+FFFF (U+{last:X4})");
        }

        _ranges.Append((char)first).Append((char)last);
        return (char)first;
    }

    private static string Escaped(int code) => $"\\u{code:X4}";

    private string Literal(int code)
    {
        char c = Named(code, code);
        char previous = _before;
        _before = c;
        if (!_ignoreCase || (c < 0x80 && !char.IsAsciiLetter(c)))
        {
            return Escaped(c);
        }

        // Two letters may equal one character of the text: ß, ﬀ, ﬁ, ﬂ, ﬆ.
        string pair = $"{char.ToLowerInvariant(previous)}{char.ToLowerInvariant(c)}";
        if (pair is "ss" or "ff" or "fi" or "fl" or "st")
        {
            throw Refused($"'{pair}' where case is ignored, which is also one character");
        }

        return $"[{Folded(c, c)}]";
    }

    // A range with the other case of its letters.
    private string Folded(char first, char last)
    {
        if (last >= 0x80)
        {
            throw Refused("a character beyond ASCII where case is ignored");
        }

        var text = new StringBuilder($"{Escaped(first)}-{Escaped(last)}");
        for (char c = first; c <= last; c++)
        {
            text.Append(char.IsAsciiLetter(c) ? Escaped(c ^ 0x20) : "");
            int third = (c | 0x20) == 's' && char.IsAsciiLetter(c) ? 0x17F : (c | 0x20) == 'k' && char.IsAsciiLetter(c) ? 0x212A : 0;
            text.Append(third > 0 ? Escaped(Named(third, third)) : "");
        }

        return text.ToString();
    }

    private string Class()
    {
        var text = new StringBuilder(Takes("^") ? "[^" : "[");
        if (_at < _source.Length && _source[_at] == ']')
        {
            throw Refused("an empty class, or a ']' at the start of one");
        }

        while (_at < _source.Length && _source[_at] != ']')
        {
            if (_source[_at] == '[' || string.CompareOrdinal(_source, _at, "&&", 0, 2) == 0)
            {
                throw Refused("a class within a class, or '&&'");
            }

            if (_source[_at] == '\\' && _at + 1 < _source.Length)
            {
                _at++;
                if (SetEscape() is { } set)
                {
                    if (_at + 1 < _source.Length && _source[_at] == '-' && _source[_at + 1] != ']')
                    {
                        throw Refused("a range that begins with a class");
                    }

                    text.Append(set);
                    continue;
                }

                _at--;
            }

            text.Append(Range());
        }

        return Takes("]") ? text.Append(']').ToString() : throw Refused("a '[' without ']'");
    }

    // a, or a-z.
    private string Range()
    {
        int first = ClassCharacter();
        int last = first;
        if (_at + 1 < _source.Length && _source[_at] == '-' && _source[_at + 1] != ']')
        {
            _at++;
            last = _source[_at] == '[' ? throw Refused("a range to a class") : ClassCharacter();
        }

        if (last < first)
        {
            throw Refused("a range that ends before it begins");
        }

        Named(first, last);
        return _ignoreCase ? Folded((char)first, (char)last) : first == last ? Escaped(first) : $"{Escaped(first)}-{Escaped(last)}";
    }

    private int ClassCharacter()
    {
        if (_source[_at] != '\\')
        {
            return CodePoint();
        }

        _at++;
        if (_at == _source.Length || _source[_at] is 's' or 'S' or 'd' or 'D' or 'w' or 'W' or 'h' or 'H' or 'p' or 'P' or 'b' or 'B')
        {
            throw Refused("a range to a class, or a negated class within one");
        }

        return CharacterEscape();
    }
}
