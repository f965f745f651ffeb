using Tiller.Ops;

namespace Tiller.Model;

/// <summary>No token can be drawn from the logits of a step: one is NaN or +∞, or all are -∞.</summary>
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

    /// <summary>Creates the exception for logits that have no largest logit or no softmax (<see cref="LogitVector.ArgMax"/>).</summary>
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

/// <summary>A token and its log-probability.</summary>
/// <param name="Id">The token.</param>
/// <param name="LogProbability">Natural logarithm of its probability; −∞ for a masked token.</param>
public readonly record struct TokenProbability(int Id, float LogProbability);

/// <summary>
/// Draws tokens. Filters are defined as in transformers (RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper,
/// TopPLogitsWarper, MinPLogitsWarper, each keeping at least one token). If equally probable tokens lie on both sides of the edge of top-p, those
/// with the lower ids are kept. A sampler belongs to one text of one session, and holds the position in its random sequence. The tokens before its
/// first draw are the prompt, to which presence and frequency penalties do not apply. The next turn of a chat needs a new sampler.
/// </summary>
public sealed class Sampler
{
    private readonly SamplingOptions _options;
    private readonly int _vocabulary;
    private readonly LogitPenalties _penalties;
    private readonly int[] _words;       // (V) as in TokenTally; all 0 between draws, if there are penalties
    private readonly float[] _original;  // (V) logits before bias and penalties, if log-probabilities are asked for
    private readonly SoftmaxTop? _softmax;
    private readonly TokenProbability[] _mostProbable;
    private readonly float[] _best;      // (TopK) min-heap of the largest logits
    private readonly ulong[] _ranked;    // (V) keys of Nucleus, if TopP < 1
    private CounterRandom _random;
    private int _promptLength = -1;
    private int _mostProbableCount;

