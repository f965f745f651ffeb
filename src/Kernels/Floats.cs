using System.Diagnostics;

namespace Tiller.Kernels;

/// <summary>View of float32 numbers on the device // (Rows, Columns), row-major. <c>default</c> is an absent view.</summary>
/// <param name="Address">Address of the first element, on the device; 0 if absent.</param>
/// <param name="Rows">Number of rows.</param>
/// <param name="Columns">Number of columns, the contiguous axis.</param>
internal readonly unsafe record struct Floats(nint Address, int Rows, int Columns)
{
    /// <summary>Whether the view is absent, without memory.</summary>
    public bool IsAbsent => Address == 0;

    /// <summary>
    /// Whether the view has at least this number of rows, of exactly this number of columns. Launchers assert it of their arguments.
    /// </summary>
    internal bool Holds(int rows, int columns) => rows == 0 || (!IsAbsent && Rows >= rows && Columns == columns);

    /// <summary>Address of row <paramref name="row"/>, for code on the processor to which the memory belongs.</summary>
    internal float* Row(int row)
    {
        Debug.Assert((uint)row < (uint)Rows, "row outside the view");
        return (float*)Address + ((nint)row * Columns);
    }

    /// <summary>Row <paramref name="row"/> of host memory.</summary>
    internal Span<float> HostRow(int row) => new(Row(row), Columns);

    /// <summary>A view of rows [begin, begin + count).</summary>
    public Floats Slice(int begin, int count)
    {
        Debug.Assert(begin >= 0 && count >= 0 && begin + count <= Rows, "slice outside the view");
        return new((nint)((float*)Address + ((nint)begin * Columns)), count, Columns);
    }
}
