namespace Tiller.Kernels;

/// <summary>View of a float64 matrix on the device // (Rows, Columns), with any strides.</summary>
/// <param name="Address">Address of the first element, on the device.</param>
/// <param name="Rows">Number of rows.</param>
/// <param name="Columns">Number of columns.</param>
/// <param name="RowStride">Distance from one row to the next, in numbers.</param>
/// <param name="ColumnStride">Distance from one column to the next, in numbers.</param>
internal readonly record struct StridedDoubles(nint Address, int Rows, int Columns, long RowStride, long ColumnStride)
{
    /// <summary>A column-major matrix without gaps.</summary>
    public static implicit operator StridedDoubles(ColumnMajor m) => new(m.Address, m.Rows, m.Columns, RowStride: 1, ColumnStride: m.Rows);
}
