// The first input of a bounded plan from δx_0 = −e v, as a curve of the error e (docs/math.md §3). It is odd, and u(e; U) = U u(e/U; 1), so that one
// curve serves every bound. Up to the knee κ no bound is met and u = e w with w = K v. Beyond, with q = κ/|e|, half the gradient H u + e h of the
// cost and the multipliers m = μ/q,
//
//     (q H + diag μ) u = −κ h,     |u_j| ≤ 1,   μ_j ≥ 0,   μ_j (1 − |u_j|) = 0,
//
// which stays well posed down to q = 0, an infinite error. The inputs of all steps are sought in the span of a few vectors, to which the residual of
// the solution found there is added until it proves that solution: a reduced basis, for all errors the same. μ is the maximum of the concave dual, by
// Newton's method with the active set of Bertsekas (SIAM J. Control Optim. 20 (1982)) and the secular equation of Hebden and Moré (Moré and Sorensen,
// SIAM J. Sci. Stat. Comput. 4 (1983)). Its derivative in q makes a cubic between nodes, which are halved until the cubic agrees with the solution.
using System.Numerics.Tensors;
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
        ArgumentNullException.ThrowIfNull(a);
        ArgumentNullException.ThrowIfNull(gains);
        ArgumentNullException.ThrowIfNull(weights);
        ArgumentNullException.ThrowIfNull(v);
        if (a.Count == 0 || gains.Count != a.Count || a.Any(m => m.RowCount != v.Length || m.ColumnCount != v.Length))
        {
            throw new ArgumentException(
                $"A curve needs one Jacobian or more of {v.Length}×{v.Length}, as long as v, and as many gains, got {a.Count} and {gains.Count}.",
                nameof(a));
        }

        return new CurveSolver(new PlannedPlant(a, weights), gains, Array.ConvertAll(v, x => (double)x), cancellationToken).Run();
    }
}

/// <summary>Solves for one curve.</summary>
internal sealed class CurveSolver
{
    // Shares of the tolerance: proof of a solution, distance of the cubic at the points where it is checked, and what is left out of the directions.
    private const double Proved = 0.4 * InputCurve.Tolerance, Bent = 0.3 * InputCurve.Tolerance, LeftOut = 0.1 * InputCurve.Tolerance;

    // The node of an infinite error is solved here; the first cells; the narrowest cell, which a kink is left in.
    private const double Infinite = 1.0 / (1 << 30), Widest = 1.0 / 8, Narrowest = 1.0 / (1 << 20);
    private const int MaxNewton = 200;
    private const double Converged = 1e-9;

    // No error of a state in float32 is as large.
    private const double LargestKnee = 1e30;

    private readonly PlannedPlant _plant;
    private readonly CancellationToken _cancellationToken;
    private readonly double[] _free; // u of an error of 1 without bounds // (N D)
    private readonly double[] _h;
    private readonly double _knee;
    private readonly List<(double[] Vector, double[] Image)> _basis = []; // S and H S
    private readonly List<double[]> _reduced = []; // S'HS, the lower triangle's rows
    private readonly List<double[]>[] _lengths; // S_j'S_j of each step, the lower triangles' rows
    private readonly List<double> _right = []; // S'h
    private readonly Dictionary<double, Node> _solved = [];

    public CurveSolver(PlannedPlant plant, IReadOnlyList<Gain> gains, double[] v, CancellationToken cancellationToken)
    {
        (_plant, _cancellationToken) = (plant, cancellationToken);
        double[] x = Array.ConvertAll(v, y => -y);
        _h = new double[Steps * D];
        plant.Gradient(new double[_h.Length], x, _h);
        _free = new double[_h.Length];
        for (int k = 0; k < Steps; k++)
        {
            TensorPrimitives.Negate<double>(gains[k].Apply(x), Of(_free, k));
            x = plant.Push(k, x);
            TensorPrimitives.Add<double>(x, Of(_free, k), x);
        }

        _knee = 1 / Enumerable.Range(0, Steps).Max(k => TensorPrimitives.Norm<double>(Of(_free, k)));
        _lengths = [.. Enumerable.Range(0, Steps).Select(_ => new List<double[]>())];
    }

