namespace Tiller.Ops;

/// <summary>How a token is drawn from logits; the filters are those of transformers.</summary>
/// <param name="Temperature">Divides the logits; 0 takes the largest.</param>
/// <param name="TopK">Keeps the K largest logits; 0 keeps all.</param>
/// <param name="TopP">Keeps the most probable tokens that reach this probability; 1 keeps all.</param>
/// <param name="MinP">Keeps tokens at least this many times as probable as the most probable; 0 keeps all.</param>
/// <param name="Random">Where the random sequence is (SplitMix64).</param>
public readonly record struct DrawSettings(float Temperature, int TopK, float TopP, float MinP, ulong Random)
{
    internal const ulong Gamma = 0x9E3779B97F4A7C15;

    /// <summary>Where the random sequence is once a token has been drawn.</summary>
    public ulong RandomAfter => Temperature > 0 ? unchecked(Random + Gamma) : Random;

    /// <summary>What changes the logits before all that; nothing where <see cref="Tally"/> is null.</summary>
    internal LogitPenalties Penalties { get; init; }

    /// <summary>The tokens that penalties are about, and the bias; null where the logits stay as they are.</summary>
    internal TokenTally? Tally { get; init; }

    /// <summary>Gets the softmax of the logits as they are; null where nobody asks.</summary>
    internal SoftmaxTop? Softmax { get; init; }

    /// <summary>Whether it is more than taking the largest logit.</summary>
    internal bool NeedsSettings => Temperature > 0 || Tally is not null || Softmax is not null;
}

/// <summary>What is done to the logit of a token that was there before, once a bias has been added.</summary>
/// <param name="Repetition">Divides a positive and multiplies a negative logit of a token of the prompt or the text; 1 changes nothing.</param>
/// <param name="Presence">Subtracted where the token is in the text; 0 changes nothing.</param>
/// <param name="Frequency">Subtracted for each time that the token is in the text; 0 changes nothing.</param>
internal readonly record struct LogitPenalties(float Repetition, float Presence, float Frequency)
{
    /// <summary>Whether any token's logit changes.</summary>
    public bool Any => this != new LogitPenalties(1, 0, 0);

    /// <summary>The logit of a token that was there before, rounded as the kernels round it (head.cu).</summary>
    /// <param name="logit">With its bias.</param>
    /// <param name="count">How often the token is in the text; 0 for one of the prompt alone.</param>
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
