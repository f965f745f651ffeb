using Tiller.Kernels;

namespace Tiller.Cpu;

/// <summary>A strided view of float64 numbers in host memory: blocks and transposes without copies.</summary>
internal readonly unsafe struct Strided(double* data, int rows, int columns, nint rowStride, nint columnStride)
{
    public double* Data { get; } = data;

    public int Rows { get; } = rows;

    public int Columns { get; } = columns;

    public nint RowStride { get; } = rowStride;

    public nint ColumnStride { get; } = columnStride;

    public Strided T => new(Data, Columns, Rows, ColumnStride, RowStride);

    public static Strided Of(Factor factor)
    {
        var m = factor.Matrix;
        var stored = new Strided((double*)m.Address, m.Rows, m.Columns, 1, m.Rows);
        return factor.Transposed ? stored.T : stored;
    }

    public double* At(int row, int column) => Data + (row * RowStride) + (column * ColumnStride);

    public Strided Block(int row, int column, int rows, int columns) => new(At(row, column), rows, columns, RowStride, ColumnStride);
}
