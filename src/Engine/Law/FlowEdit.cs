using System.Buffers;
using System.Numerics.Tensors;

namespace Tiller.Law;

/// <summary>
/// Follows a field for a time T in Euler steps of T/n (ODESteer): z ← z + (T/n) ∇h/(|∇h| + 10⁻¹⁰), h(z) = c·φ(z) with the features of a
/// <see cref="CountSketch"/>. <see cref="ActivationEdit.Strength"/> is T, the way that is gone where the field does not turn.
/// </summary>
/// <param name="Layer">Block k.</param>
/// <param name="Point">Where in the block.</param>
/// <param name="Strength">T.</param>
/// <param name="Sketch">φ.</param>
/// <param name="Weights">c // (m).</param>
/// <param name="Steps">n.</param>
public sealed record FlowEdit(int Layer, EditPoint Point, float Strength, CountSketch Sketch, float[] Weights, int Steps)
    : ActivationEdit(Layer, Point, Strength)
{
    /// <summary>Most features that a device has room for.</summary>
    public const int MaxComponents = 1024;

    internal override IReadOnlyList<float[]> Vectors => [Weights, Sketch.SignArray];

    internal override void Check(int width)
    {
        if (Sketch.Width != width || Sketch.Components > MaxComponents || Weights.Length != Sketch.Components || Steps < 1
            || !float.IsFinite(Strength) || Weights.AsSpan().ContainsAnyExceptInRange(float.MinValue, float.MaxValue))
        {
            throw new ArgumentException(
                $"The flow at layer {Layer} has a sketch of width {Sketch.Width} with {Sketch.Components} features, {Weights.Length} weights, "
                + $"{Steps} steps and the time {Strength}; the model's width is {width}, the weights are finite and as many as the "
                + $"features, at most {MaxComponents}, there is at least one step, and the time is finite.");
        }
    }

    internal override void Apply(Span<float> z)
    {
        double[] scratch = ArrayPool<double>.Shared.Rent((2 * z.Length) + Weights.Length);
        Span<double> x = scratch.AsSpan(0, z.Length), field = scratch.AsSpan(z.Length, z.Length);
        Span<double> weights = scratch.AsSpan(2 * z.Length, Weights.Length);
        TensorPrimitives.ConvertTruncating<float, double>(z, x);
        TensorPrimitives.ConvertTruncating<float, double>(Weights, weights);
        Follow(Sketch, weights, Strength, Steps, x, field);
        TensorPrimitives.ConvertTruncating<double, float>(x, z);
        ArrayPool<double>.Shared.Return(scratch);
    }

    /// <summary>The flow in float64.</summary>
    /// <param name="sketch">φ.</param>
    /// <param name="weights">c // (m).</param>
    /// <param name="time">T.</param>
    /// <param name="steps">n.</param>
    /// <param name="x">The state, which follows // (D).</param>
    /// <param name="field">Scratch // (D).</param>
    internal static void Follow(CountSketch sketch, ReadOnlySpan<double> weights, double time, int steps, Span<double> x, Span<double> field)
    {
        for (int step = 0; step < steps; step++)
        {
            sketch.Field(weights, x, field);
            for (int i = 0; i < x.Length; i++)
            {
                x[i] += time / steps * field[i];
            }
        }
    }
}
