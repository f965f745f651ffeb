using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Cpu;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Synthesis;
using Tiller.Tests.Interop;
using Tiller.Tests.Synthesis;

namespace Tiller.Tests.Ops;

/// <summary>The float64 algebra and the panels of a device, against MathNet and plain loops; one source for every device.</summary>
public abstract class AlgebraTests
{
    private static readonly int[] s_sizes = [1, 5, 31, 33, 64, 127, 300];

    private protected abstract DeviceOps Device { get; }

    /// <summary>Largest size that is quick enough on this device.</summary>
    private protected virtual int LargestSize => int.MaxValue;

    [Test]
    public void A_product_adds_to_what_was_there([ValueSource(nameof(s_sizes))] int m, [Values(1, 7, 65, 270)] int n, [Values(1, 33, 259)] int depth)
    {
        Assume.That(Math.Max(m, Math.Max(n, depth)), Is.LessThanOrEqualTo(LargestSize));
        var random = new Random(m + (n * 1000) + depth);
        var a = Problem.Gaussian(random, m, depth);
        var b = Problem.Gaussian(random, depth, n);
        var c = Problem.Gaussian(random, m, n);
        using var left = new DeviceMatrix(Device, a);
        using var turnedLeft = new DeviceMatrix(Device, a.Transpose());
        using var right = new DeviceMatrix(Device, b);
        using var turnedRight = new DeviceMatrix(Device, b.Transpose());
        foreach (var (x, y) in new (Factor, Factor)[]
        {
            (left.View, right.View), (turnedLeft.View.T, right.View), (left.View, turnedRight.View.T), (turnedLeft.View.T, turnedRight.View.T),
        })
        {
            foreach (var (alpha, beta) in new[] { (1.0, 0.0), (-0.5, 1.0), (2.0, 0.25) })
            {
                // What β = 0 overwrites may be anything.
                using var result = new DeviceMatrix(Device, beta == 0 ? c * double.NaN : c);
                Device.Multiply(alpha, x, y, beta, result.View);
                Assert.That(Problem.Difference(result.Read(), (alpha * a * b) + (beta * c)), Is.LessThan(1e-13),
                    $"{x.Transposed}, {y.Transposed}, α {alpha}, β {beta}");
            }
        }
    }

    [Test]
    public void A_factor_solves_and_names_its_extremes([ValueSource(nameof(s_sizes))] int n)
    {
        Assume.That(n, Is.LessThanOrEqualTo(LargestSize));
        var random = new Random(n);
        var g = Problem.Gaussian(random, n, n);
        var m = (g * g.Transpose()) + Matrix<double>.Build.DenseIdentity(n);
        foreach (int columns in new[] { 1, 9, 33 })
        {
            var x = Problem.Gaussian(random, n, columns);
            using var l = new DeviceMatrix(Device, m);
            using var y = new DeviceMatrix(Device, m * x);
            var pivots = Device.Cholesky(l.View);
            Device.CholeskySolve(l.View, y.View);
            var lower = l.Read().LowerTriangle();
            Assert.That(Problem.Difference(lower * lower.Transpose(), m), Is.LessThan(1e-13));
            Assert.That(Problem.Difference(y.Read(), x), Is.LessThan(1e-9));
            Assert.That(pivots.Failed, Is.EqualTo(-1));
            Assert.That((pivots.Smallest, pivots.Largest), Is.EqualTo((lower.Diagonal().Minimum(), lower.Diagonal().Maximum())));
        }
    }

    [TestCase(0)]
    [TestCase(3)]
    [TestCase(70)]
    public void An_indefinite_matrix_names_its_pivot(int pivot)
    {
        var m = Matrix<double>.Build.DenseIdentity(100);
        m[pivot, pivot] = -3;
        using var l = new DeviceMatrix(Device, m);
        Assert.That(Device.Cholesky(l.View).Failed, Is.EqualTo(pivot));
        m[pivot, pivot] = double.NaN;
        using var unknown = new DeviceMatrix(Device, m);
        Assert.That(Device.Cholesky(unknown.View).Failed, Is.GreaterThanOrEqualTo(0));
    }

