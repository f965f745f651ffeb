using Tiller.Kernels;

namespace Tiller.Checkpoint;

// One alphabet, used in every file of the engine:
//
//   L  layers (blocks)             N  tokens                      D  width of the residual stream
//   H  attention heads             G  key/value heads             E  size of one head
//   F  width of the feed-forward   V  vocabulary                  p  tangents (or cotangents)
//   R  part of a head that RoPE turns
//   k  a layer, 0 .. L-1           t  a position                  x  residual stream, dx its tangent

/// <summary>How rotary frequencies are rescaled for long contexts (<c>rope_scaling</c> in config.json).</summary>
public abstract record RopeScaling
{
    /// <summary>Every frequency is divided by <paramref name="Factor"/>.</summary>
    /// <param name="Factor">Ratio of new to original context, at least 1.</param>
    public sealed record Linear(double Factor) : RopeScaling;

    /// <summary>Llama 3.1: long wavelengths are divided by the factor, short ones kept, the band between is interpolated.</summary>
    /// <param name="Factor">Division of the low frequencies.</param>
    /// <param name="LowFrequencyFactor">Wavelengths above original / this are divided.</param>
    /// <param name="HighFrequencyFactor">Wavelengths below original / this are kept.</param>
    /// <param name="OriginalMaxPositions">Context length the checkpoint was first trained on, in tokens.</param>
    public sealed record Llama3(double Factor, double LowFrequencyFactor, double HighFrequencyFactor, int OriginalMaxPositions) : RopeScaling;

    /// <summary>
    /// YaRN (arXiv:2309.00071): pairs that turn often are kept, those that turn seldom are divided by the factor, a ramp lies between.
    /// </summary>
    /// <param name="Factor">Division of the low frequencies, at least 1.</param>
    /// <param name="OriginalMaxPositions">Context length the checkpoint was first trained on, in tokens.</param>
    /// <param name="BetaFast">Turns within the original context above which a pair is kept.</param>
    /// <param name="BetaSlow">Turns within the original context below which a pair is divided.</param>
    /// <param name="Truncate">The ends of the ramp are whole numbers of pairs.</param>
    /// <param name="Amplitude">What queries and keys are multiplied by as they are turned.</param>
    public sealed record Yarn(double Factor, int OriginalMaxPositions, double BetaFast, double BetaSlow, bool Truncate, double Amplitude)
        : RopeScaling;

    /// <summary>
    /// LongRoPE (arXiv:2402.13753): every frequency is divided by a factor of its own, out of one list while the sequence fits the original context,
    /// out of another once it is longer, then for all of its tokens.
    /// </summary>
    /// <param name="ShortFactors">Factors of sequences that fit // (R/2).</param>
    /// <param name="LongFactors">Factors of longer ones // (R/2).</param>
    /// <param name="OriginalMaxPositions">Context length the checkpoint was first trained on, in tokens.</param>
    /// <param name="Amplitude">What queries and keys are multiplied by as they are turned.</param>
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

/// <summary>How a layer turns its queries and keys by their position.</summary>
/// <param name="Theta">Base of the frequencies.</param>
/// <param name="Scaling">How they are rescaled; null for none.</param>
public sealed record Rotary(double Theta, RopeScaling? Scaling = null);

/// <summary>What is normalised of queries and keys before they are turned.</summary>
public enum QkNorm
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>Each head by itself (Qwen3, Gemma-3).</summary>
    Heads,

    /// <summary>All query heads together, and all key heads together (OLMo-2).</summary>
    Width,
}

/// <summary>
/// Everything the generic decoder block needs to know about a checkpoint. A model family is a row of this data, not a class.
/// Read and validated once, where config.json is read.
/// </summary>
public sealed record ModelConfig
{
    /// <summary>Name of the family, as <c>model_type</c> of config.json has it.</summary>
    public required string Family { get; init; }

    /// <summary>Number of blocks.</summary>
    public required int L { get; init; }

    /// <summary>Width of the residual stream.</summary>
    public required int D { get; init; }

    /// <summary>Attention (query) heads.</summary>
    public required int H { get; init; }

    /// <summary>Key/value heads; H is a multiple of it.</summary>
    public required int G { get; init; }

    /// <summary>Size of one head; even. H * E need not equal D.</summary>
    public required int E { get; init; }

    /// <summary>Width of the feed-forward unit.</summary>
    public required int F { get; init; }

