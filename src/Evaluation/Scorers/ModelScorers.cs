using Tiller.Decode;

namespace Tiller.Evaluation.Scorers;

/// <summary>Perplexity of the continuations under the plain model: exp(−Σ log p / Σ tokens). Texts without tokens do not count.</summary>
public sealed class PerplexityScorer : Scorer
{
    /// <inheritdoc/>
    public override string Name => "perplexity";

    /// <inheritdoc/>
    public override Score Measure(EvaluatedTexts texts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(texts);
        return Score.OfQuotient(
            Name,
            [.. texts.Texts.Select(text => (
                Likelihood.LogProbability(texts.Model, [.. text.PromptIds], [.. text.Ids], cancellationToken), (double)text.Ids.Count))],
            static mean => Math.Exp(-mean));
    }
}

/// <summary>
/// Divergence of the steered model from the plain one: the mean of KL(steered ‖ plain) = Σ p log(p/q) over the tokens of all continuations, in nats.
/// Both models read the same tokens, and the plain model is not steered on any of them.
/// </summary>
public sealed class DivergenceScorer : Scorer
{
    // Each text is two rows, plain and steered; up to 8 rows, a row of a step is bit for bit what it is alone.
    private const int TextsAtOnce = 4;

    /// <inheritdoc/>
    public override string Name => "kl";

    /// <inheritdoc/>
    public override Score Measure(EvaluatedTexts texts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(texts);
        double[] sums = texts.Law is null ? new double[texts.Texts.Count]
            : [.. texts.Texts.Chunk(TextsAtOnce).SelectMany(some => Sums(texts, some, cancellationToken))];
        return Score.OfQuotient(Name, [.. texts.Texts.Zip(sums, static (text, sum) => (sum, (double)text.Ids.Count))]);
    }

    private static double[] Sums(EvaluatedTexts texts, EvaluatedText[] some, CancellationToken cancellationToken)
    {
        double[] sums = new double[some.Length];
        var rows = new BatchRow[2 * some.Length];
        try
        {
            using var batch = new SessionBatch(texts.Model);
            for (int i = 0; i < some.Length; i++)
            {
                rows[2 * i] = new BatchRow(new Session(texts.Model));
                rows[(2 * i) + 1] = new BatchRow(new Session(texts.Model, texts.Law, texts.Tokens));
                if (some[i].Ids.Count > 0)
                {
                    int[] prompt = [.. some[i].PromptIds];
                    rows[2 * i].Session.Append(prompt, cancellationToken);
                    rows[(2 * i) + 1].Session.Append(prompt, cancellationToken);
                    Add(i);
                }
            }

            int steps = some.Max(static text => text.Ids.Count) - 1;
            for (int step = 0; step < steps; step++)
            {
                int[] going = [.. Enumerable.Range(0, some.Length).Where(i => step < some[i].Ids.Count - 1)];
                int[] ids = [.. going.SelectMany(i => new[] { some[i].Ids[step], some[i].Ids[step] })];
                batch.Step([.. going.SelectMany(i => new[] { rows[2 * i], rows[(2 * i) + 1] })], ids, cancellationToken);
                Array.ForEach(going, Add);
            }
        }
        finally
        {
            Array.ForEach(rows, static row => row.Session?.Dispose()); // a row that was not reached has none
        }

        return sums;

        void Add(int i) => sums[i] += Divergence(rows[(2 * i) + 1].Session.Logits, rows[2 * i].Session.Logits);
    }

    // KL = Σ p (log p − log q) in float64, from the logits of both.
    private static double Divergence(ReadOnlySpan<float> of, ReadOnlySpan<float> from)
    {
        double p = Likelihood.LogSumExp(of), q = Likelihood.LogSumExp(from), sum = 0;
        for (int i = 0; i < of.Length; i++)
        {
            double log = of[i] - p;
            sum += Math.Exp(log) * (log - (from[i] - q));
        }

        return Math.Max(0, sum);
    }
}
