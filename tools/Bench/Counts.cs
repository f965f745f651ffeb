using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Ops;

namespace Tiller.Bench;

/// <summary>
/// Bytes and FLOPs of the engine's steps, counted from the shape. A multiply-add is two FLOPs; norms and activations are not counted.
/// </summary>
internal sealed class Counts(ModelConfig c, TensorType type, KvType kv = KvType.F32)
{
    /// <summary>Size of one stored weight in bytes.</summary>
    public int WeightInBytes { get; } = type == TensorType.F32 ? 4 : 2;

    /// <summary>Number of weights in the linear maps of one block.</summary>
    public double BlockWeights { get; } = FitPlan.BlockWeights(c);

    /// <summary>Number of these that a tangent of a whole Jacobian is multiplied by.</summary>
    public double JacobianWeights { get; } = FitPlan.JacobianWeights(c);

    /// <summary>Number of weights in the head.</summary>
    public double HeadWeights { get; } = (double)c.V * c.D;

    /// <summary>Size of the stored matrices of one block in bytes.</summary>
    public double BlockBytes => BlockWeights * WeightInBytes;

    /// <summary>Size of all weights in memory in bytes, with norms and biases as float32.</summary>
    public double AllBytes =>
        (((c.TiedHead ? 1 : 2) * HeadWeights) + (c.L * BlockWeights)) * WeightInBytes
        + (4.0 * (c.D + (c.L * VectorsOfBlock)));

    // Norms and biases of one block.
    private double VectorsOfBlock =>
        (((c.PreNorms ? 2 : 0) + (c.PostNorms ? 2 : 0)) * c.D)
        + (c.QkNorm switch { QkNorm.None => 0, QkNorm.Heads => 2 * c.E, _ => (c.H + c.G) * c.E })
        + (c.QkvBias ? (c.H + (2 * c.G)) * c.E : 0) + (c.OutputBias ? c.D : 0) + (c.FeedForwardBias ? (2 * c.F) + c.D : 0);

    /// <summary>Bytes of weights that one decoded token reads. Of the embedding it reads a single row.</summary>
    public double DecodeBytes => (HeadWeights + (c.L * BlockWeights)) * WeightInBytes;

    /// <summary>Size of the keys and values of one sequence in bytes.</summary>
    public double CacheBytes(int context) => 2.0 * KvRows.SizeInBytes(kv) * c.L * c.G * c.E * context;

    /// <summary>FLOPs of one row through all blocks, including attention to <paramref name="context"/> positions.</summary>
    public double RowFlops(double context) => c.L * ((2 * BlockWeights) + AttentionFlops(context));

    /// <summary>FLOPs of one row's attention at one layer: q·k and the weighted sum of values.</summary>
    public double AttentionFlops(double context) => 4.0 * c.H * c.E * context;

    /// <summary>FLOPs of one row of logits.</summary>
    public double HeadFlops => 2 * HeadWeights;
}
