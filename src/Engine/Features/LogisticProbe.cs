using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Factorization;

namespace Tiller.Features;

/// <summary>
/// A logistic probe between two sets of states: min ½|w|² + C Σ_i log(1 + exp(−s_i (w·x_i + b))) with s_i = ±1 and C = 1. b is not penalised, and the
/// states are not scaled (docs/math.md §2).
/// </summary>
/// <param name="Weights">w // (D).</param>
/// <param name="Intercept">b.</param>
internal sealed record LogisticProbe(double[] Weights, double Intercept)
{
    private const int MaxSteps = 500;

    // Bound on the gradient, relative to the size of its terms.
    private const double Converged = 1e-13;

    /// <summary>Fits the probe by Newton's method with step halving, in the span of the states if that has fewer dimensions than D.</summary>
    /// <exception cref="ContrastSetException">The iteration did not converge.</exception>
    public static LogisticProbe Fit(StatePair pair)
    {
        // w lies in the span of the states: x_i = O z_i, w = O y and |w| = |y|. y has as many coordinates as there are states, at most D.
        var x = pair.All;
        var qr = x.RowCount < x.ColumnCount ? x.Transpose().QR(QRMethod.Thin) : null;
        var z = qr is null ? x : qr.R.Transpose();
        int count = z.RowCount, size = z.ColumnCount;
        var signs = Vector<double>.Build.Dense(count, i => i < pair.Positive.RowCount ? 1 : -1);

        // The last coordinate of y is b; the states' coordinate there is 1.
        var rows = z.Append(Matrix<double>.Build.Dense(count, 1, 1));
        var y = Vector<double>.Build.Dense(size + 1);
        double value = Value(y);
        for (int step = 0; ; step++)
        {
            var margins = rows * y;
            var pull = Vector<double>.Build.Dense(count, i => -signs[i] * Sigmoid(-signs[i] * margins[i]));
            var gradient = rows.TransposeThisAndMultiply(pull) + Ridge(y);
            double scale = rows.TransposeThisAndMultiply(pull.PointwiseAbs()).PointwiseAbs().L2Norm() + Ridge(y).L2Norm();
            if (gradient.L2Norm() <= Converged * Math.Max(scale, double.Epsilon))
            {
                break;
            }

            var curvature = Vector<double>.Build.Dense(count, i => Sigmoid(margins[i]) * Sigmoid(-margins[i]));
            var hessian = rows.TransposeThisAndMultiply(Matrix<double>.Build.DiagonalOfDiagonalVector(curvature) * rows)
                + Matrix<double>.Build.Diagonal(size + 1, size + 1, i => i < size ? 1 : 0);
            var direction = hessian.LU().Solve(-gradient);
            double slope = gradient.DotProduct(direction), length = 1, next = Value(y + direction);

            // Near the minimum, the value is too coarse to show the gain of a step.
            while (!(next <= value + (1e-4 * length * slope) + (1e-14 * Math.Abs(value))) && length > 1e-12)
            {
                length /= 2;
                next = Value(y + (length * direction));
            }

            if (!direction.Enumerate().All(double.IsFinite) || length <= 1e-12 || step == MaxSteps)
            {
                throw new ContrastSetException(
                    "A logistic probe between the two sets did not converge. Give more prompts, or take another direction, such as 'mean'.");
            }

            y += length * direction;
            value = next;
            if (length == 1 && direction.L2Norm() <= 1e-15 * y.L2Norm())
            {
                break;
            }
        }

        var inner = y.SubVector(0, size);
        return new LogisticProbe((qr is null ? inner : qr.Q * inner).ToArray(), y[size]);

        double Value(Vector<double> at)
        {
            var margins = rows * at;
            double sum = 0;
            for (int i = 0; i < count; i++)
            {
                double m = signs[i] * margins[i];
                sum += m > 0 ? Math.Log(1 + Math.Exp(-m)) : Math.Log(1 + Math.Exp(m)) - m;
            }

            var free = Ridge(at);
            return sum + (free.DotProduct(free) / 2);
        }

        Vector<double> Ridge(Vector<double> at) => Vector<double>.Build.Dense(size + 1, i => i < size ? at[i] : 0);
    }

    private static double Sigmoid(double x) => x >= 0 ? 1 / (1 + Math.Exp(-x)) : Math.Exp(x) / (1 + Math.Exp(x));
}
