using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>
/// The weights of one block, in their stored type, as the stages read them. Norm weights and biases are widened to float32 (exact).
/// A view: the memory belongs to the model.
/// </summary>
internal sealed record BlockWeights
{
    /// <summary>Norm before attention // (1, D).</summary>
    public required Floats AttentionNorm { get; init; }

    /// <summary>Wq, Wk, Wv under each other // ((H + 2G) E, D).</summary>
    public required Matrix Qkv { get; init; }

    /// <summary>Biases of <see cref="Qkv"/> // (1, (H + 2G) E), or absent.</summary>
    public Floats QkvBias { get; init; }

    /// <summary>Norm of each query head // (1, E), or absent.</summary>
    public Floats QueryNorm { get; init; }

    /// <summary>Norm of each key head // (1, E), or absent.</summary>
    public Floats KeyNorm { get; init; }

    /// <summary>Wo // (D, H E).</summary>
    public required Matrix Output { get; init; }

    /// <summary>Norm after attention // (1, D), or absent.</summary>
    public Floats PostAttentionNorm { get; init; }

    /// <summary>Norm before the gated unit // (1, D).</summary>
    public required Floats FeedForwardNorm { get; init; }

    /// <summary>Wgate over Wup // (2F, D).</summary>
    public required Matrix GateUp { get; init; }

    /// <summary>Wdown // (D, F).</summary>
    public required Matrix Down { get; init; }

    /// <summary>Norm after the gated unit // (1, D), or absent.</summary>
    public Floats PostFeedForwardNorm { get; init; }
}
