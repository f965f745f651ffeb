// H + diag ν is half the Hessian of a plan's cost in which step k has the weight r + ν_k, so that a Riccati recursion inverts it. For
// (H + diag ν) u = y, with W_k = (S_{k+1} + ρ_k I)^{-1}, ρ_k = r + ν_k and S as in DenseRiccati, the costates' affine parts s and the inputs are
//
//     g_k = W_k (y_k − s_{k+1}),     s_k = A_k' (y_k − ρ_k g_k),     s_N = 0
//     x_{k+1} = g_k + ρ_k W_k A_k x_k,     u_k = x_{k+1} − A_k x_k,     x_0 = 0.
//
// The recursion runs from the last step, so that it serves every horizon that begins at its first step or later. (docs/math.md §3)
using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Synthesis;

/// <summary>
/// (H + diag ν)^{-1} for the plans from some step on, H half the Hessian of the cost. It is found in float64 and kept in float32, 4 D² bytes a step.
/// </summary>
internal sealed class PlanInverse
{
    private readonly IReadOnlyList<float[]> _a;
    private readonly float[][] _w; // W_k, from the first step on
    private readonly double[] _rho;
    private readonly int _width;
    private readonly int _first;

    private PlanInverse(IReadOnlyList<float[]> a, int width, int first, double[] rho) =>
        (_a, _width, _first, _rho, _w) = (a, width, first, rho, new float[rho.Length][]);

    /// <summary>Runs the recursion.</summary>
    /// <param name="a">A_0..A_{N-1} // (D, D).</param>
    /// <param name="narrow">The same in float32, by columns // (D, D).</param>
    /// <param name="weights">q, r, qf.</param>
    /// <param name="first">The first step.</param>
    /// <param name="rho">ρ of the steps from the first on, at least r // (N − first).</param>
    /// <param name="cancellationToken">Checked between blocks of every product.</param>
    /// <exception cref="RiccatiException">A factor is not positive definite in float64.</exception>
    public static PlanInverse Of(
        IReadOnlyList<Matrix<double>> a, IReadOnlyList<float[]> narrow, LqrWeights weights, int first, double[] rho,
        CancellationToken cancellationToken)
    {
        int width = a[0].RowCount;
        var inverse = new PlanInverse(narrow, width, first, rho);
        var s = Matrix<double>.Build.DenseDiagonal(width, width, weights.Qf);
        for (int k = rho.Length - 1; k >= 0; k--)
        {
            var factor = s.Clone();
            DenseAlgebra.AddToDiagonal(factor, rho[k]);
            var pivots = DenseAlgebra.Cholesky(factor, cancellationToken);
            if (pivots.Failed >= 0)
            {
                throw RiccatiException.FailedPivot(first + k, pivots.Failed, pivots.Value, rho[k], s.Diagonal().Max() + rho[k]);
            }

            var w = Matrix<double>.Build.DenseIdentity(width, width);
            DenseAlgebra.CholeskySolve(factor, w);
            inverse._w[k] = Array.ConvertAll(DenseAlgebra.Numbers(w), x => (float)x);
            if (k > 0)
            {
                // S_k = Q + ρ_k A_k' W_k S_{k+1} A_k
                var gain = DenseAlgebra.Multiply(s, a[first + k], cancellationToken);
                DenseAlgebra.CholeskySolve(factor, gain);
                s = DenseAlgebra.TransposeMultiply(a[first + k], gain, cancellationToken);
                double[] numbers = DenseAlgebra.Numbers(s);
                TensorPrimitives.Multiply(numbers, rho[k], numbers);
                DenseAlgebra.AddToDiagonal(s, weights.Q);
                DenseAlgebra.Symmetrise(s);
            }
        }

        return inverse;
    }

    /// <summary>The largest factor between ρ here and there, over the steps from the first on; infinite if there are none here.</summary>
    public double Mismatch(int first, ReadOnlySpan<double> rho)
    {
        if (first < _first)
        {
            return double.PositiveInfinity;
        }

        double largest = 1;
        for (int k = 0; k < rho.Length; k++)
        {
            double ratio = rho[k] / _rho[first - _first + k];
            largest = Math.Max(largest, Math.Max(ratio, 1 / ratio));
        }

        return largest;
    }

