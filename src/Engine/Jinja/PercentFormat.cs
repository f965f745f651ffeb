using System.Text;

namespace Tiller.Jinja;

/// <summary>Python's text % values.</summary>
internal static class PercentFormat
{
    public static Text Format(Text format, JinjaValue values, Run run)
    {
        string f = format.Value;
        var formatted = new TextBuilder(run);
        JinjaValue[] items = values is TupleValue tuple ? tuple.Values : [values];
        bool isMapping = values is MapValue or ListValue or RangeValue or Undefined;
        int next = 0;
        for (int i = 0; i < f.Length;)
        {
            int percent = f.IndexOf('%', i);
            if (percent < 0)
            {
                formatted.Append(format, i, f.Length - i);
                break;
            }

            formatted.Append(format, i, percent - i);
            bool own = format.IsContentAt(percent);
            i = percent + 1;
            JinjaValue? named = null;
            if (i < f.Length && f[i] == '(')
            {
                int start = ++i;
                for (int open = 1; open > 0; i++)
                {
                    open += i >= f.Length ? throw JinjaException.Value("incomplete format key") : f[i] == '(' ? 1 : f[i] == ')' ? -1 : 0;
                }

                Text key = format.Slice(start, i - 1 - start);
                if (values is not MapValue map)
                {
                    throw JinjaException.Type("format requires a mapping");
                }

                named = map.Find(key) ?? throw JinjaException.Value($"no key '{key.Value}' for the format");
            }

            string flags = "";
            while (i < f.Length && f[i] is '-' or '+' or ' ' or '#' or '0')
            {
                flags += flags.Contains(f[i]) ? "" : f[i];
                i++;
            }

            JinjaValue Take() => next < items.Length ? items[next++] : throw JinjaException.Type("not enough arguments for format string");
            int width = Number(f, ref i, Take);
            if (width < 0)
            {
                flags += "-";
                width = -width;
            }

            int? precision = null;
            if (i < f.Length && f[i] == '.')
            {
                i++;
                precision = Math.Max(Number(f, ref i, Take), 0);
            }

            if (i < f.Length && f[i] is 'h' or 'l' or 'L')
            {
                i++;
            }

            if (i >= f.Length)
            {
                throw JinjaException.Value("incomplete format");
            }

            char type = f[i++];
            if (type == '%')
            {
                formatted.Append('%', own);
                continue;
            }

            JinjaValue value = named ?? Take();
            Piece(formatted, value, type, flags, width, precision, own, format.IsSafe, run);
        }

        return next < items.Length && !isMapping ? throw JinjaException.Type("not all arguments converted during string formatting")
            : formatted.ToText(format.IsSafe);
    }

    private static int Number(string f, ref int i, Func<JinjaValue> take)
    {
        if (i < f.Length && f[i] == '*')
        {
            i++;
            return take() is var value && Indexes.TryInteger(value, out _) ? Math.Max(Indexes.Integer(value), -int.MaxValue)
                : throw JinjaException.Type("* wants int");
        }

        long number = 0;
        for (; i < f.Length && char.IsAsciiDigit(f[i]); i++)
        {
            number = (number * 10) + f[i] - '0';
            if (number > int.MaxValue)
            {
                throw JinjaException.Value("width too big");
            }
        }

        return (int)number;
    }

    private static void Piece(TextBuilder to, JinjaValue value, char type, string flags, int width, int? precision, bool own, bool safe, Run run)
    {
        bool left = flags.Contains('-', StringComparison.Ordinal);
        Text text;
        string sign = "";
        bool number = false;
        switch (type)
        {
            case 's' or 'r' or 'a':
                if (type == 's')
                {
                    text = safe ? Html.Escape(value, run) : value.ToText(run);
                }
                else
                {
                    var repr = new TextBuilder(run);
                    value.Repr(repr, value.HasContent);
                    text = type == 'r' ? repr.ToText() : Ascii(repr.ToText());
                }

                if (precision < text.Points)
                {
                    text = text.Slice(0, text.UnitOf(precision.Value));
                }

                break;
            case 'c':
                text = value is Text { Points: 1 } one ? one
                    : Indexes.TryInteger(value, out long code) && code is >= 0 and <= 0x10FFFF && Rune.IsValid((int)code)
                        ? Text.Of(new Rune((int)code).ToString(), value.HasContent)
                    : throw JinjaException.Type("%c requires int or char");
                break;
            case 'd' or 'i' or 'u' or 'o' or 'x' or 'X':
                Int integer = type is 'd' or 'i' or 'u' && value is Float real ? Filters.Truncate(real.Value, value.HasContent)
                    : Arithmetic.TryInt(value, out Int whole) ? whole
                    : throw JinjaException.Type($"%{type} format: a number is required, not {value.TypeName}");
                string digits = NumberText.Integer(integer.Number, type, run);
                digits = precision > digits.Length ? digits.PadLeft(Bounded(precision.Value, run), '0') : digits;
                sign = Sign(integer.Sign < 0, flags) + (type is 'o' or 'x' or 'X' && flags.Contains('#', StringComparison.Ordinal) ? "0" + type : "");
                text = Text.Of(digits, value.HasContent);
                number = true;
                break;
            case 'e' or 'E' or 'f' or 'F' or 'g' or 'G':
                double d = Arithmetic.IsNumber(value) ? Arithmetic.ToDouble(value)
                    : throw JinjaException.Type($"must be real number, not {value.TypeName}");
                text = Text.Of(NumberText.Real(d, type, precision, flags.Contains('#', StringComparison.Ordinal)), value.HasContent);
                sign = Sign(double.IsNegative(d) && !double.IsNaN(d), flags);
                number = true;
                break;
            default:
                throw JinjaException.Value($"unsupported format character '{type}'");
        }

        int missing = Math.Max(Bounded(width, run) - text.Points - sign.Length, 0);
        bool zeros = number && !left && flags.Contains('0', StringComparison.Ordinal);
        to.Append(' ', left || zeros ? 0 : missing, own);
        to.Append(sign, number && text.HasContent);
        to.Append('0', zeros ? missing : 0, own);
        to.Append(text);
        to.Append(' ', left ? missing : 0, own);
    }

    /// <summary>Python's ascii(): repr() with all characters beyond ASCII escaped.</summary>
    public static Text Ascii(Text repr)
    {
        var ascii = new StringBuilder();
        foreach (Rune rune in repr.Value.EnumerateRunes())
        {
            ascii.Append(rune.IsAscii ? rune.ToString() : rune.Value < 0x100 ? $"\\x{rune.Value:x2}" : rune.IsBmp ? $"\\u{rune.Value:x4}"
                : $"\\U{rune.Value:x8}");
        }

        return Text.Of(ascii.ToString(), repr.HasContent);
    }

    private static string Sign(bool negative, string flags) =>
        negative ? "-" : flags.Contains('+', StringComparison.Ordinal) ? "+" : flags.Contains(' ', StringComparison.Ordinal) ? " " : "";

    private static int Bounded(int width, Run run)
    {
        run.ChargeText(width);
        return width;
    }
}
