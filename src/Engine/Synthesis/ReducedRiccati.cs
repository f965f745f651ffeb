// Sign convention: u = K e, where e = −δx is the displacement that the state lacks.
//
// With orthonormal bases W_k // (D, p) of the states, δx_k ≈ W_k ξ_k and u_k ≈ W_{k+1} ũ_k, the problem in ξ is the dense one of size p:
//
//     Ã_k = W_{k+1}' (A_k W_k)          p Jacobian-vector products
//     Q̃_k = W_k' Q_k W_k,  R̃ = rI
//     K_k ≈ W_{k+1} K̃_k W_k'
//
// p = D is a change of coordinates and gives the dense gain. (docs/math.md §5; arXiv:2606.04775, arXiv:2607.14943.)
using MathNet.Numerics.LinearAlgebra;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Synthesis;

/// <summary>LQR gains in a basis of p dimensions at each layer, from Jacobian-vector products alone, in float64 (docs/math.md §5).</summary>
public static class ReducedRiccati
{
    /// <summary>Solves for the gains of all layers.</summary>
    /// <param name="bases">W_0..W_L with orthonormal columns // L+1 of (D, p); see <see cref="ReducedBasis"/>.</param>
    /// <param name="pushforward">(k, W_k // (D, p)) → A_k W_k // (D, p). Called for k = L-1 down to 0.</param>
    /// <param name="cost">Q_k, Q_L and r, in full coordinates.</param>
    /// <param name="cancellationToken">Checked at every layer.</param>
    /// <returns>
    /// The report and the gains: <see cref="ThinGain"/>, or <see cref="ZeroGain"/> at layers without an input. The report's leakage is the part of
    /// A_k W_k outside the next basis.
    /// </returns>
    /// <exception cref="RiccatiException">Shapes disagree, a number is not finite, or S̃ + rI has no Cholesky factor.</exception>
    public static RiccatiSolution Solve(
        IReadOnlyList<Matrix<double>> bases, Func<int, Matrix<double>, Matrix<double>> pushforward, QuadraticCost cost,
        CancellationToken cancellationToken = default)
    {
        if (bases.Count == 0)
        {
            throw new ArgumentException("Bases W_0..W_L are needed, got none.", nameof(bases));
        }

        int layers = bases.Count - 1;
        Gain[] gains = [.. bases.Take(layers).Select(basis => new ZeroGain(basis.RowCount))];
        double[] leakage = new double[layers];
        Matrix<double> Reduce(int k)
        {
            var pushed = pushforward(k, bases[k]);
            if (pushed.RowCount != bases[k + 1].RowCount || pushed.ColumnCount != bases[k].ColumnCount)
            {
                throw RiccatiException.Shape("The pushforward A W", k, $"{bases[k + 1].RowCount}×{bases[k].ColumnCount}",
                    $"{pushed.RowCount}×{pushed.ColumnCount}");
            }

            Finite.Check(pushed, "The pushforward A W", k);

            // Ã_k = W_{k+1}' (A_k W_k)
            var reduced = DenseAlgebra.TransposeMultiply(bases[k + 1], pushed, cancellationToken);
            leakage[k] = DenseRiccati.Relative(pushed, DenseAlgebra.Multiply(bases[k + 1], reduced, cancellationToken));
            return reduced;
        }

        var projected = new ProjectedCost(cost, bases) { Inputs = cost.Inputs };
        var report = DenseRiccati.Stream(
            layers, Reduce, projected, (k, gain) => gains[k] = new ThinGain(bases[k + 1], gain, bases[k]), cancellationToken);
        return new RiccatiSolution(gains, new RiccatiReport([.. report.Steps.Select(s => s with { Leakage = leakage[s.Layer] })]));
    }

    /// <summary>Q̃_k = W_k' Q_k W_k.</summary>
    private sealed class ProjectedCost(QuadraticCost full, IReadOnlyList<Matrix<double>> bases) : QuadraticCost(full.R)
    {
        internal override void AddTo(int layer, bool terminal, DeviceOps ops, ColumnMajor s)
        {
            var reduced = DenseAlgebra.TransposeMultiply(bases[layer], full.Multiply(layer, terminal, bases[layer]));
            ops.WithHost(DenseAlgebra.Numbers(reduced), s.Rows, q => ops.Add(1, q, s));
        }

        internal override Matrix<double> Multiply(int layer, bool terminal, Matrix<double> x) =>
            DenseAlgebra.TransposeMultiply(bases[layer], full.Multiply(layer, terminal, DenseAlgebra.Multiply(bases[layer], x)));
    }
}
