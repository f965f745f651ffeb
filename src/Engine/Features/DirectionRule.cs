using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Features;

/// <summary>
/// A rule that computes a direction from the states of two prompt sets at one layer (docs/math.md §2). The direction has unit length and points from
/// the negative mean to the positive mean; it is 0 if the means are equal. <see cref="All"/> lists all rules.
/// </summary>
public sealed class DirectionRule
{
    private readonly Func<StatePair, double[]> _estimate;

    private DirectionRule(string name, string summary, bool needsPairs, Func<StatePair, double[]> estimate) =>
        (Name, Summary, NeedsPairs, _estimate) = (name, summary, needsPairs, estimate);

    /// <summary>The difference of the two means; the default.</summary>
    public static DirectionRule Mean { get; } = new("mean", "the difference of the two means", needsPairs: false, pair => pair.Difference);

    /// <summary>The first right singular vector of the paired differences, not centred (pca_pairwise of CAST, pca_center of repeng).</summary>
    public static DirectionRule Pca { get; } = new(
        "pca", "first principal component of the paired differences, not centred", needsPairs: true,
        pair => Leading(pair.Differences, centred: false));

    /// <summary>The first principal component of the paired differences (pca_diff of repeng and CAST).</summary>
    public static DirectionRule CentredPca { get; } = new(
        "pca-centred", "first principal component of the paired differences", needsPairs: true, pair => Leading(pair.Differences, centred: true));

    /// <summary>The first principal component of all states of both sets (pca_center of CAST).</summary>
    public static DirectionRule PooledPca { get; } = new(
        "pca-pool", "first principal component of the states of both sets", needsPairs: false, pair => Leading(pair.All, centred: true));

    /// <summary>The weights of a logistic probe, min ½|w|² + Σ log(1 + exp(−s_i (w·x_i + b))).</summary>
    public static DirectionRule Logistic { get; } = new(
        "logistic", "weights of a logistic probe between the two sets", needsPairs: false, pair => LogisticProbe.Fit(pair).Weights);

    /// <summary>The linear discriminant, (Σ + 0.1 tr(Σ)/D I)⁻¹ (difference of means), where Σ is the covariance within the sets.</summary>
    public static DirectionRule Discriminant { get; } = new(
        "lda", "linear discriminant: the difference of means, whitened by the covariance within the sets", needsPairs: false, Whitened);

    /// <summary>All rules.</summary>
    public static IReadOnlyList<DirectionRule> All { get; } = [Mean, Pca, CentredPca, PooledPca, Logistic, Discriminant];

    /// <summary>Name of the rule on the command line and in a controller's settings.</summary>
    public string Name { get; }

    /// <summary>What the rule computes, in a few words.</summary>
    public string Summary { get; }

    /// <summary>Whether the i-th positive prompt must belong to the i-th negative prompt.</summary>
    public bool NeedsPairs { get; }

    /// <summary>Computes the direction // (D).</summary>
    /// <exception cref="ContrastSetException">The rule needs pairs and the sets differ in size, or a probe did not converge.</exception>
    internal double[] Of(StatePair pair)
    {
        if (NeedsPairs && pair.Positive.RowCount != pair.Negative.RowCount)
        {
            throw new ContrastSetException(
                $"The direction '{Name}' is made of pairs, and there are {pair.Positive.RowCount} positive and {pair.Negative.RowCount} negative "
                + $"prompts. Give the same number of both, so that the i-th prompts form a pair, or take a direction without pairs, such as "
                + $"'{Mean.Name}'.");
        }

        double[] towards = pair.Difference;
        double[] direction = TensorPrimitives.Norm<double>(towards) < Feature.Negligible ? new double[towards.Length] : _estimate(pair);
        double length = TensorPrimitives.Norm<double>(direction);
        if (length == 0)
        {
            return direction;
        }

        double sign = TensorPrimitives.Dot<double>(direction, towards) < 0 ? -1 : 1;
        return Array.ConvertAll(direction, x => sign * x / length);
    }

    // The first right singular vector of X, from the smaller of X'X and X X'.
    private static double[] Leading(Matrix<double> rows, bool centred)
    {
        var x = centred ? rows - (Vector<double>.Build.Dense(rows.RowCount, 1).OuterProduct(rows.ColumnSums() / rows.RowCount)) : rows;
        bool tall = x.RowCount > x.ColumnCount;
        var gram = (tall ? x.TransposeThisAndMultiply(x) : x.TransposeAndMultiply(x)).Evd(Symmetricity.Symmetric);
        var last = gram.EigenVectors.Column(gram.EigenVectors.ColumnCount - 1);
        return (tall ? last : x.TransposeThisAndMultiply(last)).ToArray();
    }

    // With the centred rows X and Σ = X'X/ν, Woodbury gives (sI + X'X/ν)⁻¹ m = (m − X'(νs I + XX')⁻¹ X m)/s.
    private static double[] Whitened(StatePair pair)
    {
        var x = Centred(pair.Positive).Stack(Centred(pair.Negative));
        var m = Vector<double>.Build.DenseOfArray(pair.Difference);
        double degrees = Math.Max(1, x.RowCount - 2), square = x.Enumerate().Sum(y => y * y), shrink = 0.1 * square / degrees / x.ColumnCount;
        if (shrink == 0)
        {
            return pair.Difference;
        }

        var inner = x.TransposeAndMultiply(x) + (degrees * shrink * Matrix<double>.Build.DenseIdentity(x.RowCount));
        return ((m - x.TransposeThisAndMultiply(inner.Cholesky().Solve(x * m))) / shrink).ToArray();

        static Matrix<double> Centred(Matrix<double> rows) =>
            rows - Vector<double>.Build.Dense(rows.RowCount, 1).OuterProduct(rows.ColumnSums() / rows.RowCount);
    }
}

/// <summary>The states of two prompt sets at one layer, one row for each prompt.</summary>
/// <param name="Positive">States of the positive prompts // (n, D).</param>
/// <param name="Negative">States of the negative prompts // (m, D).</param>
internal sealed record StatePair(Matrix<double> Positive, Matrix<double> Negative)
{
    /// <summary>E, mean(positive) − mean(negative) // (D).</summary>
    public double[] Difference { get; } =
        ((Positive.ColumnSums() / Positive.RowCount) - (Negative.ColumnSums() / Negative.RowCount)).ToArray();

    /// <summary>The differences of pairs, x⁺_i − x⁻_i // (n, D).</summary>
    public Matrix<double> Differences => Positive - Negative;

    /// <summary>The positive states, then the negative ones // (n + m, D).</summary>
    public Matrix<double> All => Positive.Stack(Negative);

    /// <summary>Collects the states of prompts at layer <paramref name="k"/>.</summary>
    public static StatePair At(int k, IReadOnlyList<PromptState> positive, IReadOnlyList<PromptState> negative)
    {
        return new StatePair(Rows(positive), Rows(negative));

        Matrix<double> Rows(IReadOnlyList<PromptState> states) =>
            Matrix<double>.Build.Dense(states.Count, states[0].X[k].Length, (i, j) => states[i].X[k][j]);
    }
}