    // u_0 and du_0/dq of an error.
    private sealed record Node(double Q, double[] Mu, double[] Value, double[] Slope);

    private sealed record DualPoint(double[][] Factor, double[] X, double[] Lengths, double Value);

    private int Steps => _plant.Steps;

    private int D => _plant.Width;

    public InputCurve? Run()
    {
        if (TensorPrimitives.Norm<double>(Of(_free, 0)) == 0 || _knee > LargestKnee)
        {
            return null;
        }

        if (!double.IsNormal(_knee))
        {
            throw RiccatiException.Range("r", _plant.Weights.R, "larger: the input of an error of 1 is not finite");
        }

        // Each step has vectors of its own, so that all bounds can be met at once.
        foreach (double[] all in new[] { _free, _h })
        {
            for (int k = 0; k < Steps; k++)
            {
                double[] alone = new double[all.Length];
                Of(all, k).CopyTo(Of(alone, k));
                Enrich(alone);
            }
        }

        // At an infinite error, μ_j u_j = −κ h_j.
        double[] mu = [.. Enumerable.Range(0, Steps).Select(k => _knee * TensorPrimitives.Norm<double>(Of(_h, k)))];
        Node last = SolveAt(1, new double[Steps]), left = SolveAt(Infinite, mu);
        var nodes = new List<Node> { left };
        for (int i = 1; i <= 1 / Widest; i++)
        {
            double q = i * Widest;
            Refine(nodes, nodes[^1], q == 1 ? last : SolveAt(q, Between(left, last, q)));
        }

        return Compress(nodes);
    }

    // Appends the nodes in (left, right] that a cubic needs.
    private void Refine(List<Node> nodes, Node left, Node right)
    {
        double from = left.Q == Infinite ? 0 : left.Q, width = right.Q - from;
        Node Inside(double share)
        {
            double q = from + (share * width);
            return SolveAt(q, Between(left, right, q));
        }

        if (width > 2 * Narrowest && Array.Exists([0.5, 0.25, 0.75], share => Distance(Inside(share)) > Bent))
        {
            var middle = Inside(0.5);
            Refine(nodes, left, middle);
            Refine(nodes, middle, right);
            return;
        }

        nodes.Add(right);

        double Distance(Node node)
        {
            double t = (node.Q - from) / width, square = 0;
            for (int i = 0; i < D; i++)
            {
                double rise = right.Value[i] - left.Value[i], s0 = width * left.Slope[i], s1 = width * right.Slope[i];
                double cubic = left.Value[i] + (t * (s0 + (t * ((3 * rise) - (2 * s0) - s1 + (t * (s0 + s1 - (2 * rise)))))));
                square += (cubic - node.Value[i]) * (cubic - node.Value[i]);
            }

            return Math.Sqrt(square);
        }
    }

    private static double[] Between(Node left, Node right, double q)
    {
        double t = (q - left.Q) / (right.Q - left.Q);
        return [.. left.Mu.Zip(right.Mu, (a, b) => ((1 - t) * a) + (t * b))];
    }

    private Node SolveAt(double q, double[] mu)
    {
        if (_solved.TryGetValue(q, out var known))
        {
            return known;
        }

        while (true)
        {
            (mu, var factor, double[] x) = Maximise(q, mu);
            var (residual, distance) = Residual(q, mu, x);
            if (distance <= Proved)
            {
                return _solved[q] = new Node(q, mu, FirstInput(x), FirstInput(Slope(q, mu, factor, x)));
            }

            for (int k = 0; k < Steps; k++)
            {
                TensorPrimitives.Divide(Of(residual, k), (q * _plant.Weights.R) + mu[k], Of(residual, k));
            }

            if (!Enrich(residual))
            {
                throw RiccatiException.Range("r", _plant.Weights.R, $"larger: a bounded plan is proved to {distance:E1} of the bound only");
            }
        }
    }

