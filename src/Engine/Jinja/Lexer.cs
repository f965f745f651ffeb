using System.Globalization;
using System.Numerics;
using System.Text;

namespace Tiller.Jinja;

/// <summary>Kinds of tokens.</summary>
internal enum TokenKind
{
    /// <summary>Text between tags.</summary>
    Data,

    /// <summary>{{.</summary>
    VariableBegin,

    /// <summary>}}.</summary>
    VariableEnd,

    /// <summary>{%.</summary>
    BlockBegin,

    /// <summary>%}.</summary>
    BlockEnd,

    /// <summary>A name or keyword.</summary>
    Name,

    /// <summary>A string, unescaped.</summary>
    String,

    /// <summary>A number.</summary>
    Number,

    /// <summary>An operator or bracket.</summary>
    Operator,

    /// <summary>The end of the template.</summary>
    End,
}

/// <summary>A token, with its text or, for a number, its value.</summary>
internal readonly record struct Token(TokenKind Kind, string Text, int Line, JinjaValue? Number = null);

/// <summary>
/// Splits a template into tokens, with trim_blocks and lstrip_blocks: it drops the newline after a block or comment, and the white space before one
/// at the beginning of its line.
/// </summary>
internal sealed class Lexer
{
    private static readonly string[] s_pairs = ["//", "**", "==", "!=", ">=", "<="];

    private readonly string source;
    private readonly List<Token> tokens = [];
    private readonly Stack<char> open = new();
    private int at;
    private int line = 1;
    private bool lineStarts = true;

    private Lexer(string source)
    {
        this.source = source;
    }

    public static List<Token> Read(string source)
    {
        source = source.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        var lexer = new Lexer(source.EndsWith('\n') ? source[..^1] : source);
        lexer.Root();
        lexer.tokens.Add(new Token(TokenKind.End, "", lexer.line));
        return lexer.tokens;
    }

    public static JinjaException Error(string detail, int line) => new(JinjaError.Syntax, detail, line);

    private void Root()
    {
        while (at < source.Length)
        {
            int tag = NextTag(at);
            if (tag < 0)
            {
                Data(source.Length, '+', blocks: false);
                return;
            }

            char kind = source[tag + 1];
            int body = tag + 2;
            char sign = body < source.Length && source[body] is '-' or '+' ? source[body++] : '\0';
            Data(tag, sign, blocks: kind != '{');
            if (kind == '%' && RawEnd(body) is >= 0 and int raw)
            {
                MoveTo(raw);
                Raw();
                continue;
            }

            int begun = line;
            MoveTo(body);
            switch (kind)
            {
                case '#':
                    Comment(begun);
                    break;
                case '%':
                    tokens.Add(new Token(TokenKind.BlockBegin, "{%", line));
                    Tag(block: true);
                    break;
                default:
                    tokens.Add(new Token(TokenKind.VariableBegin, "{{", line));
                    Tag(block: false);
                    break;
            }
        }
    }

    private int NextTag(int from)
    {
        while (true)
        {
            int brace = source.IndexOf('{', from);
            if (brace < 0 || brace + 1 >= source.Length)
            {
                return -1;
            }

            if (source[brace + 1] is '{' or '%' or '#')
            {
                return brace;
            }

            from = brace + 1;
        }
    }

    // Adds the text up to a tag. The indentation before a block or comment is dropped.
    private void Data(int end, char sign, bool blocks)
    {
        int stop = end;
        if (sign == '-')
        {
            while (stop > at && PythonChars.IsSpace(source[stop - 1]))
            {
                stop--;
            }
        }
        else if (sign != '+' && blocks)
        {
            int first = end > at ? source.LastIndexOf('\n', end - 1, end - at) + 1 : 0;
            bool starts = first > 0 || lineStarts;
            first = Math.Max(first, at);
            if (starts && PythonChars.Strip(source.AsSpan(first, end - first)).Length == 0)
            {
                stop = first;
            }
        }

        if (stop > at)
        {
            tokens.Add(new Token(TokenKind.Data, source[at..stop], line));
        }

        MoveTo(end);
    }

    // End of the tag {% raw %}, given the position after its {%; or -1.
    private int RawEnd(int from)
    {
        int i = SkipSpace(from);
        if (!source.AsSpan(i).StartsWith("raw"))
        {
            return -1;
        }

        i = SkipSpace(i + 3);
        ReadOnlySpan<char> rest = source.AsSpan(i);
        return rest.StartsWith("-%}") ? SkipSpace(i + 3) : rest.StartsWith("%}") ? i + 2 : -1;
    }