    [TestCase(1)]
    [TestCase(33)]
    [TestCase(70)]
    public void Symmetrise_tells_the_skew_part(int n)
    {
        var s = Problem.Gaussian(new Random(3), n, n);
        var expected = 0.5 * (s + s.Transpose());
        using var m = new DeviceMatrix(Device, s);
        double error = Device.Symmetrise(m.View);
        Assert.That(Problem.Difference(m.Read(), expected), Is.LessThan(1e-15));
        Assert.That(error, Is.EqualTo((s - s.Transpose()).FrobeniusNorm() / expected.FrobeniusNorm()).Within(1e-12));
        using var zero = new DeviceMatrix(Device, s * 0);
        Assert.That(Device.Symmetrise(zero.View), Is.Zero);
    }

    [TestCase(1, 1)]
    [TestCase(33, 7)]
    [TestCase(130, 127)]
    public void Sums_and_diagonals(int rows, int columns)
    {
        var random = new Random(rows);
        var (x, y) = (Problem.Gaussian(random, rows, columns), Problem.Gaussian(random, rows, columns));
        using var a = new DeviceMatrix(Device, x);
        using var b = new DeviceMatrix(Device, y);
        Device.Add(-0.5, a.View, b.View);
        Assert.That(Problem.Difference(b.Read(), y - (0.5 * x)), Is.LessThan(1e-15));
        Device.AddToDiagonal(3, a.View);
        Assert.That(a.Read(), Is.EqualTo(x + Matrix<double>.Build.Dense(rows, columns, (i, j) => i == j ? 3 : 0)));
    }

    [TestCase(1, 1)]
    [TestCase(33, 7)]
    [TestCase(130, 127)]
    public void Numbers_are_rounded_to_the_nearest_float32(int rows, int columns)
    {
        var x = Problem.Gaussian(new Random(rows), rows, columns);
        x[0, 0] = 1 + Math.Pow(2, -24); // between two of them
        x[rows - 1, columns - 1] = 1e39; // beyond the largest
        using var m = new DeviceMatrix(Device, x);
        Device.RoundToSingle(m.View);
        Assert.That(m.Read(), Is.EqualTo(x.Map(v => (double)(float)v)));
    }

    [Test]
    public void The_first_number_that_is_none_is_found([Values(0, 1, 4096, 70 * 70 - 1)] int at,
        [Values(double.NaN, double.PositiveInfinity, double.NegativeInfinity)] double value)
    {
        double[] numbers = new double[70 * 70];
        using var finite = new DeviceMatrix(Device, Matrix<double>.Build.Dense(70, 70, numbers));
        Assert.That(Device.FirstNonFinite(finite.View), Is.EqualTo(-1));
        numbers[at] = numbers[^1] = value;
        using var m = new DeviceMatrix(Device, Matrix<double>.Build.Dense(70, 70, numbers));
        Assert.That(Device.FirstNonFinite(m.View), Is.EqualTo(at));
    }

    [TestCase(1, 1, 1)]
    [TestCase(3, 5, 33)]
    [TestCase(31, 2, 128)]
    [TestCase(7, 11, 127)]
    public void Panels_are_repeated_and_summed_on_their_side(int p, int panels, int width)
    {
        using var memory = Device.Allocate(4L * p * panels * width);
        var rows = new Floats(memory.Address, p * panels, width);
        float[] host = new float[p * panels * width];
        var random = new Random(p);
        for (int i = 0; i < host.Length; i++)
        {
            host[i] = (float)Problem.Normal(random);
        }

        Device.Upload(System.Runtime.InteropServices.MemoryMarshal.AsBytes(host.AsSpan()), memory.Address);
        double[] scales = [.. Enumerable.Range(1, p).Select(j => 1.0 / j)];
        var expected = Matrix<double>.Build.Dense(width, p);
        for (int i = 0; i < panels * p; i++)
        {
            for (int e = 0; e < width; e++)
            {
                expected[e, i % p] += scales[i % p] * host[(i * width) + e];
            }
        }

        using var sum = new DeviceMatrix(Device, Matrix<double>.Build.Dense(width, p, double.NaN));
        Device.SumPanels(rows, scales, add: false, sum.View);
        Assert.That(Problem.Difference(sum.Read(), expected), Is.LessThan(1e-15));
        Device.SumPanels(rows, scales, add: true, sum.View);
        Assert.That(Problem.Difference(sum.Read(), 2 * expected), Is.LessThan(1e-15));

        Device.RepeatPanel(rows, p);
        float[] row = new float[width];
        for (int i = 0; i < p * panels; i++)
        {
            Device.DownloadRow(rows, i, row);
            Assert.That(row, Is.EqualTo(host.AsSpan(i % p * width, width).ToArray()), $"row {i}");
        }
    }

