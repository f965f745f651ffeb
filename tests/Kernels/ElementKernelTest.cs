using System.Runtime.InteropServices;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Kernels;

/// <summary>A test of kernels: keeps arrays in device memory until it ends, loads kernels by name, and compares results with a reference.</summary>
public abstract unsafe class ElementKernelTest : CudaTest
{
    // 2e-5 relative to the norm of the row.
    protected const double Tolerance = 2e-5;

    private readonly List<IDisposable> _owned = [];
    private KernelLibrary? _library;

    protected PrimaryContext Context { get; private set; } = null!;

    protected CudaStream Stream { get; private set; } = null!;

    [SetUp]
    public void OpenDevice()
    {
        Context = new PrimaryContext();
        Stream = new CudaStream(Context);
    }

    [TearDown]
    public void CloseDevice()
    {
        _owned.ForEach(o => o.Dispose());
        _owned.Clear();
        _library = null;
        Stream?.Dispose();
        Context?.Dispose();
    }

    /// <summary>Makes a launcher of the engine's kernels, which are loaded as the engine loads them.</summary>
    protected T Load<T>(Func<Func<string, CudaKernel>, T> launcher)
    {
        if (_library is null)
        {
            _owned.Add(_library = new KernelLibrary(Context));
        }

        return launcher(_library.Get);
    }

    protected nint Send<T>(params T[] values)
        where T : unmanaged
    {
        var memory = new CudaDeviceVariable<T>(Context, Math.Max(1, values.Length));
        _owned.Add(memory);
        memory.CopyToDevice(values);
        return memory.DevicePointer;
    }

    /// <summary>Sends rows of <paramref name="columns"/> numbers each.</summary>
    private protected Floats SendRows(int columns, params float[] values) => new(Send(values), values.Length / columns, columns);

    /// <summary>Sends a column-major matrix with <paramref name="rows"/> rows.</summary>
    private protected ColumnMajor SendColumns(int rows, params double[] values) => new(Send(values), rows, values.Length / rows);

    /// <summary>Sends values.</summary>
    private protected DeviceSpan<T> SendSpan<T>(params T[] values)
        where T : unmanaged => new(Send(values), values.Length);

    /// <summary>Allocates rows that are filled with NaN, and if asked for, more memory after them.</summary>
    /// <param name="rows">The number of rows.</param>
    /// <param name="columns">The length of a row.</param>
    /// <param name="beyond">How many numbers follow the last row, which no kernel may write.</param>
    private protected Floats PoisonedRows(int rows, int columns, int beyond = 0) => new(Poisoned<float>((rows * columns) + beyond), rows, columns);

    /// <summary>Allocates values that are filled with NaN (integers with -1).</summary>
    private protected DeviceSpan<T> PoisonedSpan<T>(long count)
        where T : unmanaged => new(Poisoned<T>((int)count), count);

    /// <summary>Says which rows are tangents, and to which row each of them belongs.</summary>
    private protected DualRows Dual(int values, params int[] owners) => new(values, SendSpan(owners));

    /// <summary>Reads rows back, and <paramref name="beyond"/> numbers after them.</summary>
    private protected float[] Receive(Floats rows, int beyond = 0) => Receive<float>(rows.Address, (rows.Rows * rows.Columns) + beyond);

    private protected double[] Receive(ColumnMajor matrix) => Receive<double>(matrix.Address, (int)matrix.Length);

    private protected T[] Receive<T>(DeviceSpan<T> span)
        where T : unmanaged => Receive<T>(span.Address, (int)span.Length);

    /// <summary>Allocates memory for a result, filled with NaN (integers with -1).</summary>
    protected nint Poisoned<T>(int count)
        where T : unmanaged
    {
        var values = new T[Math.Max(1, count)];
        MemoryMarshal.AsBytes(values.AsSpan()).Fill(0xFF);
        return Send(values);
    }

    protected T[] Receive<T>(nint address, int count)
        where T : unmanaged
    {
        var values = new T[count];
        Stream.CopyToHost(address, MemoryMarshal.AsBytes(values.AsSpan()));
        Stream.Synchronize();
        return values;
    }

    /// <summary>Standard normal numbers, the same for the same seed.</summary>
    protected static float[] Normal(int seed, int count, double scale = 1)
    {
        var random = new Random(seed);
        var values = new float[count];
        for (int i = 0; i < count; i++)
        {
            values[i] = (float)(scale * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(Math.Tau * random.NextDouble()));
        }

        return values;
    }

    /// <summary>Sums in five parts, as a linear map leaves them, with a bias for the value rows; and their total.</summary>
    private protected (LinearSums Sums, float[] Total) Sums(int seed, int rows, int columns, int values, bool hasResidual)
    {
        const int Parts = 5;
        float[] partial = Normal(seed, Parts * rows * columns), bias = Normal(seed + 1, columns), residual = Normal(seed + 2, rows * columns);
        float[] total = new float[rows * columns];
        for (int i = 0; i < total.Length; i++)
        {
            for (int part = 0; part < Parts; part++)
            {
                total[i] += partial[(part * total.Length) + i];
            }

            total[i] += i / columns < values ? bias[i % columns] : 0;
            total[i] = hasResidual ? residual[i] + total[i] : total[i];
        }

        return (new LinearSums
        {
            Partial = Send(partial),
            Bias = Send(bias),
            Residual = hasResidual ? Send(residual) : 0,
            Parts = Parts,
            Rows = rows,
            Columns = columns,
            Values = values,
        }, total);
    }

    protected static float[] Row(float[] rows, int columns, int row) => rows.AsSpan(row * columns, columns).ToArray();

    /// <summary>
    /// Asserts |actual − expected| ≤ tolerance |expected| + cancelled, where all numbers are one row; <paramref name="cancelled"/> allows for numbers
    /// that were subtracted and are larger than the result.
    /// </summary>
    protected static void Close(
        IReadOnlyList<float> actual, IReadOnlyList<double> expected, string what, double tolerance = Tolerance, double cancelled = 0)
    {
        Assert.That(actual, Has.Count.EqualTo(expected.Count), what);
        double error = 0, norm = 0;
        for (int i = 0; i < actual.Count; i++)
        {
            error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
            norm += expected[i] * expected[i];
        }

        Assert.That(Math.Sqrt(error), Is.LessThanOrEqualTo((tolerance * Math.Sqrt(norm)) + cancelled), what);
    }

    protected static uint[] Bits(float[] values) => [.. values.Select(BitConverter.SingleToUInt32Bits)];
}
