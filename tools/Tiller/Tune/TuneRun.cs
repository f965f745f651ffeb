using System.Globalization;
using System.Text.Json.Serialization;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Evaluation;
using Tiller.Evaluation.Comparing;
using Tiller.Evaluation.Tuning;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary><c>tiller tune</c>.</summary>
internal static class TuneRun
{
    private const string ControllerName = "controller.tiller";

    public static int Run(
        Terminal terminal, TuneRequest request, IReadOnlyList<ScorerKind> kinds, CancellationToken cancellationToken)
    {
        using var task = EvaluationTask.Read(request.Task, new TaskOptions { Data = request.Data, Kinds = kinds }, cancellationToken);
        using var model = Runs.Load(terminal, request.Model, request.Device, strict: false, cancellationToken);
        if (request.Layers.FirstOrDefault(x => x.Last >= model.Config.L) is { } beyond)
        {
            throw new UsageException($"--layers must be within 0-{model.Config.L - 1}, the blocks of this model, got {beyond}.");
        }

        var tuning = new TuningSearch
        {
            Task = task,
            Fits = [.. Fits(request, task)],
            Strengths = request.Strengths,
            Budget = request.Budget,
            Minimises = request.Minimises,
            FirstPrompts = request.Prompts,
            Batch = request.Batch,
            Shard = request.Shard,
        };
        var report = StageBars.Run(terminal, progress =>
        {
            var told = new Relay<EvaluationProgress>(p => progress.Report(new StageProgress(p.Stage, p.Done, p.Total)));
            return tuning.RunAsync(model, request.Out, told, cancellationToken).GetAwaiter().GetResult();
        });
        if (report is null)
        {
            terminal.Error.WriteLine(
                $"tiller: shard {request.Shard} has done its part of a rung in {request.Out}; when the others have, run all shards again");
            return ExitCode.Ok;
        }

        string markdown = report.ToMarkdown();
        OutputFile.Write(
            Path.Combine(request.Out, "report.md"), stream => stream.Write(System.Text.Encoding.UTF8.GetBytes(markdown)));
        string? controller = report.Controller is null ? null : Path.Combine(request.Out, ControllerName);
        if (controller is not null)
        {
            report.Controller!.Save(controller);
        }

        if (request.Json)
        {
            Json.Write(terminal.Output, JsonOf(report, controller), TuneJsonContext.Default.TuneJson);
        }
        else
        {
            terminal.Output.Write(markdown);
        }

        terminal.Error.WriteLine(controller is null
            ? "tiller: no controller was written"
            : $"tiller: {controller}, for λ {report.Recommended!.Lambda.ToString(CultureInfo.InvariantCulture)}"
                + (task.Fit?.Tokens is { } tokens ? $" and the tokens that the task names: {tokens}" : ""));
        return ExitCode.Ok;
    }

    // Every method with every value of what it takes.
    private static IEnumerable<ComparedFit> Fits(TuneRequest request, EvaluationTask task)
    {
        bool weighed = request.Q.Count + request.R.Count + request.Qf.Count > 0;
        var standard = task.Fit?.Weights ?? FitOptions.StandardWeights;
        foreach (var method in request.Methods)
        {
            bool gains = method.Takes(FitInputs.Gains) && weighed;
            LqrWeights[] weights = !gains ? [standard] :
            [
                .. from q in Values(request.Q, standard.Q)
                   from r in Values(request.R, standard.R)
                   from qf in Values(request.Qf, standard.Qf)
                   where q > 0 || qf > 0
                   select new LqrWeights(q, r, qf),
            ];
            LayerSet?[] layers = method.Takes(FitInputs.Layers) && request.Layers.Count > 0 ? [.. request.Layers] : [null];
            foreach (var (w, blocks) in weights.SelectMany(_ => layers, static (w, blocks) => (w, blocks)))
            {
                string title = method.Name + (gains ? string.Create(CultureInfo.InvariantCulture, $" q {w.Q} r {w.R} qf {w.Qf}") : "")
                    + (blocks is null ? "" : $" blocks {blocks}");
                yield return new ComparedFit(title, new FitOptions { Method = method, Weights = w, Layers = blocks }) { KeepsWeights = gains };
            }
        }

        static IReadOnlyList<double> Values(IReadOnlyList<double> given, double standard) => given.Count > 0 ? given : [standard];
    }

    private static TuneJson JsonOf(TuningReport report, string? controller) => new(
        report.Task, report.Score, report.Verdict, controller, report.Recommended is { } best ? PointOf(best) : null,
        [.. report.Front.Select(PointOf)], [.. report.Test.Select(PointOf)],
        report.Gain is { } gain ? new EstimateJson(Json.Finite(gain.Value), Json.Finite(gain.Error)) : null, report.Beats);

    private static ComparedPointJson PointOf(ComparedPoint point) => new(
        point.Method, point.Lambda, Json.Finite(point.Effort),
        point.Scores.ToDictionary(
            static x => x.Key, static x => new EstimateJson(Json.Finite(x.Value.Value), Json.Finite(x.Value.Error)), StringComparer.Ordinal));
}

/// <summary>What <c>tune</c> prints for machines.</summary>
internal sealed record TuneJson(
    string Task, string Score, string Verdict, string? Controller, ComparedPointJson? Recommended, IReadOnlyList<ComparedPointJson> Front,
    IReadOnlyList<ComparedPointJson> Test, EstimateJson? Gain, bool Beats);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(TuneJson))]
internal sealed partial class TuneJsonContext : JsonSerializerContext;
