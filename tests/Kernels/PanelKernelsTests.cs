using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

public class PanelKernelsTests : ElementKernelTest
{
    [TestCase(1, 1, 0, 1)]
    [TestCase(3, 5, 2, 33)]
    [TestCase(2, 31, 96, 127)]
    [TestCase(1, 33, 4064, 4097)]
    public void IdentityRowsArePointedAtTheirColumn(int prompts, int width, int first, int D)
    {
        int rows = prompts * width;
        nint x = Poisoned<float>((rows * D) + 1);
        NewPanels().Identity(Stream, x, prompts, width, first, D);
        float[] actual = Receive<float>(x, (rows * D) + 1);
        Assert.That(actual[..^1], Is.EqualTo(Enumerable.Range(0, rows * D).Select(i => i % D == first + (i / D % width) ? 1f : 0f)));
        Assert.That(actual[^1], Is.NaN, "nothing is written past the end");
    }

    [TestCase(1, 1, 1)]
    [TestCase(3, 31, 33)]
    [TestCase(2, 33, 31)]
    [TestCase(4, 65, 127)]
    public void ColumnsAreSumsOverPromptsInOrderHoweverTheyAreCut(int prompts, int width, int D)
    {
        const double Scale = 1.0 / 7;
        int ld = width + 3, first = 2;
        var kernels = NewPanels();
        float[] rows = Normal(D, prompts * width * D);
        double[] before = [.. Normal(D + 1, D * ld).Select(v => (double)v)], expected = [.. before];
        for (int i = 0; i < prompts * width * D; i++)
        {
            int r = i % D, t = i / D % width;
            expected[(r * ld) + first + t] += Scale * rows[i];
        }

        nint a = Send(before), apart = Send(before), memory = Send(rows);
        kernels.AccumulateColumns(Stream, memory, prompts, width, D, Scale, a, ld, first);
        for (int prompt = 0; prompt < prompts; prompt++)
        {
            kernels.AccumulateColumns(Stream, memory + (4 * prompt * width * D), 1, width, D, Scale, apart, ld, first);
        }

        double[] actual = Receive<double>(a, D * ld);
        Assert.That(actual, Is.EqualTo(expected).Within(1e-15 * prompts * 10));
        Assert.That(Receive<double>(apart, D * ld), Is.EqualTo(actual), "bit for bit");
    }

    [TestCase(1)]
    [TestCase(1023)]
    [TestCase(4097)]
    public void NumbersAreConvertedAndBack(int count)
    {
        var kernels = NewPanels();
        float[] x = Normal(count, count);
        (x[0], x[count / 2]) = (float.Epsilon, float.MaxValue);
        nint wide = Poisoned<double>(count + 1), narrow = Poisoned<float>(count + 1);
        kernels.ToDouble(Stream, Send(x), wide, count);
        kernels.ToFloat(Stream, wide, narrow, count);
        Assert.That(Receive<double>(wide, count), Is.EqualTo(x.Select(v => (double)v)));
        Assert.That(Receive<float>(narrow, count + 1), Is.EqualTo((float[])[.. x, float.NaN]));
        kernels.ToFloat(Stream, Send(1.0 / 3, 1e300, 1e-300), narrow, Math.Min(3, count));
        Assert.That(Receive<float>(narrow, 1)[0], Is.EqualTo((float)(1.0 / 3)));
    }

    [TestCase(1, 0)]
    [TestCase(31, 2)]
    [TestCase(33, 0)]
    [TestCase(127, 1)]
    public void AMatrixBecomesSymmetricAndSaysHowFarItWas(int n, int padding)
    {
        int ld = n + padding;
        var kernels = NewPanels();
        double[] a = [.. Normal(n, n * ld).Select(v => (double)v)];
        nint memory = Send(a), asymmetry = Poisoned<double>(1), scratch = Poisoned<byte>((int)PanelKernels.SymmetriseScratchSizeInBytes(n));
        kernels.Symmetrise(Stream, memory, n, ld, asymmetry, scratch);
        kernels.AddDiagonal(Stream, memory, n, ld, 2.5);
        double[] actual = Receive<double>(memory, n * ld), expected = [.. a];
        double most = 0;
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                double x = a[(i * ld) + j], other = a[(j * ld) + i];
                expected[(i * ld) + j] = ((x + other) / 2) + (i == j ? 2.5 : 0);
                most = Math.Max(most, Math.Abs(x - other));
            }
        }

        Assert.That(actual, Is.EqualTo(expected).Within(1e-15));
        Assert.That(Enumerable.Range(0, n * n).All(i => actual[(i / n * ld) + (i % n)] == actual[(i % n * ld) + (i / n)]), "to the last bit");
        Assert.That(Receive<double>(asymmetry, 1)[0], Is.EqualTo(most));
    }

    [Test]
    public void AnAsymmetryThatIsNoNumberIsSaid()
    {
        const int N = 70;
        double[] a = [.. Normal(1, N * N).Select(v => (double)v)];
        a[(65 * N) + 3] = double.NaN;
        nint asymmetry = Poisoned<double>(1);
        NewPanels().Symmetrise(Stream, Send(a), N, N, asymmetry, Poisoned<byte>((int)PanelKernels.SymmetriseScratchSizeInBytes(N)));
        Assert.That(Receive<double>(asymmetry, 1)[0], Is.NaN);
    }

    [TestCase(1, 1.0)]
    [TestCase(31, 1e-200)]
    [TestCase(33, 1e200)]
    [TestCase(4097, 3.0)]
    public void RowsGetUnitLength(int n, double scale)
    {
        double[] row = [.. Normal(n, n).Select(v => scale * v)], x = [.. row, .. new double[n], .. row.Select(v => 2 * v)];
        nint memory = Send(x), lengths = Poisoned<double>(3);
        NewPanels().UnitRows(Stream, memory, 3, n, lengths);
        double length = scale * Math.Sqrt(row.Sum(v => v / scale * (v / scale)));
        double[] actual = Receive<double>(memory, 3 * n), measured = Receive<double>(lengths, 3);
        Assert.That(actual[..n], Is.EqualTo(row.Select(v => v / length)).Within(1e-14));
        Assert.That(actual[n..(2 * n)], Is.All.Zero);
        Assert.That(actual[(2 * n)..], Is.EqualTo(actual[..n]).Within(1e-15));
        Assert.That(measured[0], Is.EqualTo(length).Within(1e-14 * length));
        Assert.That(measured[1], Is.Zero);
        Assert.That(measured[2], Is.EqualTo(2 * length).Within(1e-13 * length));
    }

    private PanelKernels NewPanels() => Load(k => new PanelKernels(k), "panels.cu");
}
