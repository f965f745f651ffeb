using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Evaluation.Comparing;

/// <summary>
/// The controllers of comparisons that belong together and run one after another, each fitted once. With a folder, the states and mean Jacobians of a
/// task's contrast are measured once and kept there (<see cref="FitOptions.Jacobians"/>); other weights, layers and methods are solved from them.
/// Processes that share the folder share the file: one fills it, and the others wait.
/// </summary>
/// <param name="model">The model.</param>
/// <param name="folder">The folder for the files, which is created if necessary; null for none.</param>
internal sealed class FittedControllers(LanguageModel model, string? folder)
{
    private static readonly TimeSpan s_pause = TimeSpan.FromSeconds(1);

    // By all of a task that a fit depends on, so that tasks with other prompts share a controller.
    private readonly Dictionary<(ContrastSet? Contrast, TaskFit? Fit, ComparedMethod Method), Controller?> _fitted = [];

    /// <summary>The controller of a method on a task; null for a method that does not steer.</summary>
    /// <param name="task">The task.</param>
    /// <param name="method">The method.</param>
    /// <param name="progress">Called after every prompt and block of a fit; may be null.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <exception cref="TillerException">The fit failed.</exception>
    public Controller? Of(EvaluationTask task, ComparedMethod method, IProgress<EvaluationProgress>? progress, CancellationToken cancellationToken)
    {
        var key = (task.Contrast, task.Fit, method);
        if (!_fitted.TryGetValue(key, out var controller))
        {
            string? file = folder is not null && method is ComparedFit fit ? FileOf(folder, task, fit) : null;
            _fitted[key] = controller = Fit(task, method, file, progress, cancellationToken);
        }

        return controller;
    }

    private Controller? Fit(
        EvaluationTask task, ComparedMethod method, string? file, IProgress<EvaluationProgress>? progress, CancellationToken cancellationToken)
    {
        var told = new Relay<FitProgress>(x => progress?.Report(new EvaluationProgress(StageOf(x.Stage), x.Done, x.Total)));
        while (true)
        {
            try
            {
                return method.Fit(model, task, file, told, cancellationToken);
            }
            catch (JacobianFileException e) when (e.IsInUse && e.Path == file)
            {
                progress?.Report(new EvaluationProgress("waiting for Jacobians", 0, 0));
                cancellationToken.WaitHandle.WaitOne(s_pause);
                cancellationToken.ThrowIfCancellationRequested();
            }
        }
    }

    // A file belongs to a checkpoint and to the prompts whose Jacobians are averaged. A method that solves for no gains only reads what is there.
    private string? FileOf(string within, EvaluationTask task, ComparedFit fit)
    {
        var options = fit.OptionsOn(task);
        if (!model.IsCheckpoint || fit.ShuffleSeed is not null || options.Jacobians is not null)
        {
            return null;
        }

        using var hash = new IdentityHash();
        hash.Add(model.Identity);
        foreach (var prompt in task.Fit?.Calibration ?? options.Calibration ?? [.. task.Contrast?.Positive ?? [], .. task.Contrast?.Negative ?? []])
        {
            hash.Add(prompt.Identity);
        }

        string path = Path.Combine(within, $"{Comparison.Safe(task.Name)}-{hash.End()[..12]}.safetensors");
        if (!options.Method.Takes(FitInputs.Gains))
        {
            return File.Exists(path) ? path : null;
        }

        Directory.CreateDirectory(within);
        return path;
    }

    private static string StageOf(FitStage stage) => stage switch
    {
        FitStage.Activations => "contrast",
        FitStage.Linearisation => "Jacobians",
        _ => "gains",
    };
}
