// The first input of a bounded plan from δx_0 = −e v, as a curve of the error e (docs/math.md §3). It is odd, and u(e; U) = U u(e/U; 1), so that one
// curve serves every bound. Up to the knee κ no bound is met and u = e w with w = K v. Beyond, with q = κ/|e|, half the gradient H u + e h of the
// cost and the multipliers m = μ/q,
//
//     (q H + diag μ) u = −κ h,     |u_j| ≤ 1,   μ_j ≥ 0,   μ_j (1 − |u_j|) = 0,
//
// which stays well posed down to q = 0, an infinite error. The inputs of all steps are sought in the span of a few vectors, to which the residual of
// the solution found there, times an inverse of a similar system (PlanInverse), is added until it proves that solution: a reduced basis, for all
// errors the same. μ is the maximum of the concave dual, by Newton's method with the active set of Bertsekas (SIAM J. Control Optim. 20 (1982)) and
// the secular equation of Hebden and Moré (Moré and Sorensen, SIAM J. Sci. Stat. Comput. 4 (1983)). Its derivative in q makes a cubic between nodes,
// which are halved until the cubic agrees with the solution.
using System.Numerics.Tensors;

namespace Tiller.Synthesis;

/// <summary>Solves for one curve.</summary>
internal sealed class CurveSolver
{
    // Shares of the tolerance: proof of a solution, distance of the cubic at the points where it is checked, and what is left out of the directions.
    private const double Proved = 0.4 * InputCurve.Tolerance, Bent = 0.3 * InputCurve.Tolerance, LeftOut = 0.2 * InputCurve.Tolerance;

    // The node of an infinite error is solved here; the first cells; the narrowest cell, which a kink is left in.
    private const double Infinite = 1.0 / (1 << 30), Widest = 1.0 / 8, Narrowest = 1.0 / (1 << 20);
    private const int MaxNewton = 200, MaxDirections = 500;
    private const double Converged = 1e-9;

    // No error of a state in float32 is as large.
    private const double LargestKnee = 1e30;

    private readonly PlannedPlant _plant;
    private readonly PlanInverses _inverses;
    private readonly int _first;
    private readonly Action _planned;
    private readonly CancellationToken _cancellationToken;
    private readonly double[] _free; // u of an error of 1 without bounds // (N D)
    private readonly double[] _h;
    private readonly double _knee;
    private readonly List<(double[] Vector, double[] Image)> _basis = []; // S and H S
    private readonly List<double[]> _reduced = []; // S'HS, the lower triangle's rows
    private readonly List<double[]>[] _lengths; // S_j'S_j of each step, the lower triangles' rows
    private readonly List<double> _right = []; // S'h
    private readonly Dictionary<double, Node> _solved = [];

    public CurveSolver(
        PlannedPlant plant, IReadOnlyList<Gain> gains, PlanInverses inverses, int first, double[] v, Action planned,
        CancellationToken cancellationToken)
    {
        (_plant, _inverses, _first, _planned, _cancellationToken) = (plant, inverses, first, planned, cancellationToken);
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

    // The plan of an error: u_0 and du_0/dq, and for each step μ, 1 − |u_k|², their derivatives in q, and whether its bound is met.
    private sealed record Node(
        double Q, double[] Value, double[] Slope, double[] Mu, double[] MuSlope, double[] Room, double[] RoomSlope, bool[] Met);

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
        Node left = SolveAt(Infinite, mu);
        Node[] ends = [SolveAt(1, new double[Steps])];
        for (int i = 1; i < 1 / Widest; i++)
        {
            double q = 1 - (i * Widest);
            ends = [SolveAt(q, Between(left, ends[0], q)), .. ends];
        }

        var nodes = new List<Node> { left };
        foreach (var right in ends)
        {
            Refine(nodes, nodes[^1], right);
        }

        return Compress(nodes);
    }

    // Appends the nodes in (left, right] that a cubic needs. Where a bound begins to be met, the curve has a kink.
    private void Refine(List<Node> nodes, Node left, Node right)
    {
        double from = left.Q == Infinite ? 0 : left.Q, width = right.Q - from;
        if (width <= Narrowest)
        {
            nodes.Add(right);
        }
        else if (!left.Met.SequenceEqual(right.Met))
        {
            var (before, behind) = Kink(left, right);
            if (before != left)
            {
                Refine(nodes, left, before);
            }

            nodes.Add(behind);
            if (behind != right)
            {
                Refine(nodes, behind, right);
            }
        }
        else
        {
            double q = from + (0.5 * width);
            var middle = SolveAt(q, Between(left, right, q));
            if (middle.Met.SequenceEqual(left.Met) && Distance() <= Bent)
            {
                nodes.Add(right);
                return;
            }

            Refine(nodes, left, middle);
            Refine(nodes, middle, right);

            // From the cubic of the whole cell to those of its halves. Where slopes differ by δ in the middle, it reaches h/2 · 4/27 · δ.
            double Distance()
            {
                double values = 0, slopes = 0;
                for (int i = 0; i < D; i++)
                {
                    double rise = right.Value[i] - left.Value[i], s0 = width * left.Slope[i], s1 = width * right.Slope[i];
                    double value = (0.5 * (left.Value[i] + right.Value[i])) + (0.125 * (s0 - s1)) - middle.Value[i];
                    double slope = (1.5 * rise) - (0.25 * (s0 + s1)) - (width * middle.Slope[i]);
                    values += value * value;
                    slopes += slope * slope;
                }

                return Math.Max(Math.Sqrt(values), 2.0 / 27 * Math.Sqrt(slopes));
            }
        }
    }

