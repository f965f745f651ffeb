namespace Tiller.Kernels;

/// <summary>View of float64 numbers on the device // (Rows, Columns) with gaps, or row by row, or both.</summary>
/// <param name="Address">First element, on the device.</param>
/// <param name="Rows">Rows.</param>
/// <param name="Columns">Columns.</param>
/// <param name="RowStride">Numbers from one row to the next.</param>
/// <param name="ColumnStride">Numbers from one column to the next.</param>
internal readonly record struct StridedDoubles(nint Address, int Rows, int Columns, long RowStride, long ColumnStride)
{
    /// <summary>A matrix without gaps.</summary>
    public static implicit operator StridedDoubles(ColumnMajor m) => new(m.Address, m.Rows, m.Columns, RowStride: 1, ColumnStride: m.Rows);
}
