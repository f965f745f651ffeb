using System.Globalization;

namespace Tiller.Jinja;

/// <summary>strftime() of the C library in English, for a time without a zone.</summary>
internal static class TimeFormat
{
    public static void Append(DateTime time, string format, TextBuilder text, bool content)
    {
        for (int i = 0; i < format.Length; i++)
        {
            if (format[i] != '%')
            {
                text.Append(format[i], content);
                continue;
            }

            int start = i++;
            char? pad = null;
            bool upper = false;
            bool swap = false;
            for (; i < format.Length && format[i] is '-' or '_' or '0' or '^' or '#'; i++)
            {
                upper |= format[i] == '^';
                swap |= format[i] == '#';
                pad = format[i] is '-' or '_' or '0' ? format[i] : pad;
            }

            int width = 0;
            for (; i < format.Length && char.IsAsciiDigit(format[i]) && width < 1000; i++)
            {
                width = (width * 10) + format[i] - '0';
            }

            if (i < format.Length && format[i] is 'E' or 'O')
            {
                i++;
            }

            if (i >= format.Length || Piece(time, format[i]) is not var (piece, digits, filler))
            {
                text.Append(format.AsSpan(start, Math.Min(i, format.Length - 1) - start + 1), content);
                continue;
            }

            bool number = digits > 0;
            piece = upper ? piece.ToUpperInvariant() : swap ? format[i] == 'p' ? piece.ToLowerInvariant() : piece.ToUpperInvariant() : piece;
            filler = pad switch { '_' => ' ', '0' => '0', _ => filler };
            int length = width > 0 ? width : pad == '-' ? 0 : digits;
            text.Append(number ? filler : pad == '0' ? '0' : ' ', number || width > 0 ? Math.Max(length - piece.Length, 0) : 0, content);
            text.Append(piece, content);
        }
    }

    // The text of a code; the minimum number of digits, 0 if it is not a number; and the filler. Null for an unknown code.
    private static (string Text, int Digits, char Filler)? Piece(DateTime time, char code)
    {
        CultureInfo english = CultureInfo.InvariantCulture;
        int hour = time.Hour % 12 == 0 ? 12 : time.Hour % 12;
        int weekday = (int)time.DayOfWeek;
        int fromMonday = (weekday + 6) % 7;
        return code switch
        {
            'a' => Plain(time.ToString("ddd", english)),
            'A' => Plain(time.ToString("dddd", english)),
            'b' or 'h' => Plain(time.ToString("MMM", english)),
            'B' => Plain(time.ToString("MMMM", english)),
            'c' => Plain(Together("%a %b %e %H:%M:%S %Y")),
            'C' => Number(time.Year / 100, 2),
            'd' => Number(time.Day, 2),
            'D' or 'x' => Plain(Together("%m/%d/%y")),
            'e' => (time.Day.ToString(english), 2, ' '),
            'f' => Number(time.Ticks / 10 % 1_000_000, 6),
            'F' => Plain(Together("%Y-%m-%d")),
            'g' => Number(ISOWeek.GetYear(time) % 100, 2),
            'G' => Number(ISOWeek.GetYear(time), 1),
            'H' => Number(time.Hour, 2),
            'I' => Number(hour, 2),
            'j' => Number(time.DayOfYear, 3),
            'k' => (time.Hour.ToString(english), 2, ' '),
            'l' => (hour.ToString(english), 2, ' '),
            'm' => Number(time.Month, 2),
            'M' => Number(time.Minute, 2),
            'n' => Plain("\n"),
            'p' => Plain(time.Hour < 12 ? "AM" : "PM"),
            'P' => Plain(time.Hour < 12 ? "am" : "pm"),
            'r' => Plain(Together("%I:%M:%S %p")),
            'R' => Plain(Together("%H:%M")),
            's' => Number((time.Ticks - DateTime.UnixEpoch.Ticks) / TimeSpan.TicksPerSecond, 1),
            'S' => Number(time.Second, 2),
            't' => Plain("\t"),
            'T' or 'X' => Plain(Together("%H:%M:%S")),
            'u' => Number(fromMonday + 1, 1),
            'U' => Number((time.DayOfYear + 6 - weekday) / 7, 2),
            'V' => Number(ISOWeek.GetWeekOfYear(time), 2),
            'w' => Number(weekday, 1),
            'W' => Number((time.DayOfYear + 6 - fromMonday) / 7, 2),
            'y' => Number(time.Year % 100, 2),
            'Y' => Number(time.Year, 1),
            'z' or 'Z' => Plain(""),
            '%' => Plain("%"),
            _ => null,
        };

        string Together(string codes) => string.Concat(codes.Split('%').Skip(1).Select(part => Two(Piece(time, part[0])!.Value) + part[1..]));
        string Two((string Text, int Digits, char Filler) piece) => piece.Text.PadLeft(piece.Digits, piece.Filler);
        (string, int, char) Plain(string text) => (text, 0, ' ');
        (string, int, char) Number(long number, int digits) => (number.ToString(english), digits, '0');
    }
}
