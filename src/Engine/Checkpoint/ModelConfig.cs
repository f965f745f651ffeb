using Tiller.Kernels;

namespace Tiller.Checkpoint;

// One alphabet, used in every file of the engine:
//
//   L  layers (blocks)             N  tokens                      D  width of the residual stream
//   H  attention heads             G  key/value heads             E  size of one head
//   F  width of the feed-forward   V  vocabulary                  p  tangents (or cotangents)
//   R  numbers of a head that RoPE rotates
//   k  a layer, 0 .. L-1           t  a position                  x  residual stream, dx its tangent

/// <summary>How rotary frequencies are rescaled for long contexts (<c>rope_scaling</c> in config.json).</summary>
public abstract record RopeScaling
{
    /// <summary>Every frequency is divided by <paramref name="Factor"/>.</summary>
    /// <param name="Factor">Ratio of new to original context, at least 1.</param>
    public sealed record Linear(double Factor) : RopeScaling;

    /// <summary>
    /// Llama 3.1: frequencies of long wavelengths are divided by the factor, those of short ones are kept, and those between are interpolated.
    /// </summary>
    /// <param name="Factor">Divisor of the low frequencies.</param>
    /// <param name="LowFrequencyFactor">Frequencies of wavelengths above original / this are divided.</param>
    /// <param name="HighFrequencyFactor">Frequencies of wavelengths below original / this are kept.</param>
    /// <param name="OriginalMaxPositions">Context length of the original training, in tokens.</param>
    public sealed record Llama3(double Factor, double LowFrequencyFactor, double HighFrequencyFactor, int OriginalMaxPositions) : RopeScaling;

    /// <summary>
    /// YaRN (arXiv:2309.00071): high frequencies are kept, low ones are divided by the factor, and a ramp interpolates between them.
    /// </summary>
    /// <param name="Factor">Divisor of the low frequencies, at least 1.</param>
    /// <param name="OriginalMaxPositions">Context length of the original training, in tokens.</param>
    /// <param name="BetaFast">A pair that makes more turns than this within the original context keeps its frequency.</param>
    /// <param name="BetaSlow">The frequency of a pair that makes fewer turns than this within the original context is divided.</param>
    /// <param name="Truncate">Whether the ends of the ramp are rounded to whole pair indices.</param>
    /// <param name="Amplitude">Factor on rotated queries and keys.</param>
    public sealed record Yarn(double Factor, int OriginalMaxPositions, double BetaFast, double BetaSlow, bool Truncate, double Amplitude)
        : RopeScaling;

    /// <summary>
    /// LongRoPE (arXiv:2402.13753): every frequency is divided by its own factor. The short factors apply while the sequence fits the original
    /// context. Once it is longer, the long factors apply to all its tokens.
    /// </summary>
    /// <param name="ShortFactors">Factors for sequences that fit the original context // (R/2).</param>
    /// <param name="LongFactors">Factors for longer sequences // (R/2).</param>
    /// <param name="OriginalMaxPositions">Context length of the original training, in tokens.</param>
    /// <param name="Amplitude">Factor on rotated queries and keys.</param>
    public sealed record LongRope(IReadOnlyList<double> ShortFactors, IReadOnlyList<double> LongFactors, int OriginalMaxPositions, double Amplitude)
        : RopeScaling
    {
        /// <inheritdoc/>
        public bool Equals(LongRope? other) => other is not null && (OriginalMaxPositions, Amplitude) == (other.OriginalMaxPositions, other.Amplitude)
            && ShortFactors.SequenceEqual(other.ShortFactors) && LongFactors.SequenceEqual(other.LongFactors);

        /// <inheritdoc/>
        public override int GetHashCode() => HashCode.Combine(OriginalMaxPositions, Amplitude, ShortFactors.Count);

        /// <inheritdoc/>
        public override string ToString() => $"LongRope {{ OriginalMaxPositions = {OriginalMaxPositions}, Amplitude = {Amplitude} }}";
    }
}

/// <summary>RoPE of a layer: how its queries and keys are rotated by position.</summary>
/// <param name="Theta">Base of the frequencies.</param>
/// <param name="Scaling">Rescaling of the frequencies; null for none.</param>
public sealed record Rotary(double Theta, RopeScaling? Scaling = null);

/// <summary>How queries and keys are normalised before RoPE.</summary>
public enum QkNorm
{
    /// <summary>No norm.</summary>
    None,

    /// <summary>Each head by itself (Qwen3, Gemma-3).</summary>
    Heads,

    /// <summary>All query heads together, and all key heads together (OLMo-2).</summary>
    Width,
}

/// <summary>
/// The properties of a checkpoint that the generic decoder block needs. A model family is a row of this data, not a class. They are read and
/// validated once, from config.json.
/// </summary>
public sealed record ModelConfig
{
    /// <summary>Name of the family: <c>model_type</c> of config.json.</summary>
    public required string Family { get; init; }

    /// <summary>Number of blocks.</summary>
    public required int L { get; init; }