    // The maximum of the dual ½ κ h'u − ½ Σ μ, u = −κ (q H + diag μ)^{-1} h, whose gradient is ½ (|u_j|² − 1). A step of the secular equation may go
    // too far; Newton's goes up if it is short.
    private (double[] Mu, double[][] Factor, double[] X) Maximise(double q, double[] mu)
    {
        var at = Dual(q, mu);
        for (int i = 0; i < MaxNewton; i++)
        {
            double[] lengths = at.Lengths;
            int[] free = [.. Enumerable.Range(0, Steps).Where(k => mu[k] > 0 || lengths[k] > 1)];
            if (lengths.Max() <= 1 + Converged && Array.TrueForAll(free, k => Math.Abs(lengths[k] - 1) <= Converged))
            {
                return (mu, at.Factor, at.X);
            }

            var next = Climb(k => lengths[k] * lengths[k] * (lengths[k] - 1), 0.1) ?? Climb(k => 0.5 * ((lengths[k] * lengths[k]) - 1), 1e-6);
            if (next is null)
            {
                break;
            }

            (mu, at) = next.Value;

            (double[] Mu, DualPoint At)? Climb(Func<int, double> right, double shortest)
            {
                double[] step = SolveFree(at.Factor, at.X, free, right, out _);
                for (double length = 1; length >= shortest; length /= 2)
                {
                    double[] tried = [.. mu];
                    for (int j = 0; j < free.Length; j++)
                    {
                        tried[free[j]] = Math.Max(0, mu[free[j]] + (length * step[j]));
                    }

                    var point = Dual(q, tried);
                    if (point.Value >= at.Value - (1e-13 * Math.Abs(at.Value)))
                    {
                        return (tried, point);
                    }
                }

                return null;
            }
        }

        throw RiccatiException.Range("r", _plant.Weights.R, $"larger: the multipliers of a bounded plan do not converge at {q:G3} of the knee");
    }

    private DualPoint Dual(double q, double[] mu)
    {
        _cancellationToken.ThrowIfCancellationRequested();
        int n = _basis.Count;
        double[][] factor = new double[n][];
        for (int i = 0; i < n; i++)
        {
            factor[i] = new double[i + 1];
            TensorPrimitives.Multiply<double>(_reduced[i], q, factor[i]);
            for (int k = 0; k < Steps; k++)
            {
                if (mu[k] > 0)
                {
                    TensorPrimitives.MultiplyAdd<double>(_lengths[k][i], mu[k], factor[i], factor[i]);
                }
            }
        }

        if (!SmallCholesky.Factor(factor))
        {
            throw RiccatiException.Range("r", _plant.Weights.R, "larger: the cost of a bounded plan is not positive definite in float64");
        }

        double[] x = [.. _right.Select(y => -_knee * y)];
        SmallCholesky.Solve(factor, x);
        double value = (0.5 * _knee * x.Zip(_right, (a, b) => a * b).Sum()) - (0.5 * mu.Sum());
        double[] lengths = [.. _lengths.Select(rows => Math.Sqrt(Math.Max(0, TensorPrimitives.Dot<double>(x, SmallCholesky.Multiply(rows, x)))))];
        return new DualPoint(factor, x, lengths, value);
    }

    // du/dq: (q H + diag μ) u' = −H u − Σ μ'_j u_j, with u_j·u'_j = 0 where the bound is met.
    private double[] Slope(double q, double[] mu, double[][] factor, double[] x)
    {
        double[] slope = Array.ConvertAll(SmallCholesky.Multiply(_reduced, x), y => -y);
        SmallCholesky.Solve(factor, slope);
        int[] met = [.. Enumerable.Range(0, Steps).Where(k =>
            mu[k] > 0 || (q == 1 && TensorPrimitives.Norm<double>(Of(_free, k)) * _knee >= 1 - 1e-12))];
        double[] change = SolveFree(
            factor, x, met, k => TensorPrimitives.Dot<double>(SmallCholesky.Multiply(_lengths[k], x), slope), out double[][] images);
        for (int j = 0; j < met.Length; j++)
        {
            TensorPrimitives.MultiplyAdd<double>(images[j], -change[j], slope, slope);
        }

        return slope;
    }