    /// <summary>
    /// Allocates all scratch memory that a draw needs: 8 V bytes for top-p, 4 V bytes for penalties, 4 V bytes for log-probabilities, and little
    /// otherwise.
    /// </summary>
    /// <param name="options">The settings of the draws.</param>
    /// <param name="vocabulary">V, the number of logits of every call.</param>
    /// <exception cref="SamplingOptionsException">A setting is out of range.</exception>
    public Sampler(SamplingOptions options, int vocabulary)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(vocabulary);
        options.Validate(vocabulary);
        _options = options;
        _vocabulary = vocabulary;
        bool draws = options.Temperature > 0;
        Seed = options.Seed ?? (draws ? CounterRandom.NewSeed() : 0);
        _random = new CounterRandom(Seed);
        _penalties = new LogitPenalties(options.RepetitionPenalty, options.PresencePenalty, options.FrequencyPenalty);
        _words = _penalties.Any ? new int[vocabulary] : [];
        Bias = options.LogitBias is { Count: > 0 } bias ? bias : null;
        _softmax = options.LogProbabilities is { } count ? new SoftmaxTop(count) : null;
        _original = _softmax is null ? [] : new float[vocabulary];
        _mostProbable = new TokenProbability[_softmax?.Count ?? 0];
        _best = draws && options.TopK < vocabulary ? new float[options.TopK] : [];
        _ranked = draws && options.TopP < 1 ? new ulong[vocabulary] : [];
    }

    /// <summary>V, the number of logits.</summary>
    public int Vocabulary => _vocabulary;

    /// <summary>
    /// Seed of the draws: that of the options or, if they have none, a random seed below 2^53 chosen by this sampler. A sampler with this seed makes
    /// the same draws. 0 if the options have no seed and the temperature is 0, which needs no random numbers.
    /// </summary>
    public ulong Seed { get; }

    /// <summary>
    /// Log-probability of the last drawn token, by the model's softmax before bias, penalties and temperature. NaN before the first draw, or if
    /// <see cref="SamplingOptions.LogProbabilities"/> is null.
    /// </summary>
    public float LogProbability { get; private set; } = float.NaN;

    /// <summary>
    /// The most probable tokens at the last draw by the same softmax, in order of falling probability; of equally probable tokens the lower id comes
    /// first. Their number is <see cref="SamplingOptions.LogProbabilities"/>, or V if that is smaller. Valid until the next draw.
    /// </summary>
    public ReadOnlySpan<TokenProbability> MostProbable => _mostProbable.AsSpan(0, _mostProbableCount);

    /// <summary>Bias that is added to the logits, by token id; null for none.</summary>
    internal IReadOnlyDictionary<int, float>? Bias { get; }

    /// <summary>Whether a draw has penalties, which need the tokens so far, or a bias.</summary>
    internal bool Adjusts => _penalties.Any || Bias is not null;

    /// <summary>Lets one thread at a time draw. A batch takes the turn of each of its samplers.</summary>
    internal Turn Turn { get; } = new(nameof(Sampler), "sampler", "Give each session a sampler of its own.");

    /// <summary>Draws one token. Allocates nothing.</summary>
    /// <param name="logits">Logits of the next token // (V); overwritten.</param>
    /// <param name="history">Ids of the prompt and of the tokens so far, for the penalties. The history of the first call is the prompt.</param>
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
        BeginText(history.Length);
        ReadSoftmax(logits);
        if (Adjusts)
        {
            Adjust(logits, history);
        }

        int top = LogitVector.ArgMax(logits);
        int id = _options.Temperature == 0 ? top : Draw(logits, top);
        if (_softmax is not null)
        {
            _softmax.Draw(_original[id]);
            TakeProbabilities();
        }

        return id;
    }

    /// <summary>
    /// Settings for a device to draw the next token, equal to that of <see cref="Next"/> up to rounding. <see cref="HasDrawn"/> must follow.
    /// </summary>
    /// <param name="tally">Counts of the tokens so far, and the bias; null unless <see cref="Adjusts"/> is true.</param>
    internal DrawSettings OnDevice(TokenTally? tally) => new(_options.Temperature, _options.TopK, _options.TopP, _options.MinP, _random.State)
    {
        Penalties = _penalties,
        Tally = tally,
        Softmax = _softmax,
    };

    /// <summary>Advances the random sequence past a token that a device has drawn.</summary>
    internal void HasDrawn()
    {
        if (_options.Temperature > 0)
        {
            _random.NextBits();
        }

        if (_softmax is not null)
        {
            TakeProbabilities();
        }
    }

    /// <summary>Notes the number of tokens before a draw. The tokens before the first draw are the prompt.</summary>
    /// <returns>Number of tokens in the prompt.</returns>
    internal int BeginText(int length) => _promptLength = _promptLength < 0 ? length : _promptLength;

    // Must come before the logits are adjusted.
    private void ReadSoftmax(ReadOnlySpan<float> logits)
    {
        if (_softmax is not null)
        {
            float max = logits[LogitVector.ArgMax(logits)];
            logits.CopyTo(_original);
            _softmax.Set(logits, max, LogitVector.SumOfWeights(logits, max));
        }
    }

    private void TakeProbabilities()
    {
        (LogProbability, _mostProbableCount) = (_softmax!.Drawn, _softmax.Held);
        for (int i = 0; i < _mostProbableCount; i++)
        {
            var (id, logProbability) = _softmax[i];
            _mostProbable[i] = new TokenProbability(id, logProbability);
        }
    }

    // Adds the bias, then applies the penalties once for each distinct id of the history.
    private void Adjust(Span<float> logits, ReadOnlySpan<int> history)
    {
        int bad = history.IndexOfAnyExceptInRange(0, logits.Length - 1);
        if (bad >= 0)
        {
            throw new ArgumentOutOfRangeException(nameof(history), history[bad], $"Token ids are 0..{logits.Length - 1}.");
        }

        if (Bias is not null)
        {
            foreach (var (id, value) in Bias)
            {
                logits[id] += value;
            }
        }

        if (!_penalties.Any)
        {
            return;
        }

        for (int i = 0; i < history.Length; i++)
        {
            _words[history[i]] = (_words[history[i]] | TokenTally.Seen) + (i < _promptLength ? 0 : 1);
        }

        foreach (int id in history)
        {
            if (_words[id] != 0)
            {
                logits[id] = _penalties.Apply(logits[id], _words[id] & ~TokenTally.Seen);
                _words[id] = 0;
            }
        }
    }

    private int Draw(Span<float> logits, int top)
    {
        if (_best.Length > 0)
        {
            KeepLargest(logits);
        }

        LogitVector.ToWeights(logits, logits[top], _options.Temperature);
        if (_ranked.Length > 0)
        {
            KeepNucleus(logits);
        }

        // Weights are relative to the weight of the most probable token, which is 1.
        return DrawWeighted(logits, _options.MinP, top);
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

    // Top-p: a token is kept if the tokens before it, in order of falling weight, hold less than the fraction p of the sum.
    private void KeepNucleus(Span<float> weights)
    {
        double total = LogitVector.Sum(weights);

        // V tokens of weight ≤ (1-p)·total/V hold at most the fraction 1-p of the sum, so they are excluded in any order.
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

    // Inverts the cumulative distribution, with ids in rising order.
    private int DrawWeighted(ReadOnlySpan<float> weights, float least, int top)
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
