using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;

namespace Tiller.Tool;

/// <summary>
/// Numbers as people type them, the same in every country: a point before the fraction, and nothing between the digits. A comma means a
/// fraction to some, thousands to others and a list to a third, so it is refused with what to write instead. NaN and infinities are no numbers.
/// </summary>
internal static class TypedNumber
{
    private const NumberStyles Whole = NumberStyles.AllowLeadingSign;
    private const NumberStyles Real = Whole | NumberStyles.AllowDecimalPoint | NumberStyles.AllowExponent;

    /// <summary>Whether a text is a number; whole if <typeparamref name="T"/> is.</summary>
    public static bool TryRead<T>(string text, out T value)
        where T : struct, INumber<T> =>
        T.TryParse(text, IsReal<T>() ? Real : Whole, CultureInfo.InvariantCulture, out value) && T.IsFinite(value);

    /// <summary>The number of an option, or null and an error.</summary>
    /// <param name="result">Takes the error.</param>
    /// <param name="name">Of the option.</param>
    /// <param name="text">What was typed.</param>
    /// <param name="valid">Whether the number is in range.</param>
    /// <param name="expected">What is in range, in words.</param>
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

/// <summary>An option that takes several real numbers: it is repeated, or they follow it with spaces between them.</summary>
internal sealed class NumbersOption : Option<float[]>
{
    public NumbersOption(string name, string expected)
        : base(name)
    {
        HelpName = "number";
        Arity = ArgumentArity.OneOrMore;
        CustomParser = result =>
        {
            var numbers = new List<float>();
            foreach (string text in result.Tokens.SelectMany(token => Parts(token.Value)))
            {
                if (TypedNumber.Read<float>(result, name, text, static _ => true, expected, several: true) is not { } number)
                {
                    return [];
                }

                numbers.Add(number);
            }

            return [.. numbers];
        };
    }

    /// <summary>Repeats the option before every further number that follows it: the parser would take that for the next argument, a prompt.</summary>
    /// <param name="args">A command line.</param>
    /// <param name="command">The command that it names, or null.</param>
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

            while (i + 1 < args.Length && TypedNumber.TryRead<float>(args[i + 1], out _))
            {
                repeated.AddRange([name, args[++i]]);
            }
        }

        return [.. repeated, .. args[i..]];
    }

    // One argument in quotes may hold several.
    private static string[] Parts(string text) =>
        text.Split(default(char[]), StringSplitOptions.RemoveEmptyEntries) is { Length: > 0 } parts ? parts : [text];
}
