using System.Diagnostics;

namespace Tiller.Ops;

/// <summary>
/// View of float64 numbers on the device // (Rows, Columns), column-major without gaps, as LAPACK and MathNet have them. Views do not own
/// their memory. <c>default</c> is "not there".
/// </summary>
/// <param name="Address">First element, on the device; 0 when absent.</param>
/// <param name="Rows">Fastest axis, contiguous.</param>
/// <param name="Columns">Slowest axis.</param>
public readonly record struct Doubles(nint Address, int Rows, int Columns)
{
    /// <summary>Numbers in all.</summary>
    public long Length => (long)Rows * Columns;

    /// <summary>Bytes in all.</summary>
    public long SizeInBytes => sizeof(double) * Length;

    /// <summary>The transpose, as a factor of a product.</summary>
    public Factor T => new(this, Transposed: true);

    /// <summary>The same memory seen as columns [begin, begin + count).</summary>
    public Doubles Slice(int begin, int count)
    {
        Debug.Assert(begin >= 0 && count >= 0 && begin + count <= Columns, "slice outside the view");
        return new(Address + (nint)(sizeof(double) * (long)Rows * begin), Rows, count);
    }
}

/// <summary>A matrix or its transpose, as a factor of a product.</summary>
/// <param name="Matrix">The matrix as it is stored.</param>
/// <param name="Transposed">Whether its transpose is meant.</param>
public readonly record struct Factor(Doubles Matrix, bool Transposed)
{
    /// <summary>Rows of the factor.</summary>
    public int Rows => Transposed ? Matrix.Columns : Matrix.Rows;

    /// <summary>Columns of the factor.</summary>
    public int Columns => Transposed ? Matrix.Rows : Matrix.Columns;

    /// <summary>The matrix itself.</summary>
    public static implicit operator Factor(Doubles matrix) => new(matrix, Transposed: false);
}

/// <summary>What a Cholesky factorisation met on its way down the diagonal.</summary>
/// <param name="Failed">Row of the first pivot that is not positive, or -1.</param>
/// <param name="Value">That pivot's value where the device tells it, else NaN.</param>
/// <param name="Smallest">Smallest L_ii; 0 after a failure.</param>
/// <param name="Largest">Largest L_ii; 0 after a failure.</param>
public readonly record struct Pivots(int Failed, double Value, double Smallest, double Largest)
{
    /// <summary>(max L_ii / min L_ii)², a lower bound of the condition number; 1 for a matrix without rows.</summary>
    public double Condition => Largest == 0 ? 1 : Largest / Smallest * (Largest / Smallest);
}
