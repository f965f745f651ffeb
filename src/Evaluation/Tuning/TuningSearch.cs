// Successive halving (Karnin, Koren and Somekh 2013; Jamieson and Talwalkar, arXiv:1502.07943): all settings on few prompts, the best part of them on
// more, and so on, until the last few are measured on all dev prompts.
using Tiller.Controllers;
using Tiller.Evaluation.Comparing;
using Tiller.Evaluation.Scorers;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Evaluation.Tuning;

/// <summary>A search for the setting of a task whose score is best within a budget.</summary>
public sealed record TuningSearch
{
    private const string DevSplit = "dev";

    // Of a task with one split, each third prompt is for choosing and the others for telling.
    private const int DevEvery = 3;

    /// <summary>The task. Its first scorer tells what is to be as good as it can be.</summary>
    public required EvaluationTask Task { get; init; }

    /// <summary>Ways to fit a controller, at least one, each with a name of its own.</summary>
    public required IReadOnlyList<ComparedFit> Fits { get; init; }

    /// <summary>Strengths λ that are tried of each; empty (default) for those of the task, or the standard ones.</summary>
    public IReadOnlyList<double> Strengths { get; init; } = [];

    /// <summary>What steering may cost.</summary>
    public TuningBudget Budget { get; init; } = new();

    /// <summary>Whether the score is to be small; default large.</summary>
    public bool Minimises { get; init; }

    /// <summary>Dev prompts of the first rung; default 8.</summary>
    public int FirstPrompts { get; init; } = 8;

    /// <summary>One in so many settings goes on to the next rung, which has so many times the prompts; default 3.</summary>
    public int Factor { get; init; } = 3;

    /// <summary>Settings that are measured on all dev prompts at the end; default 4.</summary>
    public int Finalists { get; init; } = 4;

    /// <summary>Texts that are decoded at once; default 8.</summary>
    public int Batch { get; init; } = 8;

    /// <summary>Which part of the cells of each rung is computed; null (default) for all of them.</summary>
    public Shard? Shard { get; init; }

    /// <summary>Runs the search.</summary>
    /// <param name="model">The model.</param>
    /// <param name="folder">
    /// Keeps what was measured, so that a later call goes on; made if it is not there. The states and mean Jacobians of the contrast, L·D² numbers in
    /// float32 (block count and width), are measured once, whatever the number of fits.
    /// </param>
    /// <param name="progress">Told after every cell of a rung, and within fits.</param>
    /// <param name="cancellationToken">Checked between steps.</param>
    /// <returns>Null if a rung waits for cells of other shards.</returns>
    /// <exception cref="ArgumentException">A number is out of range.</exception>
    /// <exception cref="ComparisonException">The task lacks what a method or the budget needs, or has too few prompts.</exception>
    /// <exception cref="TillerException">A fit or an evaluation failed.</exception>
    public async Task<TuningReport?> RunAsync(
        LanguageModel model, string folder, IProgress<EvaluationProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(FirstPrompts);
        ArgumentOutOfRangeException.ThrowIfLessThan(Factor, 2);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(Finalists);
        var task = Apart(Task);
        int all = task.PromptsOf(DevSplit).Count;
        var search = new Comparison
        {
            Tasks = [task],
            Methods = Fits,
            Strengths = Strengths,
            Shard = Shard,
            Fitted = new FittedControllers(model, Path.Combine(folder, "jacobians")),
            Evaluation = new EvaluationOptions { Split = DevSplit, Batch = Batch },
        };

        // Fits that measure Jacobians come first: the others find the contrast's states in their file.
        ComparedFit[] fits = [.. Fits.OrderBy(static fit => fit.Options.Method.Takes(FitInputs.Gains) ? 0 : 1)];
        var left = fits.ToDictionary(static x => (ComparedMethod)x, _ => search.StrengthsOf(task));
        var rungs = new List<(int Settings, int Prompts)>();
        ComparisonReport rung;
        string score;
        TuningBudget budget;
        for (int prompts = FirstPrompts; ; prompts *= Factor)
        {
            int settings = left.Values.Sum(static x => x.Count);
            bool last = settings <= Finalists || prompts >= all;
            prompts = last ? all : prompts;
            rungs.Add((settings, prompts));
            var comparison = search with
            {
                Methods = [.. left.Keys],
                StrengthsByMethod = left,
                Evaluation = search.Evaluation with { Limit = prompts },
            };
            if (await Measure(comparison, model, Path.Combine(folder, $"rung-{rungs.Count}"), progress, cancellationToken).ConfigureAwait(false)
                is not { } measured)
            {
                return null;
            }

            rung = measured;
            score = rung.Plain.Scores.Keys.First();
            budget = Budget.OrStandard(rung.Plain);
            budget.Check(rung);
            if (last)
            {
                break;
            }

            var best = Ranked(rung, score, budget).Take(Math.Max(Finalists, (settings + Factor - 1) / Factor)).ToArray();
            left = fits.Select(fit => (Fit: fit, Strengths: best.Where(x => x.Method == fit.Name).Select(static x => x.Lambda).ToArray()))
                .Where(static x => x.Strengths.Length > 0)
                .ToDictionary(static x => (ComparedMethod)x.Fit, static x => (IReadOnlyList<double>)x.Strengths);
        }

        var recommended = Ranked(rung, score, budget)
            .FirstOrDefault(point => budget.Excess(point) == 0 && double.IsFinite(point.Scores[score].Value));
        var report = new TuningReport
        {
            Task = task.Name,
            Score = score,
            Budget = budget,
            Rungs = rungs,
            Plain = rung.Plain,
            Front = Front(rung, score, budget.Axis),
            Recommended = recommended,
            Controller = null,
            Test = [],
            Gain = null,
            Rival = "the plain model",
            Beats = false,
        };
        return recommended is null ? report : await Tested(report, search, model, folder, progress, cancellationToken).ConfigureAwait(false);
    }

