using System.Diagnostics;

namespace Tiller.Kernels;

/// <summary>
/// View of a float64 matrix on the device // (Rows, Columns), column-major without gaps, the layout of LAPACK and MathNet. A view does not own its
/// memory. <c>default</c> is an absent view.
/// </summary>
/// <param name="Address">Address of the first element, on the device; 0 if absent.</param>
/// <param name="Rows">Number of rows, the contiguous axis.</param>
/// <param name="Columns">Number of columns.</param>
internal readonly record struct ColumnMajor(nint Address, int Rows, int Columns)
{
    /// <summary>Number of elements.</summary>
    public long Length => (long)Rows * Columns;

    /// <summary>Size of all elements in bytes.</summary>
    public long SizeInBytes => sizeof(double) * Length;

    /// <summary>The transpose, as a factor of a product.</summary>
    public Factor T => new(this, Transposed: true);

    /// <summary>A view of columns [begin, begin + count).</summary>
    public ColumnMajor Slice(int begin, int count)
    {
        Debug.Assert(begin >= 0 && count >= 0 && begin + count <= Columns, "slice outside the view");
        return new(Address + (nint)(sizeof(double) * (long)Rows * begin), Rows, count);
    }
}

/// <summary>A matrix or its transpose, as a factor of a product.</summary>
/// <param name="Matrix">The matrix.</param>
/// <param name="Transposed">Whether the factor is its transpose.</param>
internal readonly record struct Factor(ColumnMajor Matrix, bool Transposed)
{
    /// <summary>Number of rows of the factor.</summary>
    public int Rows => Transposed ? Matrix.Columns : Matrix.Rows;

    /// <summary>Number of columns of the factor.</summary>
    public int Columns => Transposed ? Matrix.Rows : Matrix.Columns;

    /// <summary>The matrix itself.</summary>
    public static implicit operator Factor(ColumnMajor matrix) => new(matrix, Transposed: false);
}
