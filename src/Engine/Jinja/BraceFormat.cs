using System.Globalization;
using System.Text;

namespace Tiller.Jinja;

/// <summary>Python's str.format(). Attributes are read through the sandbox.</summary>
internal static class BraceFormat
{
    private const int MaxNested = 2;

    public static Text Format(Text format, Arguments arguments, Run run)
    {
        int automatic = 0;
        return Format(format, 0, format.Length, arguments, MaxNested, ref automatic, run);
    }

    private static Text Format(Text format, int start, int end, Arguments arguments, int depth, ref int automatic, Run run)
    {
        if (depth == 0)
        {
            throw JinjaException.Value("Max string recursion exceeded");
        }

        string f = format.Value;
        var formatted = new TextBuilder(run);
        int plain = start;
        for (int i = start; i < end; i++)
        {
            if (f[i] is not ('{' or '}'))
            {
                continue;
            }

            formatted.Append(format, plain, i - plain);
            if (i + 1 < end && f[i + 1] == f[i])
            {
                formatted.Append(format, i, 1);
                i++;
                plain = i + 1;
                continue;
            }

            if (f[i] == '}')
            {
                throw JinjaException.Value("Single '}' encountered in format string");
            }

            int close = CloseOf(f, i + 1, end);
            formatted.Append(Field(format, i + 1, close, arguments, depth, ref automatic, run));
            i = close;
            plain = close + 1;
        }

        formatted.Append(format, plain, end - plain);
        return formatted.ToText(format.IsSafe);
    }

    private static int CloseOf(string f, int start, int end)
    {
        int open = 1;
        bool inBracket = false;
        for (int i = start; i < end; i++)
        {
            inBracket = inBracket ? f[i] != ']' : f[i] == '[' && open == 1;
            if (!inBracket && f[i] == '{')
            {
                open++;
            }
            else if (!inBracket && f[i] == '}' && --open == 0)
            {
                return i;
            }
        }

        throw JinjaException.Value(start == end ? "Single '{' encountered in format string" : "expected '}' before end of string");
    }

    private static Text Field(Text format, int start, int end, Arguments arguments, int depth, ref int automatic, Run run)
    {
        string f = format.Value;
        int i = start;
        bool inBracket = false;
        while (i < end && (inBracket || f[i] is not (':' or '!')))
        {
            inBracket = inBracket ? f[i] != ']' : f[i] == '[';
            i++;
        }

        JinjaValue value = ValueOf(f[start..i], arguments, ref automatic, run);
        if (i < end && f[i] == '!')
        {
            if (i + 1 >= end || (i + 2 < end && f[i + 2] != ':'))
            {
                throw JinjaException.Value("expected ':' after conversion specifier");
            }

            var repr = new TextBuilder(run);
            switch (f[i + 1])
            {
                case 's':
                    value = value.ToText(run);
                    break;
                case 'r' or 'a':
                    value.Repr(repr, value.HasContent);
                    value = f[i + 1] == 'r' ? repr.ToText() : PercentFormat.Ascii(repr.ToText());
                    break;
                default:
                    throw JinjaException.Value($"Unknown conversion specifier {f[i + 1]}");
            }

            i += 2;
        }

        Text spec = i < end ? Format(format, i + 1, end, arguments, depth - 1, ref automatic, run) : Text.Empty;
        Text piece = FormatSpec.Apply(value, spec, run);
        return format.IsSafe ? Html.Escape(piece, run) : piece;
    }

