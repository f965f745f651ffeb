using System.Globalization;
using System.Text.Json;
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
            Json.Write(terminal.Output, WriteJson);
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

    private static void WriteJson(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteStartArray("methods");
        foreach (var method in FitMethod.All)
        {
            json.WriteStartObject();
            json.WriteString("name", method.Name);
            json.WriteString("summary", method.Summary);
            json.WriteString("source", method.Source);
            json.WriteString("lambda", method.Lambda);
            json.WriteStartArray("needs");
            foreach (string need in Needs(method))
            {
                json.WriteStringValue(need);
            }

            json.WriteEndArray();
            json.WriteString("fit", Work(method));
            json.WriteString("perBlock", method.PerBlock);
            json.WriteStartObject("numbers");
            foreach (var parameter in method.Parameters)
            {
                if (parameter.Value is { } value)
                {
                    json.WriteNumber(parameter.Name, value);
                }
                else
                {
                    json.WriteNull(parameter.Name);
                }
            }

            json.WriteEndObject();
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("directions");
        foreach (var rule in DirectionRule.All)
        {
            json.WriteStartObject();
            json.WriteString("name", rule.Name);
            json.WriteString("summary", rule.Summary);
            json.WriteBoolean("pairs", rule.NeedsPairs);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static IEnumerable<string> Needs(FitMethod method)
    {
        yield return method.Takes(FitInputs.Pairs) ? "positive and negative prompts in pairs" : "positive and negative prompts";
        if (method.Takes(FitInputs.Alternative))
        {
            yield return "prompts of a second feature";
        }

        if (method.Takes(FitInputs.Nominal))
        {
            yield return "a prompt whose run is followed";
        }
    }

    private static string Work(FitMethod method) => !method.Takes(FitInputs.Gains) ? "one pass over the prompts"
        : method.Takes(FitInputs.AllJacobians) ? "passes and every Jacobian at once; some forty dense solves"
        : !method.Takes(FitInputs.Cost) ? "passes and p tangents a block; a solve of order p"
        : "passes and a Jacobian for each block; with --cost feature pullbacks instead, with --order p tangents";

    private static string Text(double value) => value.ToString(CultureInfo.InvariantCulture);
}
