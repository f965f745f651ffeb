using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;
using Tiller.Bench;
using Tiller.Law;

namespace Tiller.Tool;

/// <summary>Kinds of options that several commands have. Each is checked when it is parsed.</summary>
internal static class OptionKinds
{
    /// <summary>A number for which <paramref name="valid"/> holds.</summary>
    public static Option<T> Number<T>(string name, string description, T standard, Func<T, bool> valid, string expected)
        where T : struct, INumber<T> => new(name)
        {
            Description = description,
            HelpName = "number",
            DefaultValueFactory = _ => standard,
            CustomParser = result => TypedNumber.Read(result, name, result.Tokens[^1].Value, valid, expected).GetValueOrDefault(),
        };

    /// <summary>A number for which <paramref name="valid"/> holds; null if not given.</summary>
    public static Option<T?> NumberOrNone<T>(string name, string description, Func<T, bool> valid, string expected, string helpName = "number")
        where T : struct, INumber<T> => new(name)
        {
            Description = description,
            HelpName = helpName,
            CustomParser = result => TypedNumber.Read(result, name, result.Tokens[^1].Value, valid, expected),
        };

    /// <summary>A time as people write it: a number with a unit, or a number of seconds; null if not given.</summary>
    /// <param name="name">Name of the option.</param>
    /// <param name="description">What it is for, with the default.</param>
    /// <param name="most">The longest that is taken, as it is written; from 0 on.</param>
    public static Option<TimeSpan?> Time(string name, string description, string most) => new(name)
    {
        Description = description,
        HelpName = "time",
        CustomParser = result =>
        {
            string text = result.Tokens[^1].Value;
            if (TypedTime.TryRead(text, out var time) && time >= TimeSpan.Zero && TypedTime.TryRead(most, out var end) && time <= end)
            {
                return time;
            }

            result.AddError($"{name} must be a time such as 500ms, 30s, 5m or 1h, or a number of seconds, 0 to {most}, got '{text}'.");
            return null;
        },
    };

    /// <summary>One of the names of an enum, in lower case. The first is the default.</summary>
    /// <param name="name">Name of the option.</param>
    /// <param name="description">The description without the default. It must list the names if <paramref name="helpName"/> does not.</param>
    /// <param name="helpName">The placeholder of the value in the help; null for a list of all names.</param>
    public static Option<T> Choice<T>(string name, string description, string? helpName = null)
        where T : struct, Enum
    {
        var option = new Option<T>(name)
        {
            Description = $"{description} [default: {NamesOf<T>()[0]}]",
            CustomParser = result => Chosen<T>(name, result).GetValueOrDefault(),
        };
        Complete<T>(option, helpName);
        return option;
    }

    /// <summary>One of the names of an enum, in lower case; null if not given.</summary>
    public static Option<T?> ChoiceOrNone<T>(string name, string description)
        where T : struct, Enum
    {
        var option = new Option<T?>(name) { Description = description, CustomParser = result => Chosen<T>(name, result) };
        Complete<T>(option, helpName: null);
        return option;
    }

    private static string[] NamesOf<T>()
        where T : struct, Enum => [.. Enum.GetNames<T>().Select(n => n.ToLowerInvariant())];

    private static T? Chosen<T>(string name, ArgumentResult result)
        where T : struct, Enum
    {
        string[] names = NamesOf<T>();
        string text = result.Tokens[^1].Value;
        int index = Array.IndexOf(names, text);
        if (index < 0)
        {
            result.AddError($"{name} must be one of {string.Join(", ", names)}, got '{text}'.");
        }

        return index < 0 ? null : Enum.GetValues<T>()[index];
    }

    private static void Complete<T>(Option option, string? helpName)
        where T : struct, Enum
    {
        option.HelpName = helpName ?? string.Join('|', NamesOf<T>());
        option.CompletionSources.Add(NamesOf<T>());
    }

