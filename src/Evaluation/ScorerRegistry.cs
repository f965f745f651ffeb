using Tiller.Evaluation.Scorers;

namespace Tiller.Evaluation;

/// <summary>The scorers that a task file may name.</summary>
internal static class ScorerRegistry
{
    private static readonly Dictionary<string, Func<string, TaskNode?, TaskNode, TaskFiles, Scorer>> s_scorers = new(StringComparer.Ordinal)
    {
        ["lexicon"] = static (name, node, of, _) => LexiconScorer.Read(name, Needed(node, of)),
        ["polarity"] = static (name, node, of, _) => PolarityScorer.Read(name, Needed(node, of)),
        ["regex"] = static (name, node, of, _) => PatternScorer.Read(name, Needed(node, of)),
        ["refusal"] = static (name, node, _, _) => PatternScorer.ReadRefusal(name, node),
        ["distinct"] = static (_, node, of, _) => DistinctScorer.Read(Needed(node, of)),
        ["repetition"] = static (_, node, _, _) => RepetitionScorer.Read(node),
        ["choice"] = static (name, node, of, files) => ChoiceScorer.Read(name, Needed(node, of), files),
        ["judge"] = static (name, node, of, files) => JudgeScorer.Read(name, Needed(node, of), files),
        ["perplexity"] = static (_, node, of, _) => node is null ? new PerplexityScorer() : throw of.Fail("takes no settings: write only its name."),
        ["kl"] = static (_, node, of, _) => node is null ? new DivergenceScorer() : throw of.Fail("takes no settings: write only its name."),
    };

    /// <summary>
    /// Reads a scorer: its kind alone, or a mapping from the kind to its settings, which may have "as" for the scorer's name in results.
    /// </summary>
    /// <exception cref="TaskFileException">The kind does not exist, or its settings are wrong.</exception>
    public static Scorer Read(TaskNode node, TaskFiles files)
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

        Scorer Make(string kind, TaskNode? settings, string? called = null) => s_scorers.TryGetValue(kind, out var read)
            ? read(called ?? kind, settings, node, files)
            : throw node.Fail($"names an unknown scorer, '{kind}'; expected one of {string.Join(", ", s_scorers.Keys)}.");
    }

    private static TaskNode Needed(TaskNode? settings, TaskNode of) => settings ?? throw of.Fail("needs settings: write them after a colon.");
}
