using Tiller.Kernels;

namespace Tiller.Checkpoint;

// One alphabet, used in every file of the engine:
//
//   L  layers (blocks)             N  tokens                      D  width of the residual stream
//   H  attention heads             G  key/value heads             E  size of one head
//   F  width of the feed-forward   V  vocabulary                  p  tangents (or cotangents)
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
}

/// <summary>
/// Everything the generic decoder block needs to know about a checkpoint. A model family is a row of this data, not a class.
/// Read and validated once, where config.json is read.
/// </summary>
public sealed record ModelConfig
{
    /// <summary><c>model_type</c> of config.json: llama, mistral, qwen2, qwen3, gemma2.</summary>
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

    /// <summary>Norms also after attention and after the feed-forward unit (Gemma-2).</summary>
    public required bool PostNorms { get; init; }

    /// <summary>Query, key and value projections carry a bias (Qwen2).</summary>
    public required bool QkvBias { get; init; }

    /// <summary>Queries and keys are normalised per head before RoPE (Qwen3).</summary>
    public required bool QkNorm { get; init; }

    /// <summary>Nonlinearity of the gated unit.</summary>
    public required Activation Activation { get; init; }

    /// <summary>Base of the rotary frequencies.</summary>
    public required double RopeTheta { get; init; }

    /// <summary>Rescaling of the rotary frequencies; null for none.</summary>
    public required RopeScaling? RopeScaling { get; init; }

    /// <summary>Factor a on q·k: E^-1/2, or query_pre_attn_scalar^-1/2.</summary>
    public required float AttentionScale { get; init; }

    /// <summary>Attention scores become cap·tanh(z/cap); 0 for none.</summary>
    public required float AttentionSoftCap { get; init; }

    /// <summary>Logits become cap·tanh(z/cap); 0 for none.</summary>
    public required float LogitSoftCap { get; init; }

    /// <summary>Embeddings are multiplied by this, already rounded as transformers rounds it; 1 for none.</summary>
    public required float EmbeddingScale { get; init; }

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
}
