using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Synthesis;

/// <summary>Cholesky factor L of a symmetric positive definite M = L L' // (n, n), in host memory.</summary>
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

    /// <summary>L, with zeros above the diagonal // (n, n).</summary>
    public Matrix<double> Lower => _l.LowerTriangle();

    /// <summary>
    /// Factors rI + Z'Z for Z // (D, n). The error is rounding times 10³ or times the square root of the condition number, whichever is larger, not
    /// times the number itself. The diagonal of L tells the condition.
    /// </summary>
    /// <remarks>
    /// Z'Z keeps of a pivot that is r alone what rounding leaves of it, |Z|²/r times as much as of the largest. Where that matters, L is corrected by
    /// the factor of Q'Q, Q = [Z; √r I] L^{-T}, which is I but for those errors. Where they reach the smallest pivots, L comes from [Z; √r I] = O L'
    /// (Householder QR), which never squares Z.
    /// </remarks>
    /// <exception cref="RiccatiException">No way gives positive pivots, because numbers overflow when they are squared.</exception>
    public static SpdFactor OfGram(Matrix<double> z, double r, int layer, CancellationToken cancellationToken = default)
    {
        const double Harmless = 1e3, MaxCondition = 1e12;
        var l = Shift(DenseAlgebra.TransposeMultiply(z, z, cancellationToken), r);
        double largest = l.RowCount == 0 ? 0 : l.Diagonal().Maximum();
        var pivots = DenseAlgebra.Cholesky(l, cancellationToken);
        if (pivots.Failed < 0 && pivots.Condition <= MaxCondition
            && (pivots.Condition <= Harmless ? l : Corrected(z, r, l, cancellationToken)) is { } factor)
        {
            return new SpdFactor(factor, pivots.Condition);
        }

        int n = z.ColumnCount;
        cancellationToken.ThrowIfCancellationRequested();
        var stacked = z.Stack(Matrix<double>.Build.DenseDiagonal(n, Math.Sqrt(r)));
        var upper = stacked.QR(MathNet.Numerics.LinearAlgebra.Factorization.QRMethod.Thin).R;
        var lower = Matrix<double>.Build.Dense(n, n, (i, j) => i < j ? 0 : Math.CopySign(1, upper[j, j]) * upper[j, i]);
        var diagonal = lower.Diagonal();
        double smallest = diagonal.Minimum(), condition = Math.Pow(diagonal.Maximum() / smallest, 2);
        return smallest > 0 && double.IsFinite(condition)
            ? new SpdFactor(lower, condition)
            : throw RiccatiException.FailedPivot(layer, pivots.Failed, pivots.Value, r, largest);
    }

    // L M with M M' = Q'Q = L^{-1} (Z'Z + rI) L^{-T}, which is formed from Q's columns and so loses nothing of the small ones. Null if Q'Q is so far
    // from I that it has no factor.
    private static Matrix<double>? Corrected(Matrix<double> z, double r, Matrix<double> l, CancellationToken cancellationToken)
    {
        var top = Matrix<double>.Build.Dense(z.RowCount, z.ColumnCount, z.ToColumnMajorArray());
        var below = Matrix<double>.Build.DenseDiagonal(l.RowCount, Math.Sqrt(r));
        DenseAlgebra.SolveRight(top, l);
        DenseAlgebra.SolveRight(below, l);
        var m = DenseAlgebra.TransposeMultiply(top, top, cancellationToken) + DenseAlgebra.TransposeMultiply(below, below, cancellationToken);
        return DenseAlgebra.Cholesky(m, cancellationToken).Failed >= 0 ? null
            : DenseAlgebra.Multiply(l.LowerTriangle(), m.LowerTriangle(), cancellationToken);
    }

    /// <summary>Row of the first pivot of Q + shift·I that is not positive; -1 if there is none.</summary>
    public static int FirstBadPivot(Matrix<double> q, double shift) => DenseAlgebra.Cholesky(Shift(q, shift)).Failed;

    /// <summary>Computes M^{-1} B as a new matrix // (n, m).</summary>
    public Matrix<double> Solve(Matrix<double> b)
    {
        var x = Matrix<double>.Build.Dense(b.RowCount, b.ColumnCount, b.ToColumnMajorArray());
        DenseAlgebra.CholeskySolve(_l, x);
        return x;
    }

    /// <summary>Computes W L^{-T} as a new matrix // (m, n).</summary>
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
