using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>
/// The weights of one block, in their stored type and in the layout that the stages read. Norm weights and biases are widened to float32 (exact).
/// This is a view; the model owns the memory.
/// </summary>
internal sealed record BlockWeights
{
    /// <summary>Norm before attention // (1, D), or absent.</summary>
    public required Floats AttentionNorm { get; init; }

    /// <summary>
    /// Wq, Wk, Wv stacked // ((H + 2G) E, D). The rows of each query and key head are ordered so that rows e and e + E/2 form pair e of RoPE.
    /// </summary>
    public required Matrix Qkv { get; init; }

    /// <summary>Biases of <see cref="Qkv"/> // (1, (H + 2G) E), or absent.</summary>
    public Floats QkvBias { get; init; }

    /// <summary>Norm of queries // (1, E) for each head, (1, H E) for all heads together, or absent.</summary>
    public Floats QueryNorm { get; init; }

    /// <summary>Norm of keys // (1, E) for each head, (1, G E) for all heads together, or absent.</summary>
    public Floats KeyNorm { get; init; }

    /// <summary>Index of the rotary table for queries and keys (<see cref="Activations.Rotation"/>).</summary>
    public int Rotation { get; init; }

    /// <summary>Wo // (D, H E).</summary>
    public required Matrix Output { get; init; }

    /// <summary>Bias of <see cref="Output"/> // (1, D), or absent.</summary>
    public Floats OutputBias { get; init; }

    /// <summary>Norm after attention // (1, D), or absent.</summary>
    public Floats PostAttentionNorm { get; init; }

    /// <summary>Norm before the gated unit // (1, D), or absent.</summary>
    public required Floats FeedForwardNorm { get; init; }

    /// <summary>Wgate over Wup // (2F, D).</summary>
    public required Matrix GateUp { get; init; }

    /// <summary>Biases of <see cref="GateUp"/> // (1, 2F), or absent.</summary>
    public Floats GateUpBias { get; init; }

    /// <summary>Wdown // (D, F).</summary>
    public required Matrix Down { get; init; }

    /// <summary>Bias of <see cref="Down"/> // (1, D), or absent.</summary>
    public Floats DownBias { get; init; }

    /// <summary>Norm after the gated unit // (1, D), or absent.</summary>
    public Floats PostFeedForwardNorm { get; init; }
}
