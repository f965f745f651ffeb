namespace Tiller.Model;

/// <summary>A sampling setting is outside its range.</summary>
public sealed class SamplingOptionsException : TillerException
{
    internal SamplingOptionsException(string option, string expected, string actual)
        : base($"SamplingOptions.{option} must be {expected}, got {actual}.")
    {
        Option = option;
    }

    /// <summary>Name of the property of <see cref="SamplingOptions"/>.</summary>
    public string Option { get; }
}

/// <summary>
/// How the next token is drawn from the logits. The filters apply in the order of transformers' generation: repetition penalty,
/// temperature, top-k, top-p, min-p. The default is greedy decoding.
/// </summary>
public sealed record SamplingOptions
{
    /// <summary>Divides the logits; 0 (the default) takes the largest logit. At most <see cref="MaxTemperature"/>.</summary>
    public float Temperature { get; init; }

    /// <summary>Keeps the K largest logits, and those equal to the K-th; 0 (the default) keeps all.</summary>
    public int TopK { get; init; }

    /// <summary>Keeps the fewest most probable tokens that together reach this probability, in (0, 1]; 1 (the default) keeps all.</summary>
    public float TopP { get; init; } = 1;

    /// <summary>Keeps tokens at least this many times as probable as the most probable one, in [0, 1]; 0 (the default) keeps all.</summary>
    public float MinP { get; init; }

    /// <summary>
    /// Divides the positive and multiplies the negative logits of every token of the prompt and of the text so far
    /// (arXiv:1909.05858); 1 (the default) changes nothing. Between 0.01 and 100. Applies to greedy decoding too.
    /// </summary>
    public float RepetitionPenalty { get; init; } = 1;

    /// <summary>
    /// Seed of the draws: the same logits and seed give the same tokens on every machine. Null (the default) lets every <see cref="Sampler"/>
    /// draw a seed of its own, which <see cref="Sampler.Seed"/> tells, so that several made from the same options give different texts.
    /// </summary>
    public ulong? Seed { get; init; }

    /// <summary>Largest temperature; beyond it every distribution is flat.</summary>
    public const float MaxTemperature = 100;

    internal const float MinPenalty = 0.01f;
    internal const float MaxPenalty = 100;

    /// <summary>Checks every setting.</summary>
    /// <exception cref="SamplingOptionsException">A setting is NaN or outside its range.</exception>
    public void Validate()
    {
        Require(Temperature is >= 0 and <= MaxTemperature, nameof(Temperature), $"0 (greedy) to {MaxTemperature}", Temperature);
        Require(TopK >= 0, nameof(TopK), "0 (off) or more", TopK);
        Require(TopP is > 0 and <= 1, nameof(TopP), "above 0 and at most 1 (off)", TopP);
        Require(MinP is >= 0 and <= 1, nameof(MinP), "0 (off) to 1", MinP);
        Require(RepetitionPenalty is >= MinPenalty and <= MaxPenalty, nameof(RepetitionPenalty), $"{MinPenalty} to {MaxPenalty} (1 is off)",
            RepetitionPenalty);
    }

    private static void Require(bool holds, string option, string expected, double actual)
    {
        if (!holds)
        {
            throw new SamplingOptionsException(option, expected, actual.ToString("G9"));
        }
    }
}
