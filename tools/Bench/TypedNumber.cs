using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;

namespace Tiller.Bench;

/// <summary>
/// Reads numbers that people type, by the same rules in every country: a decimal point and no separators. A comma could mean a decimal point,
/// thousands or a list, so it is refused with advice. NaN and infinities are refused.
/// </summary>
internal static class TypedNumber
{
    private const NumberStyles Whole = NumberStyles.AllowLeadingSign;
    private const NumberStyles Real = Whole | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent;

    /// <summary>Reads a number; only a whole one if <typeparamref name="T"/> is an integer type.</summary>
    public static bool TryRead<T>(string text, out T value)
        where T : struct, INumber<T> =>
        T.TryParse(text, IsReal<T>() ? Real : Whole, CultureInfo.InvariantCulture, out value) && T.IsFinite(value);

    /// <summary>Reads the number of an option; null after adding an error.</summary>
    /// <param name="result">Gets the error.</param>
    /// <param name="name">Name of the option.</param>
    /// <param name="text">The typed text.</param>
    /// <param name="valid">Whether the number is in range.</param>
    /// <param name="expected">Description of the valid range.</param>
    /// <param name="several">Whether the option may be repeated.</param>
    public static T? Read<T>(ArgumentResult result, string name, string text, Func<T, bool> valid, string expected, bool several = false)
        where T : struct, INumber<T>
    {
        if (TryRead(text, out T value) && valid(value))
        {
            return value;
        }

        string without = text.Replace(",", IsReal<T>() ? "." : "", StringComparison.Ordinal);
        string instead = TryRead<T>(without, out _) ? without : IsReal<T>() ? "1.5" : "1000";
        string advice = !text.Contains(',', StringComparison.Ordinal) ? "" : $": write {instead}{(several ? $", or repeat {name}" : "")}";
        result.AddError($"{name} must be {expected}, got '{text}'{advice}.");
        return null;
    }

    private static bool IsReal<T>() => typeof(T) == typeof(double) || typeof(T) == typeof(float);
}