    private void Raw()
    {
        int begun = line;
        for (int tag = source.IndexOf("{%", at, StringComparison.Ordinal); tag >= 0; tag = source.IndexOf("{%", tag + 2, StringComparison.Ordinal))
        {
            int i = tag + 2;
            char sign = i < source.Length && source[i] is '-' or '+' ? source[i++] : '\0';
            i = SkipSpace(i);
            if (source.AsSpan(i).StartsWith("endraw") && BlockEnd(SkipSpace(i + 6)) is >= 0 and int end)
            {
                Data(tag, sign, blocks: true);
                MoveTo(end);
                return;
            }
        }

        throw Error("Missing end of raw directive", begun);
    }

    private void Comment(int begun)
    {
        int end = source.IndexOf("#}", at, StringComparison.Ordinal);
        if (end < 0)
        {
            throw Error("Missing end of comment tag", begun);
        }

        char sign = end > at ? source[end - 1] : '\0';
        MoveTo(sign == '-' ? SkipSpace(end + 2) : sign == '+' ? end + 2 : SkipNewLine(end + 2));
    }

    // The position after the end of a block tag that is here; or -1.
    private int BlockEnd(int i)
    {
        ReadOnlySpan<char> rest = source.AsSpan(i);
        return rest.StartsWith("%}") ? SkipNewLine(i + 2) : rest.StartsWith("-%}") ? SkipSpace(i + 3) : rest.StartsWith("+%}") ? i + 3 : -1;
    }

    private void Tag(bool block)
    {
        open.Clear();
        while (at < source.Length)
        {
            if (open.Count == 0)
            {
                ReadOnlySpan<char> rest = source.AsSpan(at);
                int end = block ? BlockEnd(at) : rest.StartsWith("}}") ? at + 2 : rest.StartsWith("-}}") ? SkipSpace(at + 3) : -1;
                if (end >= 0)
                {
                    tokens.Add(block ? new Token(TokenKind.BlockEnd, "%}", line) : new Token(TokenKind.VariableEnd, "}}", line));
                    MoveTo(end);
                    return;
                }
            }

            char c = source[at];
            if (PythonChars.IsSpace(c))
            {
                MoveTo(SkipSpace(at));
            }
            else if (char.IsAsciiDigit(c))
            {
                Number();
            }
            else if (c is '\'' or '"')
            {
                String(c);
            }
            else if (!Name())
            {
                Operator();
            }
        }
    }

    private bool Name()
    {
        int end = at;
        while (end < source.Length && Rune.TryGetRuneAt(source, end, out Rune rune)
            && (PythonChars.IsWord(rune) || PythonChars.IsIdentifierPart(rune)))
        {
            end += rune.Utf16SequenceLength;
        }

        if (end == at)
        {
            return false;
        }

        if (!Rune.TryGetRuneAt(source, at, out Rune first) || !PythonChars.IsIdentifierStart(first))
        {
            throw Error("Invalid character in identifier", line);
        }

        string name = source[at..end];
        tokens.Add(new Token(TokenKind.Name, name, line));
        at = end;
        return true;
    }

    private void Operator()
    {
        foreach (string pair in s_pairs)
        {
            if (source.AsSpan(at).StartsWith(pair))
            {
                tokens.Add(new Token(TokenKind.Operator, pair, line));
                at += 2;
                return;
            }
        }

        char c = source[at];
        switch (c)
        {
            case '(' or '[' or '{':
                open.Push(c == '(' ? ')' : c == '[' ? ']' : '}');
                break;
            case ')' or ']' or '}':
                if (!open.TryPop(out char expected) || expected != c)
                {
                    throw Error(expected == '\0' ? $"unexpected '{c}'" : $"unexpected '{c}', expected '{expected}'", line);
                }

                break;
            case '+' or '-' or '/' or '*' or '%' or '~' or '>' or '<' or '=' or '.' or ':' or '|' or ',' or ';':
                break;
            default:
                throw Error($"unexpected character U+{(int)c:X4}", line);
        }

        tokens.Add(new Token(TokenKind.Operator, c.ToString(), line));
        at++;
    }

    // A float needs a fraction or an exponent, and no dot before it: x.1.0 has two indices.
    private void Number()
    {
        int whole = Digits(at);
        bool afterDot = at > 0 && source[at - 1] == '.';
        int end = whole;
        if (!afterDot)
        {
            int fraction = whole < source.Length && source[whole] == '.' ? Digits(whole + 1) : -1;
            end = fraction > whole + 1 ? fraction : whole;
            if (end < source.Length && source[end] is 'e' or 'E')
            {
                int power = end + 1 < source.Length && source[end + 1] is '+' or '-' ? end + 2 : end + 1;
                int exponent = Digits(power);
                end = exponent > power ? exponent : end;
            }
        }

        if (end > whole)
        {
            double real = double.Parse(source[at..end].Replace("_", "", StringComparison.Ordinal), NumberStyles.Float, CultureInfo.InvariantCulture);
            Add(end, new Float(real));
            return;
        }

        int radix = source[at] == '0' && at + 1 < source.Length
            ? source[at + 1] switch { 'x' or 'X' => 16, 'o' or 'O' => 8, 'b' or 'B' => 2, _ => 10 } : 10;
        end = radix == 10 ? source[at] == '0' ? Digits(at, static c => c == '0') : whole
            : Digits(at + 2, c => radix == 16 ? char.IsAsciiHexDigit(c) : c >= '0' && c < '0' + radix, underscoreFirst: true);
        end = radix != 10 && end == at + 2 ? at + 1 : end;
        string digits = source[at..end].Replace("_", "", StringComparison.Ordinal);
        BigInteger? value = digits.Length > PythonNumber.MaxDigits ? null : PythonNumber.ParseInt(digits, 0);
        Add(end, Int.Of(value ?? throw Error($"Exceeds the limit ({PythonNumber.MaxDigits} digits) for integer string conversion", line)));

        void Add(int behind, JinjaValue number)
        {
            tokens.Add(new Token(TokenKind.Number, source[at..behind], line, number));
            at = behind;
        }
    }

