// Sign convention: δx is the deviation of the state, and u is added to it. Without a bound, the minimising input is u_k = −K_k δx_k.
//
//     minimise  Σ_{k<N} (q |δx_k|² + r |u_k|²) + q_f |δx_N|²   subject to   δx_{k+1} = A_k δx_k + u_k,   |u_k| ≤ U
//
// Half the gradient in u_k is r u_k + p_{k+1}, with the costates p_N = q_f δx_N, p_k = q δx_k + A_k' p_{k+1}. The steps are projected on the balls
// |u_k| ≤ U and use Nesterov's momentum, restarted if the cost would rise (Beck and Teboulle, SIAM J. Imaging Sci. 2 (2009); O'Donoghue and Candès,
// Found. Comput. Math. 15 (2015)). They converge linearly because r > 0. (docs/math.md §3)
using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Synthesis;

/// <summary>Planned inputs for the rest of the horizon.</summary>
/// <param name="Inputs">u_0..u_{N-1} // (N, D).</param>
/// <param name="Multipliers">
/// Lagrange multiplier of each bound: half the gradient is −multiplier · u_k; 0 where |u_k| is below the bound // (N).
/// </param>
/// <param name="Cost">The cost of the plan, with the cost of δx_0.</param>
/// <param name="Residual">Length of the projected gradient, relative to the gradient at u = 0; 0 at the minimum.</param>
public sealed record InputPlan(IReadOnlyList<double[]> Inputs, IReadOnlyList<double> Multipliers, double Cost, double Residual);

/// <summary>Model-predictive control with a bound on each input, by projected gradients in float64 (docs/math.md §3).</summary>
public static class PredictiveControl
{
    private const int MaxSteps = 200_000;
    private const double Converged = 1e-14;

    // After this many steps without a better residual, only rounding errors are left.
    private const int Stalled = 3000;

    /// <summary>Largest residual of a plan that is returned.</summary>
    public const double MaxResidual = 1e-9;

    /// <summary>Plans the inputs from a given state.</summary>
    /// <param name="a">A_0..A_{N-1} of the remaining steps // (D, D).</param>
    /// <param name="weights">q, r, qf.</param>
    /// <param name="start">δx_0 // (D).</param>
    /// <param name="bound">U, above 0; positive infinity for no bound, which gives the LQR inputs.</param>
    /// <param name="cancellationToken">Checked at every step.</param>
    /// <exception cref="ArgumentException">Shapes disagree, or the bound is not positive.</exception>
    /// <exception cref="RiccatiException">The steps do not converge, because r is too small compared with the plant's gain.</exception>
    public static InputPlan Plan(
        IReadOnlyList<Matrix<double>> a, LqrWeights weights, double[] start, double bound, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(weights);
        ArgumentNullException.ThrowIfNull(start);
        if (a.Count == 0 || a.Any(m => m.RowCount != start.Length || m.ColumnCount != start.Length))
        {
            throw new ArgumentException(
                $"A plan needs at least one Jacobian, and each must be {start.Length}×{start.Length}, as its start has {start.Length} numbers.",
                nameof(a));
        }

        if (!(bound > 0))
        {
            throw new ArgumentOutOfRangeException(nameof(bound), bound, "The bound on |u| must be positive.");
        }

        return new Descent(a, weights, start, bound).Run(cancellationToken);
    }

    /// <summary>The projected gradient descent. All inputs are in one array // (N D).</summary>
    private sealed class Descent
    {
        private readonly PlannedPlant _plant;
        private readonly double[] _start;
        private readonly double _bound;

        public Descent(IReadOnlyList<Matrix<double>> a, LqrWeights weights, double[] start, double bound) =>
            (_plant, _start, _bound) = (new PlannedPlant(a, weights), start, bound);

        private int Steps => _plant.Steps;

        private int D => _start.Length;

        public InputPlan Run(CancellationToken cancellationToken)
        {
            int n = Steps * D;
            double[] u = new double[n], at = new double[n], gradient = new double[n], next = new double[n];
            _plant.Gradient(u, _start, gradient);
            double first = TensorPrimitives.Norm<double>(gradient), steepest = 1.02 * Curvature(cancellationToken);
            double momentum = 1, best = double.PositiveInfinity;
            double[] found = new double[n];
            for (int step = 0, bestStep = 0; step < MaxSteps && step - bestStep <= Stalled && best > Converged; step++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                _plant.Gradient(at, _start, gradient);
                TensorPrimitives.MultiplyAdd(gradient, -1 / steepest, at, next);
                Project(next);
                double residual = first == 0 ? 0 : steepest * TensorPrimitives.Distance<double>(next, at) / first;
                if (residual < best)
                {
                    // An improvement of less than a tenth may be rounding and does not count as progress.
                    bestStep = residual < 0.9 * best ? step : bestStep;
                    best = residual;
                    next.CopyTo(found, 0);
                }

                // Momentum that points uphill is dropped: (y − x⁺)·(x⁺ − x) > 0.
                double uphill = 0;
                for (int i = 0; i < n; i++)
                {
                    uphill += (at[i] - next[i]) * (next[i] - u[i]);
                }

                double grown = uphill > 0 ? 1 : (1 + Math.Sqrt(1 + (4 * momentum * momentum))) / 2;
                double carried = uphill > 0 ? 0 : (momentum - 1) / grown;
                for (int i = 0; i < n; i++)
                {
                    at[i] = next[i] + (carried * (next[i] - u[i]));
                }

                (momentum, u, next) = (grown, next, u);
            }

            if (best > MaxResidual)
            {
                throw RiccatiException.Range("r", _plant.Weights.R, $"larger: the best plan found has a residual of {best:E1}");
            }

            _plant.Gradient(found, _start, gradient);
            double[][] inputs = [.. found.Chunk(D)];
            return new InputPlan(inputs, [.. inputs.Select((x, k) => Multiplier(x, gradient.AsSpan(k * D, D)))], _plant.Cost(found, _start), best);
        }

        private void Project(double[] u)
        {
            for (int k = 0; k < Steps; k++)
            {
                var slice = u.AsSpan(k * D, D);
                double length = TensorPrimitives.Norm<double>(slice);
                if (length > _bound)
                {
                    TensorPrimitives.Multiply(slice, _bound / length, slice);
                }
            }
        }

        // The largest eigenvalue of half the Hessian, by the power method.
        private double Curvature(CancellationToken cancellationToken)
        {
            const int Powers = 200;
            var random = new Random(1);
            double[] x = new double[Steps * D], y = new double[x.Length], zero = new double[D];
            for (int i = 0; i < x.Length; i++)
            {
                x[i] = random.NextDouble() - 0.5;
            }

            double largest = _plant.Weights.R;
            for (int i = 0; i < Powers; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                TensorPrimitives.Divide(x, TensorPrimitives.Norm<double>(x), x);
                _plant.Gradient(x, zero, y);
                largest = Math.Max(largest, TensorPrimitives.Norm<double>(y));
                (x, y) = (y, x);
            }

            return largest;
        }

        // The multiplier of half the gradient + multiplier · u = 0.
        private double Multiplier(double[] u, ReadOnlySpan<double> gradient)
        {
            double square = TensorPrimitives.SumOfSquares<double>(u);
            return Math.Sqrt(square) < _bound * (1 - 1e-12) ? 0 : Math.Max(0, -TensorPrimitives.Dot(gradient, u) / square);
        }
    }
}
