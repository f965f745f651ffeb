using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

public class AlgebraKernelsTests : ElementKernelTest
{
    [TestCase(1, 1, 1, false)]
    [TestCase(3, 5, 33, true)]
    [TestCase(2, 31, 127, false)]
    [TestCase(4, 2, 4097, true)]
    public void PanelsAreSummedInOrder(int panels, int p, int D, bool add)
    {
        float[] rows = Normal(D, panels * p * D);
        double[] scales = Doubles(p, p), before = Doubles(D + 1, p * D);
        var result = add ? SendColumns(D, before) : new ColumnMajor(Poisoned<double>(p * D), D, p);
        NewAlgebra().SumPanels(Stream, SendRows(D, rows), SendSpan(scales), add, result);
        double[] expected = [.. Enumerable.Range(0, p * D).Select(at =>
            (add ? before[at] : 0) + (scales[at / D] * Enumerable.Range(0, panels).Sum(i => (double)rows[(i * p * D) + at])))];
        Assert.That(Receive(result), Is.EqualTo(expected).Within(1e-14));
    }

    [TestCase(1, 1, 0)]
    [TestCase(31, 33, 2)]
    [TestCase(127, 4097, 3970)]
    public void RowsOfTheIdentity(int count, int D, int first)
    {
        var rows = PoisonedRows(count, D, beyond: 1);
        NewAlgebra().Identity(Stream, rows, first);
        float[] actual = Receive(rows, beyond: 1);
        Assert.That(actual[..^1].Select((v, at) => v == (at % D == first + (at / D) ? 1f : 0f)), Is.All.True);
        Assert.That(actual[^1], Is.NaN, "nothing is written past the end");
    }

    [TestCase(1)]
    [TestCase(33)]
    [TestCase(4097)]
    public void AScaledSumRoundingAndADiagonal(int count)
    {
        double[] x = Doubles(1, count), y = Doubles(2, count);
        var kernels = NewAlgebra();
        var sum = SendColumns(count, y);
        kernels.Add(Stream, 0.3, SendColumns(count, x), sum);
        Assert.That(Receive(sum), Is.EqualTo(y.Zip(x, (b, a) => b + (0.3 * a))).Within(1e-15));

        var rounded = SendColumns(count, x);
        kernels.RoundToSingle(Stream, rounded);
        Assert.That(Receive(rounded), Is.EqualTo(x.Select(v => (double)(float)v)));

        // (rows, columns), higher than wide.
        int order = Math.Min(count, 127), rows = order + 3;
        double[] m = Doubles(3, rows * order);
        var moved = SendColumns(rows, m);
        kernels.AddDiagonal(Stream, 0.25, moved);
        Assert.That(Receive(moved), Is.EqualTo(m.Select((v, at) => at % rows == at / rows ? v + 0.25 : v)));
    }

    [TestCase(1)]
    [TestCase(31)]
    [TestCase(33)]
    [TestCase(127)]
    [TestCase(300)]
    public void ASymmetricPartAndWhatItLacked(int n)
    {
        double[] s = Doubles(n, n * n);
        double At(int i, int j) => s[(j * n) + i];
        var matrix = SendColumns(n, s);
        var result = PoisonedSpan<double>(3);
        NewAlgebra().Symmetrise(Stream, matrix, PoisonedSpan<double>(2 * n), result);
        double[] actual = Receive(matrix), norms = Receive(result);
        double[] expected = [.. Enumerable.Range(0, n * n).Select(at => 0.5 * (At(at % n, at / n) + At(at / n, at % n)))];
        double lacked = Enumerable.Range(0, n * n).Sum(at => Math.Pow(At(at % n, at / n) - At(at / n, at % n), 2));
        Assert.That(actual, Is.EqualTo(expected));
        Assert.That(norms[0], Is.EqualTo(lacked).Within(1e-12 * (1 + lacked)));
        Assert.That(norms[1], Is.EqualTo(expected.Sum(v => v * v)).Within(1e-12 * n * n));
        Assert.That(norms[2], Is.NaN);
    }

    [TestCase(1)]
    [TestCase(33)]
    [TestCase(300)]
    public void ExtremesOfADiagonal(int n)
    {
        var kernels = NewAlgebra();
        double[] m = Doubles(n, n * n);
        double[] Extremes()
        {
            var result = PoisonedSpan<double>(2);
            kernels.DiagonalExtremes(Stream, SendColumns(n, m), result);
            return Receive(result);
        }

        double[] diagonal = [.. Enumerable.Range(0, n).Select(i => m[i * (n + 1)])];
        Assert.That(Extremes(), Is.EqualTo(new[] { diagonal.Min(), diagonal.Max() }));
        m[(n - 1) * (n + 1)] = double.NaN;
        Assert.That(Extremes(), Is.All.NaN);
    }

    [TestCase(1, new[] { 0 })]
    [TestCase(4097, new int[0])]
    [TestCase(4097, new[] { 4096 })]
    [TestCase(10000, new[] { 9999, 300, 45 })]
    [TestCase(10000, new[] { 4095, 4096, 8191 })]
    public void TheFirstNumberThatIsNone(int count, int[] bad)
    {
        double[] m = Doubles(count, count);
        foreach (int at in bad)
        {
            m[at] = at % 2 == 0 ? double.NaN : double.NegativeInfinity;
        }

        var firsts = PoisonedSpan<long>(AlgebraKernels.MaxStretches);
        int stretches = NewAlgebra().FirstBad(Stream, SendColumns(count, m), firsts);
        long[] found = [.. Receive(firsts.Slice(0, stretches)).Where(at => at >= 0)];
        Assert.That(found, Is.Ordered);
        Assert.That(found.FirstOrDefault(-1), Is.EqualTo(bad.Length == 0 ? -1 : bad.Min()));
        Assert.That(found, Is.SubsetOf(bad.Select(at => (long)at)));
    }

    private static double[] Doubles(int seed, int count) => [.. Normal(seed, count).Zip(Normal(seed + 1000, count, 1e-8), (a, b) => (double)a + b)];

    private AlgebraKernels NewAlgebra() => Load(k => new AlgebraKernels(k));
}
