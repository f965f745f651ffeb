using System.Globalization;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Evaluation.Comparing;

/// <summary>A comparison of methods at several strengths, on tasks, with one or more seeds.</summary>
public sealed record Comparison
{
    /// <summary>The tasks, at least one, with different names.</summary>
    public required IReadOnlyList<EvaluationTask> Tasks { get; init; }

    /// <summary>The methods, at least one, with different names.</summary>
    public required IReadOnlyList<ComparedMethod> Methods { get; init; }

    /// <summary>
    /// The strengths λ for methods that have one: at least one, and none is 0. Strength 0 is the plain model, which is always measured.
    /// </summary>
    public required IReadOnlyList<double> Strengths { get; init; }

    /// <summary>Number of seeds with which each prompt is continued; default 1.</summary>
    public int Seeds { get; init; } = 1;

    /// <summary>Options of the evaluations; the law and the seed in them are not used.</summary>
    public EvaluationOptions Evaluation { get; init; } = new();

    /// <summary>Computes all cells that the folder does not contain yet. A cell is the result of one task, method, strength and seed.</summary>
    /// <param name="model">The model.</param>
    /// <param name="folder">The folder for the cells, one file each; it is created if necessary. A later call continues with its cells.</param>
    /// <param name="progress">Called after every cell; may be null.</param>
    /// <param name="cancellationToken">Checked between steps. Finished cells are kept.</param>
    /// <returns>All cells, task by task; those of the plain model are the first of each task.</returns>
    /// <exception cref="ArgumentException">A list is empty, or a strength is 0, not finite, or repeated.</exception>
    /// <exception cref="ComparisonException">Two tasks or methods have the same name, or a task lacks something that a method needs.</exception>
    /// <exception cref="TillerException">A fit or an evaluation failed.</exception>
    /// <exception cref="IOException">A cell cannot be written.</exception>
    public async Task<IReadOnlyList<ComparisonCell>> RunAsync(
        LanguageModel model, string folder, IProgress<EvaluationProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        Check();
        int total = Tasks.Count * Seeds * (1 + Methods.Sum(method => method.HasStrength ? Strengths.Count : 1));
        var cells = new List<ComparisonCell>();
        foreach (var task in Tasks)
        {
            string plain = IdentityOf(model, task, cancellationToken);
            await Add(task, plain, "plain", "plain", false, 0, _ => null).ConfigureAwait(false);
            foreach (var method in Methods)
            {
                Controller? controller = null;
                var asked = method.TaskOf(task);
                string told = ReferenceEquals(asked, task) ? plain : IdentityOf(model, asked, cancellationToken);
                foreach (double lambda in method.HasStrength ? Strengths : [0.0])
                {
                    await Add(
                        asked, told, method.Name, method.Identity, method.IsControl, lambda,
                        token => (controller ??= method.Fit(model, task, token))?.ToLaw(lambda)).ConfigureAwait(false);
                }
            }
        }

        return cells;

        async Task Add(
            EvaluationTask task, string told, string method, string settings, bool isControl, double lambda,
            Func<CancellationToken, FeedbackLaw?> law)
        {
            for (int seed = 0; seed < Seeds; seed++)
            {
                string identity = IdentityOf(told, settings, lambda, seed);
                string name = string.Create(CultureInfo.InvariantCulture, $"{lambda}-{seed}.json");
                string path = Path.Combine(folder, "cells", Safe(task.Name), Safe(method), name);
                if (ComparisonCell.Read(path, identity) is not { } cell)
                {
                    var options = Evaluation with
                    {
                        Law = law(cancellationToken),
                        Seed = (task.Generation.Sampling.Seed ?? 0) + ((ulong)seed << 32),
                    };
                    var report = await Evaluator.RunAsync(model, task, options, null, cancellationToken).ConfigureAwait(false);
                    cell = new ComparisonCell(
                        identity, task.Name, method, isControl, lambda, seed, report.Effort ?? 0, [.. report.Scores.Select(CellScore.Of)],
                        report.Texts.Sum(static x => (long)x.Ids.Count), report.Decoding.TotalSeconds);
                    cell.Write(path);
                }

                cells.Add(cell);
                progress?.Report(new EvaluationProgress("cells", cells.Count, total));
            }
        }
    }

    private void Check()
    {
        CheckNames("tasks", Tasks.Select(static x => x.Name));
        CheckNames("methods", Methods.Select(static x => x.Name).Append("plain"));
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(Seeds);
        if (Tasks.Count == 0 || Methods.Count == 0 || (Strengths.Count == 0 && Methods.Any(static x => x.HasStrength)))
        {
            throw new ArgumentException("A comparison needs at least one task, one method and one strength.", nameof(Tasks));
        }

        if (Strengths.Any(static x => x == 0 || !double.IsFinite(x)) || Strengths.Distinct().Count() < Strengths.Count)
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
        hash.Add(model.Fingerprint).Add($"{Evaluation.Tokens}").Add(
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

        foreach (var prompts in new[] { task.PromptsOf(Evaluation.Split), task.Contrast?.Positive ?? [], task.Contrast?.Negative ?? [] })
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

    private static string Safe(string name) =>
        string.Concat(name.Select(static c => char.IsAsciiLetterOrDigit(c) || c is '.' or '+' ? c : '-'));
}
