// Sign convention: u = K e, where e is the displacement the state is short of (δx = −e).
//
// With the cost of projections alone, C_k = √q V_k and C_L = √q_f V_L, the factors Z_k of every choice of q, r and q_f span one space:
// Z_k = B_k T_k, where the orthonormal B_k does not depend on the weights. Backward from B_L R_L = V_L (QR), T_L = √q_f R_L:
//
//     W   = A_k' B                                p pullbacks, shared by all weights
//     G   = rI + T'T                              for each of them; all that is left is p×p
//     K_k = B T G^{-1} T' W'
//     B_k R = [ W , V_k ]  (QR),   T_k = R diag(√r T L^{-T}, √q I),   L L' = G
//
// (docs/math.md §4.) A pullback in float32 sees orthonormal columns, so that its error is one of A_k and the same for all weights.
using MathNet.Numerics.LinearAlgebra;
using Tiller.Law;

namespace Tiller.Synthesis;

/// <summary>LQR gains for many weights of one cost of projections in one backward sweep, in float64 (docs/math.md §4).</summary>
public static class WeightSweep
{
    private const int Probes = 4;

    /// <summary>
    /// Solves for the gains of all layers and weights: 2·L·D·p·8 bytes, and L·p²·8 for each of the weights; p ≤ D grows by m a layer.
    /// </summary>
    /// <param name="layers">L, at least 0.</param>
    /// <param name="pullback">(k, B // (D, p)) → A_k' B // (D, p); called once for each of k = L-1 down to 0, whatever the number of weights.</param>
    /// <param name="directions">V_0..V_L, whose projections cost: the features' v_k side by side // L+1 of (D, m).</param>
    /// <param name="weights">q, r and q_f, one choice or more.</param>
    /// <param name="inputs">Layers with an input; null for all.</param>
    /// <param name="cancellationToken">Checked at every layer.</param>
    /// <returns>For each of the weights what <see cref="FactoredRiccati"/> finds.</returns>
    /// <exception cref="RiccatiException">Shapes disagree, or a number is not finite, be it only when squared.</exception>
    public static IReadOnlyList<RiccatiSolution> Solve(
        int layers,
        Func<int, Matrix<double>, Matrix<double>> pullback,
        IReadOnlyList<Matrix<double>> directions,
        IReadOnlyList<LqrWeights> weights,
        LayerSet? inputs = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layers);
        ArgumentNullException.ThrowIfNull(pullback);
        ArgumentNullException.ThrowIfNull(directions);
        ArgumentNullException.ThrowIfNull(weights);
        if (directions.Count != layers + 1)
        {
            throw RiccatiException.Shape("The list of directions V", layers, $"{layers + 1} matrices", $"{directions.Count}");
        }

        int width = directions[layers].RowCount;
        for (int k = 0; k <= layers; k++)
        {
            if (directions[k].RowCount != width)
            {
                throw RiccatiException.Shape("The directions V", k, $"{width}×m", $"{directions[k].RowCount}×{directions[k].ColumnCount}");
            }

            Finite.Check(directions[k], "The directions V", k);
        }

        var gains = weights.Select(_ => new Gain[layers]).ToArray();
        var steps = weights.Select(_ => new RiccatiStep[layers]).ToArray();
        var (b, r) = Orthonormal(directions[layers]);
        Matrix<double>[] t = [.. weights.Select(w => r * Math.Sqrt(w.Qf))];
        for (int k = layers - 1; k >= 0; k--)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var w = pullback(k, b);
            if (w.RowCount != width || w.ColumnCount != b.ColumnCount)
            {
                throw RiccatiException.Shape("The pullback A'B", k, $"{width}×{b.ColumnCount}", $"{w.RowCount}×{w.ColumnCount}");
            }

