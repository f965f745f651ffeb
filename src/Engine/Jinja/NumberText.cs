using System.Globalization;
using System.Numerics;

namespace Tiller.Jinja;

/// <summary>Formats numbers by the format codes of % and str.format(), exactly rounded.</summary>
internal static class NumberText
{
    // Maximum number of digits after the point; more would only cost time.
    private const int MaxPlaces = 4096;

    /// <summary>Formats |value| by one of e, f, g, % and "" (as str() does), without sign.</summary>
    public static string Real(double value, char type, int? precision, bool alternate)
    {
        if (!double.IsFinite(value))
        {
            string name = double.IsNaN(value) ? "nan" : "inf";
            return char.IsAsciiLetterUpper(type) ? name.ToUpperInvariant() : type == '%' ? name + "%" : name;
        }

        value = Math.Abs(value);
        if (precision > MaxPlaces)
        {
            throw new JinjaException(JinjaError.Limit, $"A precision of more than {MaxPlaces} digits.");
        }

        string text = char.ToLowerInvariant(type) switch
        {
            '\0' when precision is null => PythonNumber.Repr(value),
            '\0' => General(value, Math.Max(precision.Value, 1), alternate, withPoint: true),
            'e' => Exponent(value, precision ?? 6, alternate),
            'f' => Fixed(value, precision ?? 6, alternate),
            '%' => Fixed(value * 100, precision ?? 6, alternate) + "%",
            _ => General(value, Math.Max(precision ?? 6, 1), alternate, withPoint: false),
        };
        return char.IsAsciiLetterUpper(type) ? text.ToUpperInvariant() : text;
    }

    /// <summary>Digits of |value| in base 2, 8, 10 or 16.</summary>
    public static string Integer(BigInteger value, char type, Run run)
    {
        value = BigInteger.Abs(value);
        if (type is not ('b' or 'o' or 'x' or 'X'))
        {
            return PythonNumber.Digits(value, run);
        }

        if (type is 'x' or 'X')
        {
            string hex = value.ToString(type == 'x' ? "x" : "X", CultureInfo.InvariantCulture).TrimStart('0');
            return hex.Length == 0 ? "0" : hex;
        }

        string binary = value.ToString("b", CultureInfo.InvariantCulture).TrimStart('0');
        if (type == 'b')
        {
            return binary.Length == 0 ? "0" : binary;
        }

        binary = new string('0', (3 - (binary.Length % 3)) % 3) + binary;
        string octal = string.Concat(Enumerable.Range(0, binary.Length / 3).Select(i =>
            (char)('0' + ((binary[3 * i] - '0') * 4) + ((binary[(3 * i) + 1] - '0') * 2) + binary[(3 * i) + 2] - '0')));
        return octal.Length == 0 ? "0" : octal;
    }

    private static string Fixed(double value, int places, bool alternate)
    {
        if (double.IsInfinity(value))
        {
            return "inf";
        }

        string digits = PythonNumber.Scaled(value, places).ToString(CultureInfo.InvariantCulture).PadLeft(places + 1, '0');
        return places > 0 ? $"{digits[..^places]}.{digits[^places..]}" : alternate ? digits + "." : digits;
    }

    private static string Exponent(double value, int places, bool alternate)
    {
        (string digits, int exponent) = Digits(value, places);
        return $"{digits[0]}{(places > 0 ? "." + digits[1..] : alternate ? "." : "")}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent):00}";
    }

    private static string General(double value, int precision, bool alternate, bool withPoint)
    {
        (_, int exponent) = Digits(value, precision - 1);
        bool scientific = exponent < -4 || exponent >= precision - (withPoint ? 1 : 0);
        string text = scientific ? Exponent(value, precision - 1, alternate) : Fixed(value, precision - 1 - exponent, alternate);
        if (!alternate)
        {
            int e = text.IndexOf('e', StringComparison.Ordinal);
            string mantissa = e < 0 ? text : text[..e];
            if (mantissa.Contains('.', StringComparison.Ordinal))
            {
                mantissa = mantissa.TrimEnd('0').TrimEnd('.');
            }

            text = mantissa + (e < 0 ? "" : text[e..]);
        }

        return withPoint && !scientific && !text.Contains('.', StringComparison.Ordinal) ? text + ".0" : text;
    }

    // The first places + 1 digits, rounded half to even, and the exponent of the first digit.
    private static (string Digits, int Exponent) Digits(double value, int places)
    {
        if (value == 0)
        {
            return (new string('0', places + 1), 0);
        }

        int exponent = PythonNumber.Shortest(value).Exponent;
        string digits = PythonNumber.Scaled(value, places - exponent).ToString(CultureInfo.InvariantCulture);
        if (digits.Length > places + 1)
        {
            exponent++;
            digits = PythonNumber.Scaled(value, places - exponent).ToString(CultureInfo.InvariantCulture);
        }
        else if (digits.Length <= places)
        {
            exponent--;
            digits = PythonNumber.Scaled(value, places - exponent).ToString(CultureInfo.InvariantCulture);
        }

        return (digits, exponent);
    }
}
