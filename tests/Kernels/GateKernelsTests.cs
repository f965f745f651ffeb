using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

public class GateKernelsTests : ElementKernelTest
{
    // Two owners meet inside one thread's four tangents, and the last thread has one.
    private static readonly int[] Owners = [0, 0, 0, 2, 2];

    [TestCase(1, Activation.Silu)]
    [TestCase(31, Activation.GeluTanh)]
    [TestCase(33, Activation.Silu)]
    [TestCase(127, Activation.GeluTanh)]
    [TestCase(516, Activation.Silu)]
    [TestCase(4097, Activation.GeluTanh)]
    public void ValuesTangentsAndCotangents(int F, Activation activation)
    {
        const int Values = 3, Rows = 8;
        var kernels = Load(k => new GateKernels(k));
        float[] gateUp = Normal(F, Rows * 2 * F, 2), bar = Normal(F + 1, Owners.Length * F);
        nint at = Send(gateUp), owners = Send(Owners), gated = Poisoned<float>((Rows * F) + 4), again = Poisoned<float>(Rows * F);
        nint pulled = Poisoned<float>((Owners.Length * 2 * F) + 4);
        kernels.Forward(Stream, at, Values, owners, Owners.Length, gated, F, activation);
        kernels.Forward(Stream, at, Values, owners, Owners.Length, again, F, activation);
        kernels.Pull(Stream, at, owners, Owners.Length, Send(bar), pulled, F, activation);
        float[] actual = Receive<float>(gated, (Rows * F) + 4), back = Receive<float>(pulled, (Owners.Length * 2 * F) + 4);
        (double Value, double Slope) Act(int row, int c) => RowReference.Activate(activation, gateUp[(2 * row * F) + c]);
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
        Assert.That(Bits(Receive<float>(again, Rows * F)), Is.EqualTo(Bits(actual[..(Rows * F)])), "two runs");
    }

    [Test]
    public void ARowsBitsDoNotDependOnItsNeighbours()
    {
        const int F = 132;
        var kernels = Load(k => new GateKernels(k));
        float[] gateUp = Normal(3, 4 * 2 * F);
        gateUp.AsSpan(0, 2 * F).Fill(float.NaN);
        nint many = Poisoned<float>(4 * F), alone = Poisoned<float>(2 * F);
        kernels.Forward(Stream, Send(gateUp), 2, Send(0, 1), 2, many, F, Activation.Silu);
        float[] pair = [.. Row(gateUp, 2 * F, 1), .. Row(gateUp, 2 * F, 3)];
        kernels.Forward(Stream, Send(pair), 1, Send(0), 1, alone, F, Activation.Silu);
        float[] all = Receive<float>(many, 4 * F);
        Assert.That(Bits(Receive<float>(alone, 2 * F)), Is.EqualTo(Bits([.. Row(all, F, 1), .. Row(all, F, 3)])));
    }

    [TestCase(Activation.Silu)]
    [TestCase(Activation.GeluTanh)]
    public void LargeGatesSaturate(Activation activation)
    {
        var kernels = Load(k => new GateKernels(k));
        nint gated = Poisoned<float>(4);
        kernels.Forward(Stream, Send(300f, -300f, 1e4f, -1e4f, 2f, 2f, 2f, 2f), 1, 0, 0, gated, 4, activation);
        Assert.That(Receive<float>(gated, 4), Is.EqualTo(new[] { 600f, 0f, 2e4f, 0f }));
    }
}
