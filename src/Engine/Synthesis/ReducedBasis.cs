using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Synthesis;

// Bases for the reduced recursion (docs/math.md §5). At layer k, the basis takes p orthonormal columns from these sources, in this order:
//
//     v_k of every feature,
//     leading left singular vectors of X − x̄, with the calibration activations X // (D, N),
//     A_{k−1} W_{k−1}, the basis of the previous layer, pushed forward,
//     random directions, so that p = D is a change of coordinates.
//
// Randomised SVD: Halko, Martinsson, Tropp, SIAM Review 53 (2011), algorithm 4.4: range of (X X')² X Ω.

/// <summary>Builds the orthonormal bases W_0..W_L of the reduced recursion (docs/math.md §5).</summary>
public static class ReducedBasis
{
    private const double Dependent = 1e-8;
    private const int Oversampling = 8;

    /// <summary>Builds W_0..W_L.</summary>
    /// <param name="order">p, 1..D.</param>
    /// <param name="features">Directions that the basis of layer k must contain, k = 0..L // L+1 of (D, m), m at most p.</param>
    /// <param name="activations">Returns the calibration activations at the input of layer k, one in each column, k = 0..L // (D, N).</param>
    /// <param name="pushforward">
    /// (k, W_k // (D, p)) → A_k W_k // (D, p). Called for k = 0..L-1 in order, if the next basis is not full without it; null to use no tangents.
    /// </param>
    /// <param name="seed">Seed of the random directions.</param>
    /// <param name="cancellationToken">Checked at every layer.</param>
    /// <returns>W_0..W_L with orthonormal columns // L+1 of (D, p).</returns>
    /// <exception cref="RiccatiException">Shapes disagree or a number is not finite.</exception>
    public static IReadOnlyList<Matrix<double>> Build(
        int order,
        IReadOnlyList<Matrix<double>> features,
        Func<int, Matrix<double>> activations,
        Func<int, Matrix<double>, Matrix<double>>? pushforward = null,
        int seed = 0,
        CancellationToken cancellationToken = default)
    {
        return Build(order, features.Count, features, activations, centred: true, pushforward, seed, cancellationToken);
    }

    /// <summary>
    /// Builds the latent spaces of paired differences (docs/math.md §5): first their leading left singular vectors, which are not centred.
    /// </summary>
    /// <param name="order">p, 1..D.</param>
    /// <param name="differences">Returns the differences of pairs of states at the input of layer k, one in each column // (D, n).</param>
    /// <param name="count">L+1, the number of bases.</param>
    /// <param name="pushforward">(k, W_k // (D, p)) → A_k W_k // (D, p). Called if the differences span fewer than p directions.</param>
    /// <param name="cancellationToken">Checked at every layer.</param>
    /// <returns>W_0..W_L with orthonormal columns // L+1 of (D, p).</returns>
    internal static IReadOnlyList<Matrix<double>> OfDifferences(
        int order, Func<int, Matrix<double>> differences, int count, Func<int, Matrix<double>, Matrix<double>> pushforward,
        CancellationToken cancellationToken) =>
        Build(order, count, features: null, differences, centred: false, pushforward, seed: 0, cancellationToken);

    private static Matrix<double>[] Build(
        int order, int count, IReadOnlyList<Matrix<double>>? features, Func<int, Matrix<double>> activations, bool centred,
        Func<int, Matrix<double>, Matrix<double>>? pushforward, int seed, CancellationToken cancellationToken)
    {
        var bases = new Matrix<double>[count];
        for (int k = 0; k < bases.Length; k++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var x = activations(k);
            int width = features?[k].RowCount ?? x.RowCount, held = features?[k].ColumnCount ?? 1;
            if (order < held || order > width)
            {
                throw RiccatiException.Shape("The reduced basis", k, $"{held} (features) to {width} (width) columns", $"{order} columns");
            }

            if (x.RowCount != width)
            {
                throw RiccatiException.Shape("The activation sample", k, $"{width}×N", $"{x.RowCount}×{x.ColumnCount}");
            }

            var random = new Random(HashCode(seed, k));
            var basis = new OrthonormalColumns(width, order);
            basis.Add(features?[k], k, cancellationToken);
            basis.Add(Leading(x, order, centred, random, k), k, cancellationToken);
            if (k > 0 && !basis.Full && pushforward is not null)
            {
                basis.Add(pushforward(k - 1, bases[k - 1]), k, cancellationToken);
            }

            while (!basis.Full)
            {
                basis.Add(Gaussian(width, 1, random), k, cancellationToken);
            }

            bases[k] = basis.ToMatrix();
        }

        return bases;
    }