    // T^{-1} right, T_ij = u_i'[(q H + diag μ)^{-1}]_ij u_j over the free steps; and the inverse times each u_j.
    private double[] SolveFree(double[][] factor, double[] x, int[] free, Func<int, double> right, out double[][] images)
    {
        double[][] inputs = [.. free.Select(k => SmallCholesky.Multiply(_lengths[k], x))], inverse = [.. inputs.Select(input => input.ToArray())];
        foreach (double[] image in inverse)
        {
            SmallCholesky.Solve(factor, image);
        }

        images = inverse;
        double[][] t = [.. inputs.Select((input, i) => Enumerable.Range(0, i + 1)
            .Select(j => TensorPrimitives.Dot<double>(input, inverse[j])).ToArray())];
        double shift = 1e-13 * t.Select(row => row[^1]).DefaultIfEmpty().Max();
        foreach (double[] row in t)
        {
            row[^1] += shift;
        }

        double[] solution = [.. free.Select(right)];
        if (!SmallCholesky.Factor(t))
        {
            throw RiccatiException.Range("r", _plant.Weights.R, "larger: the multipliers of a bounded plan depend on one another");
        }

        SmallCholesky.Solve(t, solution);
        return solution;
    }

    // The residual ρ = q H u + κ h + μ u in full, and the distance of u_0 from the solution that it proves: with W = q r + μ/2, as the balls are
    // uniformly convex, |u − u*|² weighted by W is at most |ρ|² weighted by 1/W.
    private (double[] Residual, double Distance) Residual(double q, double[] mu, double[] x)
    {
        double[] u = new double[_h.Length], residual = new double[_h.Length];
        TensorPrimitives.Multiply<double>(_h, _knee, residual);
        for (int i = 0; i < x.Length; i++)
        {
            TensorPrimitives.MultiplyAdd<double>(_basis[i].Image, q * x[i], residual, residual);
            TensorPrimitives.MultiplyAdd<double>(_basis[i].Vector, x[i], u, u);
        }

        double sum = 0;
        for (int k = 0; k < Steps; k++)
        {
            TensorPrimitives.MultiplyAdd<double>(Of(u, k), mu[k], Of(residual, k), Of(residual, k));
            sum += TensorPrimitives.SumOfSquares<double>(Of(residual, k)) / ((q * _plant.Weights.R) + (mu[k] / 2));
        }

        return (residual, Math.Sqrt(sum / ((q * _plant.Weights.R) + (mu[0] / 2))));
    }

    private double[] FirstInput(double[] x)
    {
        double[] sum = new double[D];
        for (int i = 0; i < x.Length; i++)
        {
            TensorPrimitives.MultiplyAdd<double>(Of(_basis[i].Vector, 0), x[i], sum, sum);
        }

        return sum;
    }

    // Adds what a vector has outside the basis; false if that is rounding alone.
    private bool Enrich(double[] vector)
    {
        double[] rest = [.. vector];
        double length = TensorPrimitives.Norm<double>(rest);
        if (length == 0)
        {
            return false;
        }

        TensorPrimitives.Divide(rest, length, rest);
        if (!Orthonormalise(rest, [.. _basis.Select(one => one.Vector)]))
        {
            return false;
        }

        double[] image = new double[_h.Length];
        _plant.Gradient(rest, new double[D], image);
        _basis.Add((rest, image));
        _right.Add(TensorPrimitives.Dot<double>(rest, _h));
        _reduced.Add([.. _basis.Select(one => TensorPrimitives.Dot<double>(one.Vector, image))]);
        for (int k = 0; k < Steps; k++)
        {
            _lengths[k].Add([.. _basis.Select(one => TensorPrimitives.Dot<double>(Of(one.Vector, k), Of(rest, k)))]);
        }

        return true;
    }

    // Makes x orthogonal to orthonormal vectors, and of unit length; false if nothing but rounding is left.
    private static bool Orthonormalise(double[] x, IReadOnlyList<double[]> others)
    {
        for (int pass = 0; pass < 2; pass++)
        {
            foreach (double[] other in others)
            {
                TensorPrimitives.MultiplyAdd<double>(other, -TensorPrimitives.Dot<double>(other, x), x, x);
            }
        }

        double length = TensorPrimitives.Norm<double>(x);
        TensorPrimitives.Divide(x, length, x);
        return length > 1e-10;
    }

