using Tiller.Checkpoint;
using Tiller.Control;
using Tiller.Features;
using Tiller.Model;
using Tiller.Tool.Commands;
using Tiller.Tool.Output;

namespace Tiller.Tool.Running;

/// <summary><c>tiller fit</c>.</summary>
internal static class FitRun
{
    public static int Run(Terminal terminal, FitRequest request, CancellationToken cancellationToken)
    {
        if (request.Out is null || request.Plan)
        {
            PlanOutput.Write(terminal, request.Json, [PlanRun.OfCheckpoint(request, cancellationToken)]);
            return ExitCode.Ok;
        }

        var destination = Destination.Of(terminal, "--out", request.Out, isText: false, request.Json);
        terminal = destination.Rest;
        var contrast = ContrastSet.Read(request.Positive, request.Negative);
        var calibration = request.Calibration is null ? null : PromptFile.Read(request.Calibration, cancellationToken);
        using var model = Runs.Load(terminal, request.Model, request.Device, cancellationToken);
        var result = Fit(terminal, model, contrast, Options(request, model.Config, calibration), cancellationToken);
        cancellationToken.ThrowIfCancellationRequested();
        destination.Write(result.Controller.Save, result.Controller.Save);
        if (request.Json)
        {
            FitOutput.WriteJson(terminal, request.Out, result);
        }
        else
        {
            FitOutput.WriteText(terminal, destination.Name, result);
        }

        return ExitCode.Ok;
    }

    /// <summary>Fits with a bar for every stage.</summary>
    public static FitResult Fit(Terminal terminal, LanguageModel model, ContrastSet contrast, FitOptions options, CancellationToken cancellationToken) =>
        StageBars.Run(terminal, progress => ControllerFit.Run(
            model, contrast, options, new Relay<FitProgress>(p => progress.Report(new StageProgress(p.Stage, p.Done, p.Total))), cancellationToken));

    /// <summary>What was asked for, checked against the model's shape.</summary>
    /// <exception cref="UsageException">A block or an order that the model does not have.</exception>
    public static FitOptions Options(FitRequest request, ModelConfig c, IReadOnlyList<string>? calibration)
    {
        if (request.Layers is { } range && range.Last >= c.L)
        {
            throw new UsageException($"--layers must be within 0-{c.L - 1}, the blocks of this model, got {range}.");
        }

        if (request.Order > c.D)
        {
            throw new UsageException($"--order must be at most {c.D}, the width of this model, got {request.Order}.");
        }

        return new FitOptions
        {
            Weights = new LqrWeights(request.Q, request.R, request.Qf),
            Cost = request.Cost,
            Order = request.Order,
            Setpoint = request.Setpoint,
            Layers = request.Layers,
            Calibration = calibration,
        };
    }
}
