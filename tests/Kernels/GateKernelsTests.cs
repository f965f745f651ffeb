using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

public class GateKernelsTests : ElementKernelTest
{
    // Two owners meet inside one thread's four tangents, and the last thread has one.
    private static readonly int[] Owners = [0, 0, 0, 2, 2];

    [TestCase(1, Activation.Silu, 1f)]
    [TestCase(31, Activation.GeluTanh, 1f)]
    [TestCase(33, Activation.Silu, 0.22f)]
    [TestCase(127, Activation.GeluTanh, 1.5f)]
    [TestCase(516, Activation.Silu, 1f)]
    [TestCase(4097, Activation.GeluTanh, 1f)]
    public void ValuesTangentsAndCotangents(int F, Activation activation, float scale)
    {
        const int Values = 3, Rows = 8;
        var kernels = Load(k => new GateKernels(k));
        float[] gateUp = Normal(F, Rows * 2 * F, 2), bar = Normal(F + 1, Owners.Length * F);
        Floats at = SendRows(2 * F, gateUp), gated = PoisonedRows(Rows, F, beyond: 4), again = PoisonedRows(Rows, F);
        var pulled = PoisonedRows(Owners.Length, 2 * F, beyond: 4);
        var rows = Dual(Values, Owners);
        kernels.Forward(Stream, at, rows, gated, activation, scale);
        kernels.Forward(Stream, at, rows, again, activation, scale);
        kernels.Pull(Stream, at, rows.Owners, SendRows(F, bar), pulled, activation, scale);
        float[] actual = Receive(gated, beyond: 4), back = Receive(pulled, beyond: 4);
        (double Value, double Slope) Act(int row, int c)
        {
            var (value, slope) = RowReference.Activate(activation, gateUp[(2 * row * F) + c]);
            return (scale * value, scale * slope);
        }

        double Up(int row, int c) => gateUp[(2 * row * F) + F + c];
        double Gate(int row, int c) => gateUp[(2 * row * F) + c];
        int[] columns = [.. Enumerable.Range(0, F)];
        for (int row = 0; row < Rows; row++)
        {
            int owner = row < Values ? row : Owners[row - Values];
            double[] expected = [.. columns.Select(c => row < Values
                ? Act(row, c).Value * Up(row, c)
                : (Act(owner, c).Slope * Up(owner, c) * Gate(row, c)) + (Act(owner, c).Value * Up(row, c)))];
            Close(Row(actual, F, row), expected, $"row {row}");
        }

        for (int t = 0; t < Owners.Length; t++)
        {
            double[] a = [.. columns.Select(c => Act(Owners[t], c).Slope * Up(Owners[t], c) * bar[(t * F) + c])];
            double[] u = [.. columns.Select(c => Act(Owners[t], c).Value * bar[(t * F) + c])];
            Close(Row(back, 2 * F, t), [.. a, .. u], $"cotangent {t}");
        }

        Assert.That(actual[(Rows * F)..], Is.All.NaN);
        Assert.That(back[(Owners.Length * 2 * F)..], Is.All.NaN);
        Assert.That(Bits(Receive(again)), Is.EqualTo(Bits(actual[..(Rows * F)])), "two runs");
    }

    [TestCase(1)]
    [TestCase(33)]
    [TestCase(516)]
    public void SumsThatTheMapLeftAreAddedUp(int F)
    {
        const int Values = 3, Rows = 8;
        var kernels = Load(k => new GateKernels(k));
        var (sums, gateUp) = Sums(seed: F, Rows, 2 * F, Values, hasResidual: false);
        var rows = Dual(Values, Owners);
        Floats added = PoisonedRows(Rows, 2 * F), gated = PoisonedRows(Rows, F), expected = PoisonedRows(Rows, F);
        kernels.Forward(Stream, added, rows, gated, Activation.Silu, 1.5f, sums);
        kernels.Forward(Stream, SendRows(2 * F, gateUp), rows, expected, Activation.Silu, 1.5f);
        Assert.That(Bits(Receive(gated)), Is.EqualTo(Bits(Receive(expected))));
        Assert.That(Bits(Receive(added)[..(Values * 2 * F)]), Is.EqualTo(Bits(gateUp[..(Values * 2 * F)])), "for the pull");
    }

    [Test]
    public void ARowsBitsDoNotDependOnItsNeighbours()
    {
        const int F = 132;
        var kernels = Load(k => new GateKernels(k));
        float[] gateUp = Normal(3, 4 * 2 * F);
        gateUp.AsSpan(0, 2 * F).Fill(float.NaN);
        Floats many = PoisonedRows(4, F), alone = PoisonedRows(2, F);
        kernels.Forward(Stream, SendRows(2 * F, gateUp), Dual(2, 0, 1), many, Activation.Silu);
        float[] pair = [.. Row(gateUp, 2 * F, 1), .. Row(gateUp, 2 * F, 3)];
        kernels.Forward(Stream, SendRows(2 * F, pair), Dual(1, 0), alone, Activation.Silu);
        float[] all = Receive(many);
        Assert.That(Bits(Receive(alone)), Is.EqualTo(Bits([.. Row(all, F, 1), .. Row(all, F, 3)])));
    }

    [TestCase(Activation.Silu)]
    [TestCase(Activation.GeluTanh)]
    public void LargeGatesSaturate(Activation activation)
    {
        var kernels = Load(k => new GateKernels(k));
        var gated = PoisonedRows(1, 4);
        kernels.Forward(Stream, SendRows(8, 300f, -300f, 1e4f, -1e4f, 2f, 2f, 2f, 2f), Dual(1), gated, activation);
        Assert.That(Receive(gated), Is.EqualTo(new[] { 600f, 0f, 2e4f, 0f }));
    }
}
