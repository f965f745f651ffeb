using System.CommandLine;
using Tiller.Bench;

namespace Tiller.Tool;

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
