namespace Tiller.Evaluation.Scorers;

/// <summary>Dist-n (Li et al., arXiv:1510.03055): the number of different n-grams of words over the number of all n-grams, in all texts.</summary>
/// <param name="n">Number of words in an n-gram, at least 1.</param>
public sealed class DistinctScorer(int n) : Scorer
{
    /// <inheritdoc/>
    public override string Name => $"distinct-{n}";

    /// <inheritdoc/>
    public override Score Measure(EvaluatedTexts texts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(texts);
        string[][] all = [.. texts.Texts.Select(text => NGrams(text.Text))];

        // Without text i, the n-grams that no other text has are missing.
        var holders = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (string gram in all.SelectMany(static grams => grams.Distinct(StringComparer.Ordinal)))
        {
            holders[gram] = holders.GetValueOrDefault(gram) + 1;
        }

        int count = all.Sum(static grams => grams.Length);
        return Score.OfStatistic(
            Name, Share(holders.Count, count),
            [.. all.Select(grams => Share(
                holders.Count - grams.Distinct(StringComparer.Ordinal).Count(gram => holders[gram] == 1), count - grams.Length))]);
    }

    internal static DistinctScorer Read(TaskNode node) => new(node.Number(1, 10));

    private static double Share(int different, int all) => all == 0 ? double.NaN : (double)different / all;

    private string[] NGrams(string text)
    {
        var words = Words.Of(text);
        return [.. Enumerable.Range(0, Math.Max(0, words.Count - n + 1)).Select(i => string.Join(' ', words.Skip(i).Take(n)))];
    }
}

/// <summary>
/// The fraction of a text's n-grams of words that repeat an earlier one, 1 − different / all (Welleck et al., arXiv:1908.04319, "seq-rep-n").
/// </summary>
/// <param name="n">Number of words in an n-gram; 4 in the publication.</param>
public sealed class RepetitionScorer(int n = 4) : TextScorer
{
    /// <inheritdoc/>
    public override string Name => $"repetition-{n}";

    /// <inheritdoc/>
    public override double Of(EvaluatedText text)
    {
        ArgumentNullException.ThrowIfNull(text);
        var words = Words.Of(text.Text);
        int all = words.Count - n + 1;
        return all <= 0 ? 0 : 1 - ((double)Enumerable.Range(0, all).Select(i => string.Join(' ', words.Skip(i).Take(n))).Distinct(
            StringComparer.Ordinal).Count() / all);
    }

    internal static RepetitionScorer Read(TaskNode? node) => node is null ? new RepetitionScorer() : new RepetitionScorer(node.Number(1, 10));
}
