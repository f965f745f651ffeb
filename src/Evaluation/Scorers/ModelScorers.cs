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
    /// <inheritdoc/>
    public override string Name => "kl";

    /// <inheritdoc/>
    public override Score Measure(EvaluatedTexts texts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(texts);
        return Score.OfQuotient(
            Name, [.. texts.Texts.Select(text => (texts.Law is null ? 0 : Sum(texts, text, cancellationToken), (double)text.Ids.Count))]);
    }

    private static double Sum(EvaluatedTexts texts, EvaluatedText text, CancellationToken cancellationToken)
    {
        if (text.Ids.Count == 0)
        {
            return 0;
        }

        using Session plain = new(texts.Model), steered = new(texts.Model, texts.Law, texts.Tokens);
        using var batch = new SessionBatch(texts.Model);
        BatchRow[] rows = [new(plain), new(steered)];
        int[] prompt = [.. text.PromptIds];
        plain.Append(prompt, cancellationToken);
        steered.Append(prompt, cancellationToken);
        double sum = Divergence(steered.Logits, plain.Logits);
        foreach (int id in text.Ids.Take(text.Ids.Count - 1))
        {
            batch.Step(rows, [id, id], cancellationToken);
            sum += Divergence(steered.Logits, plain.Logits);
        }

        return sum;
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
