using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Synthesis;

/// <summary>
/// The cost that a controller minimises: Σ_k (δx_k' Q_k δx_k + r |u_k|²) + δx_L' Q_L δx_L, over the inputs of the layers that have one (docs/math.md
/// §3). Every Q_k is symmetric positive semidefinite. Q_L is the cost at layer L.
/// </summary>
public abstract class QuadraticCost
{
    private protected QuadraticCost(double r)
    {
        R = LqrWeights.CheckEffort(r);
    }

    /// <summary>Weight r of the effort, R = rI.</summary>
    public double R { get; }

    /// <summary>Layers with an input, counted from the first layer of the horizon; null, the default, for all. At other layers, u_k = 0.</summary>
    public LayerSet? Inputs { get; init; }

    /// <summary>Whether the layer has an input u_k.</summary>
    internal bool HasInput(int layer) => Inputs?.Contains(layer) ?? true;

    /// <summary>Adds Q_k to S in place, on the device // (D, D).</summary>
    internal abstract void AddTo(int layer, bool terminal, DeviceOps ops, ColumnMajor s);

    /// <summary>Computes Q_k X // (D, p).</summary>
    internal abstract Matrix<double> Multiply(int layer, bool terminal, Matrix<double> x);
}

/// <summary>Q_k = qI, Q_L = qf I: the published cost. It forms no matrix.</summary>
public sealed class IsotropicCost : QuadraticCost
{
    /// <summary>Makes the cost of these weights.</summary>
    /// <param name="weights">q, r, qf.</param>
    public IsotropicCost(LqrWeights weights)
        : base(weights.R)
    {
        Weights = weights;
    }

    /// <summary>q, r, qf.</summary>
    public LqrWeights Weights { get; }

    internal override void AddTo(int layer, bool terminal, DeviceOps ops, ColumnMajor s) => ops.AddToDiagonal(terminal ? Weights.Qf : Weights.Q, s);

    internal override Matrix<double> Multiply(int layer, bool terminal, Matrix<double> x) => x * (terminal ? Weights.Qf : Weights.Q);
}

/// <summary>Any symmetric positive semidefinite Q_k, one matrix for each layer.</summary>
public sealed class MatrixCost : QuadraticCost
{
    private const double Tolerance = 1e-10;

    /// <summary>Checks and stores the matrices.</summary>
    /// <param name="q">Q_0..Q_L // L+1 of (D, D); not copied. Several layers may share a matrix.</param>
    /// <param name="r">Weight of the effort; finite, above 0.</param>
    /// <exception cref="RiccatiException">
    /// A matrix is not square, not finite, not symmetric to 1e-10 of its largest entry, or not positive semidefinite to 1e-10 |Q|.
    /// </exception>
    public MatrixCost(IReadOnlyList<Matrix<double>> q, double r)
        : base(r)
    {
        Q = q;
        var seen = new HashSet<Matrix<double>>(ReferenceEqualityComparer.Instance);
        for (int k = 0; k < q.Count; k++)
        {
            if (seen.Add(q[k]))
            {
                Check(q[k], k);
            }
        }
    }

    /// <summary>Q_0..Q_L // L+1 of (D, D).</summary>
    public IReadOnlyList<Matrix<double>> Q { get; }

    internal override void AddTo(int layer, bool terminal, DeviceOps ops, ColumnMajor s) =>
        ops.WithHost(DenseAlgebra.Numbers(At(layer, s.Rows)), s.Rows, q => ops.Add(1, q, s));

    internal override Matrix<double> Multiply(int layer, bool terminal, Matrix<double> x) => DenseAlgebra.Multiply(At(layer, x.RowCount), x);

    private static void Check(Matrix<double> q, int layer)
    {
        if (q.RowCount != q.ColumnCount)
        {
            throw RiccatiException.Shape("The state cost Q", layer, "square", $"{q.RowCount}×{q.ColumnCount}");
        }

        Finite.Check(q, "The state cost Q", layer);
        double largest = q.Enumerate().Max(Math.Abs);
        for (int j = 0; j < q.ColumnCount; j++)
        {
            for (int i = j + 1; i < q.RowCount; i++)
            {
                double error = Math.Abs(q[i, j] - q[j, i]);
                if (error > Tolerance * largest)
                {
                    throw RiccatiException.NotSymmetric(layer, i, j, error / largest);
                }
            }
        }

        // λ_min ≥ −1e-10 |Q|  ⇐  Q + 1e-10 |Q| I has a Cholesky factor
        int pivot = largest == 0 ? -1 : SpdFactor.FirstBadPivot(q, Tolerance * DenseAlgebra.Norm(q));
        if (pivot >= 0)
        {
            throw RiccatiException.IndefiniteCost(layer, pivot);
        }
    }

