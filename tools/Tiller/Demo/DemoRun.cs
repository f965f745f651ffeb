using System.Runtime.ExceptionServices;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary><c>tiller demo</c>: fits on the contrast texts of a task, decodes its prompts plain and steered, and scores both.</summary>
internal static class DemoRun
{
    private const int NewTokens = 40;
    private const float Temperature = 0.7f;

    /// <summary>The model that comes with tiller.</summary>
    public static string ModelFolder => Path.Combine(AppContext.BaseDirectory, "models", "demo");

    public static int Run(Terminal terminal, DemoRequest request, CancellationToken cancellationToken)
    {
        var setting = DemoSetting.Of(request.Task);
        var report = Measure(
            terminal, request, new DemoSetting(request.Lambda ?? setting.Lambda, request.Layers ?? setting.Layers), cancellationToken);
        if (request.Json)
        {
            DemoOutput.WriteJson(terminal, report);
        }
        else
        {
            DemoOutput.WriteTable(terminal, report);
        }

        return ExitCode.Ok;
    }

    private static DemoReport Measure(Terminal terminal, DemoRequest request, DemoSetting setting, CancellationToken cancellationToken)
    {
        var task = request.Task;
        string File(string kind) => Path.Combine(ModelFolder, "contrast", $"{task.ToString().ToLowerInvariant()}.{kind}.txt");
        var contrast = ContrastSet.Read(File("positive"), File("negative"), cancellationToken);
        var prompts = PromptFile.ReadTexts(File("prompts"), cancellationToken);
        var controller = Fit(terminal, contrast, setting.Layers, request.Device, cancellationToken);

        // Threads share whole texts and not single steps, because the steps of so small a model are too short.
        using var model = LanguageModel.Load(ModelFolder, request.Device.ToLoadOptions() with { Threads = 1 }, cancellationToken);
        var law = controller.ToLaw(setting.Lambda);
        int[][] ids = PromptEncoder.Of(model).Encode("Demo", [.. prompts.Select(text => new TextPrompt(text))], cancellationToken);
        return StageBars.Run(terminal, progress =>
        {
            var plain = Decode(model, ids, null, "plain texts", progress, cancellationToken);
            var steered = Decode(model, ids, law, "steered texts", progress, cancellationToken);
            var summary = new SteeringSummary(law);
            foreach (var one in steered)
            {
                summary.Add(one.Steering!);
            }

            var side = Side(task, prompts, steered);
            return new DemoReport(
                task, setting.Lambda, Side(task, prompts, plain),
                new SteeredSide(side.Texts, side.Score, side.Perplexity, summary.TrackingError, summary.Effort));
        });
    }

    private static Controller Fit(Terminal terminal, ContrastSet contrast, LayerSet? layers, DeviceRequest device,
        CancellationToken cancellationToken)
    {
        using var model = LanguageModel.Load(ModelFolder, device.ToLoadOptions(), cancellationToken);
        if (layers is { } range && range.Last >= model.Config.L)
        {
            throw new UsageException($"--layers must be within 0-{model.Config.L - 1}, the blocks of the demo model, got {range}.");
        }

        return FitRun.Fit(terminal, model, contrast, new FitOptions { Weights = DemoSetting.Weights, Layers = layers }, cancellationToken).Controller;
    }

    private static DemoSide Side(DemoTask task, IReadOnlyList<string> prompts, Completion[] completions)
    {
        double logProbability = completions.Sum(c => c.LogProbability);
        return new DemoSide(
            [.. prompts.Zip(completions, (p, c) => p + c.Text)],
            World.Score(task, prompts, [.. completions.Select(c => c.Text)]),
            Math.Exp(-logProbability / completions.Sum(c => c.Tokens)));
    }

    private static Completion[] Decode(
        LanguageModel model, int[][] prompts, FeedbackLaw? law, string stage, IProgress<StageProgress> progress, CancellationToken cancellationToken)
    {
        var completions = new Completion[prompts.Length];
        int done = 0;
        try
        {
            Parallel.For(0, prompts.Length, new ParallelOptions { CancellationToken = cancellationToken }, i =>
            {
                completions[i] = Complete(model, prompts[i], law, seed: (ulong)i, cancellationToken);
                progress.Report(new StageProgress(stage, Interlocked.Increment(ref done), prompts.Length));
            });
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }

        return completions;
    }

    private static Completion Complete(LanguageModel model, int[] ids, FeedbackLaw? law, ulong seed, CancellationToken cancellationToken)
    {
        var options = new GenerationOptions
        {
            MaxNewTokens = NewTokens,
            Sampling = new SamplingOptions { Temperature = Temperature, Seed = seed },
            Law = law,
        };
        using var generation = new Generation(model, ids, options);
        var text = new System.Text.StringBuilder();
        while (generation.MoveNext(cancellationToken))
        {
            text.Append(generation.Current.Text);
        }

        double logProbability = Likelihood.LogProbability(model, ids, generation.NewIds, cancellationToken);
        return new Completion(text.ToString(), generation.NewIds.Length, logProbability, generation.Steering);
    }

    private sealed record Completion(string Text, int Tokens, double LogProbability, SteeringSummary? Steering);
}
