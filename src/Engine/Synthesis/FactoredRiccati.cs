// Sign convention: u = K e, where e = −δx is the displacement that the state lacks.
//
// If Q_k = C_k C_k' then the S_k of the dense recursion is Z_k Z_k' with, backward from Z = C_L,
//
//     W   = A_k' Z                                p pullbacks; A_k itself is never formed
//     G   = I + Z'Z/r = L L'                      p×p
//     K_k = Z (r I + Z'Z)^{-1} W'
//     Z_k = [ W L^{-T} , C_k ]
//
// because (ZZ' + rI)^{-1} Z = Z (Z'Z + rI)^{-1} and  r A'K = W r (rI + Z'Z)^{-1} W' = W (L L')^{-1} W'.
// Exact, and S is positive semidefinite by construction. (docs/math.md §4.) At a layer without an input, K_k = 0 and Z_k = [ W , C_k ].
using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Synthesis;

/// <summary>LQR gains without a Jacobian, for state costs of low rank, in float64 (docs/math.md §4).</summary>
public static class FactoredRiccati
{
    private const int Probes = 4;

    /// <summary>Solves for the gains of all layers. They take 2·L·D·p·8 bytes; p grows by the number of C's columns at every layer.</summary>
    /// <param name="layers">L, at least 0.</param>
    /// <param name="pullback">(k, Z // (D, p)) → A_k' Z // (D, p). Called for k = L-1 down to 0.</param>
    /// <param name="cost">C_0..C_L and r.</param>
    /// <param name="maxRank">Largest number of columns of Z that is not compressed.</param>
    /// <param name="tolerance">Compression drops singular values of Z below this share of the largest one; at least 0 and below 1.</param>
    /// <param name="cancellationToken">Checked at every layer.</param>
    /// <returns>The report and the gains: <see cref="FactoredGain"/>, or <see cref="ZeroGain"/> at layers without an input.</returns>
    /// <exception cref="RiccatiException">Shapes disagree, or a number is not finite or overflows when squared.</exception>
    public static RiccatiSolution Solve(
        int layers,
        Func<int, Matrix<double>, Matrix<double>> pullback,
        FactoredCost cost,
        int maxRank = int.MaxValue,
        double tolerance = 1e-12,
        CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layers);
        ArgumentOutOfRangeException.ThrowIfLessThan(maxRank, 1);
        if (!(tolerance >= 0 && tolerance < 1))
        {
            throw new ArgumentOutOfRangeException(nameof(tolerance), tolerance, "The tolerance of compression must be at least 0 and below 1.");
        }

        if (cost.C.Count != layers + 1)
        {
            throw RiccatiException.Shape("The list of cost factors C", layers, $"{layers + 1} matrices", $"{cost.C.Count}");
        }

        var gains = new Gain[layers];
        var steps = new RiccatiStep[layers];
        var z = cost.C[layers];
        for (int k = layers - 1; k >= 0; k--)
        {
            cancellationToken.ThrowIfCancellationRequested();

            // W = A_k' Z
            var w = pullback(k, z);
            var c = cost.At(k, w.RowCount);
            if (w.ColumnCount != z.ColumnCount)
            {
                throw RiccatiException.Shape("The pullback A'Z", k, $"{z.ColumnCount} columns", $"{w.RowCount}×{w.ColumnCount}");
            }

            Finite.Check(w, "The pullback A'Z", k);
            if (!cost.HasInput(k))
            {
                gains[k] = new ZeroGain(w.RowCount);
                var (open, left) = Compress(w.Append(c), maxRank, tolerance);
                steps[k] = new RiccatiStep(k, ResidualWithoutInput(k, w, open, c), 0, 1, z.ColumnCount, left, 0);
                z = open;
                continue;
            }

            // K_k = Z (r I + Z'Z)^{-1} W'
            var inner = SpdFactor.OfGram(z, cost.R, k, cancellationToken);
            gains[k] = new FactoredGain(z, inner, w);

            // Z_k = [ W L^{-T} , C_k ] with L L' = I + Z'Z/r; √r L is the factor of rI + Z'Z
            var scaled = inner.SolveRight(w) * Math.Sqrt(cost.R);
            var (next, dropped) = Compress(scaled.Append(c), maxRank, tolerance);

            steps[k] = new RiccatiStep(k, Residual(k, z, w, inner, next, c, cost.R), 0, inner.Condition, z.ColumnCount, dropped, 0);
            z = next;
        }

        return new RiccatiSolution(gains, new RiccatiReport(steps));
    }

    private static (Matrix<double> Z, double DroppedEnergy) Compress(Matrix<double> z, int maxRank, double tolerance)
    {
        if (z.ColumnCount <= maxRank)
        {
            return (z, 0);
        }

        // Z = O R, R = U Σ V'  ⇒  ZZ' = (O U Σ)(O U Σ)'
        Matrix<double> orthonormal = Matrix<double>.Build.DenseIdentity(z.RowCount), small = z;
        if (z.RowCount > z.ColumnCount)
        {
            var qr = z.QR(MathNet.Numerics.LinearAlgebra.Factorization.QRMethod.Thin);
            (orthonormal, small) = (qr.Q, qr.R);
        }

        var svd = small.Svd();
        int rank = Math.Max(1, svd.S.Count(sigma => sigma > 0 && sigma >= tolerance * svd.S[0]));
        double total = svd.S.DotProduct(svd.S), kept = svd.S.SubVector(0, rank).L2Norm();
        var compressed = orthonormal
            * (svd.U.SubMatrix(0, svd.U.RowCount, 0, rank) * Matrix<double>.Build.DenseOfDiagonalVector(svd.S.SubVector(0, rank)));
        return (compressed, total == 0 ? 0 : Math.Max(0, 1 - (kept * kept / total)));
    }

    private static double Residual(int k, Matrix<double> z, Matrix<double> w, SpdFactor inner, Matrix<double> next, Matrix<double> c, double r)
    {
        // K_k' (S_{k+1} + rI) y = A_k' S_{k+1} y
        var y = DenseRiccati.Probe(z.RowCount, Probes, k);
        var zy = DenseAlgebra.TransposeMultiply(z, y);
        var shifted = DenseAlgebra.Multiply(z, zy) + (r * y);
        var left = DenseAlgebra.Multiply(w, inner.Solve(DenseAlgebra.TransposeMultiply(z, shifted)));
        double gainError = DenseRiccati.Relative(left, DenseAlgebra.Multiply(w, zy));

        // S_k y = Q_k y + r A_k' K_k y
        y = DenseRiccati.Probe(w.RowCount, Probes, k);
        var value = DenseAlgebra.Multiply(c, DenseAlgebra.TransposeMultiply(c, y))
            + (r * DenseAlgebra.Multiply(w, inner.Solve(DenseAlgebra.TransposeMultiply(w, y))));
        return Math.Max(gainError, DenseRiccati.Relative(value, DenseAlgebra.Multiply(next, DenseAlgebra.TransposeMultiply(next, y))));
    }

    private static double ResidualWithoutInput(int k, Matrix<double> w, Matrix<double> next, Matrix<double> c)
    {
        // S_k y = Q_k y + A_k' S_{k+1} A_k y
        var y = DenseRiccati.Probe(w.RowCount, Probes, k);
        var value = DenseAlgebra.Multiply(c, DenseAlgebra.TransposeMultiply(c, y)) + DenseAlgebra.Multiply(w, DenseAlgebra.TransposeMultiply(w, y));
        return DenseRiccati.Relative(value, DenseAlgebra.Multiply(next, DenseAlgebra.TransposeMultiply(next, y)));
    }
}
