using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Storage;

namespace Tiller.Control;

/// <summary>A strided window on an array of float64: blocks and transposes without copying.</summary>
internal readonly struct MatrixView
{
    public MatrixView(double[] data, int offset, int rows, int columns, int rowStride, int columnStride)
    {
        Data = data;
        Offset = offset;
        Rows = rows;
        Columns = columns;
        RowStride = rowStride;
        ColumnStride = columnStride;
    }

    public double[] Data { get; }

    public int Offset { get; }

    public int Rows { get; }

    public int Columns { get; }

    public int RowStride { get; }

    public int ColumnStride { get; }

    public MatrixView T => new(Data, Offset, Columns, Rows, ColumnStride, RowStride);

    public int Index(int row, int column) => Offset + (row * RowStride) + (column * ColumnStride);

    public MatrixView Block(int row, int column, int rows, int columns) => new(Data, Index(row, column), rows, columns, RowStride, ColumnStride);

    /// <summary>The matrix's own array (column-major) where it is dense, a copy where it is not.</summary>
    public static MatrixView Of(Matrix<double> m)
    {
        double[] data = m.Storage is DenseColumnMajorMatrixStorage<double> dense ? dense.Data : m.ToColumnMajorArray();
        return new MatrixView(data, 0, m.RowCount, m.ColumnCount, 1, m.RowCount);
    }
}
