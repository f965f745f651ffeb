using System.Globalization;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Evaluation.Comparing;

/// <summary>What is compared: methods at strengths, on tasks, with seeds.</summary>
public sealed record Comparison
{
    /// <summary>At least one, each with a name of its own.</summary>
    public required IReadOnlyList<EvaluationTask> Tasks { get; init; }

    /// <summary>At least one, each with a name of its own.</summary>
    public required IReadOnlyList<ComparedMethod> Methods { get; init; }

    /// <summary>Strengths λ of methods that have one; at least one, none of them 0, which is the plain model and is always measured.</summary>
    public required IReadOnlyList<double> Strengths { get; init; }

    /// <summary>How often each prompt is continued, with other draws; default 1.</summary>
    public int Seeds { get; init; } = 1;

    /// <summary>How tasks are run; its law and seed are not used.</summary>
    public EvaluationOptions Evaluation { get; init; } = new();

    /// <summary>Computes the cells that a folder does not hold yet.</summary>
    /// <param name="model">The model.</param>
    /// <param name="folder">Keeps a file for each cell, so that a later call goes on; made if it is not there.</param>
    /// <param name="progress">Told after every cell.</param>
    /// <param name="cancellationToken">Checked between steps; cells that are there stay.</param>
    /// <returns>All cells, task by task, the plain model's first.</returns>
    /// <exception cref="ArgumentException">A list is empty, or a strength is 0, not finite or there twice.</exception>
    /// <exception cref="ComparisonException">Two tasks or methods have one name, or a task lacks what a method needs.</exception>
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
            throw new ArgumentException("A comparison needs a task, a method and a strength at least.", nameof(Tasks));
        }

        if (Strengths.Any(static x => x == 0 || !double.IsFinite(x)) || Strengths.Distinct().Count() < Strengths.Count)
        {
            throw new ArgumentException(
                "Strengths must be finite numbers other than 0, each once; the plain model is measured anyway.", nameof(Strengths));
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
                throw new ComparisonException($"Of the {list}, {twice.First()} is there twice: give each a name of its own.");
            }
        }
    }

    // Of the checkpoint, and of the task as the model reads it: tokens, settings of generation and scorers.
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
