using Tiller.Kernels;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Decode;

/// <summary>The probability of a text.</summary>
public static class Likelihood
{
    private const int MaxRows = 64;

    // The product with the head is cancelled between groups of rows, because a large vocabulary makes it long.
    private const int HeadRows = 8;

    // Up to so many rows, a row of a step is bit for bit what it is alone.
    private const int BatchRows = 8;

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

    /// <summary>
    /// Σ log p(token | all tokens before it) over each of several continuations of one prompt, natural logarithm, under a model that may be steered.
    /// The tokens of a continuation are steered as generated ones are.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="prompt">Token ids, at least one; their own probability is not counted.</param>
    /// <param name="continuations">Token ids to be scored, of each at least one.</param>
    /// <param name="law">The law that steers; null for the plain model.</param>
    /// <param name="steered">Which tokens the law moves; null for <see cref="SteeredTokens.Last"/>.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <exception cref="ArgumentException">The prompt or a continuation is empty, or an id is outside the vocabulary.</exception>
    /// <exception cref="ContextLengthException">The prompt and a continuation together do not fit the context.</exception>
    /// <exception cref="ModelMismatchException">The law is for a model of another shape.</exception>
    /// <exception cref="NonFiniteLogitsException">The logits are not finite.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public static double[] LogProbabilities(
        LanguageModel model, ReadOnlySpan<int> prompt, IReadOnlyList<int[]> continuations, FeedbackLaw? law = null, SteeredTokens? steered = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(continuations);
        steered ??= SteeredTokens.Last;
        int vocabulary = model.Config.V;
        foreach (int[] ids in continuations)
        {
            if (ids.Length == 0 || ids.AsSpan().IndexOfAnyExceptInRange(0, vocabulary - 1) >= 0)
            {
                throw new ArgumentException($"A continuation needs a token at least, and ids in 0..{vocabulary - 1}.", nameof(continuations));
            }
        }

        using var first = new Session(model, law, steered);
        first.Append(prompt, cancellationToken);
        double[] sums = [.. continuations.Select(ids => LogSoftmaxOf(first, ids[0]))];
        int[] longer = [.. Enumerable.Range(0, sums.Length).Where(i => continuations[i].Length > 1)];
        if (longer.Length > 0)
        {
            int positions = prompt.Length + longer.Max(i => continuations[i].Length);
            bool follows = !first.Cache.TurnsOtherwise(positions);
            using var batch = new SessionBatch(model);
            foreach (int[] some in longer.Chunk(BatchRows))
            {
                Continue(first, prompt, follows, law, steered, continuations, some, batch, sums, cancellationToken);
            }
        }

        return sums;
    }

    // Adds to the sums of some continuations their tokens behind the first. The prompt is run once, and asked once what the law's conditions want to
    // know, unless a longer text turns its keys otherwise.
    private static void Continue(
        Session first, ReadOnlySpan<int> prompt, bool follows, FeedbackLaw? law, SteeredTokens steered, IReadOnlyList<int[]> continuations,
        int[] some, SessionBatch batch, double[] sums, CancellationToken cancellationToken)
    {
        var sessions = new List<Session>();
        try
        {
            foreach (int i in some)
            {
                var session = new Session(first.Model, law, steered);
                sessions.Add(session);
                if (follows)
                {
                    session.ReservePositions(prompt.Length + continuations[i].Length);
                    session.Follow(first);
                }
                else
                {
                    session.Append(prompt, cancellationToken);
                }
            }

            // A step appends a token of each continuation that has another one to be scored behind it.
            for (int t = 1; some.Any(i => continuations[i].Length > t); t++)
            {
                int[] on = [.. Enumerable.Range(0, some.Length).Where(j => continuations[some[j]].Length > t)];
                batch.Step(
                    [.. on.Select(j => new BatchRow(sessions[j]))], [.. on.Select(j => continuations[some[j]][t - 1])], cancellationToken);
                foreach (int j in on)
                {
                    sums[some[j]] += LogSoftmaxOf(sessions[j], continuations[some[j]][t]);
                }
            }
        }
        finally
        {
            sessions.ForEach(static session => session.Dispose());
        }
    }

    private static double LogSoftmaxOf(Session session, int id)
    {
        var logits = session.Logits;
        double log = LogSoftmax(logits, id);
        return double.IsNaN(log) ? throw NonFiniteLogitsException.Of(logits.ToArray()) : log;
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
