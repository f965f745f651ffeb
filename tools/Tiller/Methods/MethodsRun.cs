using System.Globalization;
using System.Text.Json.Serialization;
using Tiller.Controllers;
using Tiller.Features;

namespace Tiller.Tool;

/// <summary><c>tiller methods</c>.</summary>
internal static class MethodsRun
{
    public static int Run(Terminal terminal, MethodsRequest request)
    {
        if (request.Json)
        {
            WriteJson(terminal.Output);
        }
        else
        {
            WriteText(terminal.Output);
        }

        return ExitCode.Ok;
    }

    private static void WriteText(TextWriter output)
    {
        foreach (var method in FitMethod.All)
        {
            output.WriteLine(method.Name);
            Row("does", $"{method.Summary} ({method.Source})");
            Row("λ", method.Lambda);
            Row("needs", string.Join(", ", Needs(method)));
            Row("fit", Work(method));
            Row("a token", $"{method.PerBlock} in a steered block (2 D FLOPs a sensor, 4 D a term)");
            if (method.Parameters.Count > 0)
            {
                Row("numbers", string.Join(", ", method.Parameters.Select(p => $"--{p.Name}{(p.Value is { } value ? $" {Text(value)}" : "")}")));
            }

            output.WriteLine();
        }

        output.WriteLine("directions");
        foreach (var rule in DirectionRule.All)
        {
            output.WriteLine($"  {rule.Name,-14}{rule.Summary}{(rule.NeedsPairs ? "; as many positive prompts as negative" : "")}");
        }

        void Row(string name, string value) => output.WriteLine($"  {name,-14}{value}");
    }

    private static void WriteJson(TextWriter output)
    {
        var told = new MethodsJson(
            [.. FitMethod.All.Select(static x => new MethodJson(
                x.Name, x.Summary, x.Source, x.Lambda, [.. Needs(x)], Work(x), x.PerBlock,
                x.Parameters.ToDictionary(static p => p.Name, static p => p.Value, StringComparer.Ordinal)))],
            [.. DirectionRule.All.Select(static x => new DirectionJson(x.Name, x.Summary, x.NeedsPairs))]);
        Json.Write(output, told, MethodsJsonContext.Default.MethodsJson);
    }

    private static IEnumerable<string> Needs(FitMethod method)
    {
        yield return method.Takes(FitInputs.Pairs) ? "positive and negative prompts in pairs" : "positive and negative prompts";
        if (method.Takes(FitInputs.Alternative))
        {
            yield return "prompts of a second feature";
        }

        if (method.Takes(FitInputs.Condition))
        {
            yield return "prompts to act on, if they are others than the positive ones";
        }

        if (method.Takes(FitInputs.Nominal))
        {
            yield return "a prompt whose run is followed";
        }
    }

    private static string Work(FitMethod method) => !method.Takes(FitInputs.Gains) ? "one pass over the prompts"
        : method.Takes(FitInputs.AllJacobians) ? "passes and every Jacobian at once; many solves with them, whose time fit --plan tells"
        : !method.Takes(FitInputs.Cost) ? "passes and p tangents a block; a solve of order p"
        : "passes and a Jacobian for each block; with --cost feature pullbacks instead, with --order p tangents";

    private static string Text(double value) => value.ToString(CultureInfo.InvariantCulture);
}

/// <summary>What <c>methods</c> prints.</summary>
internal sealed record MethodsJson(IReadOnlyList<MethodJson> Methods, IReadOnlyList<DirectionJson> Directions);

/// <summary>A method, what it needs and costs, and its own numbers.</summary>
internal sealed record MethodJson(
    string Name, string Summary, string Source, string Lambda, IReadOnlyList<string> Needs, string Fit, string PerBlock,
    IReadOnlyDictionary<string, double?> Numbers);

/// <summary>A way to find a direction, and whether its prompts are pairs.</summary>
internal sealed record DirectionJson(string Name, string Summary, bool Pairs);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(MethodsJson))]
internal sealed partial class MethodsJsonContext : JsonSerializerContext;