    // first.attribute[index]…, where first is a name, a number, or empty for the next positional argument.
    private static JinjaValue ValueOf(string field, Arguments arguments, ref int automatic, Run run)
    {
        int i = field.AsSpan().IndexOfAny('.', '[');
        string first = i < 0 ? field : field[..i];
        i = i < 0 ? field.Length : i;
        JinjaValue value;
        if (first.Length == 0 || first.AsSpan().IndexOfAnyExceptInRange('0', '9') < 0)
        {
            bool counted = first.Length == 0;
            if (counted ? automatic < 0 : automatic > 0)
            {
                throw JinjaException.Value("cannot switch between manual field specification and automatic field numbering");
            }

            int at = counted ? automatic++ : int.TryParse(first, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number
                : int.MaxValue;
            automatic = counted ? automatic : -1;
            value = at < arguments.Values.Length ? arguments.Values[at]
                : throw JinjaException.Value($"Replacement index {at} out of range for positional args tuple");
        }
        else
        {
            run.Charge(arguments.Named.Length);
            int at = Array.FindIndex(arguments.Named, pair => pair.Key == first);
            value = at >= 0 ? arguments.Named[at].Value : throw JinjaException.Value($"no value '{first}' for the format");
        }

        while (i < field.Length)
        {
            run.Charge(1);
            if (field[i] == '.')
            {
                int stop = field.AsSpan(i + 1).IndexOfAny('.', '[');
                string name = stop < 0 ? field[(i + 1)..] : field.Substring(i + 1, stop);
                value = name.Length > 0 ? Sandbox.Attribute(value, Text.Of(name), run)
                    : throw JinjaException.Value("Empty attribute in format string");
                i = stop < 0 ? field.Length : i + 1 + stop;
                continue;
            }

            int close = field.IndexOf(']', i);
            if (field[i] != '[' || close < 0)
            {
                throw JinjaException.Value(close < 0 ? "Missing ']' in format string" : "Only '.' or '[' may follow ']' in format field specifier");
            }

            string key = field[(i + 1)..close];
            value = Sandbox.Item(value, int.TryParse(key, NumberStyles.None, CultureInfo.InvariantCulture, out int index) ? Int.Of(index)
                : Text.Of(key), run);
            i = close + 1;
        }

        return value;
    }
}

/// <summary>Python's format(value, spec): [[fill]align][sign][#][0][width][grouping][.precision][type].</summary>
internal static class FormatSpec
{
    public static Text Apply(JinjaValue value, Text spec, Run run)
    {
        if (spec.Length == 0)
        {
            return value.ToText(run);
        }

        if (value is not (Text or Int or Float or Bool))
        {
            throw JinjaException.Type($"unsupported format string passed to {value.TypeName}.__format__");
        }

        string s = spec.Value;
        int i = 0;
        string fill = "";
        char align = '\0';
        int units = spec.UnitsAt(0);
        if (s.Length > units && s[units] is '<' or '>' or '=' or '^')
        {
            fill = s[..units];
            align = s[units];
            i = units + 1;
        }
        else if (s[0] is '<' or '>' or '=' or '^')
        {
            align = s[i++];
        }

        char sign = i < s.Length && s[i] is '+' or '-' or ' ' ? s[i++] : '\0';
        bool positiveZero = i < s.Length && s[i] == 'z' && i++ >= 0;
        bool alternate = i < s.Length && s[i] == '#' && i++ >= 0;
        bool zero = i < s.Length && s[i] == '0' && i++ >= 0;
        int width = Number(s, ref i) ?? 0;
        char grouping = i < s.Length && s[i] is ',' or '_' ? s[i++] : '\0';
        int? precision = null;
        if (i < s.Length && s[i] == '.')
        {
            i++;
            precision = Number(s, ref i) ?? throw JinjaException.Value("Format specifier missing precision");
        }

        char type = i < s.Length ? s[i++] : '\0';
        if (i < s.Length)
        {
            throw JinjaException.Value("Invalid format specifier");
        }

        run.ChargeText(width);
        if (zero && fill.Length == 0)
        {
            fill = "0";
            align = align == '\0' ? value is Text ? '<' : '=' : align;
        }

        fill = fill.Length == 0 ? " " : fill;
        if (value is Text text)
        {
            if (type is not ('\0' or 's') || align == '=' || sign != '\0' || grouping != '\0' || alternate)
            {
                throw JinjaException.Value($"Invalid format specifier '{s}' for object of type 'str'");
            }

            text = precision < text.Points ? text.Slice(0, text.UnitOf(precision.Value)) : text;
            return Aligned(text, "", fill, align == '\0' ? '<' : align, width, spec.HasContent, run);
        }

        string prefix = "";
        bool negative;
        string digits;
        if (value is not Float && type is '\0' or 'd' or 'n' or 'b' or 'o' or 'x' or 'X' or 'c')
        {
            if (precision is not null)
            {
                throw JinjaException.Value("Precision not allowed in integer format specifier");
            }

            Int number = Arithmetic.ToInt(value);
            negative = number.Sign < 0;
            if (type == 'c')
            {
                digits = number.Big is null && number.Value is >= 0 and <= 0x10FFFF && Rune.IsValid((int)number.Value) && sign == '\0'
                    ? new Rune((int)number.Value).ToString() : throw JinjaException.Overflow("%c arg not in range(0x110000)");
            }
            else
            {
                digits = NumberText.Integer(number.Number, type, run);
                prefix = alternate && type is 'b' or 'o' or 'x' or 'X' ? "0" + type : "";
            }
        }
        else if (type is '\0' or 'e' or 'E' or 'f' or 'F' or 'g' or 'G' or 'n' or '%')
        {
            double real = Arithmetic.ToDouble(value);
            digits = NumberText.Real(real, type == 'n' ? 'g' : type, precision, alternate);
            negative = double.IsNegative(real) && !double.IsNaN(real) && !(positiveZero && !digits.AsSpan().ContainsAnyInRange('1', '9'));
        }
        else
        {
            throw JinjaException.Value($"Unknown format code '{type}' for object of type '{value.TypeName}'");
        }

        prefix = (negative ? "-" : sign is '+' or ' ' ? sign.ToString() : "") + prefix;
        if (grouping != '\0')
        {
            if (grouping == ',' && type is 'b' or 'o' or 'x' or 'X' or 'n' or 'c')
            {
                throw JinjaException.Value($"Cannot specify ',' with '{type}'.");
            }

            int zeros = fill == "0" && align == '=' ? width - prefix.Length : 0;
            digits = Grouped(digits, grouping, type is 'b' or 'o' or 'x' or 'X' ? 4 : 3, zeros);
        }

        return Aligned(Text.Of(digits, value.HasContent), prefix, fill, align == '\0' ? '>' : align, width, spec.HasContent, run);
    }

