using System.Runtime.InteropServices;
using Tiller.Interop;
using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

/// <summary>
/// Runs the kernels of linear maps, each in freshly allocated memory that is exactly as large as it must be and filled with NaN.
/// </summary>
internal sealed class LinearJob : IDisposable
{
    private const double ByFma = 2e-6, BySplit = 5e-6; // relative to the norm of the result; twice that for a single row

    private readonly PrimaryContext context = new();
    private readonly CudaStream stream;
    private readonly CudaBlasLt? blas;
    private readonly KernelLibrary library;
    private readonly LinearKernels kernels;

    public LinearJob(bool withBlas = false)
    {
        stream = new CudaStream(context);
        blas = withBlas ? new CudaBlasLt(context) : null;
        library = new KernelLibrary(context);
        kernels = new LinearKernels(library.Get, blas);
    }

    public int Plans => blas!.PlanCount;

    /// <summary>The variants of the kernels that are launched from now on.</summary>
    public KernelVariants Variants
    {
        set => kernels.Variants = value;
    }

    public long ScratchInBytes(int values, int tangents, Matrix w) => kernels.ScratchInBytes(new RowCounts(values, tangents), w);

    public static float[] Numbers(int count, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (2 * random.NextSingle()) - 1)];
    }

    /// <summary>Random weights that are exact in the type // (n, k).</summary>
    public static float[] Weights(WeightType type, int n, int k) => [.. Numbers(n * k, 1).Select(v => Round(v, type))];

    /// <summary>The bytes of weights as a checkpoint stores them.</summary>
    public static byte[] Stored(float[] weights, WeightType type) => type switch
    {
        WeightType.F16 => MemoryMarshal.AsBytes(weights.Select(v => (Half)v).ToArray().AsSpan()).ToArray(),
        WeightType.BF16 => MemoryMarshal.AsBytes(weights.Select(v => (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16)).ToArray().AsSpan())
            .ToArray(),
        _ => MemoryMarshal.AsBytes(weights.AsSpan()).ToArray(),
    };

    /// <summary>
    /// Checks the forward map. All rows are values unless <paramref name="values"/> says how many are; the others are tangents, which on tensor cores
    /// may have an error of <see cref="BySplit"/>.
    /// </summary>
    public void CheckForward(int rows, int n, int k, WeightType type, int? values = null, bool biased = false, Residual where = Residual.None)
    {
        int first = values ?? rows;
        float[] w = Weights(type, n, k), x = Numbers(rows * k, 2), bias = Numbers(n, 3), residual = Numbers(rows * n, 4);
        float[] y = Run(x, rows, w, type, n, k, transposed: false, first, biased ? bias : null, where == Residual.None ? null : residual, where);
        double[] expected = new double[rows * n];
        for (int i = 0; i < expected.Length; i++)
        {
            int m = i / n, j = i % n;
            double sum = (biased && m < first ? bias[j] : 0) + (where == Residual.None ? 0 : residual[i]);
            for (int l = 0; l < k; l++)
            {
                sum += (double)x[(m * k) + l] * w[(j * k) + l];
            }

            expected[i] = sum;
        }

        Compare(y, expected, rows, m => m < first || !Splits(rows, k, type) ? ByFma : BySplit,
            $"{first} of {rows} rows values, W ({n}, {k}) {type}, biased {biased}, residual {where}");
    }

    public void CheckTransposed(int rows, int n, int k, WeightType type)
    {
        float[] w = Weights(type, n, k), y = Numbers(rows * n, 2);
        double[] expected = new double[rows * k];
        for (int m = 0; m < rows; m++)
        {
            for (int j = 0; j < n; j++)
            {
                for (int l = 0; l < k; l++)
                {
                    expected[(m * k) + l] += (double)y[(m * n) + j] * w[(j * k) + l];
                }
            }
        }

        Compare(Run(y, rows, w, type, n, k, transposed: true), expected, rows, _ => Splits(rows, k, type) ? BySplit : ByFma,
            $"{rows} rows through the transpose of W ({n}, {k}) {type}");
    }

    public float[] Run(
        float[] input, int rows, float[] weights, WeightType type, int n, int k, bool transposed, int? values = null, float[]? bias = null,
        float[]? residual = null, Residual where = Residual.None)
    {
        float[] output = new float[rows * (transposed ? k : n)];
        int first = transposed ? 0 : values ?? rows;
        using CudaDeviceVariable<byte> w = Upload(Stored(weights, type));
        int inputs = transposed ? n : k, outputs = transposed ? k : n;
        using CudaDeviceVariable<byte> from = Upload(MemoryMarshal.AsBytes(input.AsSpan())), to = Unwritten(4L * output.Length);
        using CudaDeviceVariable<byte>? added = bias is null ? null : Upload(MemoryMarshal.AsBytes(bias.AsSpan()));
        using CudaDeviceVariable<byte>? kept = where != Residual.Apart ? null : Upload(MemoryMarshal.AsBytes(residual.AsSpan()));
        var matrix = new Matrix(w.DevicePointer, type, n, k);
        var counts = new RowCounts(first, rows - first);
        using var scratch = Unwritten(Math.Max(1, kernels.ScratchInBytes(counts, matrix)));
        if (where == Residual.InPlace)
        {
            to.CopyToDevice(MemoryMarshal.AsBytes(residual.AsSpan()));
        }

        if (transposed)
        {
            kernels.Transposed(stream, Rows(from, inputs), rows, matrix, Rows(to, outputs), Bytes(scratch));
        }
        else
        {
            var other = where switch
            {
                Residual.Apart => Rows(kept!, outputs),
                Residual.InPlace => Rows(to, outputs),
                _ => default,
            };
            kernels.Forward(
                stream, Rows(from, inputs), counts, matrix, Rows(to, outputs), Bytes(scratch), added is null ? default : Rows(added, outputs), other);
        }

        stream.Synchronize();
        to.CopyToHost(MemoryMarshal.AsBytes(output.AsSpan()));
        return output;
    }

    /// <summary>
    /// The forward map of x and the transposed map of y, captured in one graph with one scratch buffer, and run twice. Capturing must not allocate
    /// managed memory.
    /// </summary>
    public (float[] Forward, float[] Transposed) RunCaptured(float[] x, float[] y, int rows, float[] weights, int n, int k)
    {
        float[] forward = new float[rows * n], back = new float[rows * k];
        using CudaDeviceVariable<byte> w = Upload(Stored(weights, WeightType.BF16));
        using CudaDeviceVariable<byte> from = Upload(MemoryMarshal.AsBytes(x.AsSpan())), to = Unwritten(4L * forward.Length);
        using CudaDeviceVariable<byte> fromBack = Upload(MemoryMarshal.AsBytes(y.AsSpan())), toBack = Unwritten(4L * back.Length);
        var matrix = new Matrix(w.DevicePointer, WeightType.BF16, n, k);
        using var scratch = Unwritten(Math.Max(1, kernels.ScratchInBytes(new RowCounts(rows, 0), matrix)));
        long allocated = 0;
        using CudaGraph graph = stream.Capture(() =>
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            kernels.Forward(stream, Rows(from, k), new RowCounts(rows, 0), matrix, Rows(to, n), Bytes(scratch));
            kernels.Transposed(stream, Rows(fromBack, n), rows, matrix, Rows(toBack, k), Bytes(scratch));
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        });
        Assert.That(allocated, Is.Zero);
        using CudaGraphExec exec = graph.Instantiate();
        exec.Launch(stream);
        exec.Launch(stream);
        stream.Synchronize();
        to.CopyToHost(MemoryMarshal.AsBytes(forward.AsSpan()));
        toBack.CopyToHost(MemoryMarshal.AsBytes(back.AsSpan()));
        return (forward, back);
    }

    public void Dispose()
    {
        blas?.Dispose();
        library.Dispose();
        stream.Dispose();
        context.Dispose();
    }

    private static bool Splits(int rows, int k, WeightType type) => rows > LinearKernels.FewRows && type == WeightType.BF16 && k % 8 == 0;

    private static float Round(float value, WeightType type) => type switch
    {
        WeightType.F16 => (float)(Half)value,
        WeightType.BF16 => BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(value) & 0xFFFF0000),
        _ => value,
    };

    // Compares |y − y'| with |y'|: for all rows together, and with twice the tolerance for each row. In a row of few numbers sums may cancel by
    // chance, so such rows are not checked one by one.
    private static void Compare(float[] actual, double[] expected, int rows, Func<int, double> tolerance, string what)
    {
        Assert.That(Array.TrueForAll(actual, float.IsFinite), Is.True, $"all numbers are written: {what}"); // below, NaN would pass
        int columns = expected.Length / rows;
        double allErrors = 0, all = 0;
        for (int m = 0; m < rows; m++)
        {
            double error = 0, norm = 0;
            for (int i = m * columns; i < (m + 1) * columns; i++)
            {
                error += Math.Pow(actual[i] - expected[i], 2);
                norm += expected[i] * expected[i];
            }

            if (columns >= 8)
            {
                Assert.That(Math.Sqrt(error), Is.LessThanOrEqualTo(2 * tolerance(m) * Math.Sqrt(norm)), $"row {m} of {what}");
            }

            allErrors += error;
            all += norm;
        }

        Assert.That(Math.Sqrt(allErrors), Is.LessThanOrEqualTo(tolerance(rows - 1) * Math.Sqrt(all)), what);
    }

    private static Floats Rows(CudaDeviceVariable<byte> memory, int columns)
        => new(memory.DevicePointer, (int)(memory.Length / (4L * columns)), columns);

    private static DeviceSpan<byte> Bytes(CudaDeviceVariable<byte> memory) => new(memory.DevicePointer, memory.Length);

    // Memory that is filled with NaN.
    private CudaDeviceVariable<byte> Unwritten(long sizeInBytes)
    {
        byte[] ones = new byte[sizeInBytes];
        Array.Fill(ones, (byte)0xFF);
        return Upload(ones);
    }

    private CudaDeviceVariable<byte> Upload(ReadOnlySpan<byte> bytes)
    {
        var device = new CudaDeviceVariable<byte>(context, bytes.Length);
        device.CopyToDevice(bytes);
        return device;
    }
}
