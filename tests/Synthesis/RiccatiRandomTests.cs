using MathNet.Numerics.LinearAlgebra;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>Random plants and weights over many decades, each solved and held against the stationarity of its own Lagrangian.</summary>
public sealed class RiccatiRandomTests
{
    private const int Count = 10_000;

    // docs/hostile-inputs.md §4, row 24.
    [Test]
    public void Ten_thousand_random_problems_satisfy_their_KKT_conditions()
    {
        int seed = Environment.TickCount;
        TestContext.Out.WriteLine($"seed {seed}");
        double worst = 0;
        var gate = new Lock();
        Parallel.For(0, Count, trial =>
        {
            var random = new Random(HashCode.Combine(seed, trial));
            Problem problem = Make(random, out bool singular, out string what);
            RiccatiSolution solution = singular ? Factored(problem) : problem.Dense();
            if (problem.L == 0)
            {
                Assert.That(solution.Gains, Is.Empty, what);
                return;
            }

            var x0 = Problem.Gaussian(random, problem.D, 1).Column(0);
            double residual = KktResidual(problem, problem.Rollout(solution, x0), x0);
            lock (gate)
            {
                worst = Math.Max(worst, residual);
            }

            Assert.That(residual, Is.LessThanOrEqualTo(1e-9), $"seed {seed}, trial {trial}: {what}");
        });
        TestContext.Out.WriteLine($"worst residual {worst:E1}");
    }

    // The far corner of the same: S + rI is singular in float64.
    [Test]
    public void Costs_of_low_rank_with_vanishing_prices_satisfy_theirs()
    {
        for (int trial = 0; trial < 300; trial++)
        {
            var random = new Random(trial);
            int n = random.Next(1, 12), layers = random.Next(1, 41);
            double q = Math.Pow(10, 5 + (3 * random.NextDouble())), r = Math.Pow(10, -8 + (3 * random.NextDouble()));
            var problem = new Problem
            {
                A = Problem.Plant(random, layers, n, 2 * random.NextDouble()),
                Cost = new FactoredCost([.. Enumerable.Range(0, layers + 1)
                    .Select(_ => Problem.Gaussian(random, n, random.Next(1, 3), Math.Sqrt(q / n)))], r),
            };
            var x0 = Problem.Gaussian(random, n, 1).Column(0);
            Assert.That(KktResidual(problem, problem.Rollout(Factored(problem), x0), x0), Is.LessThanOrEqualTo(1e-9),
                $"trial {trial}: n {n}, T {layers}, q {q:G3}, r {r:G3}");
        }
    }

    [Test]
    public void An_input_that_is_a_little_off_is_seen()
    {
        Problem problem = Problem.WithFullCost(1, 6, 5);
        var x0 = Problem.Gaussian(new Random(1), 5, 1).Column(0);
        Vector<double>[] u = problem.Rollout(problem.Dense(), x0);
        Assert.That(KktResidual(problem, u, x0), Is.LessThan(1e-14));
        u[3] *= 1 + 1e-6;
        Assert.That(KktResidual(problem, u, x0), Is.GreaterThan(1e-9));
    }

    private static RiccatiSolution Factored(Problem problem) =>
        FactoredRiccati.Solve(problem.L, (k, z) => problem.A[k].TransposeThisAndMultiply(z), (FactoredCost)problem.Cost);

    // n 1..32 and T 0..40, small ones more often; q, r log-uniform in 1e-8..1e8; |A| 0..2; Q singular three times in ten.
    private static Problem Make(Random random, out bool singular, out string what)
    {
        int n = 1 + (int)(32 * Math.Pow(random.NextDouble(), 2)), layers = (int)(41 * Math.Pow(random.NextDouble(), 1.5));
        double q = Math.Pow(10, (16 * random.NextDouble()) - 8), r = Math.Pow(10, (16 * random.NextDouble()) - 8), scale = 2 * random.NextDouble();
        singular = random.NextDouble() < 0.3;
        int rank = singular ? random.Next(1, 3) : n;
        what = $"n {n}, T {layers}, q {q:G3}, r {r:G3}, |A| {scale:G3}, rank of Q {Math.Min(rank, n)}";
        return new Problem
        {
            A = layers == 0 ? [] : Problem.Plant(random, layers, n, scale),
            Cost = singular
                ? new FactoredCost([.. Enumerable.Range(0, layers + 1).Select(_ => Problem.Gaussian(random, n, rank, Math.Sqrt(q / n)))], r)
                : new IsotropicCost(new LqrWeights(q, r, q)),
        };
    }

    // With y_{k+1} = −2r u_k and x_{k+1} = A_k x_k + u_k two of the three conditions hold by construction; what is left of
    // 2Q x_k − y_k + A_k'y_{k+1} = 0, relative to |M||(x, u, y)| with M the matrix of the system (the normwise backward error).
    private static double KktResidual(Problem problem, Vector<double>[] u, Vector<double> x0)
    {
        double r = problem.Cost.R;
        double worst = 0, matrix = Math.Max(1, 2 * r), unknowns = 0;
        Vector<double> x = x0;
        for (int k = 0; k < problem.L; k++)
        {
            Vector<double> y = -2 * r * u[k];
            x = (problem.A[k] * x) + u[k];
            Matrix<double> q = problem.Q(k + 1);
            Vector<double> left = (2 * q * x) - y;
            if (k + 1 < problem.L)
            {
                left -= 2 * r * problem.A[k + 1].TransposeThisAndMultiply(u[k + 1]);
            }

            worst = Math.Max(worst, left.L2Norm());
            matrix = Math.Max(matrix, Math.Max(2 * q.FrobeniusNorm(), problem.A[k].FrobeniusNorm()));
            unknowns = Math.Max(unknowns, Math.Max(x.L2Norm(), Math.Max(u[k].L2Norm(), y.L2Norm())));
        }

        return worst / (matrix * Math.Max(unknowns, x0.L2Norm()));
    }
}
