using System.Diagnostics;
using Tiller.Checkpoint;

namespace Tiller.Ops;

/// <summary>View of a weight matrix in its stored type // (Rows, Columns), row-major: y = W x has Rows numbers.</summary>
/// <param name="Address">First element, on the device.</param>
/// <param name="Type">F32, F16 or BF16.</param>
/// <param name="Rows">Outputs.</param>
/// <param name="Columns">Inputs.</param>
public readonly record struct Matrix(nint Address, TensorType Type, int Rows, int Columns)
{
    /// <summary>Bytes of one element.</summary>
    public int ElementSizeInBytes => Type == TensorType.F32 ? 4 : 2;

    /// <summary>Bytes of the whole matrix.</summary>
    public long SizeInBytes => (long)Rows * Columns * ElementSizeInBytes;
}

/// <summary>View of float32 numbers on the device // (Rows, Columns), row-major. <c>default</c> is "not there".</summary>
/// <param name="Address">First element, on the device; 0 when absent.</param>
/// <param name="Rows">Slowest axis.</param>
/// <param name="Columns">Fastest axis, contiguous.</param>
public readonly unsafe record struct Floats(nint Address, int Rows, int Columns)
{
    /// <summary>Whether there is anything to look at.</summary>
    public bool IsAbsent => Address == 0;

    /// <summary>Address of row <paramref name="row"/>, for code that runs where the memory is.</summary>
    internal float* Row(int row)
    {
        Debug.Assert((uint)row < (uint)Rows, "row outside the view");
        return (float*)Address + ((nint)row * Columns);
    }

    /// <summary>Row <paramref name="row"/> of host memory.</summary>
    internal Span<float> HostRow(int row) => new(Row(row), Columns);

    /// <summary>The same memory seen as rows [begin, begin + count).</summary>
    public Floats Slice(int begin, int count)
    {
        Debug.Assert(begin >= 0 && count >= 0 && begin + count <= Rows, "slice outside the view");
        return new((nint)((float*)Address + ((nint)begin * Columns)), count, Columns);
    }
}