    [Test]
    public void Rows_of_the_identity()
    {
        const int Width = 70, Column = 33, P = 31;
        using var memory = Device.Allocate(4L * P * Width);
        var rows = new Floats(memory.Address, P, Width);
        float[] row = new float[Width];
        Array.Fill(row, 5);
        for (int j = 0; j < P; j++)
        {
            Device.UploadRow(row, rows, j);
        }

        Device.IdentityRows(Column, rows);
        for (int j = 0; j < P; j++)
        {
            Device.DownloadRow(rows, j, row);
            Assert.That((row[Column + j], TensorPrimitives.SumOfMagnitudes<float>(row)), Is.EqualTo((1f, 1f)), $"row {j}");
        }
    }
}

/// <summary>On the CPU, where the number of threads must not show.</summary>
public sealed class CpuAlgebraTests : AlgebraTests
{
    private readonly CpuOps _ops = new(2);

    private protected override DeviceOps Device => _ops;

    [OneTimeTearDown]
    public void Close() => _ops.Dispose();

    [TestCase(127)]
    [TestCase(500)]
    public void The_number_of_threads_changes_no_bit(int n)
    {
        var random = new Random(n);
        var a = Problem.Gaussian(random, n, n);
        var m = (a * a.Transpose()) + Matrix<double>.Build.DenseIdentity(n);
        double[][] expected = [];
        foreach (int threads in new[] { 1, 2, 3, 5 })
        {
            using var ops = new CpuOps(threads);
            using var x = new DeviceMatrix(ops, a);
            using var l = new DeviceMatrix(ops, m);
            using var product = new DeviceMatrix(ops, m);
            ops.Multiply(0.3, l.View.T, x.View, 1, product.View);
            ops.Cholesky(l.View);
            ops.CholeskySolve(l.View, x.View);
            double skew = ops.Symmetrise(product.View);
            double[][] got = [product.Read().ToColumnMajorArray(), l.Read().LowerTriangle().ToColumnMajorArray(),
                x.Read().ToColumnMajorArray(), [skew]];
            expected = expected.Length == 0 ? got : expected;
            Assert.That(got, Is.EqualTo(expected), $"{threads} threads");
        }
    }
}

/// <summary>On CUDA: a GPU if TILLER_DEVICE names one, else the host CUDA.</summary>
[NonParallelizable]
[Category(CudaTest.Category)]
public sealed class CudaAlgebraTests : AlgebraTests
{
    private DeviceOps? _ops;

    private protected override DeviceOps Device => _ops!;

    [OneTimeSetUp]
    public void Open()
    {
        if (!CudaTest.OnGpu)
        {
            HostCuda.Require();
        }

        _ops = Devices.Open(Tiller.Model.Device.Cuda(), threads: 0);
    }

    [OneTimeTearDown]
    public void Close()
    {
        _ops?.Dispose();
        if (!CudaTest.OnGpu && HostCuda.IsLoaded)
        {
            Assert.That(HostCuda.LiveAllocations, Is.Zero);
        }
    }

