using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

public sealed class FactoredRiccatiTests
{
    private static RiccatiSolution Solve(Problem problem, int maxRank = int.MaxValue, double tolerance = 1e-12) =>
        FactoredRiccati.Solve(problem.L, (k, z) => problem.A[k].TransposeThisAndMultiply(z), (FactoredCost)problem.Cost, maxRank, tolerance);

    [TestCase(1, 8, 20, 1)]
    [TestCase(2, 12, 24, 2)]
    [TestCase(3, 20, 6, 1)]
    [TestCase(4, 3, 70, 5)]
    public void EqualsTheDenseGain(int seed, int layers, int width, int rank)
    {
        var problem = Problem.WithLowRankCost(seed, layers, width, rank);
        var solution = Solve(problem);
        Assert.That(Problem.Difference(solution, problem.Dense()), Is.LessThan(1e-9));
        Assert.That(solution.Report.Residual, Is.LessThan(1e-12));
        Assert.That(solution.Report.Steps.Select(s => s.Rank), Is.EqualTo(Enumerable.Range(0, layers).Select(k => rank * (layers - k))));
    }

    [Test]
    public void EqualsTheDenseGainOnTheGoldensWithAFeatureCost([ValueSource(typeof(Repository), nameof(Repository.Goldens))] string folder)
    {
        var golden = new Golden(folder);
        var a = golden.Matrices("A_exact");
        var cost = FactoredCost.OfFeatures(golden.Weights, Feature.FromDifference(golden.Rows("feature")),
            Feature.FromDifference(golden.Rows("feature_alt")));
        var problem = new Problem { A = a, Cost = cost };
        Assert.That(Problem.Difference(Solve(problem), problem.Dense()), Is.LessThan(1e-9));
    }

    [Test]
    public void CompressionOfASurplusRankLosesNothing()
    {
        // 20 layers in 6 dimensions: Z has 20 columns of rank 6.
        var problem = Problem.WithLowRankCost(3, 20, 6, 1);
        var solution = Solve(problem, maxRank: 6);
        Assert.That(Problem.Difference(solution, problem.Dense()), Is.LessThan(1e-9));
        Assert.That(solution.Report.Rank, Is.EqualTo(6));
        Assert.That(solution.Report.DroppedEnergy, Is.LessThan(1e-14));
    }

    [Test]
    public void ALooseToleranceReportsWhatItDropped()
    {
        var problem = Problem.WithLowRankCost(9, 12, 30, 1);
        var solution = Solve(problem, maxRank: 4, tolerance: 0.3);
        var dense = problem.Dense();
        Assert.That(solution.Report.Rank, Is.LessThan(12));
        Assert.That(solution.Report.DroppedEnergy, Is.InRange(1e-4, 0.5));
        Assert.That(Problem.Difference(solution, dense), Is.InRange(1e-6, 0.9));
        Assert.That(solution.Report.Residual, Is.GreaterThan(1e-6), "the residual of S_k includes what was dropped");
    }

    [Test]
    public void SIsPositiveSemidefiniteAndBelowTheOpenLoopCost()
    {
        var problem = Problem.WithLowRankCost(11, 6, 8, 1);
        var s = problem.Values(Solve(problem));
        for (int k = 0; k < 6; k++)
        {
            var gap = problem.Q(k) + problem.A[k].TransposeThisAndMultiply(s[k + 1] * problem.A[k]) - s[k];
            Assert.That(s[k].Evd(Symmetricity.Symmetric).EigenValues.Min(x => x.Real), Is.GreaterThan(-1e-12 * s[k].FrobeniusNorm()));
            Assert.That(gap.Evd(Symmetricity.Symmetric).EigenValues.Min(x => x.Real), Is.GreaterThan(-1e-12 * s[k].FrobeniusNorm()));
        }
    }

    // docs/hostile-inputs.md §4, row 11: parallel directions, directions 1e-9 apart, more layers than dimensions, A = I.
    [Test]
    public void ParallelAndNearlyParallelDirectionsAreExact([Values(0, 1e-9)] double apart)
    {
        var random = new Random(12);
        const int width = 7, layers = 15;
        var v = Problem.Gaussian(random, width, 1);
        var problem = new Problem
        {
            A = [.. Enumerable.Repeat(Matrix<double>.Build.DenseIdentity(width), layers)],
            Cost = new FactoredCost([.. Enumerable.Range(0, layers + 1).Select(_ => v + (apart * Problem.Gaussian(random, width, 1)))], 0.1),
        };
        var dense = problem.Dense();
        Assert.That(Problem.Difference(Solve(problem), dense), Is.LessThan(1e-10));
        var compressed = Solve(problem, maxRank: 1);
        Assert.That(Problem.Difference(compressed, dense), Is.LessThan(1e-10));
        Assert.That(compressed.Report.Rank, apart == 0 ? Is.EqualTo(1) : Is.InRange(2, width));
    }

    [Test]
    public void RefusesABadCompressionAndWrongShapes()
    {
        var problem = Problem.WithLowRankCost(1, 3, 4, 1);
        Assert.Throws<ArgumentOutOfRangeException>(() => Solve(problem, maxRank: 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => Solve(problem, tolerance: double.NaN));
        var e = Assert.Throws<RiccatiException>(() => FactoredRiccati.Solve(3, (_, _) => Matrix<double>.Build.Dense(4, 9),
            (FactoredCost)problem.Cost));
        Assert.That((e!.Fault, e.Layer), Is.EqualTo((RiccatiFault.Shape, (int?)2)));
        e = Assert.Throws<RiccatiException>(() => FactoredRiccati.Solve(2, (_, z) => z, (FactoredCost)problem.Cost));
        Assert.That(e!.Fault, Is.EqualTo(RiccatiFault.Shape));
    }
}
