using System.Numerics.Tensors;

namespace Tiller.Law;

/// <summary>
/// Adds λ c and takes back what that lengthens: z ← |z|/|z + λ c| (z + λ c) (the norm rule of IBM/activation-steering). A token is scaled back if
/// it grew. As published, <see cref="WholePass"/>, all tokens of the sequence that go through the block together are scaled to their old lengths,
/// also those that shrank, as soon as one of them grew: a generated token is alone in its pass, a prompt goes in passes of at most the device's rows.
/// </summary>
/// <param name="Layer">Block k.</param>
/// <param name="Point">Where in the block.</param>
/// <param name="Strength">λ.</param>
/// <param name="Direction">c // (D).</param>
/// <param name="WholePass">Whether the tokens of a pass decide together.</param>
public sealed record NormKeepingEdit(int Layer, EditPoint Point, float Strength, float[] Direction, bool WholePass)
    : ActivationEdit(Layer, Point, Strength)
{
    internal override bool JoinsRows => WholePass;

    internal override IReadOnlyList<float[]> Vectors => [Direction];

    internal override void Apply(Span<float> z)
    {
        float before = Add(z), after = TensorPrimitives.Norm<float>(z);
        if (after > before)
        {
            Restore(z, before, after);
        }
    }

    /// <summary>z += λ c; gives back |z| before.</summary>
    internal float Add(Span<float> z)
    {
        float before = TensorPrimitives.Norm<float>(z);
        TensorPrimitives.MultiplyAdd(Direction, Strength, z, z);
        return before;
    }

    /// <summary>z ← before/after z.</summary>
    internal static void Restore(Span<float> z, float before, float after) => TensorPrimitives.Multiply(z, before / after, z);
}