    /// <summary>
    /// The leading left singular vectors of X − x̄, or of X: at most p, with singular values above 1e-6 of the largest // (D, ≤ p). Null if the
    /// matrix is 0.
    /// </summary>
    private static Matrix<double>? Leading(Matrix<double> x, int order, bool centre, Random random, int layer)
    {
        Finite.Check(x, "The activation sample", layer);
        var mean = centre ? x.RowSums() / x.ColumnCount : Vector<double>.Build.Dense(x.RowCount);
        var centred = Matrix<double>.Build.Dense(x.RowCount, x.ColumnCount, (i, j) => x[i, j] - mean[i]);
        if (DenseAlgebra.Norm(centred) == 0)
        {
            return null;
        }

        var range = centred;
        int sketch = order + Oversampling;
        if (sketch < Math.Min(x.RowCount, x.ColumnCount))
        {
            // Y = (X X')² X Ω, orthonormalised between products
            range = Orthonormal(DenseAlgebra.Multiply(centred, Gaussian(x.ColumnCount, sketch, random)));
            for (int pass = 0; pass < 2; pass++)
            {
                var back = Orthonormal(DenseAlgebra.TransposeMultiply(centred, range));
                range = Orthonormal(DenseAlgebra.Multiply(centred, back));
            }

            // X ≈ O (O'X), left singular vectors O U
            var small = DenseAlgebra.TransposeMultiply(range, centred).Svd();
            return Kept(DenseAlgebra.Multiply(range, small.U), small.S, order);
        }

        var gram = range.RowCount >= range.ColumnCount ? DenseAlgebra.TransposeMultiply(range, range) : range.TransposeAndMultiply(range);
        var eigen = gram.Evd(Symmetricity.Symmetric);
        int n = gram.RowCount;
        var sigma = Vector<double>.Build.Dense(n, i => Math.Sqrt(Math.Max(0, eigen.EigenValues[n - 1 - i].Real)));
        var vectors = Matrix<double>.Build.Dense(n, n, (i, j) => eigen.EigenVectors[i, n - 1 - j]);
        return Kept(range.RowCount >= range.ColumnCount ? DenseAlgebra.Multiply(range, vectors) : vectors, sigma, order);
    }

    private static Matrix<double> Kept(Matrix<double> columns, Vector<double> sigma, int order)
    {
        int count = Math.Clamp(sigma.Count(s => s > 1e-6 * sigma[0]), 1, order);
        return columns.SubMatrix(0, columns.RowCount, 0, count);
    }

    private static Matrix<double> Orthonormal(Matrix<double> y) => y.QR(MathNet.Numerics.LinearAlgebra.Factorization.QRMethod.Thin).Q;

    private static Matrix<double> Gaussian(int rows, int columns, Random random) =>
        Matrix<double>.Build.Dense(rows, columns, (_, _) => NormalDraw.Next(random));

    private static int HashCode(int seed, int layer) => unchecked((seed * 486187739) + layer);

    /// <summary>Columns that are made orthonormal as they are added (Gram–Schmidt, twice). Dependent columns are left out.</summary>
    private sealed class OrthonormalColumns(int width, int order)
    {
        private readonly List<Vector<double>> _columns = new(order);

        public bool Full => _columns.Count == order;

        public void Add(Matrix<double>? candidates, int layer, CancellationToken cancellationToken)
        {
            if (candidates is null)
            {
                return;
            }

            if (candidates.RowCount != width)
            {
                throw RiccatiException.Shape("A candidate for the reduced basis", layer, $"{width} rows",
                    $"{candidates.RowCount}×{candidates.ColumnCount}");
            }

            Finite.Check(candidates, "A candidate for the reduced basis", layer);
            for (int j = 0; j < candidates.ColumnCount && !Full; j++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var x = candidates.Column(j);
                double before = x.L2Norm();
                for (int pass = 0; pass < 2; pass++)
                {
                    foreach (var w in _columns)
                    {
                        x -= w * w.DotProduct(x);
                    }
                }

                double after = x.L2Norm();
                if (after > Dependent * before)
                {
                    _columns.Add(x / after);
                }
            }
        }

        public Matrix<double> ToMatrix() => Matrix<double>.Build.DenseOfColumnVectors(_columns);
    }
}
