namespace Tiller.Ops;

/// <summary>How a token is drawn from logits; the filters are those of transformers.</summary>
/// <param name="Temperature">Divides the logits; 0 takes the largest.</param>
/// <param name="TopK">Keeps the K largest logits; 0 keeps all.</param>
/// <param name="TopP">Keeps the most probable tokens that reach this probability; 1 keeps all.</param>
/// <param name="MinP">Keeps tokens at least this many times as probable as the most probable; 0 keeps all.</param>
/// <param name="Random">State of the random sequence (SplitMix64).</param>
internal readonly record struct DrawSettings(float Temperature, int TopK, float TopP, float MinP, ulong Random)
{
    internal const ulong Gamma = 0x9E3779B97F4A7C15;

    /// <summary>State of the random sequence after a token has been drawn.</summary>
    public ulong RandomAfter => Temperature > 0 ? unchecked(Random + Gamma) : Random;

    /// <summary>Penalties that are applied to the logits first; none if <see cref="Tally"/> is null.</summary>
    internal LogitPenalties Penalties { get; init; }

    /// <summary>Counts of the tokens that penalties apply to, and the bias; null if the logits are not adjusted.</summary>
    internal TokenTally? Tally { get; init; }

    /// <summary>Gets the softmax of the unadjusted logits; null if it is not asked for.</summary>
    internal SoftmaxTop? Softmax { get; init; }

    /// <summary>Whether the draw does more than take the largest logit.</summary>
    internal bool NeedsSettings => Temperature > 0 || Tally is not null || Softmax is not null;
}

/// <summary>Penalties on the logit of a token that occurred before. They apply after the bias.</summary>
/// <param name="Repetition">
/// Divides a positive logit, or multiplies a negative one, of a token that is in the prompt or the text; 1 changes nothing.
/// </param>
/// <param name="Presence">Subtracted if the token is in the text; 0 changes nothing.</param>
/// <param name="Frequency">Subtracted once for each occurrence of the token in the text; 0 changes nothing.</param>
internal readonly record struct LogitPenalties(float Repetition, float Presence, float Frequency)
{
    /// <summary>Whether the penalties change any logit.</summary>
    public bool Any => this != new LogitPenalties(1, 0, 0);

    /// <summary>The penalised logit of a token that occurred before, rounded as the kernels round it (head.cu).</summary>
    /// <param name="logit">The logit with its bias.</param>
    /// <param name="count">Number of occurrences in the text; 0 if the token is in the prompt only.</param>
    public float Apply(float logit, int count)
    {
        logit = logit < 0 ? logit * Repetition : logit / Repetition;
        if (count > 0)
        {
            float less = (Frequency * count) + Presence;
            logit -= less;
        }

        return logit;
    }
}