    private Matrix<double> At(int layer, int width)
    {
        if (layer >= Q.Count || Q[layer].RowCount != width)
        {
            string actual = layer >= Q.Count ? $"missing ({Q.Count} matrices given)" : $"{Q[layer].RowCount}×{Q[layer].ColumnCount}";
            throw RiccatiException.Shape("The state cost Q", layer, $"{width}×{width}", actual);
        }

        return Q[layer];
    }
}

/// <summary>Q_k = C_k C_k' of low rank, for example the cost of a feature's projection alone. The factored solver needs this form.</summary>
public sealed class FactoredCost : QuadraticCost
{
    /// <summary>Checks and stores the factors.</summary>
    /// <param name="c">C_0..C_L // L+1 of (D, m); not copied.</param>
    /// <param name="r">Weight of the effort; finite, above 0.</param>
    /// <exception cref="RiccatiException">A factor is not finite.</exception>
    public FactoredCost(IReadOnlyList<Matrix<double>> c, double r)
        : base(r)
    {
        C = c;
        for (int k = 0; k < c.Count; k++)
        {
            Finite.Check(c[k], "The cost factor C", k);
        }
    }

    /// <summary>C_0..C_L // L+1 of (D, m).</summary>
    public IReadOnlyList<Matrix<double>> C { get; }

    /// <summary>Makes the cost of the features' projections: C_k = sqrt(q) [v_k of every feature], C_L = sqrt(qf) [v_L of every feature].</summary>
    /// <param name="weights">q, r, qf.</param>
    /// <param name="features">One or more features, all of one model.</param>
    /// <exception cref="ArgumentException">No feature, or features of different models.</exception>
    public static FactoredCost OfFeatures(LqrWeights weights, params IReadOnlyList<Feature> features)
    {
        var v = Directions(features);
        return new FactoredCost([.. v.Select((d, k) => Math.Sqrt(k == v.Count - 1 ? weights.Qf : weights.Q) * d)], weights.R);
    }

    /// <summary>[v_k of every feature] for k = 0..L // L+1 of (D, m).</summary>
    /// <exception cref="ArgumentException">No feature, or features of different models.</exception>
    internal static IReadOnlyList<Matrix<double>> Directions(IReadOnlyList<Feature> features)
    {
        if (features.Count == 0 || features.Any(f => f.L != features[0].L || f.D != features[0].D))
        {
            throw new ArgumentException("A feature cost needs at least one feature, all with the same L and D.", nameof(features));
        }

        return [.. Enumerable.Range(0, features[0].L + 1).Select(k =>
            Matrix<double>.Build.Dense(features[0].D, features.Count, (i, j) => features[j].V[k][i]))];
    }

    internal Matrix<double> At(int layer, int width)
    {
        if (layer >= C.Count || C[layer].RowCount != width)
        {
            string actual = layer >= C.Count ? $"missing ({C.Count} factors given)" : $"{C[layer].RowCount}×{C[layer].ColumnCount}";
            throw RiccatiException.Shape("The cost factor C", layer, $"{width}×m", actual);
        }

        return C[layer];
    }

    internal override void AddTo(int layer, bool terminal, DeviceOps ops, ColumnMajor s) =>
        ops.WithHost(DenseAlgebra.Numbers(At(layer, s.Rows)), s.Rows, c => ops.Multiply(1, c, c.T, 1, s));

    internal override Matrix<double> Multiply(int layer, bool terminal, Matrix<double> x)
    {
        var c = At(layer, x.RowCount);
        return DenseAlgebra.Multiply(c, DenseAlgebra.TransposeMultiply(c, x));
    }
}

/// <summary>Throws if a matrix holds NaN or an infinity, and names the entry.</summary>
internal static class Finite
{
    public static void Check(Matrix<double> m, string what, int layer)
    {
        double[] numbers = DenseAlgebra.Numbers(m);
        int bad = numbers.AsSpan().IndexOfAnyExceptInRange(double.MinValue, double.MaxValue);
        if (bad >= 0)
        {
            throw RiccatiException.NonFinite(what, layer, bad % m.RowCount, bad / m.RowCount, numbers[bad]);
        }
    }
}