    // Two nodes no farther apart than the narrowest cell, one that meets the bounds that the left end meets, and one that does not. Newton's method
    // from both ends, for a multiplier or for what an input lacks to its bound; halves, where it does not get on.
    private (Node Before, Node Behind) Kink(Node left, Node right)
    {
        bool halve = false;
        while (right.Q - left.Q > Narrowest)
        {
            double width = right.Q - left.Q, at = halve ? double.NaN : Meeting(left, right);
            double q = at > left.Q + (0.25 * Narrowest) && at < right.Q - (0.25 * Narrowest) ? at : 0.5 * (left.Q + right.Q);
            var node = SolveAt(q, Between(left, right, q));
            (left, right) = node.Met.SequenceEqual(left.Met) ? (node, right) : (left, node);
            halve = right.Q - left.Q > 0.5 * width;
        }

        return (left, right);
    }

    // Where the first of the bounds that differ begins to be met, and a little beyond, seen from the nearer end.
    private static double Meeting(Node left, Node right)
    {
        const double Beyond = 0.3 * Narrowest;
        double first = double.NaN;
        for (int k = 0; k < left.Met.Length; k++)
        {
            if (left.Met[k] != right.Met[k])
            {
                double fromLeft = left.Q + Ahead(left, k), fromRight = right.Q + Ahead(right, k);
                double near = fromLeft - left.Q < right.Q - fromRight ? fromLeft + Beyond : fromRight - Beyond;
                if (near > left.Q && near < right.Q && !(near >= first))
                {
                    first = near;
                }
            }
        }

        return first;

        static double Ahead(Node node, int k) => node.Met[k] ? -node.Mu[k] / node.MuSlope[k] : -node.Room[k] / node.RoomSlope[k];
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

        for (int tried = 0; ; tried++)
        {
            (mu, var at) = Maximise(q, mu);
            var (residual, distance) = Residual(q, mu, at.X);
            _planned();
            if (distance <= Proved)
            {
                return _solved[q] = Solved(q, mu, at);
            }

            if (tried == MaxDirections || !Enrich(_inverses.Direction(_first, Array.ConvertAll(mu, x => x / q), residual, tried)))
            {
                throw RiccatiException.Range("r", _plant.Weights.R, $"larger: a bounded plan is proved to {distance:E1} of the bound only");
            }
        }
    }

