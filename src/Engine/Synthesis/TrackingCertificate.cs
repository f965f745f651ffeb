// With the closed loop Â_k = A_k − K_k and, backward from P_L = I,
//
//     P_k = Â_k' P_{k+1} Â_k + I
//
// lengths are |x|_{P_k} = |C_k' x| with P_k = C_k C_k', and the norm of a map from P_i to P_k is σ_max(C_k' M C_i^{-T}). For a run with
// δx_{k+1} = Â_k δx_k + ρ_k and |ρ_k| ≤ (L_k/2) |δx_k|²,
//
//     |δx_k| ≤ ‖Φ(k,0)‖ |δx_0| + Σ_{i<k} ‖Φ(k,i+1)‖ (L_i/2) |δx_i|²,     Φ(k,i) = Â_{k−1} ⋯ Â_i.
//
// (docs/math.md §7; Skifstad, Yang, Chou, arXiv:2604.19018.) The formulas here are the paper's. The published script measures ρ_k in P_k, omits the
// last factor of Φ(k,0), and uses a norm that is correct for a single step only.
using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Synthesis;

/// <summary>The errors of a run, and the bounds on them.</summary>
/// <param name="Error">|δx_k|, measured in P_k // (L+1).</param>
/// <param name="Bound">The bound, with the measured |δx_i| in its sum // (L+1).</param>
/// <param name="Closed">The bound, with the bounds on |δx_i| in its sum, so that it needs only δx_0; may be infinite // (L+1).</param>
public sealed record TrackingRun(IReadOnlyList<double> Error, IReadOnlyList<double> Bound, IReadOnlyList<double> Closed)
{
    private const double Rounding = 1e-12;

    /// <summary>Whether the error is within the bound at every layer.</summary>
    public bool Inside => Enumerable.Range(0, Error.Count).All(IsInside);

    /// <summary>How loose the bound is: the bound divided by the error after the last block.</summary>
    public double Looseness => Bound[^1] / Error[^1];

    /// <summary>Whether the error is within the bound at layer <paramref name="k"/>.</summary>
    public bool IsInside(int k) => Error[k] <= Bound[k] * (1 + Rounding);
}

/// <summary>
/// The bound on the tracking error of a closed loop (docs/math.md §7), in float64. The contraction of a step is below 1 for every system and proves
/// nothing alone; the evidence is the share of runs inside the bound, and how loose the bound is.
/// </summary>
public sealed class TrackingCertificate
{
    /// <summary>Deviations shorter than this are too small to measure L_k.</summary>
    private const double Negligible = 1e-8;

    private readonly Matrix<double>[] _closed;
    private readonly Matrix<double>[] _factors;

    /// <summary>Computes P_k and the norms of Φ.</summary>
    /// <param name="closed">Â_0..Â_{L-1} // (D, D).</param>
    /// <param name="cancellationToken">Checked between products.</param>
    /// <exception cref="ArgumentException">There is no step.</exception>
    /// <exception cref="RiccatiException">Shapes disagree, a number is not finite, or the loop grows beyond the range of float64.</exception>
    public TrackingCertificate(IReadOnlyList<Matrix<double>> closed, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(closed);
        if (closed.Count == 0)
        {
            throw new ArgumentException("A certificate needs at least one step.", nameof(closed));
        }

        _closed = [.. closed];
        int steps = closed.Count, width = closed[0].RowCount;
        var p = new Matrix<double>[steps + 1];
        _factors = new Matrix<double>[steps + 1];
        p[steps] = Matrix<double>.Build.DenseIdentity(width);
        _factors[steps] = p[steps];
        for (int k = steps - 1; k >= 0; k--)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (closed[k].RowCount != width || closed[k].ColumnCount != width)
            {
                throw RiccatiException.Shape("The closed loop", k, $"{width}×{width}", $"{closed[k].RowCount}×{closed[k].ColumnCount}");
            }

            Finite.Check(closed[k], "The closed loop", k);

            // P_k = (C_{k+1}' Â_k)' (C_{k+1}' Â_k) + I
            var image = DenseAlgebra.TransposeMultiply(_factors[k + 1], closed[k], cancellationToken);
            p[k] = DenseAlgebra.TransposeMultiply(image, image, cancellationToken) + Matrix<double>.Build.DenseIdentity(width);
            var factor = p[k].Clone();
            var pivots = DenseAlgebra.Cholesky(factor, cancellationToken);
            if (pivots.Failed >= 0)
            {
                throw RiccatiException.FailedPivot(k, pivots.Failed, pivots.Value, 1, p[k].Diagonal().Maximum());
            }

            _factors[k] = factor.LowerTriangle();
        }