            Finite.Check(w, "The pullback A'B", k);
            var layer = new Layer(k, b, w, directions[k]);
            for (int i = 0; i < t.Length; i++)
            {
                var scaled = t[i];
                Matrix<double>? inner = null;
                double condition = 1;
                if (inputs?.Contains(k) ?? true)
                {
                    // K = B M W' with M = T G^{-1} T', and the factor of r A'K is √r T L^{-T}
                    var factor = SpdFactor.OfGram(t[i], weights[i].R, k, cancellationToken);
                    inner = DenseAlgebra.Multiply(t[i], factor.Solve(t[i].Transpose()), cancellationToken);
                    scaled = factor.SolveRight(t[i]) * Math.Sqrt(weights[i].R);
                    condition = factor.Condition;
                }

                gains[i][k] = inner is null ? new ZeroGain(width) : new ThinGain(b, inner, w);
                var before = t[i];
                t[i] = DenseAlgebra.Multiply(layer.OfW, scaled, cancellationToken).Append(Math.Sqrt(weights[i].Q) * layer.OfV);
                steps[i][k] = new RiccatiStep(k, layer.Residual(weights[i], before, inner, t[i]), 0, condition, before.ColumnCount, 0, 0);
            }

            b = layer.Basis;
        }

        return [.. gains.Zip(steps, (g, s) => new RiccatiSolution(g, new RiccatiReport(s)))];
    }

    // Q R of a thin matrix; of one that is not thin, the identity and itself.
    private static (Matrix<double> Basis, Matrix<double> Triangle) Orthonormal(Matrix<double> m)
    {
        if (m.ColumnCount >= m.RowCount)
        {
            return (Matrix<double>.Build.DenseIdentity(m.RowCount), m);
        }

        var qr = m.QR(MathNet.Numerics.LinearAlgebra.Factorization.QRMethod.Thin);
        return (qr.Q, qr.R);
    }

    // One layer's [ W , V ] = B R, and the residuals of its equations on random vectors y. Products with y are the same for all weights, and what is
    // left of the equations are coordinates in the basis, which keep lengths. That [ W , V ] = B R holds is checked with them.
    private sealed class Layer
    {
        private readonly Matrix<double> _r;
        private readonly Matrix<double> _by;
        private readonly Matrix<double> _wy;
        private readonly Matrix<double> _vy;
        private readonly Matrix<double> _basisY;
        private readonly double _factorError;

        public Layer(int k, Matrix<double> b, Matrix<double> w, Matrix<double> v)
        {
            var columns = w.Append(v);
            (Basis, _r) = Orthonormal(columns);
            OfW = _r.SubMatrix(0, _r.RowCount, 0, w.ColumnCount);
            OfV = _r.SubMatrix(0, _r.RowCount, w.ColumnCount, v.ColumnCount);
            var y = DenseRiccati.Probe(w.RowCount, Probes, k);
            (_by, _wy) = (DenseAlgebra.TransposeMultiply(b, y), DenseAlgebra.TransposeMultiply(w, y));
            (_vy, _basisY) = (DenseAlgebra.TransposeMultiply(v, y), DenseAlgebra.TransposeMultiply(Basis, y));
            var c = DenseRiccati.Probe(columns.ColumnCount, Probes, k);
            _factorError = DenseRiccati.Relative(DenseAlgebra.Multiply(columns, c), DenseAlgebra.Multiply(Basis, DenseAlgebra.Multiply(_r, c)));
        }

        /// <summary>B // (D, p + m).</summary>
        public Matrix<double> Basis { get; }

        /// <summary>The columns of R for W // (p + m, p).</summary>
        public Matrix<double> OfW { get; }

        /// <summary>The columns of R for V // (p + m, m).</summary>
        public Matrix<double> OfV { get; }

        public double Residual(LqrWeights weights, Matrix<double> t, Matrix<double>? inner, Matrix<double> next)
        {
            // K_k' (S_{k+1} + rI) y = A_k' S_{k+1} y
            var sy = Square(t, _by);
            double gainError = inner is null ? 0 : DenseRiccati.Relative(
                DenseAlgebra.Multiply(OfW, DenseAlgebra.Multiply(inner, sy + (weights.R * _by))), DenseAlgebra.Multiply(OfW, sy));

            // S_k y = Q_k y + r A_k' K_k y, without an input Q_k y + A_k' S_{k+1} A_k y
            var carried = inner is null ? Square(t, _wy) : weights.R * DenseAlgebra.Multiply(inner, _wy);
            var value = DenseAlgebra.Multiply(_r, carried.Stack(weights.Q * _vy));
            return Math.Max(_factorError, Math.Max(gainError, DenseRiccati.Relative(value, Square(next, _basisY))));
        }
    }

    // M M' x
    private static Matrix<double> Square(Matrix<double> m, Matrix<double> x) =>
        DenseAlgebra.Multiply(m, DenseAlgebra.TransposeMultiply(m, x));
}
