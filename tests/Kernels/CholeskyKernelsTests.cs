using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

public class CholeskyKernelsTests : ElementKernelTest
{
    [TestCase(1, 1)]
    [TestCase(2, 0)]
    [TestCase(31, 3)]
    [TestCase(33, 0)]
    [TestCase(127, 1)]
    [TestCase(128, 0)]
    public void TheFactorGivesTheMatrixBack(int p, int padding)
    {
        int ld = p + padding;
        var kernels = NewCholesky();
        double[] a = Spd(p, ld);
        var memory = Padded(Send(a), p, ld);
        var failed = PoisonedSpan<int>(1);
        kernels.Factor(Stream, memory, failed);
        Assert.That(Receive(failed)[0], Is.Zero);
        double[] l = Receive<double>(memory.Address, a.Length);
        double scale = a.Where(v => !double.IsNaN(v)).Max();
        for (int j = 0; j < ld * p; j++)
        {
            int row = j % ld, column = j / ld;
            if (row >= column && row < p)
            {
                double product = Enumerable.Range(0, column + 1).Sum(k => l[(k * ld) + row] * l[(k * ld) + column]);
                Assert.That(product, Is.EqualTo(a[j]).Within(1e-14 * p * scale), $"({row}, {column})");
            }
            else
            {
                Assert.That(l[j], Is.NaN, "the upper half and the padding are neither read nor written");
            }
        }
    }

    [TestCase(1, 1, false)]
    [TestCase(5, 33, true)]
    [TestCase(33, 31, false)]
    [TestCase(97, 4, true)]
    [TestCase(128, 65, false)]
    [TestCase(128, 65, true)]
    public void SolvesUndoTheFactor(int p, int n, bool rowMajor)
    {
        int ld = p + 1;
        var kernels = NewCholesky();
        double[] a = Spd(p, ld), x = [.. Normal(n, p * n).Select(v => (double)v)];
        double A(int i, int j) => a[(Math.Min(i, j) * ld) + Math.Max(i, j)];
        int At(int i, int c) => rowMajor ? (i * n) + c : (c * p) + i;
        double[] b = new double[p * n];
        for (int i = 0; i < p; i++)
        {
            for (int c = 0; c < n; c++)
            {
                b[At(i, c)] = Enumerable.Range(0, p).Sum(j => A(i, j) * x[At(j, c)]);
            }
        }

        long rowStride = rowMajor ? n : 1, columnStride = rowMajor ? 1 : p;
        StridedDoubles l = Padded(Send(a), p, ld), solved = new(Send([.. b, double.NaN]), p, n, rowStride, columnStride);
        StridedDoubles half = solved with { Address = Send(b) };
        var failed = PoisonedSpan<int>(1);
        kernels.Factor(Stream, l, failed);
        kernels.Solve(Stream, l, failed, solved, transposed: false);
        kernels.Solve(Stream, l, failed, half, transposed: false);
        kernels.Solve(Stream, l, failed, solved, transposed: true);
        double[] actual = Receive<double>(solved.Address, b.Length + 1), forward = Receive<double>(half.Address, b.Length);
        double[] factor = Receive<double>(l.Address, a.Length);
        Assert.That(actual[..b.Length], Is.EqualTo(x).Within(1e-12 * p));
        Assert.That(actual[^1], Is.NaN, "nothing is written past the end");
        for (int c = 0; c < n; c++)
        {
            double[] product = [.. Enumerable.Range(0, p).Select(i => Enumerable.Range(0, i + 1).Sum(k => factor[(k * ld) + i] * forward[At(k, c)]))];
            Assert.That(product, Is.EqualTo(Enumerable.Range(0, p).Select(i => b[At(i, c)])).Within(1e-12 * p), $"L y = b, column {c}");
        }
    }

    [TestCase(0, -1)]
    [TestCase(0, 0)]
    [TestCase(40, -1e-3)]
    [TestCase(63, double.NaN)]
    [TestCase(63, double.PositiveInfinity)]
    public void AFailedPivotIsNamedAndNothingIsTouched(int pivot, double value)
    {
        const int P = 64;
        var kernels = NewCholesky();
        double[] a = Spd(P, P), b = [.. Enumerable.Repeat(1.5, P)];
        a[(pivot * P) + pivot] = value;
        ColumnMajor memory = SendColumns(P, a), right = SendColumns(P, b);
        var failed = PoisonedSpan<int>(1);
        kernels.Factor(Stream, memory, failed);
        kernels.Solve(Stream, memory, failed, right, transposed: false);
        Assert.That(Receive(failed)[0], Is.EqualTo(pivot + 1));
        Assert.That(Receive(memory), Is.EqualTo(a));
        Assert.That(Receive(right), Is.EqualTo(b));
    }

    [Test]
    public void ALargerMatrixIsRefused() =>
        Assert.That(() => NewCholesky().Factor(Stream, new ColumnMajor(0, 129, 129), new DeviceSpan<int>(0, 1)),
            Throws.TypeOf<ArgumentOutOfRangeException>());

    private static StridedDoubles Padded(nint address, int p, int ld) => new(address, p, p, RowStride: 1, ColumnStride: ld);

    private CholeskyKernels NewCholesky() => Load(k => new CholeskyKernels(k));

    // M M' / p + I, lower half, the rest NaN.
    private static double[] Spd(int p, int ld)
    {
        float[] m = Normal(p, p * p);
        double[] a = [.. Enumerable.Repeat(double.NaN, ld * p)];
        for (int j = 0; j < p; j++)
        {
            for (int i = j; i < p; i++)
            {
                a[(j * ld) + i] = (Enumerable.Range(0, p).Sum(k => (double)m[(i * p) + k] * m[(j * p) + k]) / p) + (i == j ? 1 : 0);
            }
        }

        return a;
    }
}
