using Tiller.Evaluation.Scorers;

namespace Tiller.Evaluation;

/// <summary>Reads the scorers of a task file.</summary>
internal static class ScorerRegistry
{
    /// <summary>Where the kind onnx is. The tool tells it in words of its own (OptionNames).</summary>
    public const string OnnxIsElsewhere =
        "is in the package Tiller.Evaluation.Onnx, because it brings native libraries: add OnnxScorer.Kind to TaskOptions.Kinds";

    private static readonly ScorerKind[] s_kinds =
    [
        new("lexicon", static (name, node, of, _) => LexiconScorer.Read(name, ScorerKind.Needed(node, of))),
        new("polarity", static (name, node, of, _) => PolarityScorer.Read(name, ScorerKind.Needed(node, of))),
        new("regex", static (name, node, of, _) => PatternScorer.Read(name, ScorerKind.Needed(node, of))),
        new("refusal", static (name, node, _, _) => PatternScorer.ReadRefusal(name, node)),
        new("distinct", static (_, node, of, _) => DistinctScorer.Read(ScorerKind.Needed(node, of))),
        new("repetition", static (_, node, _, _) => RepetitionScorer.Read(node)),
        new("choice", static (name, node, of, files) => ChoiceScorer.Read(name, ScorerKind.Needed(node, of), files)),
        new("judge", static (name, node, of, files) => JudgeScorer.Read(name, ScorerKind.Needed(node, of), files)),
        new("perplexity", static (_, node, of, _) => node is null ? new PerplexityScorer() : throw Settings(of)),
        new("kl", static (_, node, of, _) => node is null ? new DivergenceScorer() : throw Settings(of)),
    ];

    // Kinds that bring native libraries, and where they are.
    private static readonly Dictionary<string, string> s_elsewhere = new(StringComparer.Ordinal)
    {
        ["onnx"] = OnnxIsElsewhere,
    };

    /// <summary>
    /// Reads a scorer: its kind alone, or a mapping from the kind to its settings, which may have "as" for the scorer's name in results.
    /// </summary>
    /// <param name="node">The scorer's entry in the task.</param>
    /// <param name="files">Finds the files that it names.</param>
    /// <param name="others">Kinds of other packages.</param>
    /// <exception cref="TaskFileException">The kind does not exist, or its settings are wrong.</exception>
    public static Scorer Read(TaskNode node, TaskFiles files, IReadOnlyList<ScorerKind> others)
    {
        if (node.IsScalar)
        {
            return Make(node.Text(), null);
        }

        string? name = node.Find("as")?.Text();
        var kinds = node.Pairs().Where(static pair => pair.Key != "as").ToArray();
        return kinds is [var (kind, settings)]
            ? Make(kind, settings, name)
            : throw node.Fail($"must name one kind of scorer, and may have \"as\"; it names {kinds.Length} kinds.");

        Scorer Make(string kind, TaskNode? settings, string? called = null)
        {
            ScorerKind[] all = [.. s_kinds, .. others];
            if (Array.Find(all, x => x.Name == kind) is { } found)
            {
                return found.Read(called ?? kind, settings, node, files);
            }

            throw node.Fail(s_elsewhere.TryGetValue(kind, out string? where)
                ? $"names the scorer '{kind}', which {where}."
                : $"names an unknown scorer, '{kind}'; expected one of {string.Join(", ", all.Select(static x => x.Name))}.");
        }
    }

    private static TaskFileException Settings(TaskNode of) => of.Fail("takes no settings: write only its name.");
}