    // Splits u_0 = φ_0 w + Σ φ_j d_j: φ_0 along w; of the rest, the node that is farthest outside gives the next direction.
    private InputCurve Compress(List<Node> nodes)
    {
        double[] w = Of(_free, 0).ToArray();
        double square = TensorPrimitives.SumOfSquares<double>(w);
        double Share(double[] x) => TensorPrimitives.Dot<double>(x, w) / square;
        double[] Rest(double[] x)
        {
            double[] rest = [.. x];
            TensorPrimitives.MultiplyAdd<double>(w, -Share(x), rest, rest);
            return rest;
        }

        var directions = new List<double[]>();
        double[][] rests = [.. nodes.Select(node => Rest(node.Value))], outside = [.. rests.Select(rest => rest.ToArray())];
        while (outside.MaxBy(rest => TensorPrimitives.SumOfSquares<double>(rest))!.ToArray() is { } next
            && TensorPrimitives.Norm<double>(next) > LeftOut && Orthonormalise(next, directions))
        {
            directions.Add(next);
            foreach (double[] rest in outside)
            {
                TensorPrimitives.MultiplyAdd<double>(next, -TensorPrimitives.Dot<double>(next, rest), rest, rest);
            }
        }

        float knee = (float)_knee;
        float[] Row(Func<Node, double> of) => [.. nodes.Select(node => (float)of(node))];
        float[][] Rows(Func<Node, double[]> of) =>
            [Row(node => Share(of(node))), .. directions.Select(d => Row(node => TensorPrimitives.Dot<double>(d, Rest(of(node)))))];
        float[][] values = Rows(node => node.Value), slopes = Rows(node => node.Slope);

        // At the knee, u = κ w and no more.
        for (int j = 0; j < values.Length; j++)
        {
            values[j][^1] = j == 0 ? knee : 0;
        }

        return new InputCurve(
            Array.ConvertAll(w, x => (float)x), knee, [.. directions.Select(d => Array.ConvertAll(d, x => (float)x))],
            [0, .. nodes.Skip(1).Select(node => (float)node.Q)], values, slopes);
    }

    private Span<double> Of(double[] all, int k) => all.AsSpan(k * D, D);
}

/// <summary>
/// Cholesky factors of matrices that are too small for more than one thread: the rows of the lower triangle, each up to its diagonal.
/// </summary>
internal static class SmallCholesky
{
    /// <summary>M x of a symmetric M.</summary>
    public static double[] Multiply(IReadOnlyList<double[]> m, double[] x)
    {
        double[] product = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            product[i] += TensorPrimitives.Dot<double>(m[i], x.AsSpan(0, i + 1));
            TensorPrimitives.MultiplyAdd<double>(m[i].AsSpan(0, i), x[i], product.AsSpan(0, i), product.AsSpan(0, i));
        }

        return product;
    }

    /// <summary>Factors M = L L' in place; false if a pivot is not positive.</summary>
    public static bool Factor(double[][] m)
    {
        for (int i = 0; i < m.Length; i++)
        {
            double[] row = m[i];
            for (int j = 0; j < i; j++)
            {
                row[j] = (row[j] - TensorPrimitives.Dot<double>(row.AsSpan(0, j), m[j].AsSpan(0, j))) / m[j][j];
            }

            double pivot = row[i] - TensorPrimitives.SumOfSquares<double>(row.AsSpan(0, i));
            if (!(pivot > 0))
            {
                return false;
            }

            row[i] = Math.Sqrt(pivot);
        }

        return true;
    }

    /// <summary>Computes x = (L L')^{-1} x in place.</summary>
    public static void Solve(double[][] l, double[] x)
    {
        for (int i = 0; i < l.Length; i++)
        {
            x[i] = (x[i] - TensorPrimitives.Dot<double>(l[i].AsSpan(0, i), x.AsSpan(0, i))) / l[i][i];
        }

        for (int i = l.Length - 1; i >= 0; i--)
        {
            x[i] /= l[i][i];
            TensorPrimitives.MultiplyAdd<double>(l[i].AsSpan(0, i), -x[i], x.AsSpan(0, i), x.AsSpan(0, i));
        }
    }
}