    [TestCase(1, 3)]
    [TestCase(33, 4)]
    [TestCase(130, 2)]
    public void The_dense_recursion_is_the_CPUs(int width, int layers)
    {
        var random = new Random(width);
        var a = Problem.Plant(random, layers, width);
        var c = Enumerable.Range(0, layers + 1).Select(_ => Problem.Gaussian(random, width, 2)).ToArray();
        foreach (QuadraticCost cost in new QuadraticCost[]
        {
            new IsotropicCost(new LqrWeights(0.3, 0.7, 2)), new FactoredCost(c, 0.7), new MatrixCost([.. c.Select(x => x * x.Transpose())], 0.7),
        })
        {
            var expected = DenseRiccati.Solve(layers, k => a[k], cost);
            var gains = new Matrix<double>[layers];
            using var memory = Device.Allocate(width, width, out var jacobian);
            var report = DenseRiccati.Solve(
                Device, layers, width,
                k =>
                {
                    Device.Upload(a[k].ToColumnMajorArray(), jacobian);
                    return jacobian;
                },
                cost,
                (k, gain) =>
                {
                    double[] numbers = new double[gain.Length];
                    Device.Download(gain, numbers);
                    gains[k] = Matrix<double>.Build.Dense(width, width, numbers);
                },
                CancellationToken.None);
            for (int k = 0; k < layers; k++)
            {
                Assert.That(Problem.Difference(gains[k], ((DenseGain)expected.Gains[k]).K), Is.LessThan(1e-10), $"layer {k}");
                Assert.That(report.Steps[k].Condition, Is.EqualTo(expected.Report.Steps[k].Condition).Within(1e-8).Percent);
            }

            Assert.That(report.Residual, Is.LessThan(1e-12));
            Assert.That(report.SymmetryError, Is.LessThan(1e-13));
        }
    }

    [Test]
    public void What_has_no_solution_is_named_as_on_the_CPU()
    {
        var cost = new IsotropicCost(new LqrWeights(1, 1e-3, 1));
        double[] numbers = new double[33 * 33];
        numbers[(33 * 7) + 5] = double.NaN;
        using var memory = Device.Allocate(33, 33, out var a);
        Device.Upload(numbers, a);
        var e = Assert.Throws<RiccatiException>(() => DenseRiccati.Solve(Device, 2, 33, _ => a, cost, (_, _) => { }, CancellationToken.None));
        Assert.That((e!.Fault, e.Layer, e.Row, e.Column), Is.EqualTo((RiccatiFault.NonFinite, (int?)1, (int?)5, (int?)7)));

        // S = 1e30 uu' − rounding: r is lost.
        var c = Matrix<double>.Build.Dense(33, 3, (i, j) => 1e12 * Math.Sin((i * 3) + j));
        var lost = new FactoredCost([c, c], 1e-8);
        double[] one = Matrix<double>.Build.DenseIdentity(33).ToColumnMajorArray();
        Device.Upload(one, a);
        e = Assert.Throws<RiccatiException>(() => DenseRiccati.Solve(Device, 1, 33, _ => a, lost, (_, _) => { }, CancellationToken.None));
        Assert.That((e!.Fault, e.Layer), Is.EqualTo((RiccatiFault.NotPositiveDefinite, (int?)0)));
        Assert.That(e.Message, Does.Contain("largest diagonal entry"));
    }
}

/// <summary>A matrix on a device, for as long as a test needs it.</summary>
internal sealed class DeviceMatrix : IDisposable
{
    private readonly DeviceOps _ops;
    private readonly DeviceBuffer _memory;

    public DeviceMatrix(DeviceOps ops, Matrix<double> numbers)
    {
        _ops = ops;
        _memory = ops.Allocate(numbers.RowCount, numbers.ColumnCount, out var view);
        View = view;
        ops.Upload(numbers.ToColumnMajorArray(), view);
    }

    public ColumnMajor View { get; }

    public Matrix<double> Read()
    {
        double[] numbers = new double[View.Length];
        _ops.Download(View, numbers);
        return Matrix<double>.Build.Dense(View.Rows, View.Columns, numbers);
    }

    public void Dispose() => _memory.Dispose();
}
