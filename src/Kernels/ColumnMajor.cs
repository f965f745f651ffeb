using System.Diagnostics;

namespace Tiller.Kernels;

/// <summary>
/// View of float64 numbers on the device // (Rows, Columns), column-major without gaps, as LAPACK and MathNet have them. Views do not own
/// their memory. <c>default</c> is "not there".
/// </summary>
/// <param name="Address">First element, on the device; 0 when absent.</param>
/// <param name="Rows">Fastest axis, contiguous.</param>
/// <param name="Columns">Slowest axis.</param>
internal readonly record struct ColumnMajor(nint Address, int Rows, int Columns)
{
    /// <summary>Numbers in all.</summary>
    public long Length => (long)Rows * Columns;

    /// <summary>Bytes in all.</summary>
    public long SizeInBytes => sizeof(double) * Length;

    /// <summary>The transpose, as a factor of a product.</summary>
    public Factor T => new(this, Transposed: true);

    /// <summary>The same memory seen as columns [begin, begin + count).</summary>
    public ColumnMajor Slice(int begin, int count)
    {
        Debug.Assert(begin >= 0 && count >= 0 && begin + count <= Columns, "slice outside the view");
        return new(Address + (nint)(sizeof(double) * (long)Rows * begin), Rows, count);
    }
}

/// <summary>A matrix or its transpose, as a factor of a product.</summary>
/// <param name="Matrix">The matrix as it is stored.</param>
/// <param name="Transposed">Whether its transpose is meant.</param>
internal readonly record struct Factor(ColumnMajor Matrix, bool Transposed)
{
    /// <summary>Rows of the factor.</summary>
    public int Rows => Transposed ? Matrix.Columns : Matrix.Rows;

    /// <summary>Columns of the factor.</summary>
    public int Columns => Transposed ? Matrix.Rows : Matrix.Columns;

    /// <summary>The matrix itself.</summary>
    public static implicit operator Factor(ColumnMajor matrix) => new(matrix, Transposed: false);
}
