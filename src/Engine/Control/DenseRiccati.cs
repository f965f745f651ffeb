// Sign convention: u = K e, where e is the displacement the state is short of (δx = −e).
//
// The minimum of Σ_k (δx_k' Q_k δx_k + r |u_k|²) + δx_L' Q_L δx_L  subject to  δx_{k+1} = A_k δx_k + u_k  is δx_0' S_0 δx_0, and the
// minimising input is u_k = −K_k δx_k, where backward from S_L = Q_L
//
//     F   = S_{k+1} A_k
//     K_k = (S_{k+1} + r I)^{-1} F
//     S_k = Q_k + r A_k' K_k
//
// It is the textbook recursion S = Q + A'SA − A'S (S + rI)^{-1} SA with  S − S (S + rI)^{-1} S = r (S + rI)^{-1} S  put in: no two
// like quantities are subtracted, so a small r costs no digits. (MATH.md §3; Skifstad, Yang, Chou, arXiv:2604.19018.)
using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Control;

/// <summary>LQR gains by the Riccati recursion with full matrices, in float64 (MATH.md §3).</summary>
public static class DenseRiccati
{
    private const int Probes = 4;

    /// <summary>Solves and keeps every gain: L·D²·8 bytes.</summary>
    /// <param name="layers">L, at least 0.</param>
    /// <param name="jacobian">A_k for k = L-1 down to 0, asked for once each // (D, D).</param>
    /// <param name="cost">Q_k, Q_L and r.</param>
    /// <param name="cancellationToken">Looked at between blocks of a product or factorisation.</param>
    /// <returns>Gains of <see cref="DenseGain"/>, and the report.</returns>
    /// <exception cref="RiccatiException">Shapes disagree, a number is not finite, or S + rI has no Cholesky factor.</exception>
    public static RiccatiSolution Solve(int layers, Func<int, Matrix<double>> jacobian, QuadraticCost cost, CancellationToken cancellationToken = default)
    {
        var gains = new Gain[layers];
        var report = Stream(layers, jacobian, cost, (k, gain) => gains[k] = new DenseGain(gain), cancellationToken);
        return new RiccatiSolution(gains, report);
    }

    /// <summary>Solves and hands every gain on as it is found, last layer first: six D×D matrices are alive at most.</summary>
    /// <param name="layers">L, at least 0.</param>
    /// <param name="jacobian">A_k for k = L-1 down to 0, asked for once each // (D, D).</param>
    /// <param name="cost">Q_k, Q_L and r.</param>
    /// <param name="onGain">Takes (k, K_k // (D, D)), which it may keep.</param>
    /// <param name="cancellationToken">Looked at between blocks of a product or factorisation.</param>
    /// <returns>The report, k = 0..L-1.</returns>
    /// <exception cref="RiccatiException">Shapes disagree, a number is not finite, or S + rI has no Cholesky factor.</exception>
    public static RiccatiReport Stream(
        int layers, Func<int, Matrix<double>> jacobian, QuadraticCost cost, Action<int, Matrix<double>> onGain, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layers);
        var steps = new RiccatiStep[layers];
        Matrix<double>? s = null;
        for (int k = layers - 1; k >= 0; k--)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var a = jacobian(k);

            // S_L = Q_L
            s ??= Terminal(layers, a.RowCount, cost);
            if (a.RowCount != s.RowCount)
            {
                throw RiccatiException.Shape("The Jacobian A", k, $"{s.RowCount} rows", $"{a.RowCount}×{a.ColumnCount}");
            }

            Finite.Check(a, "The Jacobian A", k);

            // K_k = (S_{k+1} + r I)^{-1} S_{k+1} A_k
            var factor = SpdFactor.OfShifted(s, cost.R, k, cancellationToken);
            var gain = DenseAlgebra.Multiply(s, a, cancellationToken);
            factor.SolveInPlace(gain, cancellationToken);

            // S_k = Q_k + r A_k' K_k
            var next = Matrix<double>.Build.Dense(a.ColumnCount, a.ColumnCount);
            DenseAlgebra.MultiplyAdd(MatrixView.Of(next), cost.R, MatrixView.Of(a).T, MatrixView.Of(gain), cancellationToken);
            cost.AddTo(k, terminal: false, next);
            double symmetryError = DenseAlgebra.Symmetrise(next);

            steps[k] = new RiccatiStep(k, Residual(k, s, a, gain, next, cost), symmetryError, factor.Condition, s.RowCount, 0, 0);
            onGain(k, gain);
            s = next;
        }

        return new RiccatiReport(steps);
    }

    private static Matrix<double> Terminal(int layers, int width, QuadraticCost cost)
    {
        var s = Matrix<double>.Build.Dense(width, width);
        cost.AddTo(layers, terminal: true, s);
        return s;
    }

    private static double Residual(int k, Matrix<double> s, Matrix<double> a, Matrix<double> gain, Matrix<double> next, QuadraticCost cost)
    {
        var z = Probe(a.ColumnCount, Probes, k);
        var az = DenseAlgebra.Multiply(a, z);
        var kz = DenseAlgebra.Multiply(gain, z);

        // (S_{k+1} + rI) K_k z = S_{k+1} A_k z
        double gainError = Relative(DenseAlgebra.Multiply(s, kz) + (cost.R * kz), DenseAlgebra.Multiply(s, az));

        // S_k z = Q_k z + r K'K z + (A − K)' S_{k+1} (A − K) z   (Joseph's form: all terms positive)
        var rest = DenseAlgebra.Multiply(s, az - kz);
        var value = cost.Multiply(k, terminal: false, z) + DenseAlgebra.TransposeMultiply(gain, (cost.R * kz) - rest) + DenseAlgebra.TransposeMultiply(a, rest);
        return Math.Max(gainError, Relative(value, DenseAlgebra.Multiply(next, z)));
    }

    /// <summary>Random signs from a fixed seed: |M z|² is |M|² (Frobenius) in the mean.</summary>
    internal static Matrix<double> Probe(int rows, int columns, int seed)
    {
        var random = new Random(seed);
        return Matrix<double>.Build.Dense(rows, columns, (_, _) => random.Next(2) == 0 ? -1 : 1);
    }

    /// <summary>|a − b| / max(|a|, |b|), 0 for 0 against 0.</summary>
    internal static double Relative(Matrix<double> a, Matrix<double> b)
    {
        double scale = Math.Max(a.FrobeniusNorm(), b.FrobeniusNorm());
        return scale == 0 ? 0 : (a - b).FrobeniusNorm() / scale;
    }
}
