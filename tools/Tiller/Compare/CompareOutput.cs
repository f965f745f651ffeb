using System.Text.Json.Serialization;
using Tiller.Evaluation.Comparing;

namespace Tiller.Tool;

/// <summary>How <c>tiller compare</c> tells its reports to machines.</summary>
internal static class CompareOutput
{
    public static void WriteJson(Terminal terminal, IReadOnlyList<ComparisonReport> reports) => Json.Write(
        terminal.Output, [.. reports.Select(JsonOf)], CompareJsonContext.Default.ComparedTaskJsonArray);

    private static ComparedTaskJson JsonOf(ComparisonReport report)
    {
        string first = report.Plain.Scores.Keys.First();
        return new ComparedTaskJson(
            report.Task,
            [.. report.Points.Prepend(report.Plain).Select(static x =>
                new ComparedPointJson(x.Method, x.Lambda, Json.Finite(x.Effort), All(x.Scores)))],
            [.. report.Axes.Select(axis => report.At(axis, first)).OfType<OperatingPoint>().Select(static x =>
                new OperatingPointJson(x.Axis.ToString().ToLowerInvariant(), x.Level, x.Score, All(x.Methods), All(x.Differences)))]);
    }

    private static Dictionary<string, EstimateJson> All(IReadOnlyDictionary<string, Estimate> estimates) => estimates.ToDictionary(
        static x => x.Key, static x => new EstimateJson(Json.Finite(x.Value.Value), Json.Finite(x.Value.Error)), StringComparer.Ordinal);
}

/// <summary>What <c>compare</c> prints for a task.</summary>
internal sealed record ComparedTaskJson(string Task, IReadOnlyList<ComparedPointJson> Points, IReadOnlyList<OperatingPointJson> OperatingPoints);

/// <summary>A method at a strength.</summary>
internal sealed record ComparedPointJson(string Method, double Lambda, double? Effort, IReadOnlyDictionary<string, EstimateJson> Scores);

/// <summary>Methods at one point of an axis.</summary>
internal sealed record OperatingPointJson(
    string Axis, double Level, string Score, IReadOnlyDictionary<string, EstimateJson> Methods,
    IReadOnlyDictionary<string, EstimateJson> Differences);

/// <summary>A score and its standard error.</summary>
internal sealed record EstimateJson(double? Value, double? Error);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(ComparedTaskJson[]))]
internal sealed partial class CompareJsonContext : JsonSerializerContext;