        P = p;
        var norms = new double[steps + 1, steps + 1];
        for (int i = 0; i <= steps; i++)
        {
            norms[i, i] = 1;
            Matrix<double>? product = null;
            for (int k = i + 1; k <= steps; k++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                product = product is null ? closed[i] : DenseAlgebra.Multiply(closed[k - 1], product, cancellationToken);
                norms[k, i] = Norm(k, i, product);
            }
        }

        Norms = norms;
    }

    /// <summary>L, the number of steps.</summary>
    public int Steps => _closed.Length;

    /// <summary>P_0..P_L // (L+1, D, D).</summary>
    public IReadOnlyList<Matrix<double>> P { get; }

    /// <summary>‖Φ(k,i)‖ from P_i to P_k at [k, i], 0 above the diagonal // (L+1, L+1).</summary>
    public double[,] Norms { get; }

    /// <summary>‖Â_k‖ from P_k to P_{k+1} // (L).</summary>
    public IReadOnlyList<double> Contraction => [.. Enumerable.Range(0, Steps).Select(k => Norms[k + 1, k])];

    /// <summary>Computes |x|, measured in P_k.</summary>
    public double Length(int k, ReadOnlySpan<double> x) =>
        _factors[k].TransposeThisAndMultiply(Vector<double>.Build.DenseOfArray(x.ToArray())).L2Norm();

    /// <summary>Computes L_0..L_{L-1}: the largest 2|ρ_k|/|δx_k|² over the runs, each length in its P-norm; 0 if no run deviates.</summary>
    /// <param name="deviations">δx of calibration runs // (runs, L+1, D).</param>
    public IReadOnlyList<double> Curvatures(IEnumerable<IReadOnlyList<double[]>> deviations)
    {
        ArgumentNullException.ThrowIfNull(deviations);
        double[] largest = new double[Steps];
        foreach (var run in deviations)
        {
            for (int k = 0; k < Steps; k++)
            {
                if (TensorPrimitives.Norm<double>(run[k]) > Negligible)
                {
                    double square = Math.Pow(Length(k, run[k]), 2);
                    largest[k] = Math.Max(largest[k], 2 * Length(k + 1, Remainder(k, run)) / square);
                }
            }
        }

        return largest;
    }

    /// <summary>Computes the errors of a run and the bounds on them.</summary>
    /// <param name="deviation">δx_0..δx_L // (L+1, D).</param>
    /// <param name="curvatures">L_0..L_{L-1}.</param>
    public TrackingRun Check(IReadOnlyList<double[]> deviation, IReadOnlyList<double> curvatures)
    {
        ArgumentNullException.ThrowIfNull(deviation);
        ArgumentNullException.ThrowIfNull(curvatures);
        double[] error = [.. deviation.Select((x, k) => Length(k, x))];
        double[] closed = Bounds(error[0], curvatures, feed: null);
        return new TrackingRun(error, Bounds(error[0], curvatures, error), closed);
    }

    // The bounds with the measured errors in their sum, or, if feed is null, with the bounds themselves.
    private double[] Bounds(double first, IReadOnlyList<double> curvatures, double[]? feed)
    {
        double[] bound = new double[Steps + 1];
        for (int k = 0; k <= Steps; k++)
        {
            bound[k] = Norms[k, 0] * first;
            for (int i = 0; i < k; i++)
            {
                double size = feed?[i] ?? bound[i], factor = Norms[k, i + 1] * curvatures[i] / 2;

                // 0 · ∞ is 0 here: without curvature or propagation, a deviation adds nothing.
                bound[k] += factor == 0 ? 0 : factor * size * size;
            }
        }

        return bound;
    }

    private double[] Remainder(int k, IReadOnlyList<double[]> run) =>
        (Vector<double>.Build.DenseOfArray(run[k + 1]) - (_closed[k] * Vector<double>.Build.DenseOfArray(run[k]))).ToArray();

    // σ_max(C_k' M C_i^{-T})
    private double Norm(int k, int i, Matrix<double> map)
    {
        var scaled = DenseAlgebra.TransposeMultiply(_factors[k], map);
        DenseAlgebra.SolveRight(scaled, _factors[i]);
        return SpectralNorm.Of(scaled);
    }
}
