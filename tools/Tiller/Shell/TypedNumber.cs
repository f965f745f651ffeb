using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;

namespace Tiller.Tool;

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

/// <summary>An option that takes several real numbers. It may be repeated, or followed by numbers with spaces between them.</summary>
internal sealed class NumbersOption : Option<double[]>
{
    /// <summary>An option of numbers.</summary>
    /// <param name="name">Name of the option.</param>
    /// <param name="valid">Whether a number is in range.</param>
    /// <param name="expected">Description of the valid range.</param>
    public NumbersOption(string name, Func<double, bool> valid, string expected)
        : base(name)
    {
        HelpName = "number";
        Arity = ArgumentArity.OneOrMore;
        CustomParser = result =>
        {
            var numbers = new List<double>();
            foreach (string text in result.Tokens.SelectMany(token => Parts(token.Value)))
            {
                if (TypedNumber.Read(result, name, text, valid, expected, several: true) is not { } number)
                {
                    return [];
                }

                numbers.Add(number);
            }

            return [.. numbers];
        };
    }

    /// <summary>Inserts the option before every further number that follows it. Otherwise the parser would take that number for the prompt.</summary>
    /// <param name="args">A command line.</param>
    /// <param name="command">The command in it, or null.</param>
    public static string[] Repeat(string[] args, Command? command)
    {
        string[] names = [.. command?.Options.OfType<NumbersOption>().Select(option => option.Name) ?? []];
        var repeated = new List<string>();
        int i = 0;
        for (; i < args.Length && args[i] != "--"; i++)
        {
            repeated.Add(args[i]);
            string name = args[i].Split('=', ':')[0];
            if (!names.Contains(name))
            {
                continue;
            }

            if (name == args[i] && i + 1 < args.Length)
            {
                repeated.Add(args[++i]);
            }

            while (i + 1 < args.Length && TypedNumber.TryRead<double>(args[i + 1], out _))
            {
                repeated.AddRange([name, args[++i]]);
            }
        }

        return [.. repeated, .. args[i..]];
    }

    // One quoted argument may contain several numbers.
    private static string[] Parts(string text) =>
        text.Split(default(char[]), StringSplitOptions.RemoveEmptyEntries) is { Length: > 0 } parts ? parts : [text];
}
