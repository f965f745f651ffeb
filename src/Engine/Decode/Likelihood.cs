using Tiller.Kernels;
using Tiller.Model;

namespace Tiller.Decode;

/// <summary>The probability of a text under the plain model.</summary>
public static class Likelihood
{
    private const int MaxRows = 64;

    // The product with the head is cancelled between groups of rows, because a large vocabulary makes it long.
    private const int HeadRows = 8;

    /// <summary>Σ log p(token | all tokens before it) over the continuation, natural logarithm.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="prompt">Token ids, at least one; their own probability is not counted.</param>
    /// <param name="continuation">Token ids to be scored; may be empty.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <exception cref="ArgumentException">The prompt is empty, or an id is outside the vocabulary.</exception>
    /// <exception cref="ContextLengthException">The prompt and the continuation together do not fit the context.</exception>
    /// <exception cref="NonFiniteStateException">A state is NaN or infinite. The exception names the first such place.</exception>
    /// <exception cref="NonFiniteLogitsException">The states are finite, but the logits are not.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before the call or between two passes.</exception>
    public static double LogProbability(LanguageModel model, ReadOnlySpan<int> prompt, ReadOnlySpan<int> continuation,
        CancellationToken cancellationToken = default)
    {
        if (prompt.IsEmpty)
        {
            throw new ArgumentException("The first token of a text has no probability: the prompt needs at least one token.", nameof(prompt));
        }

        int[] ids = [.. prompt, .. continuation];
        if (ids.Length > model.Config.MaxPositions)
        {
            throw new ContextLengthException(ids.Length, model.Config.MaxPositions);
        }

        int vocabulary = model.Config.V;
        int bad = ids.AsSpan().IndexOfAnyExceptInRange(0, vocabulary - 1);
        if (bad >= 0)
        {
            throw new ArgumentOutOfRangeException(bad < prompt.Length ? nameof(prompt) : nameof(continuation), ids[bad],
                $"A token id must be in 0..{vocabulary - 1}.");
        }

        using var use = model.Enter();
        using var cache = model.NewCache();
        using var a = model.NewActivations();
        using var memory = model.Ops.Allocate(4L * HeadRows * vocabulary);
        float[] logits = new float[vocabulary];
        var pass = new PromptPass(model, a, MaxRows);
        cache.Reserve(ids.Length, used: 0);
        double sum = 0;
        for (int begin = 0; begin < ids.Length - 1; begin += pass.Rows.Values)
        {
            using var passing = model.Enter();
            pass.Fill(ids.AsSpan(0, ids.Length - 1), begin, position: 0, cache);
            pass.Run(visit: null, cancellationToken);
            int count = pass.Rows.Values;
            for (int first = Math.Max(0, prompt.Length - 1 - begin); first < count; first += HeadRows)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var scored = new Floats(memory.Address, Math.Min(HeadRows, count - first), vocabulary);
                model.Head(a, first, scored.Rows, scored);
                for (int row = 0; row < scored.Rows; row++)
                {
                    model.Ops.DownloadRow(scored, row, logits);
                    double logProbability = LogSoftmax(logits, ids[begin + first + row + 1]);
                    if (double.IsNaN(logProbability))
                    {
                        throw NonFiniteSearch.RunPrompt(model, ids.AsSpan(0, begin + first + row + 1), prompt: null, cancellationToken)
                            ?? (TillerException)NonFiniteLogitsException.Of(logits);
                    }

                    sum += logProbability;
                }
            }
        }

        return sum;
    }

    private static double LogSoftmax(ReadOnlySpan<float> logits, int id) => logits[id] - LogSumExp(logits);

    /// <summary>log Σ exp of logits, in float64.</summary>
    internal static double LogSumExp(ReadOnlySpan<float> logits)
    {
        double largest = System.Numerics.Tensors.TensorPrimitives.Max(logits);
        double total = 0;
        foreach (float logit in logits)
        {
            total += Math.Exp(logit - largest);
        }

        return largest + Math.Log(total);
    }
}
