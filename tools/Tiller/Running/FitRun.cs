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
        Runs.CheckWritable("--out", request.Out);
        var contrast = ContrastSet.Read(request.Positive, request.Negative);
        var calibration = request.Calibration is null ? null : PromptFile.Read(request.Calibration, cancellationToken);
        using var model = Runs.Load(terminal, request.Model, request.Device, cancellationToken);
        Check(request, model.Config.L, model.Config.D);
        var options = new FitOptions
        {
            Weights = new LqrWeights(request.Q, request.R, request.Qf),
            Cost = request.Cost,
            Order = request.Order,
            Setpoint = request.Setpoint,
            Layers = request.Layers,
            Calibration = calibration,
        };
        var result = Fit(terminal, model, contrast, options, cancellationToken);
        cancellationToken.ThrowIfCancellationRequested();
        result.Controller.Save(request.Out);
        if (request.Json)
        {
            FitOutput.WriteJson(terminal, request.Out, result);
        }
        else
        {
            FitOutput.WriteText(terminal, request.Out, result);
        }

        return ExitCode.Ok;
    }

    /// <summary>Fits with a bar for every stage.</summary>
    public static FitResult Fit(Terminal terminal, LanguageModel model, ContrastSet contrast, FitOptions options, CancellationToken cancellationToken) =>
        StageBars.Run(terminal, progress => ControllerFit.Run(
            model, contrast, options, new Relay<FitProgress>(p => progress.Report(new StageProgress(p.Stage, p.Done, p.Total))), cancellationToken));

    private static void Check(FitRequest request, int layers, int width)
    {
        if (request.Layers is { } range && range.Last >= layers)
        {
            throw new UsageException($"--layers must be within 0-{layers - 1}, the blocks of this model, got {range}.");
        }

        if (request.Order > width)
        {
            throw new UsageException($"--order must be at most {width}, the width of this model, got {request.Order}.");
        }
    }
}
