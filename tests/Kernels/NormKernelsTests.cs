using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

public class NormKernelsTests : ElementKernelTest
{
    private const float Eps = 1e-5f;
    private static readonly int[] Owners = [0, 0, 2];

    [TestCase(1)]
    [TestCase(31)]
    [TestCase(33)]
    [TestCase(127)]
    [TestCase(516)]
    [TestCase(4097)]
    [TestCase(4352)]
    public void ValuesAndTangents(int D)
    {
        const int Values = 3, Rows = 6;
        var kernels = Load(k => new NormKernels(k));
        float[] x = Normal(D, Rows * D), g = Normal(D + 1, D), residual = Normal(D + 2, Rows * D);
        Floats at = SendRows(D, x), y = PoisonedRows(Rows, D, beyond: 4), sum = PoisonedRows(Rows, D), again = PoisonedRows(Rows, D);
        var rows = Dual(Values, Owners);
        var norm = new RmsNorm(SendRows(D, g), Eps);
        kernels.Forward(Stream, at, rows, norm, y);
        kernels.AddNormed(Stream, SendRows(D, residual), at, rows, norm, sum);
        kernels.Forward(Stream, at, rows, norm, again);
        float[] actual = Receive(y, beyond: 4), added = Receive(sum);
        for (int row = 0; row < Rows; row++)
        {
            float[] r = Row(residual, D, row);
            double[] expected = row < Values
                ? RowReference.Norm(Row(x, D, row), g, Eps)
                : RowReference.Tangent(Row(x, D, Owners[row - Values]), Row(x, D, row), g, Eps);
            Close(Row(actual, D, row), expected, $"row {row}", cancelled: Cancelled(D));
            Close(Row(added, D, row), [.. expected.Zip(r, (a, b) => a + b)], $"row {row} with its residual");
        }

        Assert.That(actual[(Rows * D)..], Is.All.NaN, "nothing is written past the end");
        Assert.That(Bits(Receive(again)), Is.EqualTo(Bits(actual[..(Rows * D)])), "two runs");
    }

    // Between two maps: x of the sums that the first left, or as it is, and the panels as the second would make them of the normed rows.
    [TestCase(8, 7)]
    [TestCase(520, 13)]
    [TestCase(4104, 7)]
    [TestCase(136, 30)]
    public void BetweenTwoMapsTheSecondReadsWhatItWouldOfNormedRows(int D, int values)
    {
        int rows = values + Owners.Length;
        var kernels = Load(k => new NormKernels(k));
        var linear = Load(k => new LinearKernels(k));
        var (sums, x) = Sums(D, rows, D, values, hasResidual: true);
        var w = new Matrix(Send(LinearJob.Stored(LinearJob.Weights(WeightType.BF16, 24, D), WeightType.BF16)), WeightType.BF16, 24, D);
        var dual = Dual(values, [.. Owners]);
        var norm = new RmsNorm(SendRows(D, Normal(D + 9, D)), Eps);
        var scratch = PoisonedSpan<byte>(linear.ScratchInBytes(dual.Counts, w));
        Floats normed = PoisonedRows(rows, D), expected = PoisonedRows(rows, 24), y = PoisonedRows(rows, 24), added = PoisonedRows(rows, D);
        kernels.Forward(Stream, SendRows(D, x), dual, norm, normed);
        linear.Forward(Stream, normed, dual.Counts, w, expected, scratch);
        foreach (var (left, at) in ((LinearSums, Floats)[])[(sums, added), (default, SendRows(D, x))])
        {
            scratch = PoisonedSpan<byte>(scratch.Length);
            kernels.ToPanels(Stream, left, at, dual, norm, LinearKernels.PanelsOf(dual.Counts, scratch));
            linear.Forward(Stream, default, dual.Counts, w, y, scratch);
            Assert.That(Bits(Receive(y)), Is.EqualTo(Bits(Receive(expected))), $"{left.Parts} parts");
            Assert.That(Bits(Receive(at)), Is.EqualTo(Bits(x)));
        }
    }

    [Test]
    public void ARowsBitsDoNotDependOnItsNeighbours()
    {
        const int D = 260;
        var kernels = Load(k => new NormKernels(k));
        float[] x = Normal(1, 5 * D), g = Normal(2, D);
        x.AsSpan(0, D).Fill(float.NaN);
        Floats y = PoisonedRows(5, D), alone = PoisonedRows(2, D);
        var norm = new RmsNorm(SendRows(D, g), Eps);
        kernels.Forward(Stream, SendRows(D, x), Dual(4, 3), norm, y);
        kernels.Forward(Stream, SendRows(D, x[(3 * D)..]), Dual(1, 0), norm, alone);
        Assert.That(Bits(Receive(alone)), Is.EqualTo(Bits(Receive(y)[(3 * D)..])));
    }

    [TestCase(1, false)]
    [TestCase(33, true)]
    [TestCase(132, true)]
    [TestCase(4097, false)]
    public void PullIsTheTransposeOfTheTangent(int D, bool accumulate)
    {
        var kernels = Load(k => new NormKernels(k));
        float[] x = Normal(D, 3 * D), bar = Normal(D + 1, 3 * D), g = Normal(D + 2, D), before = Normal(D + 3, 3 * D);
        var output = SendRows(D, accumulate ? before : bar);
        kernels.Pull(
            Stream, accumulate ? SendRows(D, bar) : output, SendRows(D, x), SendSpan(Owners), new RmsNorm(SendRows(D, g), Eps), output, accumulate);
        float[] actual = Receive(output);
        for (int row = 0; row < 3; row++)
        {
            double[] expected = RowReference.PullNorm(Row(x, D, Owners[row]), [.. Row(bar, D, row).Select(v => (double)v)], g, Eps);
            Close(Row(actual, D, row), accumulate ? [.. expected.Zip(Row(before, D, row), (a, b) => a + b)] : expected, $"row {row}",
                cancelled: Cancelled(D));

            // ⟨ȳ, J ẋ⟩ = ⟨J' ȳ, ẋ⟩
            float[] dx = Normal(D + 4, D);
            double forward = RowReference.Tangent(Row(x, D, Owners[row]), dx, g, Eps).Zip(Row(bar, D, row), (a, b) => a * b).Sum();
            Assert.That(expected.Zip(dx, (a, b) => a * b).Sum(), Is.EqualTo(forward).Within(1e-9 * D), "the reference");
        }
    }

    // One column: h h'/D is 1 but for ε, and the derivative nearly nothing.
    private static double Cancelled(int D) => D == 1 ? 1e-6 : 0;
}