    /// <summary>One of several objects by its name. Null if not given; then the caller uses the first object.</summary>
    /// <param name="name">Name of the option.</param>
    /// <param name="description">The description without the default.</param>
    /// <param name="all">The objects.</param>
    /// <param name="nameOf">Gives an object's name.</param>
    /// <param name="helpName">The placeholder of the value in the help; null for a list of all names.</param>
    public static Option<T?> Named<T>(string name, string description, IReadOnlyList<T> all, Func<T, string> nameOf, string? helpName = null)
        where T : class
    {
        string[] names = [.. all.Select(nameOf)];
        var option = new Option<T?>(name)
        {
            Description = $"{description} [default: {names[0]}]",
            HelpName = helpName ?? string.Join('|', names),
            CustomParser = result =>
            {
                string text = result.Tokens[^1].Value;
                int index = Array.IndexOf(names, text);
                if (index < 0)
                {
                    result.AddError($"{name} must be one of {string.Join(", ", names)}, got '{text}'.");
                }

                return all[Math.Max(index, 0)];
            },
        };
        option.CompletionSources.Add(names);
        return option;
    }

    /// <summary>A required path.</summary>
    public static Option<string> RequiredPath(string name, string description, string helpName) =>
        new(name) { Description = description, Required = true, HelpName = helpName };

    /// <summary>The checkpoint, an option of every command that runs a model except verify.</summary>
    public static Option<string> Model() => RequiredPath(
        "--model",
            "Folder of a Hugging Face checkpoint (config.json, tokenizer.json, *.safetensors), or the name OWNER/NAME of a downloaded model.",
        "DIR");

    /// <summary>Whether to refuse a prompt that would lose characters.</summary>
    public static Option<bool> Strict() => new("--strict")
    {
        Description = "Refuse a prompt with characters for which the vocabulary has no token. By default they are left out with a warning.",
    };

    /// <summary>Where a page with plots goes; null for none.</summary>
    public static Option<string?> Page(string description) => new("--page")
    {
        Description = $"{description} (HTML, without scripts), whole or not at all; - is standard output.",
        HelpName = "FILE",
    };

    /// <summary>A set of blocks; null for all.</summary>
    public static Option<LayerSet?> Layers(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "a-b,…",
        CustomParser = result =>
        {
            string text = result.Tokens[^1].Value;
            if (LayerSet.TryParse(text, out var layers))
            {
                return layers;
            }

            result.AddError($"{name} must be ranges of blocks a-b with a ≤ b, counted from 0, such as 4-9 or 1-3,8-9, got '{text}'.");
            return null;
        },
    };

    /// <summary>Whole numbers of at least 0; empty if not given.</summary>
    public static Option<int[]> Indices(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "number",
        AllowMultipleArgumentsPerToken = false,
        CustomParser = result =>
        {
            int[] values = new int[result.Tokens.Count];
            for (int i = 0; i < values.Length; i++)
            {
                if (!Index(result.Tokens[i].Value, out values[i]))
                {
                    result.AddError($"{name} must be a whole number of at least 0, got '{result.Tokens[i].Value}'.");
                    return [];
                }
            }

            return values;
        },
    };

    /// <summary>A range from a to b, both included, or from a on; null if not given.</summary>
    public static Option<(int Begin, int End)?> Window(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "a-b",
        CustomParser = result =>
        {
            string text = result.Tokens[^1].Value;
            string[] ends = text.Split('-');
            if (ends.Length == 2 && Index(ends[0], out int first))
            {
                if (ends[1].Length == 0)
                {
                    return (first, int.MaxValue);
                }

                if (Index(ends[1], out int last) && first <= last && last < int.MaxValue)
                {
                    return (first, last + 1);
                }
            }

            result.AddError($"{name} must be two numbers a-b with a ≤ b, counted from 0, or a-, such as 0-15 or 4-, got '{text}'.");
            return null;
        },
    };

    /// <summary>Strengths λ.</summary>
    public static NumbersOption Lambdas(string description) =>
        new("--lambda", static x => float.IsFinite((float)x), LambdaRange) { Description = description };

    /// <summary>The range of λ, for messages. If λ is too large for the model's state, the state overflows, which is a numerical failure.</summary>
    public const string LambdaRange = "a number that fits in float32";

    private static bool Index(string text, out int value) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);
}