    /// <summary>Width of the residual stream.</summary>
    public required int D { get; init; }

    /// <summary>Number of attention (query) heads.</summary>
    public required int H { get; init; }

    /// <summary>Number of key/value heads; H is a multiple of it.</summary>
    public required int G { get; init; }

    /// <summary>Size of one head; even. H * E need not equal D.</summary>
    public required int E { get; init; }

    /// <summary>Width of the feed-forward unit.</summary>
    public required int F { get; init; }

    /// <summary>Size of the vocabulary: rows of the embedding.</summary>
    public required int V { get; init; }

    /// <summary>Context limit in tokens (<c>max_position_embeddings</c>).</summary>
    public required int MaxPositions { get; init; }

    /// <summary>ε of every RMSNorm.</summary>
    public required float NormEpsilon { get; init; }

    /// <summary>Whether RMSNorm multiplies by 1 + w instead of w (Gemma).</summary>
    public required bool NormAddsOne { get; init; }

    /// <summary>Whether there are norms before attention and before the gated unit (all families but OLMo-2).</summary>
    public bool PreNorms { get; init; } = true;

    /// <summary>Whether there are norms after attention and after the gated unit (Gemma-2, Gemma-3, OLMo-2).</summary>
    public required bool PostNorms { get; init; }

    /// <summary>Whether the query, key and value projections have biases (Qwen2, or <c>attention_bias</c>).</summary>
    public required bool QkvBias { get; init; }

    /// <summary>Whether the output projection of attention has a bias (<c>attention_bias</c>).</summary>
    public bool OutputBias { get; init; }

    /// <summary>Whether the linear maps of the gated unit have biases (<c>mlp_bias</c>).</summary>
    public bool FeedForwardBias { get; init; }

    /// <summary>Norms of queries and keys before RoPE.</summary>
    public required QkNorm QkNorm { get; init; }

    /// <summary>Nonlinearity of the gated unit.</summary>
    public required Activation Activation { get; init; }

    /// <summary>RoPE of each layer; null for a layer without RoPE (SmolLM3). Length L.</summary>
    public required IReadOnlyList<Rotary?> Rotary { get; init; }

    /// <summary>The first R numbers of a head are rotated, the others are not (Phi-4-mini). Even.</summary>
    public required int R { get; init; }

    /// <summary>Factor a on q·k: E^-1/2, query_pre_attn_scalar^-1/2 or attention_multiplier.</summary>
    public required float AttentionScale { get; init; }

    /// <summary>Attention scores become cap·tanh(z/cap); 0 for none.</summary>
    public required float AttentionSoftCap { get; init; }

    /// <summary>Logits become cap·tanh(z/cap); 0 for none.</summary>
    public required float LogitSoftCap { get; init; }

    /// <summary>Embeddings are multiplied by this, already rounded as transformers rounds it; 1 for none.</summary>
    public required float EmbeddingScale { get; init; }

    /// <summary>Factor on the outputs that attention and the gated unit add to the residual stream; 1 for none (Granite).</summary>
    public float ResidualScale { get; init; } = 1;

    /// <summary>Logits are divided by this; 1 for none (Granite).</summary>
    public float LogitDivisor { get; init; } = 1;

    /// <summary>Attention window of each layer in tokens, including the query's own token; 0 for full attention. Length L.</summary>
    public required IReadOnlyList<int> Windows { get; init; }

    /// <summary>Whether the head shares the embedding matrix.</summary>
    public required bool TiedHead { get; init; }

    /// <summary>Beginning-of-text id, or null.</summary>
    public required int? BosId { get; init; }

    /// <summary>
    /// The ids in config.json and generation_config.json that end a text; may be empty. Other files of a checkpoint may name more:
    /// <c>LanguageModel.EndIds</c> has all.
    /// </summary>
    public required IReadOnlyList<int> EosIds { get; init; }

    /// <summary>Whether the checkpoint stores queries, keys and values as one matrix, and gate and up as another (Phi-3).</summary>
    public bool FusedWeights { get; init; }

    /// <summary>Whether this is the text model of a checkpoint that also reads images.</summary>
    public bool IsPartOfMultimodal { get; init; }

    /// <summary>
    /// Factor on q·k if both q and k contain the factor <see cref="ResidualScale"/>, which is folded into the norm before attention.
    /// </summary>
    internal float ScoreScale => AttentionScale / (ResidualScale * ResidualScale);

    /// <summary>The distinct values of <see cref="Rotary"/>, in the order of their first layers.</summary>
    internal IReadOnlyList<Rotary?> RotaryTables => [.. Rotary.Distinct()];

    /// <summary>
    /// Length in tokens up to which a sequence uses the short factors of LongRoPE; null without LongRoPE. All tokens of a longer sequence use the
    /// long factors.
    /// </summary>
    internal int? ShortPositions =>
        (Rotary.FirstOrDefault(rotary => rotary?.Scaling is RopeScaling.LongRope)?.Scaling as RopeScaling.LongRope)?.OriginalMaxPositions;
}
