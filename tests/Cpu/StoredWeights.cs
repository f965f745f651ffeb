using System.Runtime.InteropServices;
using Tiller.Kernels;
using Tiller.Ops;
using Tiller.Tests.Model;

namespace Tiller.Tests.Cpu;

/// <summary>A random matrix in a stored type, with some subnormal numbers, and its exact values.</summary>
internal sealed class StoredWeights : IDisposable
{
    private readonly HostBuffer _memory;
    private readonly double[] _values;

    public StoredWeights(WeightType type, int rows, int columns, int seed)
        : this(type, rows, columns)
    {
        var random = new Random(seed);
        for (int i = 0; i < rows * columns; i++)
        {
            float scale = random.Next(10) == 0 ? 1e-6f : 1;
            Set(i / columns, i % columns, scale * (float)((2 * random.NextDouble()) - 1));
        }
    }

    public StoredWeights(WeightType type, int rows, int columns, ushort[] bits)
        : this(type, rows, columns) => bits.CopyTo(MemoryMarshal.Cast<byte, ushort>(Bytes));

    private StoredWeights(WeightType type, int rows, int columns)
    {
        _memory = new HostBuffer((long)rows * columns * (type == WeightType.F32 ? 4 : 2));
        View = new Matrix(_memory.Address, type, rows, columns);
        _values = new double[rows * columns];
    }

    public Matrix View { get; }

    private unsafe Span<byte> Bytes => new((void*)_memory.Address, (int)View.SizeInBytes);

    public double this[int n, int k] => _values[(n * View.Columns) + k];

    public void Set(int n, int k, float value)
    {
        int i = (n * View.Columns) + k;
        if (View.Type == WeightType.F32)
        {
            MemoryMarshal.Cast<byte, float>(Bytes)[i] = value;
            _values[i] = value;
            return;
        }

        ushort bits = View.Type == WeightType.F16
            ? BitConverter.HalfToUInt16Bits((Half)value) : (ushort)(BitConverter.SingleToUInt32Bits(value) >> 16);
        MemoryMarshal.Cast<byte, ushort>(Bytes)[i] = bits;
        _values[i] = CpuLinearTests.Widen(View.Type, bits);
    }

    public void Dispose() => _memory.Dispose();
}

/// <summary>Rows of float32 numbers in memory outside the managed heap.</summary>
internal sealed class FloatRows : IDisposable
{
    private readonly HostBuffer _memory;

    public FloatRows(int rows, int columns)
    {
        _memory = new HostBuffer(4L * rows * columns);
        View = new Floats(_memory.Address, rows, columns);
    }

    public Floats View { get; }

    public static FloatRows Random(int rows, int columns, int seed)
    {
        var result = new FloatRows(rows, columns);
        var random = new Random(seed);
        for (int m = 0; m < rows; m++)
        {
            Numbers.Gaussian(random, columns).CopyTo(result.Line(m));
        }

        return result;
    }

    public Span<float> Line(int m) => View.HostRow(m);

    public float[] All() => [.. Enumerable.Range(0, View.Rows).SelectMany(m => Line(m).ToArray())];

    public void Dispose() => _memory.Dispose();
}
