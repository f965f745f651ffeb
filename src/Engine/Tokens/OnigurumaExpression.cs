using System.Buffers;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// Translates an expression from Oniguruma's own syntax, which tokenizer.json uses, to .NET, so that it has the same meaning. Every class, property
/// and character becomes a set of code points, and the translation is an expression over the symbols of these sets (<see cref="SymbolAlphabet"/>). An
/// error names syntax that .NET cannot express, and syntax with a meaning that depends on Oniguruma's version. Groups capture nothing, because no
/// caller needs captures.
/// </summary>
internal sealed class OnigurumaExpression
{
    private const int LongestSource = 8192;
    private const int LongestText = 1 << 20;
    private const int Deepest = 64;
    private const int MaxRepeats = 1000;
    private const string TooMany = "too many different classes";

    // Stands for the first set in a text whose other characters are ASCII; the next set has the next character.
    private const char FirstSet = '\u4000';

    // Outside a class, \w also matches the numbers of Latin-1 that are not digits: ² ³ ¹ ¼ ½ ¾. So do \W, \b and \B.
    private static readonly CodePointSet s_wordAlone = CharacterProperties.Word | CodePointSet.Of([0xB2, 0xB3, 0xB9, 0xBC, 0xBD, 0xBE]);

    private static readonly CodePointSet s_beyondAscii = CodePointSet.Of(0x80, 0x10FFFF);

    private static readonly CodePointSet s_lineFeed = CodePointSet.Of('\n', '\n');

    private static readonly SearchValues<char> s_nameCharacters =
        SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

    private static readonly HashSet<string> s_brackets = new(StringComparer.Ordinal)
    {
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "space", "upper", "word", "xdigit",
    };

    private readonly string _source;
    private readonly string _path;
    private readonly List<CodePointSet> _sets = [];
    private readonly Dictionary<CodePointSet, int> _indices = [];
    private readonly List<int> _literals = []; // where case is ignored: the folded characters directly before this position
    private int _at;
    private int _depth;
    private bool _ignoreCase;
    private bool _dotTakesLines;
    private bool _lookingBehind;
    private bool _mayBeEmpty; // whether what was read last may match nothing

    private OnigurumaExpression(string source, string path)
    {
        _source = source;
        _path = path;
    }

    /// <summary>Translates an expression.</summary>
    /// <param name="source">The expression in the file.</param>
    /// <param name="path">Its path in the file, for errors.</param>
    /// <returns>The expression over symbols, and the symbols of code points.</returns>
    /// <exception cref="TokenizerException">Unsupported: the expression is invalid, or not known to have the same meaning.</exception>
    public static (string Text, SymbolAlphabet Alphabet) Translate(string source, string path)
    {
        (OnigurumaExpression result, string text) = Parse(source, path);
        var alphabet = SymbolAlphabet.Of(result._sets) ?? throw result.Refused(TooMany);
        return (result.OverSymbols(text, alphabet), alphabet);
    }

    /// <summary>The scanner of an expression that is a run of one class; null for any other.</summary>
    /// <param name="source">The expression in the file.</param>
    /// <param name="path">Its path in the file, for errors.</param>
    /// <exception cref="TokenizerException">Unsupported: the expression is invalid, or not known to have the same meaning.</exception>
    public static RunPattern? Run(string source, string path)
    {
        (OnigurumaExpression result, string text) = Parse(source, path);
        return text switch
        {
            [>= FirstSet and var run] => new RunPattern(result._sets[run - FirstSet], 1, null),
            [>= FirstSet and var run, '+'] => new RunPattern(result._sets[run - FirstSet], int.MaxValue, null),
            [>= FirstSet and var run, '{', '1', ',', .. var most, '}'] when int.TryParse(most, CultureInfo.InvariantCulture, out int count) =>
                new RunPattern(result._sets[run - FirstSet], count, null),
            [>= FirstSet and var lead, '?', >= FirstSet and var run, '+'] =>
                new RunPattern(result._sets[run - FirstSet], int.MaxValue, result._sets[lead - FirstSet]),
            _ => null,
        };
    }

    private static (OnigurumaExpression Read, string Text) Parse(string source, string path)
    {
        var result = new OnigurumaExpression(source, path);
        if (source.Length is 0 or > LongestSource)
        {
            throw result.Refused($"{source.Length} characters (1 to {LongestSource} can be read)");
        }

        string text = result.Alternatives();
        if (result._at < source.Length)
        {
            throw result.Refused("a ')' without '('");
        }

        return (result, text);
    }

