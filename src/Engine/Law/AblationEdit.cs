using System.Numerics.Tensors;

namespace Tiller.Law;

/// <summary>
/// Removes a direction: z ← z − λ (r·z) r (directional ablation, arXiv:2406.11717). At a block's input or output a sensor and a term do the same;
/// inside a block only this does.
/// </summary>
/// <param name="Layer">Block k.</param>
/// <param name="Point">Where in the block.</param>
/// <param name="Strength">λ, the share that is removed.</param>
/// <param name="Direction">r, of unit length // (D).</param>
public sealed record AblationEdit(int Layer, EditPoint Point, float Strength, float[] Direction) : ActivationEdit(Layer, Point, Strength)
{
    internal override IReadOnlyList<float[]> Vectors => [Direction];

    internal override void Apply(Span<float> z) =>
        TensorPrimitives.MultiplyAdd(Direction, -Strength * TensorPrimitives.Dot<float>(Direction, z), z, z);
}
