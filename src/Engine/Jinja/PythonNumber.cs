using System.Globalization;
using System.Numerics;
using System.Text;

namespace Tiller.Jinja;

/// <summary>Conversion between numbers and text as in Python.</summary>
internal static class PythonNumber
{
    /// <summary>Maximum number of decimal digits of an integer that Python converts to or from text.</summary>
    public const int MaxDigits = 4300;

    /// <summary>repr() of a float: the shortest digits that give the same float when read, in scientific form from 1e16 on and below 1e-4.</summary>
    public static string Repr(double value)
    {
        if (!double.IsFinite(value))
        {
            return double.IsNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
        }

        (string digits, int exponent) = Shortest(value);
        string sign = double.IsNegative(value) ? "-" : "";
        if (exponent is < -4 or >= 16)
        {
            return $"{sign}{digits[0]}{(digits.Length > 1 ? "." + digits[1..] : "")}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent):00}";
        }

        if (exponent < 0)
        {
            return $"{sign}0.{new string('0', -exponent - 1)}{digits}";
        }

        return exponent + 1 >= digits.Length
            ? $"{sign}{digits}{new string('0', exponent + 1 - digits.Length)}.0"
            : $"{sign}{digits[..(exponent + 1)]}.{digits[(exponent + 1)..]}";
    }

