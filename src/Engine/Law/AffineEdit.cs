namespace Tiller.Law;

/// <summary>
/// A map of each neuron by itself, z_i ← z_i + s (w_i z_i + b_i − z_i) where low_i &lt; z_i &lt; high_i, and z_i elsewhere (Linear-AcT,
/// arXiv:2410.23054). <see cref="ActivationEdit.Strength"/> is s: 0 leaves the neuron, 1 maps it in full.
/// </summary>
/// <param name="Layer">Block k.</param>
/// <param name="Point">Where in the block.</param>
/// <param name="Strength">s.</param>
/// <param name="Slope">w // (D).</param>
/// <param name="Offset">b // (D).</param>
/// <param name="Low">Lower ends of the ranges that are mapped, themselves outside // (D).</param>
/// <param name="High">Upper ends, themselves outside // (D).</param>
public sealed record AffineEdit(int Layer, EditPoint Point, float Strength, float[] Slope, float[] Offset, float[] Low, float[] High)
    : ActivationEdit(Layer, Point, Strength)
{
    internal override IReadOnlyList<float[]> Vectors => [Slope, Offset, Low, High];

    internal override void Apply(Span<float> z)
    {
        for (int i = 0; i < z.Length; i++)
        {
            float x = z[i];
            if (Low[i] < x && x < High[i])
            {
                z[i] = MathF.FusedMultiplyAdd(Strength, MathF.FusedMultiplyAdd(Slope[i], x, Offset[i]) - x, x);
            }
        }
    }
}