    // The maximum of the dual ½ κ h'u − ½ Σ μ, u = −κ (q H + diag μ)^{-1} h, whose gradient is ½ (|u_j|² − 1). A step of the secular equation may go
    // too far; Newton's goes up if it is short.
    private (double[] Mu, DualPoint At) Maximise(double q, double[] mu)
    {
        var at = Dual(q, mu);
        for (int i = 0; i < MaxNewton; i++)
        {
            double[] lengths = at.Lengths;
            int[] free = [.. Enumerable.Range(0, Steps).Where(k => mu[k] > 0 || lengths[k] > 1)];
            if (lengths.Max() <= 1 + Converged && Array.TrueForAll(free, k => Math.Abs(lengths[k] - 1) <= Converged))
            {
                return (mu, at);
            }

            var next = Climb(k => lengths[k] * lengths[k] * (lengths[k] - 1), 0, 0.1);
            for (double damping = 0; next is null && damping < 1e6; damping = Math.Max(1e-3, 10 * damping))
            {
                next = Climb(k => 0.5 * ((lengths[k] * lengths[k]) - 1), damping, 0.01);
            }

            if (next is null)
            {
                break;
            }

            (mu, at) = next.Value;

            (double[] Mu, DualPoint At)? Climb(Func<int, double> right, double damping, double shortest)
            {
                double[] step = SolveFree(at.Factor, at.X, free, right, damping, out _);
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
        SquareProduct.Share(n, n * Steps / 2, (begin, count) =>
        {
            for (int i = begin; i < begin + count; i++)
            {
                double[] row = factor[i] = new double[i + 1];
                TensorPrimitives.Multiply<double>(_reduced[i], q, row);
                for (int k = 0; k < Steps; k++)
                {
                    if (mu[k] > 0)
                    {
                        TensorPrimitives.MultiplyAdd(_lengths[k][i], mu[k], row, row);
                    }
                }
            }
        });

        if (!SmallCholesky.Factor(factor))
        {
            throw RiccatiException.Range("r", _plant.Weights.R, "larger: the cost of a bounded plan is not positive definite in float64");
        }

        double[] x = [.. _right.Select(y => -_knee * y)];
        SmallCholesky.Solve(factor, x);
        double value = (0.5 * _knee * x.Zip(_right, (a, b) => a * b).Sum()) - (0.5 * mu.Sum());
        double[] lengths = new double[Steps];
        SquareProduct.Share(Steps, n * n, (begin, count) =>
        {
            for (int k = begin; k < begin + count; k++)
            {
                lengths[k] = Math.Sqrt(Math.Max(0, TensorPrimitives.Dot<double>(x, SmallCholesky.Multiply(_lengths[k], x))));
            }
        });
        return new DualPoint(factor, x, lengths, value);
    }

    // du/dq: (q H + diag μ) u' = −H u − Σ μ'_j u_j, with u_j·u'_j = 0 where the bound is met.
    private Node Solved(double q, double[] mu, DualPoint at)
    {
        double[] slope = Array.ConvertAll(SmallCholesky.Multiply(_reduced, at.X), y => -y);
        SmallCholesky.Solve(at.Factor, slope);
        bool[] isMet = [.. Enumerable.Range(0, Steps).Select(k =>
            mu[k] > 0 || (q == 1 && TensorPrimitives.Norm<double>(Of(_free, k)) * _knee >= 1 - 1e-12))];
        int[] met = [.. Enumerable.Range(0, Steps).Where(k => isMet[k])];
        double Turn(int k) => TensorPrimitives.Dot<double>(SmallCholesky.Multiply(_lengths[k], at.X), slope);
        double[] change = SolveFree(at.Factor, at.X, met, Turn, 0, out double[][] images);
        double[] muSlope = new double[Steps];
        for (int j = 0; j < met.Length; j++)
        {
            muSlope[met[j]] = change[j];
            TensorPrimitives.MultiplyAdd<double>(images[j], -change[j], slope, slope);
        }

        return new Node(
            q, FirstInput(at.X), FirstInput(slope), mu, muSlope, Array.ConvertAll(at.Lengths, length => 1 - (length * length)),
            [.. Enumerable.Range(0, Steps).Select(k => isMet[k] ? 0 : -2 * Turn(k))], isMet);
    }

    // T^{-1} right, T_ij = u_i'[(q H + diag μ)^{-1}]_ij u_j over the free steps, its diagonal longer by a share; and the inverse times each u_j.
    private double[] SolveFree(double[][] factor, double[] x, int[] free, Func<int, double> right, double damping, out double[][] images)
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
            row[^1] += shift + (damping * row[^1]);
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
        double[] residual = new double[_h.Length], squares = new double[Steps];
        SquareProduct.Share(Steps, 2 * D * x.Length, (begin, count) =>
        {
            double[] u = new double[D];
            for (int k = begin; k < begin + count; k++)
            {
                var rest = Of(residual, k);
                Array.Clear(u);
                TensorPrimitives.Multiply(Of(_h, k), _knee, rest);
                for (int i = 0; i < x.Length; i++)
                {
                    TensorPrimitives.MultiplyAdd(Of(_basis[i].Image, k), q * x[i], rest, rest);
                    TensorPrimitives.MultiplyAdd(Of(_basis[i].Vector, k), x[i], u, u);
                }

                TensorPrimitives.MultiplyAdd(u, mu[k], rest, rest);
                squares[k] = TensorPrimitives.SumOfSquares<double>(rest);
            }
        });
        double sum = squares.Select((square, k) => square / ((q * _plant.Weights.R) + (mu[k] / 2))).Sum();
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
        double[] reduced = new double[_basis.Count];
        double[][] lengths = [.. _lengths.Select(_ => new double[_basis.Count])];
        SquareProduct.Share(_basis.Count, 2 * rest.Length, (begin, count) =>
        {
            for (int i = begin; i < begin + count; i++)
            {
                reduced[i] = TensorPrimitives.Dot<double>(_basis[i].Vector, image);
                for (int k = 0; k < Steps; k++)
                {
                    lengths[k][i] = TensorPrimitives.Dot<double>(Of(_basis[i].Vector, k), Of(rest, k));
                }
            }
        });
        _reduced.Add(reduced);
        for (int k = 0; k < Steps; k++)
        {
            _lengths[k].Add(lengths[k]);
        }

        return true;
    }

    // Makes x orthogonal to orthonormal vectors, and of unit length; false if nothing but rounding is left.
    private static bool Orthonormalise(double[] x, IReadOnlyList<double[]> others)
    {
        double[] shares = new double[others.Count];
        for (int pass = 0; pass < 2; pass++)
        {
            SquareProduct.Share(others.Count, x.Length, (begin, count) =>
            {
                for (int i = begin; i < begin + count; i++)
                {
                    shares[i] = TensorPrimitives.Dot<double>(others[i], x);
                }
            });
            SquareProduct.Share(x.Length, others.Count, (begin, count) =>
            {
                var part = x.AsSpan(begin, count);
                for (int i = 0; i < shares.Length; i++)
                {
                    TensorPrimitives.MultiplyAdd(others[i].AsSpan(begin, count), -shares[i], part, part);
                }
            });
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
