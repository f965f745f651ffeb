using System.Globalization;
using Tiller.Checkpoint;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Evaluation.Comparing;

/// <summary>A comparison of methods at several strengths, on tasks, with one or more seeds.</summary>
public sealed record Comparison
{
    private const string PlainName = "plain";

    /// <summary>The tasks, at least one, with different names.</summary>
    public required IReadOnlyList<EvaluationTask> Tasks { get; init; }

    /// <summary>The methods, at least one, with different names.</summary>
    public required IReadOnlyList<ComparedMethod> Methods { get; init; }

    /// <summary>
    /// The strengths λ for methods that have one, none of them 0. Strength 0 is the plain model, which is always measured. Empty (default) for the
    /// strengths that a task names, or <see cref="StandardStrengths"/> for a task that names none.
    /// </summary>
    public IReadOnlyList<double> Strengths { get; init; } = [];

    /// <summary>Strengths of a task that names none.</summary>
    public static IReadOnlyList<double> StandardStrengths { get; } = [0.5, 1, 2];

    /// <summary>The part of the cells that is computed; null (default) for all of them.</summary>
    public Shard? Shard { get; init; }

    /// <summary>Number of seeds with which each prompt is continued; default 1.</summary>
    public int Seeds { get; init; } = 1;

    /// <summary>Options of the evaluations; the law and the seed in them are not used.</summary>
    public EvaluationOptions Evaluation { get; init; } = new();

    /// <summary>Strengths of each method, in place of those of all; null (default) for these.</summary>
    internal IReadOnlyDictionary<ComparedMethod, IReadOnlyList<double>>? StrengthsByMethod { get; init; }

    /// <summary>
    /// Controllers that were fitted, for comparisons of one model that belong together and run one after another; null where each run has its own.
    /// </summary>
    internal FittedControllers? Fitted { get; init; }

    /// <summary>Computes all cells that the folder does not contain yet. A cell is the result of one task, method, strength and seed.</summary>
    /// <param name="model">The model.</param>
    /// <param name="folder">
    /// The folder for the cells, one file each, and the list of them; it is created if necessary. A later call continues with its cells.
    /// </param>
    /// <param name="progress">Called after every cell, and within fits; may be null.</param>
    /// <param name="cancellationToken">Checked between steps. Finished cells are kept.</param>
    /// <returns>All cells, or those of the shard, task by task; those of the plain model are the first of each task.</returns>
    /// <exception cref="ArgumentException">A list is empty, or a strength is 0, not finite, or repeated.</exception>
    /// <exception cref="ComparisonException">Two tasks or methods have the same name, or a task lacks something that a method needs.</exception>
    /// <exception cref="TillerException">A fit or an evaluation failed.</exception>
    /// <exception cref="IOException">A cell cannot be written.</exception>
    public async Task<IReadOnlyList<ComparisonCell>> RunAsync(
        LanguageModel model, string folder, IProgress<EvaluationProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        Check();
        var fitted = Fitted ?? new FittedControllers(model, folder: null);
        Planned[] all = [.. Plan(model, cancellationToken)];
        new ComparisonPlan(model.Name, [.. all.Select(static x => new PlannedCell(x.Path, x.Identity))]).Write(folder);
        Planned[] own = Shard is { } shard ? all[shard.Of(all.Length)] : all;
        var cells = new List<ComparisonCell>();
        foreach (var planned in own)
        {
            string path = Path.Combine(folder, planned.Path);
            if (ComparisonCell.Read(path, planned.Identity) is not { } cell)
            {
                var controller = planned.Method is null ? null : fitted.Of(planned.Task, planned.Method, progress, cancellationToken);
                var task = planned.Asked;
                var options = Evaluation with
                {
                    Law = controller?.ToLaw(planned.Lambda),
                    Seed = (task.Generation.Sampling.Seed ?? 0) + ((ulong)planned.Seed << 32),
                    Tokens = task.Fit?.Tokens ?? Evaluation.Tokens,
                };
                var report = await Evaluator.RunAsync(model, task, options, null, cancellationToken).ConfigureAwait(false);
                cell = new ComparisonCell(
                    planned.Identity, task.Name, planned.Method?.Name ?? PlainName, planned.Method?.IsControl ?? false, planned.Lambda, planned.Seed,
                    report.Effort ?? 0, [.. report.Scores.Select(CellScore.Of)], report.Texts.Sum(static x => (long)x.Ids.Count),
                    report.Decoding.TotalSeconds);
                cell.Write(path);
            }

            cells.Add(cell);
            progress?.Report(new EvaluationProgress("cells", cells.Count, own.Length));
        }

        return cells;
    }

    // A cell that is to be computed: a method, or the plain model if there is none, on a task as it is fitted and as it is asked.
    private sealed record Planned(
        string Path, string Identity, EvaluationTask Task, EvaluationTask Asked, ComparedMethod? Method, double Lambda, int Seed);

