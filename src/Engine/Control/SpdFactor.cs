using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Control;

/// <summary>Cholesky factor L of M = L L', M symmetric positive definite // (n, n).</summary>
internal sealed class SpdFactor
{
    private readonly MatrixView _l;

    private SpdFactor(MatrixView l, double condition)
    {
        _l = l;
        Condition = condition;
    }

    /// <summary>(max L_ii / min L_ii)², a lower bound of M's condition number.</summary>
    public double Condition { get; }

    /// <summary>L with a clean upper triangle // (n, n).</summary>
    public Matrix<double> Lower => Matrix<double>.Build.Dense(_l.Rows, _l.Rows, (i, j) => j <= i ? _l.Data[_l.Index(i, j)] : 0);

    /// <summary>Factors S + rI; S is left as it is.</summary>
    /// <exception cref="RiccatiException">A pivot is not positive.</exception>
    /// <exception cref="OperationCanceledException">Cancelled between two blocks.</exception>
    public static SpdFactor OfShifted(Matrix<double> s, double r, int layer, CancellationToken cancellationToken = default)
    {
        var (l, largest) = Shift(s, r);
        int pivot = DenseAlgebra.Cholesky(l, cancellationToken);
        if (pivot >= 0)
        {
            throw RiccatiException.FailedPivot(layer, pivot, l.Data[l.Index(pivot, pivot)], r, largest);
        }

        double low = double.PositiveInfinity, high = 0;
        for (int i = 0; i < l.Rows; i++)
        {
            low = Math.Min(low, l.Data[l.Index(i, i)]);
            high = Math.Max(high, l.Data[l.Index(i, i)]);
        }

        return new SpdFactor(l, high / low * (high / low));
    }

    /// <summary>Row of the first pivot of Q + shift·I that is not positive, or -1.</summary>
    public static int FirstBadPivot(Matrix<double> q, double shift) => DenseAlgebra.Cholesky(Shift(q, shift).M);

    /// <summary>M^{-1} B as a new matrix // (n, m).</summary>
    public Matrix<double> Solve(Matrix<double> b)
    {
        var x = Matrix<double>.Build.Dense(b.RowCount, b.ColumnCount, b.ToColumnMajorArray());
        SolveInPlace(x);
        return x;
    }

    /// <summary>X = M^{-1} X.</summary>
    /// <exception cref="OperationCanceledException">Cancelled between two blocks; X is then of no use.</exception>
    public void SolveInPlace(Matrix<double> x, CancellationToken cancellationToken = default) =>
        DenseAlgebra.CholeskySolve(_l, MatrixView.Of(x), cancellationToken);

    private static (MatrixView M, double Largest) Shift(Matrix<double> s, double r)
    {
        // Symmetric: the column-major array of S is its row-major array.
        int n = s.RowCount;
        double[] data = s.ToColumnMajorArray();
        double largest = 0;
        for (int i = 0; i < n; i++)
        {
            data[(i * n) + i] += r;
            largest = Math.Max(largest, data[(i * n) + i]);
        }

        return (new MatrixView(data, 0, n, n, n, 1), largest);
    }
}
