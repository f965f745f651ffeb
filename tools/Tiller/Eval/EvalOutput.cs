using System.Text.Json.Serialization;
using Tiller.Evaluation;

namespace Tiller.Tool;

/// <summary>Prints the scores of <c>tiller eval</c>.</summary>
internal static class EvalOutput
{
    public static void WriteText(Terminal terminal, EvalRequest request, EvaluationReport report)
    {
        Row("task", $"{VisibleText.Of(report.Task)}, {report.Split}, {report.Texts.Count} prompts");
        Row("steered", request.Steering.Controllers.Count == 0 ? "no" : string.Join(
            ", ", request.Steering.Controllers.Select(static x => $"{VisibleText.Of(Path.GetFileName(x.Controller))} λ {x.Lambda}")));
        terminal.Output.WriteLine();
        terminal.Output.WriteLine($"{"score",-24}{"value",10}{"error",10}");
        foreach (var score in report.Scores)
        {
            terminal.Output.WriteLine($"{VisibleText.Of(score.Name),-24}{score.Value,10:F3}{score.Error,10:F3}");
        }

        if (report.Effort is { } effort)
        {
            terminal.Output.WriteLine($"{"effort, mean |u|/|x|",-24}{effort,10:P1}");
            terminal.Output.WriteLine($"{"tracking error",-24}{report.TrackingError,10:G3}");
        }

        terminal.Error.WriteLine(
            $"tiller: {report.Texts.Sum(static x => x.Ids.Count)} tokens in {report.Decoding.TotalSeconds:F1} s, {report.TokensPerSecond:F0} tok/s");

        void Row(string name, string value) => terminal.Output.WriteLine($"{name,-12}{value}");
    }

    public static void WriteJson(Terminal terminal, EvalRequest request, EvaluationReport report)
    {
        var told = new EvalJson
        {
            Task = report.Task,
            Split = report.Split,
            Model = request.Model,
            Controllers = [.. request.Steering.Controllers.Select(static x => new ControlledJson(x.Controller, x.Lambda))],
            Tokens = request.Steering.Tokens.ToString(),
            Prompts = report.Texts.Count,
            Scores = [.. report.Scores.Select(static x => new ScoreJson(x.Name, Json.Finite(x.Value), Json.Finite(x.Error), x.Count))],
            Effort = report.Effort is { } effort ? Json.Finite(effort) : null,
            TrackingError = report.TrackingError is { } error ? Json.Finite(error) : null,
            NewTokens = report.Texts.Sum(static x => x.Ids.Count),
            TokensPerSecond = report.TokensPerSecond,
        };
        Json.Write(terminal.Output, told, EvalJsonContext.Default.EvalJson);
    }

    /// <summary>A line for each text.</summary>
    public static void WriteTexts(Stream output, EvaluationReport report)
    {
        using var lines = new StreamWriter(output, leaveOpen: true) { NewLine = "\n" };
        foreach (var text in report.Texts)
        {
            var told = new EvalTextJson(text.Prompt, text.Text, text.Ids.Count, DecodedOutput.Reason(text.Stop));
            Json.WriteLine(lines, told, EvalJsonContext.Default.EvalTextJson);
        }
    }
}

/// <summary>The JSON of <c>eval</c>.</summary>
internal sealed record EvalJson
{
    public required string Task { get; init; }

    public required string Split { get; init; }

    public required string Model { get; init; }

    public required IReadOnlyList<ControlledJson> Controllers { get; init; }

    public required string Tokens { get; init; }

    public required int Prompts { get; init; }

    public required IReadOnlyList<ScoreJson> Scores { get; init; }

    public required double? Effort { get; init; }

    public required double? TrackingError { get; init; }

    public required int NewTokens { get; init; }

    public required double TokensPerSecond { get; init; }
}

/// <summary>A score and its standard error.</summary>
internal sealed record ScoreJson(string Name, double? Value, double? Error, int Count);

/// <summary>A prompt and its continuation.</summary>
internal sealed record EvalTextJson(string Prompt, string Text, int Tokens, string Stop);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(EvalJson))]
[JsonSerializable(typeof(EvalTextJson))]
internal sealed partial class EvalJsonContext : JsonSerializerContext;
