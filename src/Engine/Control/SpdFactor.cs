using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Control;

/// <summary>Cholesky factor L of M = L L', M symmetric positive definite // (n, n), in host memory.</summary>
internal sealed class SpdFactor
{
    private readonly Matrix<double> _l;

    private SpdFactor(Matrix<double> l, double condition)
    {
        _l = l;
        Condition = condition;
    }

    /// <summary>(max L_ii / min L_ii)², a lower bound of M's condition number.</summary>
    public double Condition { get; }

    /// <summary>L with a clean upper triangle // (n, n).</summary>
    public Matrix<double> Lower => _l.LowerTriangle();

    /// <summary>Factors S + rI; S is left as it is.</summary>
    /// <exception cref="RiccatiException">A pivot is not positive.</exception>
    public static SpdFactor OfShifted(Matrix<double> s, double r, int layer, CancellationToken cancellationToken = default)
    {
        var l = Shift(s, r);
        double largest = l.RowCount == 0 ? 0 : l.Diagonal().Maximum();
        var pivots = DenseAlgebra.Cholesky(l, cancellationToken);
        return pivots.Failed < 0
            ? new SpdFactor(l, pivots.Condition)
            : throw RiccatiException.FailedPivot(layer, pivots.Failed, pivots.Value, r, largest);
    }

    /// <summary>Row of the first pivot of Q + shift·I that is not positive, or -1.</summary>
    public static int FirstBadPivot(Matrix<double> q, double shift) => DenseAlgebra.Cholesky(Shift(q, shift)).Failed;

    /// <summary>M^{-1} B as a new matrix // (n, m).</summary>
    public Matrix<double> Solve(Matrix<double> b)
    {
        var x = Matrix<double>.Build.Dense(b.RowCount, b.ColumnCount, b.ToColumnMajorArray());
        DenseAlgebra.CholeskySolve(_l, x);
        return x;
    }

    /// <summary>W L^{-T} as a new matrix // (m, n).</summary>
    public Matrix<double> SolveRight(Matrix<double> w)
    {
        var x = Matrix<double>.Build.Dense(w.RowCount, w.ColumnCount, w.ToColumnMajorArray());
        DenseAlgebra.SolveRight(x, _l);
        return x;
    }

    private static Matrix<double> Shift(Matrix<double> s, double r)
    {
        int n = s.RowCount;
        double[] numbers = s.ToColumnMajorArray();
        for (int i = 0; i < n; i++)
        {
            numbers[(i * n) + i] += r;
        }

        return Matrix<double>.Build.Dense(n, n, numbers);
    }
}
