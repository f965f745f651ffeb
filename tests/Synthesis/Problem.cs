using MathNet.Numerics.LinearAlgebra;
using Tiller.Cpu;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>A random plant with its costs, and its optimal inputs from the KKT system of the whole horizon.</summary>
internal sealed class Problem
{
    public required Matrix<double>[] A { get; init; }

    public required QuadraticCost Cost { get; init; }

    public int L => A.Length;

    public int D => A[0].RowCount;

    public static Matrix<double> Gaussian(Random random, int rows, int columns, double scale = 1) =>
        Matrix<double>.Build.Dense(rows, columns, (_, _) => scale * Normal(random));

    public static double Normal(Random random) => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());

    public static Matrix<double> Orthogonal(Random random, int n) => Gaussian(random, n, n).QR().Q;

    public static Matrix<double>[] Plant(Random random, int layers, int width, double scale = 1) =>
        [.. Enumerable.Range(0, layers).Select(_ => Gaussian(random, width, width, scale / Math.Sqrt(width)))];

    public static Problem WithLowRankCost(int seed, int layers, int width, int rank, double r = 0.5)
    {
        var random = new Random(seed);
        var plant = Plant(random, layers, width);
        return new Problem { A = plant, Cost = new FactoredCost([.. Enumerable.Range(0, layers + 1).Select(_ => Gaussian(random, width, rank))], r) };
    }

    public static Problem WithFullCost(int seed, int layers, int width, double r = 0.5)
    {
        var random = new Random(seed);
        var plant = Plant(random, layers, width);
        return new Problem
        {
            A = plant,
            Cost = new MatrixCost([.. Enumerable.Range(0, layers + 1).Select(_ => Gaussian(random, width, width)).Select(c => c * c.Transpose())], r),
        };
    }

    public RiccatiSolution Dense() => DenseRiccati.Solve(L, k => A[k], Cost);

    public Matrix<double> Q(int k)
    {
        double[] q = new double[D * D];
        CpuOps.Shared.WithHost(q, D, view => Cost.AddTo(k, k == L, CpuOps.Shared, view));
        return Matrix<double>.Build.Dense(D, D, q);
    }

    /// <summary>The cost J of the inputs u from x0.</summary>
    public double Objective(Vector<double> x0, IReadOnlyList<Vector<double>> u)
    {
        double total = 0;
        var x = x0;
        for (int k = 0; k < L; k++)
        {
            total += x.DotProduct(Q(k) * x) + (Cost.R * u[k].DotProduct(u[k]));
            x = (A[k] * x) + u[k];
        }

        return total + x.DotProduct(Q(L) * x);
    }

    /// <summary>The inputs −K_k x_k along the closed loop from x0.</summary>
    public Vector<double>[] Rollout(RiccatiSolution solution, Vector<double> x0)
    {
        var u = new Vector<double>[L];
        var x = x0;
        for (int k = 0; k < L; k++)
        {
            u[k] = -Vector<double>.Build.DenseOfArray(solution.Gains[k].Apply(x.ToArray()));
            x = (A[k] * x) + u[k];
        }

        return u;
    }

    /// <summary>
    /// The inputs of the whole horizon at once, from the stationarity of the Lagrangian in all x_1..x_L, u_0..u_{L-1} and multipliers y:
    /// 2Q x_k − y_k + A_k' y_{k+1} = 0, 2r u_k + y_{k+1} = 0 (u_k = 0 without an input), x_{k+1} − A_k x_k − u_k = 0.
    /// </summary>
    public Vector<double>[] Kkt(Vector<double> x0)
    {
        int n = D, total = 3 * L * n;
        int X(int k) => (k - 1) * n;
        int U(int k) => (L + k) * n;
        int Y(int k) => ((2 * L) + k - 1) * n;
        var m = Matrix<double>.Build.Dense(total, total);
        var rhs = Vector<double>.Build.Dense(total);
        var one = Matrix<double>.Build.DenseIdentity(n);
        for (int k = 1; k <= L; k++)
        {
            m.SetSubMatrix(X(k), X(k), 2 * Q(k));
            m.SetSubMatrix(X(k), Y(k), -one);
            if (k < L)
            {
                m.SetSubMatrix(X(k), Y(k + 1), A[k].Transpose());
            }
        }

        for (int k = 0; k < L; k++)
        {
            m.SetSubMatrix(U(k), U(k), 2 * Cost.R * one);
            if (Cost.HasInput(k))
            {
                m.SetSubMatrix(U(k), Y(k + 1), one);
            }

            m.SetSubMatrix(Y(k + 1), X(k + 1), one);
            m.SetSubMatrix(Y(k + 1), U(k), -one);
            if (k > 0)
            {
                m.SetSubMatrix(Y(k + 1), X(k), -A[k]);
            }
        }

        rhs.SetSubVector(Y(1), n, A[0] * x0);
        var solution = m.LU().Solve(rhs);
        return [.. Enumerable.Range(0, L).Select(k => solution.SubVector(U(k), n))];
    }

    /// <summary>The matrices S_k of the gains from K_k on, by Joseph's form: x'S_k x is the cost to go from the state x at k.</summary>
    public Matrix<double>[] Values(RiccatiSolution solution)
    {
        var s = new Matrix<double>[L + 1];
        s[L] = Q(L);
        for (int k = L - 1; k >= 0; k--)
        {
            var gain = Matrix(solution.Gains[k]);
            var closed = A[k] - gain;
            s[k] = Q(k) + (Cost.R * gain.TransposeThisAndMultiply(gain)) + closed.TransposeThisAndMultiply(s[k + 1] * closed);
        }

        return s;
    }

    public static Matrix<double> Matrix(Gain gain) =>
        Matrix<double>.Build.DenseOfColumnArrays(Enumerable.Range(0, gain.Inputs).Select(j =>
        {
            double[] unit = new double[gain.Inputs];
            unit[j] = 1;
            return gain.Apply(unit);
        }));

    public static double Difference(Matrix<double> actual, Matrix<double> expected)
    {
        double scale = expected.FrobeniusNorm();
        return scale == 0 ? actual.FrobeniusNorm() : (actual - expected).FrobeniusNorm() / scale;
    }

    public static double Difference(RiccatiSolution actual, RiccatiSolution expected) =>
        actual.Gains.Zip(expected.Gains, (a, e) => Difference(Matrix(a), Matrix(e))).DefaultIfEmpty(0).Max();
}