    /// <summary>(H + diag ν)^{-1} y for the plans from <paramref name="first"/> on, in float32 // (N, D).</summary>
    public float[] Solve(int first, float[] y)
    {
        int width = _width, steps = y.Length / width;
        float[] u = new float[y.Length], s = new float[width], x = new float[width], rest = new float[width];
        for (int k = steps - 1; k >= 0; k--)
        {
            var given = y.AsSpan(k * width, width);
            var g = u.AsMemory(k * width, width);
            TensorPrimitives.Subtract(given, s, rest);
            SquareProduct.Pull<float>(W(first + k), rest, g);
            TensorPrimitives.MultiplyAdd(g.Span, -Rho(first + k), given, rest);
            SquareProduct.Pull<float>(_a[first + k], rest, s);
        }

        float[] pushed = new float[width];
        for (int k = 0; k < steps; k++)
        {
            var g = u.AsSpan(k * width, width);
            Array.Clear(pushed);
            SquareProduct.Push<float>(_a[first + k], x, pushed);
            SquareProduct.Pull<float>(W(first + k), pushed, rest);
            TensorPrimitives.MultiplyAdd(rest, Rho(first + k), g, x);
            TensorPrimitives.Subtract(x, pushed, g);
        }

        return u;
    }

    private float[] W(int step) => _w[step - _first];

    private float Rho(int step) => (float)_rho[step - _first];
}

/// <summary>
/// A few inverses that the plans of all horizons share, as preconditioners: of H itself, and of some H + diag ν that plans needed lately.
/// </summary>
internal sealed class PlanInverses
{
    // Inverses beside that of H.
    private const int Kept = 7;

    // A better inverse is worth its recursion after so many directions that did not prove a solution, if the best one is as far off as this.
    private const int Patience = 6;
    private const double Far = 3;

    private readonly IReadOnlyList<Matrix<double>> _a;
    private readonly float[][] _narrow;
    private readonly LqrWeights _weights;
    private readonly CancellationToken _cancellationToken;
    private readonly PlanInverse _free;
    private readonly List<PlanInverse> _kept = []; // the last used is last

    /// <summary>Bytes of the inverses and of A in float32, if all are kept.</summary>
    public static long SizeInBytes(int horizon, int width) => (Kept + 2) * 4L * horizon * width * width;

    /// <summary>Inverts H.</summary>
    public PlanInverses(IReadOnlyList<Matrix<double>> a, LqrWeights weights, CancellationToken cancellationToken)
    {
        (_a, _weights, _cancellationToken) = (a, weights, cancellationToken);
        _narrow = [.. a.Select(m => Array.ConvertAll(DenseAlgebra.Numbers(m), x => (float)x))];
        _free = Inverse(0, [.. a.Select(_ => weights.R)]);
    }

    /// <summary>A direction towards the solution of (H + diag ν) u = y, by the inverse that fits best.</summary>
    /// <param name="first">The first step of the plan.</param>
    /// <param name="nu">ν // (N − first).</param>
    /// <param name="y">y // (N − first, D).</param>
    /// <param name="tried">Directions that were tried for this plan already.</param>
    public double[] Direction(int first, double[] nu, double[] y, int tried)
    {
        double[] rho = Array.ConvertAll(nu, x => _weights.R + x);
        var best = _kept.Append(_free).MinBy(inverse => inverse.Mismatch(first, rho))!;
        if (tried > 0 && tried % Patience == 0 && best.Mismatch(first, rho) > Far)
        {
            best = Inverse(first, rho);
            if (_kept.Count == Kept)
            {
                _kept.RemoveAt(0);
            }

            _kept.Add(best);
        }
        else if (_kept.Remove(best))
        {
            _kept.Add(best);
        }

        double length = TensorPrimitives.Norm<double>(y);
        return Array.ConvertAll(best.Solve(first, Array.ConvertAll(y, x => (float)(x / length))), x => (double)x);
    }

    private PlanInverse Inverse(int first, double[] rho) => PlanInverse.Of(_a, _narrow, _weights, first, rho, _cancellationToken);
}