    private int Digits(int from) => Digits(from, char.IsAsciiDigit);

    // Skips digits, which may have single underscores between them.
    private int Digits(int from, Func<char, bool> isDigit, bool underscoreFirst = false)
    {
        int i = from;
        while (i < source.Length)
        {
            if (isDigit(source[i]))
            {
                i++;
            }
            else if (source[i] == '_' && (i > from || underscoreFirst) && i + 1 < source.Length && isDigit(source[i + 1]))
            {
                i += 2;
            }
            else
            {
                break;
            }
        }

        return i;
    }

    private void String(char quote)
    {
        int end = at + 1;
        while (end < source.Length && source[end] != quote)
        {
            end += source[end] == '\\' ? 2 : 1;
        }

        if (end >= source.Length)
        {
            throw Error("A string is not closed", line);
        }

        tokens.Add(new Token(TokenKind.String, Unescape(source.AsSpan(at + 1, end - at - 1), line), line));
        MoveTo(end + 1);
    }

    // Python's unicode-escape. Jinja first writes characters beyond ASCII as escapes, so a backslash before such a character escapes the backslash of
    // its escape, and the result is the text of that escape.
    private static string Unescape(ReadOnlySpan<char> text, int line)
    {
        if (!text.Contains('\\'))
        {
            return text.ToString();
        }

        var value = new StringBuilder(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] != '\\')
            {
                value.Append(text[i]);
                continue;
            }

            char c = text[++i];
            switch (c)
            {
                case '\n':
                    break;
                case '\\' or '\'' or '"':
                    value.Append(c);
                    break;
                case 'a' or 'b' or 'f' or 'n' or 'r' or 't' or 'v':
                    value.Append(c switch { 'a' => '\a', 'b' => '\b', 'f' => '\f', 'n' => '\n', 'r' => '\r', 't' => '\t', _ => '\v' });
                    break;
                case >= '0' and <= '7':
                    int octal = 0;
                    int last = Math.Min(i + 3, text.Length);
                    for (; i < last && text[i] is >= '0' and <= '7'; i++)
                    {
                        octal = (octal * 8) + text[i] - '0';
                    }

                    i--;
                    value.Append((char)octal);
                    break;
                case 'x' or 'u' or 'U':
                    int length = c == 'x' ? 2 : c == 'u' ? 4 : 8;
                    if (i + length >= text.Length || !uint.TryParse(text.Slice(i + 1, length), NumberStyles.AllowHexSpecifier,
                        CultureInfo.InvariantCulture, out uint code) || code > 0x10FFFF)
                    {
                        throw Error($"A \\{c} escape in a string needs {length} hexadecimal digits of a code point", line);
                    }

                    value.Append(code < 0x10000 ? ((char)code).ToString() : char.ConvertFromUtf32((int)code));
                    i += length;
                    break;
                case 'N':
                    throw new JinjaException(JinjaError.Unsupported,
                        "Characters by name (\\N{...}) are not implemented; write \\u and the code point.", line);
                case > '~':
                    int point = char.IsHighSurrogate(c) && i + 1 < text.Length ? char.ConvertToUtf32(c, text[++i]) : c;
                    value.Append('\\').Append(point < 0x100 ? $"x{point:x2}" : point < 0x10000 ? $"u{point:x4}" : $"U{point:x8}");
                    break;
                default:
                    value.Append('\\').Append(c);
                    break;
            }
        }

        return value.ToString();
    }

    private int SkipSpace(int i)
    {
        while (i < source.Length && PythonChars.IsSpace(source[i]))
        {
            i++;
        }

        return i;
    }

    private int SkipNewLine(int i) => i < source.Length && source[i] == '\n' ? i + 1 : i;

    private void MoveTo(int to)
    {
        if (to > at)
        {
            line += source.AsSpan(at, to - at).Count('\n');
            lineStarts = source[to - 1] == '\n';
            at = to;
        }
    }
}
