using Tiller.Controllers;
using Tiller.Evaluation;
using Tiller.Features;
using Tiller.Law;

namespace Tiller.Tool;

/// <summary><c>tiller eval</c>.</summary>
internal static class EvalRun
{
    public static int Run(
        Terminal terminal, EvalRequest request, IReadOnlyList<ScorerKind> kinds, CancellationToken cancellationToken)
    {
        var read = request.Steering.Controllers.Select(static c => c.Controller);
        var destination = request.Out is null ? null : Destination.Of(terminal, "--out", request.Out, isText: true, request.Json, read);
        terminal = destination?.Rest ?? terminal;
        using var task = EvaluationTask.Read(request.Task, new TaskOptions { Data = request.Data, Kinds = kinds }, cancellationToken);
        if (!task.Splits.TryGetValue(request.Split, out var prompts))
        {
            throw new UsageException(
                $"--split must be one of {string.Join(", ", task.Splits.Keys)}, those of {request.Task}, got '{request.Split}'.");
        }

        var (controllers, law) = request.Steering.Controllers.Count == 0
            ? ([], null)
            : ((Controller[], FeedbackLaw?))SteerRun.Law(terminal, request.Model, request.Steering);
        using var model = Runs.Load(terminal, request.Model, request.Device, request.Strict, cancellationToken);
        SteerRun.WarnOfForms(terminal, PromptEncoder.Of(model).FormOf((task.Name, prompts)), request.Steering, controllers);
        var options = new EvaluationOptions
        {
            Split = request.Split,
            Limit = request.Limit,
            Batch = request.Batch,
            Law = law,
            Tokens = request.Steering.Tokens,
        };
        var report = StageBars.Run(terminal, progress =>
        {
            var told = new Relay<EvaluationProgress>(p => progress.Report(new StageProgress(p.Stage, p.Done, p.Total)));
            return Evaluator.RunAsync(model, task, options, told, cancellationToken).GetAwaiter().GetResult();
        });
        destination?.Write(stream => EvalOutput.WriteTexts(stream, report));
        if (request.Json)
        {
            EvalOutput.WriteJson(terminal, request, report);
        }
        else
        {
            EvalOutput.WriteText(terminal, request, report);
        }

        return ExitCode.Ok;
    }
}
