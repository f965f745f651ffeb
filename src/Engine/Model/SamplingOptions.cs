using Tiller.Ops;

namespace Tiller.Model;

/// <summary>A sampling setting is outside its range.</summary>
public sealed class SamplingOptionsException : TillerException
{
    internal SamplingOptionsException(string option, string expected, double actual)
        : base($"SamplingOptions.{option} must be {expected}, got {actual:G9}.")
    {
        Option = option;
    }

    /// <summary>Name of the property in <see cref="SamplingOptions"/>.</summary>
    public string Option { get; }
}

/// <summary>
/// How the next token is drawn from the logits. The settings apply in this order: logit bias, repetition penalty, presence and frequency penalty,
/// temperature, top-k, top-p, min-p. The filters are those of transformers. The default is greedy decoding.
/// </summary>
public sealed record SamplingOptions
{
    /// <summary>Divides the logits; 0 (the default) always takes the largest logit. At most <see cref="MaxTemperature"/>.</summary>
    public float Temperature { get; init; }

    /// <summary>Keeps the K largest logits and those equal to the K-th; 0 (the default) keeps all.</summary>
    public int TopK { get; init; }

    /// <summary>Keeps the smallest set of most probable tokens that together reach this probability, in (0, 1]; 1 (the default) keeps all.</summary>
    public float TopP { get; init; } = 1;

    /// <summary>Keeps tokens whose probability is at least this fraction of the largest one, in [0, 1]; 0 (the default) keeps all.</summary>
    public float MinP { get; init; }

    /// <summary>
    /// Divides the positive and multiplies the negative logits of every token of the prompt and of the text so far
    /// (arXiv:1909.05858); 1 (the default) changes nothing. Between 0.01 and 100. Applies to greedy decoding too.
    /// </summary>
    public float RepetitionPenalty { get; init; } = 1;

    /// <summary>
    /// Subtracted from the logit of every token that is in the text so far; the prompt does not count. 0 (the default) changes nothing. From
    /// −<see cref="MaxTextPenalty"/> to <see cref="MaxTextPenalty"/>; a negative value favours tokens that occurred before. Applies to greedy
    /// decoding too.
    /// </summary>
    public float PresencePenalty { get; init; }

    /// <summary>
    /// Subtracted from the logit of a token once for each of its occurrences in the text so far; the prompt does not count. 0 (the default) changes
    /// nothing. From −<see cref="MaxTextPenalty"/> to <see cref="MaxTextPenalty"/>. Applies to greedy decoding too.
    /// </summary>
    public float FrequencyPenalty { get; init; }

    /// <summary>
    /// Added to the logits of these tokens, each value from −<see cref="MaxBias"/>, which almost bans a token, to <see cref="MaxBias"/>; null (the
    /// default) for none. The dictionary must not change while a sampler with these options is in use. Applies to greedy decoding too.
    /// </summary>
    public IReadOnlyDictionary<int, float>? LogitBias { get; init; }

    /// <summary>
    /// Number of tokens in <see cref="Sampler.MostProbable"/> after a draw, 0 to <see cref="MaxLogProbabilities"/>. If set,
    /// <see cref="Sampler.LogProbability"/> is also set after every draw. Null (the default) for neither. The probabilities are those of the model's
    /// softmax before bias, penalties and temperature.
    /// </summary>
    public int? LogProbabilities { get; init; }

    /// <summary>
    /// Seed of the draws: the same logits and seed give the same tokens on every machine. If null (the default), every <see cref="Sampler"/> chooses
    /// a random seed (<see cref="Sampler.Seed"/>), so that several samplers with the same options give different texts.
    /// </summary>
    public ulong? Seed { get; init; }

    /// <summary>Largest temperature; beyond it every distribution is flat.</summary>
    public const float MaxTemperature = 100;

    /// <summary>Largest presence and frequency penalty, of either sign.</summary>
    public const float MaxTextPenalty = 2;

    /// <summary>Largest bias of a logit, of either sign.</summary>
    public const float MaxBias = 100;

    /// <summary>Largest value of <see cref="LogProbabilities"/>.</summary>
    public const int MaxLogProbabilities = SoftmaxTop.Max;

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
        Require(float.Abs(PresencePenalty) <= MaxTextPenalty, nameof(PresencePenalty), $"-{MaxTextPenalty} to {MaxTextPenalty} (0 is off)",
            PresencePenalty);
        Require(float.Abs(FrequencyPenalty) <= MaxTextPenalty, nameof(FrequencyPenalty), $"-{MaxTextPenalty} to {MaxTextPenalty} (0 is off)",
            FrequencyPenalty);
        Require(LogProbabilities is null or (>= 0 and <= MaxLogProbabilities), nameof(LogProbabilities), $"0 to {MaxLogProbabilities}",
            LogProbabilities ?? 0);
        foreach (var (id, bias) in LogitBias ?? new Dictionary<int, float>())
        {
            Require(id >= 0, nameof(LogitBias), "of token ids, 0 or more", id);
            Require(float.Abs(bias) <= MaxBias, nameof(LogitBias), $"from -{MaxBias} to {MaxBias} for each token", bias);
        }
    }

    /// <summary>Checks every setting, also against a vocabulary.</summary>
    /// <param name="vocabulary">V.</param>
    /// <exception cref="SamplingOptionsException">A setting is NaN or outside its range.</exception>
    internal void Validate(int vocabulary)
    {
        Validate();
        foreach (int id in LogitBias?.Keys ?? [])
        {
            Require(id < vocabulary, nameof(LogitBias), $"of token ids below {vocabulary}", id);
        }
    }

    private static void Require(bool holds, string option, string expected, double actual)
    {
        if (!holds)
        {
            throw new SamplingOptionsException(option, expected, actual);
        }
    }
}