    /// <summary>Vocabulary: rows of the embedding.</summary>
    public required int V { get; init; }

    /// <summary>Context limit in tokens (<c>max_position_embeddings</c>).</summary>
    public required int MaxPositions { get; init; }

    /// <summary>ε of every RMSNorm.</summary>
    public required float NormEpsilon { get; init; }

    /// <summary>RMSNorm multiplies by 1 + w instead of w (Gemma).</summary>
    public required bool NormAddsOne { get; init; }

    /// <summary>Norms before attention and before the gated unit (all but OLMo-2).</summary>
    public bool PreNorms { get; init; } = true;

    /// <summary>Norms after attention and after the gated unit (Gemma-2, Gemma-3, OLMo-2).</summary>
    public required bool PostNorms { get; init; }

    /// <summary>Query, key and value projections carry a bias (Qwen2, or <c>attention_bias</c>).</summary>
    public required bool QkvBias { get; init; }

    /// <summary>The output projection of attention carries a bias (<c>attention_bias</c>).</summary>
    public bool OutputBias { get; init; }

    /// <summary>The maps of the gated unit carry a bias (<c>mlp_bias</c>).</summary>
    public bool FeedForwardBias { get; init; }

    /// <summary>Norms of queries and keys before RoPE.</summary>
    public required QkNorm QkNorm { get; init; }

    /// <summary>Nonlinearity of the gated unit.</summary>
    public required Activation Activation { get; init; }

    /// <summary>RoPE of each layer; null where a layer knows no positions (SmolLM3). Length L.</summary>
    public required IReadOnlyList<Rotary?> Rotary { get; init; }

    /// <summary>Numbers of a head that are turned, its first R; even. The others pass (Phi-4-mini).</summary>
    public required int R { get; init; }

    /// <summary>Factor a on q·k: E^-1/2, query_pre_attn_scalar^-1/2 or attention_multiplier.</summary>
    public required float AttentionScale { get; init; }

    /// <summary>Attention scores become cap·tanh(z/cap); 0 for none.</summary>
    public required float AttentionSoftCap { get; init; }

    /// <summary>Logits become cap·tanh(z/cap); 0 for none.</summary>
    public required float LogitSoftCap { get; init; }

    /// <summary>Embeddings are multiplied by this, already rounded as transformers rounds it; 1 for none.</summary>
    public required float EmbeddingScale { get; init; }

    /// <summary>What attention and the gated unit add to the residual stream is multiplied by this; 1 for none (Granite).</summary>
    public float ResidualScale { get; init; } = 1;

    /// <summary>Logits are divided by this; 1 for none (Granite).</summary>
    public float LogitDivisor { get; init; } = 1;

    /// <summary>Attention window per layer in tokens, the own token included; 0 for full attention. Length L.</summary>
    public required IReadOnlyList<int> Windows { get; init; }

    /// <summary>The head shares the embedding matrix.</summary>
    public required bool TiedHead { get; init; }

    /// <summary>Beginning-of-text id, or null.</summary>
    public required int? BosId { get; init; }

    /// <summary>
    /// Ids that end a text as config.json and generation_config.json have it together; may be empty. A checkpoint names them in further files:
    /// <c>LanguageModel.EndIds</c> has all.
    /// </summary>
    public required IReadOnlyList<int> EosIds { get; init; }

    /// <summary>The checkpoint stores queries, keys and values as one matrix, and gate and up as another (Phi-3).</summary>
    public bool FusedWeights { get; init; }

    /// <summary>The text model's part of a checkpoint that also reads images.</summary>
    public bool IsPartOfMultimodal { get; init; }

    /// <summary>
    /// Factor on q·k of queries and keys that both carry <see cref="ResidualScale"/>, as the norm before attention gives it to them.
    /// </summary>
    internal float ScoreScale => AttentionScale / (ResidualScale * ResidualScale);

    /// <summary>The different ways in which layers turn, in the order of the first layers that do.</summary>
    internal IReadOnlyList<Rotary?> RotaryTables => [.. Rotary.Distinct()];

    /// <summary>
    /// Tokens up to which a sequence is turned by the short factors of LongRoPE; null without it. One more, and all its tokens have the long ones.
    /// </summary>
    internal int? ShortPositions =>
        (Rotary.FirstOrDefault(rotary => rotary?.Scaling is RopeScaling.LongRope)?.Scaling as RopeScaling.LongRope)?.OriginalMaxPositions;
}