    private string OverSymbols(string text, SymbolAlphabet alphabet)
    {
        var symbols = new StringBuilder();
        foreach (char c in text)
        {
            _ = c < FirstSet ? symbols.Append(c) : symbols.Append(alphabet.Class(c - FirstSet));
            if (symbols.Length > LongestText)
            {
                throw Refused(TooMany);
            }
        }

        return symbols.ToString();
    }

    // The atom that matches one character of a set.
    private string One(CodePointSet set)
    {
        _literals.Clear();
        return Reference(set);
    }

    private string Reference(CodePointSet set)
    {
        if (!_indices.TryGetValue(set, out int index))
        {
            _indices[set] = index = _sets.Count;
            _sets.Add(set);
        }

        return ((char)(FirstSet + index)).ToString();
    }

    private TokenizerException Refused(string what) =>
        new(TokenizerError.Unsupported, _path, _source, $"this expression has {what}, which cannot be read here with Oniguruma's meaning.");

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
        bool any = false;
        bool all = true;
        while (_at < _source.Length && _source[_at] != ')')
        {
            if (_source[_at] == '|')
            {
                _at++;
                _literals.Clear();
                text.Append('|');
                any |= all;
                all = true;
            }
            else
            {
                text.Append(Repeated());
                all &= _mayBeEmpty;
            }
        }

