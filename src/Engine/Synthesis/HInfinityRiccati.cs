// Sign convention: u = K e, where e = −δx is the displacement that the state lacks.
//
// δx_{k+1} = A_k δx_k + B_k u_k + D_k w_k with a worst-case disturbance w. The smallest γ for which an input u can guarantee
//
//     Σ_k (δx_k' Q_k δx_k + u_k' R_k u_k) + δx_N' Q_N δx_N ≤ γ² Σ_k |w_k|²      from δx_0 = 0
//
// is γ*. For γ > γ*, the game has the value δx_0' S_0 δx_0, where backward from S_N = Q_N
//
//     M   = γ² I − D_k' S D_k            positive definite, or γ is not feasible
//     S̄   = S + S D_k M⁻¹ D_k' S
//     H   = R_k + B_k' S̄ B_k,   K_k = H⁻¹ B_k' S̄ A_k,   C = A_k − B_k K_k,   S ← Q_k + C' S̄ C + K_k' R_k K_k
//
// The textbook form S = Q + A'S̄ C loses digits: with a small R, C is a small difference of large numbers, and A'S̄ amplifies its rounding error. The
// last line multiplies this error by the small C instead. (docs/math.md §3; Başar and Bernhard, H∞-Optimal Control and Related Minimax Design
// Problems, chapter 3.)
using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Synthesis;

/// <summary>A plant with a disturbance: the matrices of every step, with the same shapes at all steps.</summary>
/// <param name="A">A_0..A_{N-1} // (n, n).</param>
/// <param name="B">B_0..B_{N-1} // (n, m).</param>
/// <param name="D">D_0..D_{N-1} // (n, d).</param>
/// <param name="Q">Q_0..Q_N, symmetric positive semidefinite // (n, n).</param>
/// <param name="R">R_0..R_{N-1}, symmetric positive definite // (m, m).</param>
public sealed record DisturbedPlant(
    IReadOnlyList<Matrix<double>> A,
    IReadOnlyList<Matrix<double>> B,
    IReadOnlyList<Matrix<double>> D,
    IReadOnlyList<Matrix<double>> Q,
    IReadOnlyList<Matrix<double>> R)
{
    /// <summary>Makes the plant of depth: an input and a disturbance of the whole state, B = D = I, with isotropic costs.</summary>
    /// <param name="a">A_0..A_{L-1} // (D, D).</param>
    /// <param name="weights">q, r, qf.</param>
    public static DisturbedPlant Isotropic(IReadOnlyList<Matrix<double>> a, LqrWeights weights)
    {
        ArgumentNullException.ThrowIfNull(weights);
        int n = a[0].RowCount;
        var one = Matrix<double>.Build.DenseIdentity(n);
        Matrix<double>[] ones = [.. a.Select(_ => one)];
        Matrix<double> state = weights.Q * one, last = weights.Qf * one, effort = weights.R * one;
        return new DisturbedPlant(a, ones, ones, [.. a.Select(_ => state), last], [.. a.Select(_ => effort)]);
    }
}

/// <summary>H∞ gains of a finite horizon by the Riccati recursion of a game, in float64.</summary>
public static class HInfinityRiccati
{
    /// <summary>Default of γ/γ*. At γ* itself the gains grow without bound.</summary>
    public const double Margin = 1.001;

    /// <summary>Solves for the gains at a given γ.</summary>
    /// <param name="plant">The plant.</param>
    /// <param name="gamma">γ, above 0.</param>
    /// <param name="cancellationToken">Checked at every step.</param>
    /// <returns>K_0..K_{N-1} // (m, n); null if γ is not feasible.</returns>
    /// <exception cref="ArgumentOutOfRangeException">γ is not finite or not above 0.</exception>
    /// <exception cref="RiccatiException">R is not positive definite.</exception>
    public static IReadOnlyList<Matrix<double>>? TrySolve(DisturbedPlant plant, double gamma, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(plant);
        if (!(gamma > 0) || !double.IsFinite(gamma))
        {
            throw new ArgumentOutOfRangeException(nameof(gamma), gamma, "γ must be finite and above 0.");
        }

        int steps = plant.A.Count;
        for (int k = 0; k < steps; k++)
        {
            if (Factor(plant.R[k]) is null)
            {
                throw RiccatiException.Shape("The weight R of the input", k, "a positive definite matrix with finite entries",
                    "one without a Cholesky factor");
            }
        }

        var gains = new Matrix<double>[steps];
        var s = plant.Q[steps];
        for (int k = steps - 1; k >= 0; k--)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Matrix<double> a = plant.A[k], b = plant.B[k], sd = s * plant.D[k];
            var m = (gamma * gamma * Matrix<double>.Build.DenseIdentity(sd.ColumnCount)) - plant.D[k].TransposeThisAndMultiply(sd);
            if (Factor(m) is not { } mFactor)
            {
                return null;
            }

            var game = s + (sd * mFactor.Solve(sd.Transpose()));
            var ba = b.TransposeThisAndMultiply(game);
            if (Factor(plant.R[k] + (ba * b)) is not { } hFactor)
            {
                // R is positive definite and S̄ positive semidefinite. At the edge of feasibility, S̄ is so large that rounding decides.
                return null;
            }

            gains[k] = hFactor.Solve(ba * a);
            var closed = a - (b * gains[k]);
            var next = plant.Q[k] + (closed.TransposeThisAndMultiply(game) * closed) + (gains[k].TransposeThisAndMultiply(plant.R[k]) * gains[k]);
            s = 0.5 * (next + next.Transpose());
        }

        return gains;
    }

    /// <summary>Finds γ*, the smallest feasible γ, by bisection from above; 0 if every Q is 0.</summary>
    /// <param name="plant">The plant.</param>
    /// <param name="tolerance">Relative width of the final interval.</param>
    /// <param name="cancellationToken">Checked at every step of every solve.</param>
    public static double LeastGamma(DisturbedPlant plant, double tolerance = 1e-13, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(plant);
        if (plant.Q.All(q => q.L2Norm() == 0))
        {
            return 0;
        }

        double high = 1, low = 0;
        while (TrySolve(plant, high, cancellationToken) is null)
        {
            (low, high) = (high, 2 * high);
        }

        while (high - low > tolerance * high)
        {
            double middle = low + ((high - low) / 2);
            if (middle <= low || middle >= high)
            {
                break;
            }

            (low, high) = TrySolve(plant, middle, cancellationToken) is null ? (middle, high) : (low, middle);
        }

        return high;
    }

    // Null if the matrix is not positive definite.
    private static MathNet.Numerics.LinearAlgebra.Factorization.Cholesky<double>? Factor(Matrix<double> m)
    {
        try
        {
            return (0.5 * (m + m.Transpose())).Cholesky();
        }
        catch (ArgumentException)
        {
            return null;
        }
    }
}
