using Tiller.Ops;

namespace Tiller.Model;

/// <summary>The logits of a step cannot be sampled from: one is NaN or +∞, or all are -∞.</summary>
public sealed class NonFiniteLogitsException : TillerException
{
    internal NonFiniteLogitsException(int token, float logit)
        : base(
            $"Every logit must be finite (or -∞ for a masked token), but the logit of token {token} is {logit}. The state overflowed: "
            + "lower λ, bound the effort, or check the checkpoint for NaN.")
    {
        Token = token;
        Logit = logit;
    }

    /// <summary>The error of logits of which <see cref="LogitVector.ArgMax"/> or a softmax cannot be taken.</summary>
    internal static NonFiniteLogitsException Of(ReadOnlySpan<float> logits)
    {
        for (int i = 0; i < logits.Length; i++)
        {
            if (!(logits[i] < float.PositiveInfinity))
            {
                return new NonFiniteLogitsException(i, logits[i]);
            }
        }

        return new NonFiniteLogitsException(0, float.NegativeInfinity);
    }

    /// <summary>First token id with such a logit.</summary>
    public int Token { get; }

    /// <summary>The logit: NaN, +∞, or -∞ if all are.</summary>
    public float Logit { get; }
}

/// <summary>
/// Draws next tokens. Filters are defined as in transformers (RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
/// TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper, each keeping at least one token); where equally probable tokens straddle the
/// edge of top-p, the lower ids stay. One sampler belongs to one session: it holds the position in its random sequence.
/// </summary>
public sealed class Sampler
{
    private readonly SamplingOptions _options;
    private readonly int _vocabulary;
    private readonly ulong[] _seen;      // (⌈V/64⌉) bit per token of the history
    private readonly float[] _best;      // (TopK) min-heap of the largest logits
    private readonly ulong[] _ranked;    // (V) keys of Nucleus, if TopP < 1
    private CounterRandom _random;

