using System.Diagnostics;

namespace Tiller.Kernels;

/// <summary>View of float32 numbers on the device // (Rows, Columns), row-major. <c>default</c> is "not there".</summary>
/// <param name="Address">First element, on the device; 0 when absent.</param>
/// <param name="Rows">Slowest axis.</param>
/// <param name="Columns">Fastest axis, contiguous.</param>
internal readonly unsafe record struct Floats(nint Address, int Rows, int Columns)
{
    /// <summary>Whether there is anything to look at.</summary>
    public bool IsAbsent => Address == 0;

    /// <summary>Whether it has room for so many rows of so many numbers: what a launcher is promised, and asserts.</summary>
    internal bool Holds(int rows, int columns) => rows == 0 || (!IsAbsent && Rows >= rows && Columns == columns);

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
