using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Synthesis;

/// <summary>
/// The first input u of a plan with a bound, as a curve of the error e, for the bound 1: u = Σ_j φ_j(e) d_j with d_0 = w = K v. Up to the knee it is
/// e w, the input without a bound.
/// </summary>
/// <param name="W">w // (D).</param>
/// <param name="Knee">κ, the smallest error at which a bound of the plan is met.</param>
/// <param name="Directions">Orthonormal d_1..d_p // (p, D).</param>
/// <param name="Nodes">q = κ/|e|, from 0 for an infinite error up to 1 at the knee // (n).</param>
/// <param name="Values">φ_0..φ_p at the nodes, for a positive error // (p+1, n).</param>
/// <param name="Slopes">dφ/dq at the nodes // (p+1, n).</param>
public sealed record InputCurve(
    float[] W, float Knee, IReadOnlyList<float[]> Directions, float[] Nodes, IReadOnlyList<float[]> Values, IReadOnlyList<float[]> Slopes)
{
    /// <summary>Largest distance from the plan's input to the curve, in units of the bound.</summary>
    public const double Tolerance = 1e-5;

    /// <summary>Solves for the curve of a horizon.</summary>
    /// <param name="a">A_0..A_{N-1} of the horizon // (D, D).</param>
    /// <param name="gains">K_0..K_{N-1} of the same cost, of <see cref="DenseRiccati"/>.</param>
    /// <param name="weights">q, r, qf.</param>
    /// <param name="v">v of the horizon's first block // (D).</param>
    /// <param name="cancellationToken">Checked at every solve.</param>
    /// <returns>The curve; null if w = K v is 0, where every plan's first input is 0.</returns>
    /// <exception cref="ArgumentException">Shapes disagree.</exception>
    /// <exception cref="RiccatiException">No solution is proved, because r is too small compared with the plant's gain.</exception>
    public static InputCurve? Solve(
        IReadOnlyList<Matrix<double>> a, IReadOnlyList<Gain> gains, LqrWeights weights, float[] v, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(v);
        return SolveAll(a, gains, weights, [v], null, cancellationToken)[0];
    }

    /// <summary>Solves for the curves of the horizons that begin at the first blocks: curve k is that of the blocks from k on.</summary>
    /// <param name="a">A_0..A_{N-1} of the longest horizon // (D, D).</param>
    /// <param name="gains">K_0..K_{N-1} of the same cost, of <see cref="DenseRiccati"/>.</param>
    /// <param name="weights">q, r, qf.</param>
    /// <param name="v">v of each block that a curve is wanted for, at most N; null where none is // (curves, D).</param>
    /// <param name="planned">Called after each plan that was solved, with the number of curves that are solved; null for nothing.</param>
    /// <param name="cancellationToken">Checked at every solve.</param>
    /// <returns>The curves; null where v is, and where w = K v is 0, so that every plan's first input is 0.</returns>
    /// <exception cref="ArgumentException">Shapes disagree.</exception>
    /// <exception cref="RiccatiException">No solution is proved, because r is too small compared with the plant's gain.</exception>
    public static InputCurve?[] SolveAll(
        IReadOnlyList<Matrix<double>> a, IReadOnlyList<Gain> gains, LqrWeights weights, IReadOnlyList<float[]?> v, Action<int>? planned = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(gains);
        ArgumentNullException.ThrowIfNull(weights);
        ArgumentNullException.ThrowIfNull(v);
        int width = a.Count == 0 ? 0 : a[0].RowCount;
        if (a.Count == 0 || gains.Count != a.Count || a.Any(m => m.RowCount != width || m.ColumnCount != width) || v.Count > a.Count
            || v.Any(x => x is not null && x.Length != width))
        {
            throw new ArgumentException(
                $"A curve needs one Jacobian or more of D×D, as many gains, and v of D numbers for at most as many blocks, got {a.Count} Jacobians, "
                + $"{gains.Count} gains and v for {v.Count} blocks, with {width} rows in the first Jacobian.",
                nameof(a));
        }

        var inverses = new PlanInverses(a, weights, cancellationToken);
        var curves = new InputCurve?[v.Count];
        for (int k = 0; k < curves.Length; k++)
        {
            if (v[k] is { } direction)
            {
                int done = k;
                var plant = new PlannedPlant([.. a.Skip(k)], weights);
                curves[k] = new CurveSolver(
                    plant, [.. gains.Skip(k)], inverses, k, Array.ConvertAll(direction, x => (double)x), () => planned?.Invoke(done),
                    cancellationToken).Run();
                planned?.Invoke(k + 1);
            }
        }

        return curves;
    }
}