        _mayBeEmpty = any || all;
        _depth--;
        return text.ToString();
    }

    // An atom and its quantifiers. Each further quantifier applies to the atom with those before it.
    private string Repeated()
    {
        int start = _at;
        _mayBeEmpty = false;
        string atom = Atom(out bool isPlace);
        _mayBeEmpty |= isPlace;
        bool any = false;
        bool once = true;
        while (_at < _source.Length && Quantifier() is { } quantifier)
        {
            if (isPlace)
            {
                throw Refused($"a quantifier after '{_source[start.._at]}'");
            }

            atom = any ? $"(?:{atom})" : atom;
            any = true;
            once &= quantifier is "{1}" or "{1,1}";
            bool braces = quantifier[0] == '{';
            bool exact = braces && !quantifier.Contains(',', StringComparison.Ordinal);
            if (braces && _mayBeEmpty && !once)
            {
                throw Refused("a counted repetition of what may be empty");
            }

            atom += quantifier;
            if (!braces && Takes("+"))
            {
                atom = _lookingBehind ? throw Refused("a possessive quantifier in a look-behind") : $"(?>{atom})";
            }
            else if (!exact && Takes("?"))
            {
                // .NET's engine ends such a loop elsewhere, even beyond the text (.NET 10).
                if (_mayBeEmpty && quantifier != "?")
                {
                    throw Refused("a lazy repetition of what may be empty");
                }

                atom += "?"; // {n}? is an optional {n}, and {n,m}+ repeats {n,m}: the next turn reads both
            }

            _mayBeEmpty |= quantifier is "*" or "?" || quantifier.StartsWith("{0", StringComparison.Ordinal);
        }

        if (!once)
        {
            _literals.Clear();
        }

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
                return One(Class());
            case '.':
                return One(_dotTakesLines ? CodePointSet.All : ~s_lineFeed);
            case '^':
                isPlace = true;
                return $@"(?:\A|(?<={Reference(s_lineFeed)})(?!\z))"; // start of a line, but not after a newline at the end of the text
            case '$':
                isPlace = true;
                return $@"(?={Reference(s_lineFeed)}|\z)"; // end of a line
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
        (bool, bool, bool) outer = (_ignoreCase, _dotTakesLines, _lookingBehind);
        bool toTheEnd = false;
        string open = "(?:";
        if (Takes("?=") || Takes("?!"))
        {
            open = $"(?{_source[_at - 1]}";
        }
        else if (Takes("?<=") || Takes("?<!"))
        {
            (open, _lookingBehind) = ($"(?<{_source[_at - 1]}", true);
        }
        else if (Takes("?>"))
        {
            open = _lookingBehind ? throw Refused("an atomic group in a look-behind") : "(?>";
        }
        else if (_at < _source.Length && _source[_at] is '?' or '*' && !Takes("?:") && !TakesName())
        {
            toTheEnd = Options();
        }

        isPlace = open is "(?=" or "(?!" or "(?<=" or "(?<!";
        string inside = Alternatives();
        (_ignoreCase, _dotTakesLines, _lookingBehind) = outer;
        return toTheEnd || Takes(")") ? $"{open}{inside})" : throw Refused("a '(' without ')'");
    }

    // ?<name>: a name is of no use here, because groups capture nothing.
    private bool TakesName()
    {
        int end = _source.IndexOf('>', _at);
        if (end < _at + 3 || !_source.AsSpan(_at).StartsWith("?<") || char.IsAsciiDigit(_source[_at + 2])
            || _source.AsSpan(_at + 2, end - _at - 2).ContainsAnyExcept(s_nameCharacters))
        {
            return false;
        }

        _at = end + 1;
        return true;
    }

    // ?i-m: or ?i-m) after the bracket. The latter holds to the end of the group around it, over its alternatives.
    private bool Options()
    {
        int start = _at - 1;
        bool on = true;
        bool any = false;
        for (bool mayBe = Takes("?"); mayBe && _at < _source.Length && _source[_at] is 'i' or 'm' or '-'; _at++)
        {
            any = true;
            switch (_source[_at])
            {
                case 'i':
                    _ignoreCase = on;
                    break;
                case 'm':
                    _dotTakesLines = on; // what other dialects call s
                    break;
                default:
                    on = on ? false : throw Refused($"'{_source[start..(_at + 1)]}'");
                    break;
            }
        }

        if (any && Takes(":"))
        {
            return false;
        }

        return any && Takes(")") ? true : throw Refused($"'{_source[start..Math.Min(start + 5, _source.Length)]}'");
    }

    private string Escape(out bool isPlace)
    {
        isPlace = false;
        if (_at == _source.Length)
        {
            throw Refused("a '\\' at its end");
        }

        int start = _at - 1;
        switch (_source[_at])
        {
            case 'A' or 'z':
                isPlace = true;
                return $"\\{_source[_at++]}";
            case 'Z':
                _at++;
                isPlace = true;
                return $@"(?={Reference(s_lineFeed)}?\z)";
            case 'b' or 'B':
                string word = Reference(s_wordAlone);
                isPlace = true;
                return _source[_at++] == 'b' ? $"(?:(?<={word})(?!{word})|(?<!{word})(?={word}))"
                    : $"(?:(?<={word})(?={word})|(?<!{word})(?!{word}))";
            case 'w':
                _at++;
                return One(s_wordAlone);
            case 'W':
                _at++;
                return One(~s_wordAlone);
            case 'N':
                _at++;
                return One(~s_lineFeed);
            case 'O':
                _at++;
                return One(CodePointSet.All);
            case 'R':
                throw Refused(@"'\R', which Oniguruma 6.9.8 and 6.9.10 match differently");
            default:
                if (SetEscape() is not { } set)
                {
                    return Literal(CharacterEscape());
                }

                // \p{Word} alone is [\p{Word}] in 6.9.8, and \w in 6.9.10.
                return !set.Equals(CharacterProperties.Word) && !set.Equals(~CharacterProperties.Word) ? One(set)
                    : throw Refused($"'{_source[start.._at]}' outside a class, which Oniguruma 6.9.8 and 6.9.10 match differently");
        }
    }

    // \s, \d, \w, \h or \p{…} after the backslash, and their complements; null for another escape.
    private CodePointSet? SetEscape()
    {
        char c = _source[_at];
        CodePointSet? set = char.ToLowerInvariant(c) switch
        {
            's' => CharacterProperties.Space,
            'd' => CharacterProperties.Digit,
            'w' => CharacterProperties.Word,
            'h' => CharacterProperties.HexDigit,
            _ => null,
        };
        if (set is not null)
        {
            _at++;
            return char.IsAsciiLetterUpper(c) ? ~set : set;
        }

        if (c is not ('p' or 'P'))
        {
            return null;
        }

        _at++;
        int end = _source.IndexOf('}', _at);
        if (!Takes("{") || end < 0)
        {
            throw Refused($"'\\{c}'");
        }

        bool not = c == 'P' ^ Takes("^");
        string name = _source[_at..end];
        _at = end + 1;
        CodePointSet found = CharacterProperties.Find(name) ?? throw Refused($"the property '{name}'");
        return not ? ~found : found;
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
        return code >= 0 && code <= most && code is not (>= 0xD800 and <= 0xDFFF) ? code : throw Refused("a hexadecimal escape out of range");
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

    private string Literal(int code)
    {
        if (!_ignoreCase)
        {
            return One(CodePointSet.Of(code, code));
        }

        // Where case is ignored, characters side by side may equal one character (ss and ß), and one character several.
        ReadOnlySpan<int> folded = CharacterProperties.Fold(code);
        _literals.Add(folded[0]);
        if (folded.Length > 1 || CharacterProperties.EndsInLongFold(CollectionsMarshal.AsSpan(_literals)))
        {
            throw Refused($"'{char.ConvertFromUtf32(code)}' where case is ignored, which alone or with the characters before it equals another "
                + "number of characters");
        }

        return Reference(CharacterProperties.Likes(code));
    }

    // The class after its '['. Where case is ignored, the set is closed after all operations, before it is negated.
    private CodePointSet Class()
    {
        (CodePointSet set, bool not) = ClassInside();
        if (_ignoreCase)
        {
            if (!not && CharacterProperties.LongFoldIn(set) is >= 0 and var code)
            {
                throw Refused($"a class with '{char.ConvertFromUtf32(code)}' where case is ignored, which is also several characters");
            }

            set = CharacterProperties.Closed(set);
        }

        return not ? ~set : set;
    }

    private (CodePointSet Set, bool Not) ClassInside()
    {
        if (++_depth > Deepest)
        {
            throw Refused($"groups nested deeper than {Deepest}");
        }

        bool not = Takes("^");
        if (_at < _source.Length && _source[_at] == ']')
        {
            throw Refused("an empty class, or a ']' at the start of one");
        }

        CodePointSet before = CodePointSet.All; // intersection of the operands before the last &&
        CodePointSet set = CodePointSet.Empty;
        while (_at < _source.Length && _source[_at] != ']')
        {
            if (Takes("&&"))
            {
                (before, set) = (before & set, CodePointSet.Empty);
            }
            else if (ClassItem() is { } item)
            {
                if (_at + 1 < _source.Length && _source[_at] == '-' && _source[_at + 1] != ']')
                {
                    throw Refused("a range that begins with a class");
                }

                set |= item;
            }
            else
            {
                set |= Range();
            }
        }

        _depth--;
        return Takes("]") ? (before & set, not) : throw Refused("a '[' without ']'");
    }

    // A class within a class, [:name:], or an escape of a set; null for a character.
    private CodePointSet? ClassItem()
    {
        if (Takes("[:"))
        {
            return Bracket();
        }

        if (Takes("["))
        {
            // Oniguruma forgets that nothing is left beyond ASCII when the class around is negated.
            (CodePointSet set, bool not) = ClassInside();
            return !not ? set
                : (~set & s_beyondAscii).Equals(CodePointSet.Empty) ? throw Refused("a negated class within a class that leaves nothing beyond ASCII")
                : ~set;
        }

        if (_source[_at] != '\\' || _at + 1 == _source.Length)
        {
            return null;
        }

        _at++;
        CodePointSet? escaped = SetEscape();
        _at -= escaped is null ? 1 : 0;
        return escaped;
    }

    private CodePointSet Bracket()
    {
        bool not = Takes("^");
        int end = _source.IndexOf(":]", _at, StringComparison.Ordinal);
        string name = end < 0 ? "" : _source[_at..end];
        if (name == "punct")
        {
            throw Refused("'[:punct:]', which Oniguruma 6.9.8 and 6.9.10 match differently");
        }

        if (!s_brackets.Contains(name) || CharacterProperties.Find(name) is not { } set)
        {
            throw Refused("'[:' without one of the names of POSIX");
        }

        _at = end + 2;
        return not ? ~set : set;
    }

    // a, or a-z.
    private CodePointSet Range()
    {
        int first = ClassCharacter();
        int last = first;
        if (_at + 1 < _source.Length && _source[_at] == '-' && _source[_at + 1] != ']')
        {
            _at++;
            last = _source[_at] == '[' || string.CompareOrdinal(_source, _at, "&&", 0, 2) == 0 ? throw Refused("a range to a class")
                : ClassCharacter();
        }

        return last >= first ? CodePointSet.Of(first, last) : throw Refused("a range that ends before it begins");
    }

    private int ClassCharacter()
    {
        if (_source[_at] != '\\')
        {
            return CodePoint();
        }

        _at++;
        if (_at == _source.Length || _source[_at] is 's' or 'S' or 'd' or 'D' or 'w' or 'W' or 'h' or 'H' or 'p' or 'P')
        {
            throw Refused("a range to a class");
        }

        return Takes("b") ? '\b' : CharacterEscape();
    }
}