    /// <summary>Allocates all scratch memory a draw needs: 8 V bytes with top-p, little without.</summary>
    /// <param name="options">What to draw by.</param>
    /// <param name="vocabulary">V, the number of logits of every call.</param>
    /// <exception cref="SamplingOptionsException">A setting is out of range.</exception>
    public Sampler(SamplingOptions options, int vocabulary)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(vocabulary);
        options.Validate();
        _options = options;
        _vocabulary = vocabulary;
        bool draws = options.Temperature > 0;
        Seed = options.Seed ?? (draws ? CounterRandom.NewSeed() : 0);
        _random = new CounterRandom(Seed);
        _seen = options.RepetitionPenalty != 1 ? new ulong[(vocabulary + 63) / 64] : [];
        _best = draws && options.TopK < vocabulary ? new float[options.TopK] : [];
        _ranked = draws && options.TopP < 1 ? new ulong[vocabulary] : [];
    }

    /// <summary>V: how many logits it draws from.</summary>
    public int Vocabulary => _vocabulary;

    /// <summary>
    /// Seed of the draws: that of the options or, where they have none, the one this sampler drew for itself, below 2^53. A sampler made with it
    /// draws the same again. 0 if nothing is drawn, the temperature being 0, and the options have none.
    /// </summary>
    public ulong Seed { get; }

    /// <summary>Whose draw it is; a batch takes the turn of each of its samplers.</summary>
    internal Turn Turn { get; } = new(nameof(Sampler), "sampler", "Give each session a sampler of its own.");

    /// <summary>Draws one token. Allocates nothing.</summary>
    /// <param name="logits">Logits of the next token // (V); overwritten.</param>
    /// <param name="history">Ids of the prompt and of the tokens so far, for the repetition penalty.</param>
    /// <returns>Id of the token, 0..V-1.</returns>
    /// <exception cref="NonFiniteLogitsException">A logit is NaN or +∞, or all are -∞.</exception>
    /// <exception cref="InvalidOperationException">Another thread is drawing with this sampler.</exception>
    public int Next(Span<float> logits, ReadOnlySpan<int> history)
    {
        if (logits.Length != _vocabulary)
        {
            throw new ArgumentException($"Expected {_vocabulary} logits, got {logits.Length}.", nameof(logits));
        }

        using var draw = Turn.Enter();
        if (_options.RepetitionPenalty != 1)
        {
            Penalize(logits, history);
        }

        int top = LogitVector.ArgMax(logits);
        if (_options.Temperature == 0)
        {
            return top;
        }

        if (_best.Length > 0)
        {
            KeepLargest(logits);
        }

        LogitVector.ToWeights(logits, logits[top], _options.Temperature);
        if (_ranked.Length > 0)
        {
            KeepNucleus(logits);
        }

        // Weights are relative to the most probable token's, which is 1.
        return Draw(logits, _options.MinP, top);
    }

    /// <summary>
    /// How a device that holds the logits draws the next token, the same as <see cref="Next"/> up to rounding; <see cref="HasDrawn"/> must
    /// follow. Null if the host has to do it, because a penalty needs the history.
    /// </summary>
    internal DrawSettings? OnDevice => _options.RepetitionPenalty != 1
        ? null
        : new DrawSettings(_options.Temperature, _options.TopK, _options.TopP, _options.MinP, _random.State);

    /// <summary>Moves the random sequence on, past a token that a device has drawn.</summary>
    internal void HasDrawn()
    {
        if (_options.Temperature > 0)
        {
            _random.NextBits();
        }
    }

    // logit of every seen id, once: l < 0 ? l * penalty : l / penalty
    private void Penalize(Span<float> logits, ReadOnlySpan<int> history)
    {
        Array.Clear(_seen);
        foreach (int id in history)
        {
            if ((uint)id >= (uint)logits.Length)
            {
                throw new ArgumentOutOfRangeException(nameof(history), id, $"Token ids are 0..{logits.Length - 1}.");
            }

            ulong bit = 1ul << (id & 63);
            if ((_seen[id >> 6] & bit) == 0)
            {
                _seen[id >> 6] |= bit;
                logits[id] = logits[id] < 0 ? logits[id] * _options.RepetitionPenalty : logits[id] / _options.RepetitionPenalty;
            }
        }
    }

    // Top-k: everything below the K-th largest logit becomes -∞. _best[0] is the smallest of the K largest so far.
    private void KeepLargest(Span<float> logits)
    {
        _best.AsSpan().Fill(float.NegativeInfinity);
        foreach (float logit in logits)
        {
            if (logit > _best[0])
            {
                SiftDown(_best, logit);
            }
        }

        float least = _best[0];
        for (int i = 0; i < logits.Length; i++)
        {
            logits[i] = logits[i] < least ? float.NegativeInfinity : logits[i];
        }
    }

    private static void SiftDown(Span<float> heap, float value)
    {
        int i = 0;
        for (int child = 1; child < heap.Length; child = (2 * i) + 1)
        {
            child += child + 1 < heap.Length && heap[child + 1] < heap[child] ? 1 : 0;
            if (value <= heap[child])
            {
                break;
            }

            heap[i] = heap[child];
            i = child;
        }

        heap[i] = value;
    }

    // Top-p: a token stays if the tokens before it, by falling weight, hold less than p of the sum.
    private void KeepNucleus(Span<float> weights)
    {
        double total = LogitVector.Sum(weights);

        // V tokens of weight ≤ (1-p)·total/V hold at most 1-p of the sum, so they are outside whatever their order.
        float tail = (float)((1 - (double)_options.TopP) * total / weights.Length);
        int count = 0;
        for (int i = 0; i < weights.Length; i++)
        {
            if (weights[i] > tail)
            {
                _ranked[count++] = Nucleus.Key(weights[i], i);
            }
        }

        ulong last = Nucleus.Last(_ranked.AsSpan(0, count), _options.TopP * total);
        for (int i = 0; i < weights.Length; i++)
        {
            weights[i] = weights[i] > tail && Nucleus.Key(weights[i], i) <= last ? weights[i] : 0;
        }
    }

    // Inverse of the cumulative distribution, ids in rising order.
    private int Draw(ReadOnlySpan<float> weights, float least, int top)
    {
        double total = 0;
        foreach (float w in weights)
        {
            total += w < least ? 0 : w;
        }

        double target = _random.NextUnit() * total;
        double below = 0;
        for (int i = 0; i < weights.Length; i++)
        {
            below += weights[i] < least ? 0 : weights[i];
            if (below > target)
            {
                return i;
            }
        }

        return top;
    }
}