    /// <summary>The shortest digits d, first one not 0, and e with |value| = d[0].d[1]... × 10^e.</summary>
    public static (string Digits, int Exponent) Shortest(double value)
    {
        if (value == 0)
        {
            return ("0", 0);
        }

        string text = Math.Abs(value).ToString("E16", CultureInfo.InvariantCulture);
        string shortest = Math.Abs(value).ToString("R", CultureInfo.InvariantCulture);
        string digits = new string([.. shortest.TakeWhile(static c => c != 'E').Where(char.IsAsciiDigit)]).Trim('0');

        // The exponent of the seventeen rounded digits equals that of the shortest digits, except after a carry: 9.99…e22 and 1e23.
        int exponent = int.Parse(text.AsSpan(text.IndexOf('E', StringComparison.Ordinal) + 1), NumberStyles.AllowLeadingSign,
            CultureInfo.InvariantCulture);
        int e = shortest.IndexOf('E', StringComparison.Ordinal);
        string mantissa = e < 0 ? shortest : shortest[..e];
        int shift = e < 0 ? 0 : int.Parse(shortest.AsSpan(e + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
        int point = mantissa.IndexOf('.', StringComparison.Ordinal);
        int whole = point < 0 ? mantissa.Length : point;
        int first = mantissa.AsSpan().IndexOfAnyInRange('1', '9');
        exponent = first < 0 ? exponent : (first < whole ? whole - 1 - first : whole - first) + shift;
        return (digits, exponent);
    }

    /// <summary>|value| × 10^places, rounded half to even, exactly.</summary>
    public static BigInteger Scaled(double value, int places)
    {
        long bits = BitConverter.DoubleToInt64Bits(Math.Abs(value));
        int e = (int)(bits >> 52);
        BigInteger mantissa = e == 0 ? bits & ((1L << 52) - 1) : (bits & ((1L << 52) - 1)) | (1L << 52);
        int shift = Math.Max(e, 1) - 1075;
        BigInteger above = places > 0 ? mantissa * BigInteger.Pow(10, places) : mantissa;
        BigInteger below = places < 0 ? BigInteger.Pow(10, -places) : BigInteger.One;
        if (shift > 0)
        {
            above <<= shift;
        }
        else
        {
            below <<= -shift;
        }

        return DivideToEven(above, below);
    }

    /// <summary>Divides and rounds half to even. The first number must not be negative, the second must be positive.</summary>
    public static BigInteger DivideToEven(BigInteger above, BigInteger below)
    {
        BigInteger quotient = BigInteger.DivRem(above, below, out BigInteger rest);
        int half = (rest * 2).CompareTo(below);
        return half > 0 || (half == 0 && !quotient.IsEven) ? quotient + 1 : quotient;
    }

    /// <summary>round(value, places).</summary>
    public static double Round(double value, int places)
    {
        if (!double.IsFinite(value) || value == 0 || places > 323)
        {
            return value;
        }

        if (places < -308)
        {
            return value < 0 ? -0.0 : 0.0;
        }

        double rounded = double.Parse($"{Scaled(value, places)}E{-places}", NumberStyles.Float, CultureInfo.InvariantCulture);
        return double.IsInfinity(rounded) ? throw JinjaException.Overflow("rounded value too large to represent") : double.IsNegative(value)
            ? -rounded : rounded;
    }

    /// <summary>str() of an integer beyond 64 bits.</summary>
    public static string Digits(BigInteger value, Run run)
    {
        // The time of the conversion grows with the square of the length.
        long words = value.GetBitLength() >> 5;
        run.Charge(1 + (words * words >> 6));
        string digits = value.GetBitLength() > (MaxDigits * 4L) ? "" : value.ToString(CultureInfo.InvariantCulture);
        return digits.Length > 0 && digits.Length - (value.Sign < 0 ? 1 : 0) <= MaxDigits
            ? digits
            : throw JinjaException.Value($"Exceeds the limit ({MaxDigits} digits) for integer string conversion");
    }

    /// <summary>int(text, radix); null where Python raises a ValueError.</summary>
    public static BigInteger? ParseInt(string text, int radix)
    {
        if (radix != 0 && radix is < 2 or > 36)
        {
            return null;
        }

        ReadOnlySpan<char> rest = PythonChars.Strip(text);
        bool negative = rest.Length > 0 && rest[0] == '-';
        if (rest.Length > 0 && rest[0] is '+' or '-')
        {
            rest = rest[1..];
        }

        bool prefixed = false;
        if (rest.Length > 1 && rest[0] == '0')
        {
            int named = rest[1] switch { 'x' or 'X' => 16, 'o' or 'O' => 8, 'b' or 'B' => 2, _ => 0 };
            if (named != 0 && (radix == 0 || radix == named))
            {
                radix = named;
                rest = rest[2..];
                prefixed = true;
            }
        }

        bool anyBase = radix == 0;
        radix = anyBase ? 10 : radix;
        var digits = new StringBuilder();
        bool afterDigit = prefixed;
        foreach (Rune rune in rest.ToString().EnumerateRunes())
        {
            if (rune.Value == '_')
            {
                if (!afterDigit)
                {
                    return null;
                }

                afterDigit = false;
                continue;
            }

            int digit = rune.IsAscii && char.IsAsciiLetter((char)rune.Value) ? ((char)rune.Value | 0x20) - 'a' + 10 : PythonChars.DecimalDigit(rune);
            if (digit < 0 || digit >= radix)
            {
                return null;
            }

            digits.Append((char)(digit < 10 ? '0' + digit : 'a' + digit - 10));
            afterDigit = true;
        }

        if (digits.Length == 0 || !afterDigit || digits.Length > MaxDigits)
        {
            return null;
        }

        string written = digits.ToString();
        if (anyBase && !prefixed && written[0] == '0' && written.AsSpan().ContainsAnyExcept('0'))
        {
            return null;
        }

        BigInteger value;
        if (radix == 10)
        {
            value = BigInteger.Parse(written, NumberStyles.None, CultureInfo.InvariantCulture);
        }
        else
        {
            value = BigInteger.Zero;
            foreach (char c in written)
            {
                value = (value * radix) + (c <= '9' ? c - '0' : c - 'a' + 10);
            }
        }

        return negative ? -value : value;
    }

    /// <summary>float(text); null where Python raises a ValueError.</summary>
    public static double? ParseFloat(string text)
    {
        var plain = new StringBuilder();
        foreach (Rune rune in PythonChars.Strip(text).ToString().EnumerateRunes())
        {
            int digit = PythonChars.DecimalDigit(rune);
            plain.Append(digit >= 0 ? (char)('0' + digit) : rune.IsAscii ? (char)rune.Value : '?');
        }

        string number = plain.ToString();
        for (int i = 0; i < number.Length; i++)
        {
            if (number[i] == '_' && (i == 0 || i + 1 == number.Length || !char.IsAsciiDigit(number[i - 1]) || !char.IsAsciiDigit(number[i + 1])))
            {
                return null;
            }
        }

        number = number.Replace("_", "", StringComparison.Ordinal);
        int sign = number.StartsWith('-') ? -1 : 1;
        string unsigned = number.StartsWith('-') || number.StartsWith('+') ? number[1..] : number;
        if (unsigned.Equals("inf", StringComparison.OrdinalIgnoreCase) || unsigned.Equals("infinity", StringComparison.OrdinalIgnoreCase))
        {
            return sign * double.PositiveInfinity;
        }

        if (unsigned.Equals("nan", StringComparison.OrdinalIgnoreCase))
        {
            return double.NaN;
        }

        bool starts = unsigned.Length > 0 && (char.IsAsciiDigit(unsigned[0])
            || (unsigned[0] == '.' && unsigned.Length > 1 && char.IsAsciiDigit(unsigned[1])));
        return starts && double.TryParse(unsigned, NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent, CultureInfo.InvariantCulture,
            out double value)
            ? sign * value
            : null;
    }
}