    // What was chosen on dev prompts is told on test prompts.
    private async Task<TuningReport?> Tested(
        TuningReport report, Comparison search, LanguageModel model, string folder, IProgress<EvaluationProgress>? progress,
        CancellationToken cancellationToken)
    {
        var (task, chosen) = (search.Tasks[0], Fits.First(fit => fit.Name == report.Recommended!.Method));
        ComparedMethod[] methods = task.Prompting is null ? [chosen] : [chosen, new PromptingAlone()];
        var comparison = search with
        {
            Methods = methods,
            StrengthsByMethod = methods.ToDictionary(static x => x, _ => (IReadOnlyList<double>)[report.Recommended!.Lambda]),
            Evaluation = search.Evaluation with { Split = EvaluationTask.DefaultSplit },
        };
        if (await Measure(comparison, model, Path.Combine(folder, "test"), progress, cancellationToken).ConfigureAwait(false) is not { } test)
        {
            return null;
        }

        // What it must beat is the better of the plain model and the words, so that words that do harm are no rival to be proud of.
        var steered = test.Points[0];
        var rival = test.Points.Skip(1).Prepend(test.Plain).MaxBy(point => Goodness(point, report.Score))!;
        string score = report.Score;
        double difference = steered.Scores[score].Value - rival.Scores[score].Value;
        double error = ComparedPoint.ErrorOf([.. steered.Without[score].Zip(rival.Without[score], static (a, b) => a - b)]);
        return report with
        {
            Controller = search.Fitted!.Of(task, chosen, progress, cancellationToken),
            Test = [test.Plain, .. test.Points],
            Gain = new Estimate(difference, error),
            Rival = ReferenceEquals(rival, test.Plain) ? report.Rival : "asking in words",
            Beats = (Minimises ? -difference : difference) > 2 * error,
        };
    }

    private static async Task<ComparisonReport?> Measure(
        Comparison comparison, LanguageModel model, string folder, IProgress<EvaluationProgress>? progress, CancellationToken cancellationToken)
    {
        var cells = await comparison.RunAsync(model, folder, progress, cancellationToken).ConfigureAwait(false);
        var complete = comparison.Shard is null ? cells : ComparisonPlan.Find([folder]);
        return complete is null ? null : ComparisonReport.Of(complete)[0];
    }

    // The best within the budget first; beyond it, the cheapest first.
    private IEnumerable<ComparedPoint> Ranked(ComparisonReport rung, string score, TuningBudget budget) =>
        rung.Points.OrderBy(budget.Excess).ThenByDescending(point => Goodness(point, score));

    private double Goodness(ComparedPoint point, string score)
    {
        double value = point.Scores[score].Value;
        return double.IsNaN(value) ? double.NegativeInfinity : Minimises ? -value : value;
    }

    private ComparedPoint[] Front(ComparisonReport rung, string score, OperatingAxis axis)
    {
        var front = new List<ComparedPoint>();
        double best = Goodness(rung.Plain, score);
        foreach (var point in rung.Points.Where(x => double.IsFinite(x.At(axis))).OrderBy(x => x.At(axis)).ThenByDescending(x => Goodness(x, score)))
        {
            if (Goodness(point, score) > best)
            {
                front.Add(point);
                best = Goodness(point, score);
            }
        }

        return [.. front];
    }

    private static EvaluationTask Apart(EvaluationTask task)
    {
        if (task.Scorers[0] is ChoiceScorer choice)
        {
            throw new ComparisonException(
                $"The first score of the task {task.Name}, {choice.Name}, asks the same questions whatever the prompts, so a setting would be "
                + "told on what it was chosen on: put another scorer first.");
        }

        if (task.Splits.ContainsKey(DevSplit))
        {
            return task;
        }

        var prompts = task.PromptsOf(EvaluationTask.DefaultSplit);
        Prompt[] dev = [.. prompts.Where(static (_, i) => i % DevEvery == 0)], test = [.. prompts.Where(static (_, i) => i % DevEvery != 0)];
        return test.Length == 0
            ? throw new ComparisonException($"The task {task.Name} has one prompt, and a setting is not chosen on what it is told on: give it more.")
            : task with
            {
                Splits = new Dictionary<string, IReadOnlyList<Prompt>>(StringComparer.Ordinal)
                {
                    [DevSplit] = dev,
                    [EvaluationTask.DefaultSplit] = test,
                },
            };
    }
}