    private static int? Number(string s, ref int i)
    {
        int start = i;
        long number = 0;
        for (; i < s.Length && char.IsAsciiDigit(s[i]); i++)
        {
            number = (number * 10) + s[i] - '0';
            if (number > int.MaxValue)
            {
                throw JinjaException.Value("Too many decimal digits in format string");
            }
        }

        return i == start ? null : (int)number;
    }

    private static string Grouped(string digits, char separator, int size, int width)
    {
        int whole = size == 3 && digits.AsSpan().IndexOfAnyExceptInRange('0', '9') is >= 0 and int end ? end : digits.Length;

        string rest = digits[whole..];
        string number = digits[..whole];
        int length = Math.Max(number.Length, (int)((long)(width - rest.Length) * size / (size + 1)) - 1);
        while (length + ((length - 1) / size) + rest.Length < width)
        {
            length++;
        }

        number = number.PadLeft(length, '0');

        var grouped = new StringBuilder();
        for (int i = 0; i < number.Length; i++)
        {
            if (i > 0 && (number.Length - i) % size == 0)
            {
                grouped.Append(separator);
            }

            grouped.Append(number[i]);
        }

        return grouped.Append(rest).ToString();
    }

    private static Text Aligned(Text text, string prefix, string fill, char align, int width, bool fillContent, Run run)
    {
        int missing = Math.Max(width - text.Points - prefix.Length, 0);
        int left = align switch { '<' => 0, '^' => missing / 2, _ => missing };
        var aligned = new TextBuilder(run);
        Fill(align == '=' ? 0 : left);
        aligned.Append(prefix, text.HasContent);
        Fill(align == '=' ? left : 0);
        aligned.Append(text);
        Fill(missing - left);
        return aligned.ToText();

        void Fill(int count)
        {
            for (int i = 0; i < count; i++)
            {
                aligned.Append(fill, fillContent);
            }
        }
    }
}