    // Cells of one method on one task are neighbours, so that a shard fits few controllers that another fits too.
    private IEnumerable<Planned> Plan(LanguageModel model, CancellationToken cancellationToken)
    {
        foreach (var task in Tasks)
        {
            string plain = IdentityOf(model, task, cancellationToken);
            foreach (var planned in Cells(task, task, plain, null, [0.0]))
            {
                yield return planned;
            }

            foreach (var method in Methods)
            {
                var asked = method.TaskOf(task);
                string told = ReferenceEquals(asked, task) ? plain : IdentityOf(model, asked, cancellationToken);
                var strengths = method.HasStrength ? StrengthsByMethod?[method] ?? StrengthsOf(task) : [0.0];
                foreach (var planned in Cells(task, asked, told, method, strengths))
                {
                    yield return planned;
                }
            }
        }

        IEnumerable<Planned> Cells(
            EvaluationTask task, EvaluationTask asked, string told, ComparedMethod? method, IReadOnlyList<double> strengths) =>
            from lambda in strengths
            from seed in Enumerable.Range(0, Seeds)
            let name = string.Create(CultureInfo.InvariantCulture, $"{lambda}-{seed}.json")
            select new Planned(
                Path.Combine("cells", Safe(task.Name), Safe(method?.Name ?? PlainName), name),
                IdentityOf(told, method?.Identity ?? PlainName, lambda, seed), task, asked, method, lambda, seed);
    }

    /// <summary>Strengths that methods have on a task.</summary>
    internal IReadOnlyList<double> StrengthsOf(EvaluationTask task) =>
        Strengths.Count > 0 ? Strengths : task.Fit is { Strengths.Count: > 0 } fit ? fit.Strengths : StandardStrengths;

    private void Check()
    {
        CheckNames("tasks", Tasks.Select(static x => x.Name));
        CheckNames("methods", Methods.Select(static x => x.Name).Append(PlainName));
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(Seeds);
        if (Tasks.Count == 0 || Methods.Count == 0)
        {
            throw new ArgumentException("A comparison needs a task and a method at least.", nameof(Tasks));
        }

        if (Tasks.Select(StrengthsOf).Any(static x => x.Any(static y => y == 0 || !double.IsFinite(y)) || x.Distinct().Count() < x.Count))
        {
            throw new ArgumentException(
                "Strengths must be different finite numbers other than 0, which is the plain model and always measured.", nameof(Strengths));
        }

        foreach (var task in Tasks)
        {
            if (!task.Splits.ContainsKey(Evaluation.Split))
            {
                throw new ComparisonException(
                    $"The task {task.Name} has no split '{Evaluation.Split}'; it has {string.Join(", ", task.Splits.Keys)}.");
            }

            foreach (var method in Methods)
            {
                method.Check(task);
            }
        }

        static void CheckNames(string list, IEnumerable<string> names)
        {
            if (names.GroupBy(Safe, StringComparer.Ordinal).FirstOrDefault(static x => x.Count() > 1) is { } twice)
            {
                throw new ComparisonException(
                    $"Two of the {list} are named {twice.First()}, or differ from it only in special characters: give each another name.");
            }
        }
    }

    // Hash of the checkpoint and of the task as the model reads it: tokens, settings of generation, and scorers.
    private string IdentityOf(LanguageModel model, EvaluationTask task, CancellationToken cancellationToken)
    {
        var encoder = PromptEncoder.Of(model);
        var (g, s) = (task.Generation, task.Generation.Sampling);
        using var hash = new IdentityHash();
        hash.Add(model.Identity).Add($"{Evaluation.Tokens}").Add(
            [Evaluation.Limit ?? 0, Math.Max(Evaluation.Batch, 8), g.MaxNewTokens, s.TopK, task.Scorers.Count, g.StopStrings.Count]);
        foreach (float number in new[] { s.Temperature, s.TopP, s.MinP, s.RepetitionPenalty, s.PresencePenalty, s.FrequencyPenalty })
        {
            hash.Add(number.ToString("R", CultureInfo.InvariantCulture));
        }

        hash.Add(string.Create(CultureInfo.InvariantCulture, $"{s.Seed}")).Add([.. g.StopIds ?? model.EndIds]);
        foreach (var (id, bias) in (s.LogitBias ?? new Dictionary<int, float>()).OrderBy(static x => x.Key))
        {
            hash.Add(string.Create(CultureInfo.InvariantCulture, $"{id} {bias:R}"));
        }

        var stops = Enumerable.Range(0, g.StopStrings.Count).Select(i => g.StopStrings[i]);
        foreach (string text in stops.Concat(task.Scorers.Select(static x => x.Identity)))
        {
            hash.Add(text);
        }

        var (weights, calibration) = (task.Fit?.Weights, task.Fit?.Calibration);
        hash.Add($"{weights} {task.Fit?.Tokens} {calibration?.Count}");
        foreach (var prompts in new[]
        {
            task.PromptsOf(Evaluation.Split), task.Contrast?.Positive ?? [], task.Contrast?.Negative ?? [], calibration ?? [],
        })
        {
            hash.Add([prompts.Count]);
            Array.ForEach(encoder.Encode(task.Name, prompts, cancellationToken), ids => hash.Add(ids));
        }

        return hash.End();
    }

    private static string IdentityOf(string task, string method, double lambda, int seed)
    {
        using var hash = new IdentityHash();
        return hash.Add(task).Add(method).Add(lambda.ToString("R", CultureInfo.InvariantCulture)).Add([seed]).End();
    }

    /// <summary>A name as a part of a path.</summary>
    internal static string Safe(string name) =>
        string.Concat(name.Select(static c => char.IsAsciiLetterOrDigit(c) || c is '.' or '+' ? c : '-'));
}
