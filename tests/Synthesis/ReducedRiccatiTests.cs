using MathNet.Numerics.LinearAlgebra;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

public sealed class ReducedRiccatiTests
{
    private static IReadOnlyList<Matrix<double>> Bases(Problem problem, int order, int samples, int seed = 1)
    {
        var random = new Random(seed);
        var features = Enumerable.Range(0, problem.L + 1).Select(_ => Problem.Gaussian(random, problem.D, 1)).ToArray();
        var activations = Enumerable.Range(0, problem.L + 1).Select(_ => Problem.Gaussian(random, problem.D, samples)).ToArray();
        return ReducedBasis.Build(order, features, k => activations[k], (k, w) => problem.A[k] * w, seed);
    }

    [TestCase(3)]
    [TestCase(10)]
    [TestCase(50)]
    public void FullOrderEqualsTheDenseGain(int samples)
    {
        var problem = Problem.WithFullCost(4, 6, 12);
        var solution = ReducedRiccati.Solve(Bases(problem, 12, samples), (k, w) => problem.A[k] * w, problem.Cost);
        Assert.That(Problem.Difference(solution, problem.Dense()), Is.LessThan(1e-9));
        Assert.That(solution.Report.Leakage, Is.LessThan(1e-13));
        Assert.That(solution.Report.Residual, Is.LessThan(1e-12));
    }

    [Test]
    public void FullOrderEqualsTheDenseGainOnTheGoldens([ValueSource(typeof(Repository), nameof(Repository.Goldens))] string folder)
    {
        var golden = new Golden(folder);
        var problem = new Problem { A = golden.Matrices("A_exact"), Cost = new IsotropicCost(golden.Weights) };
        var solution = ReducedRiccati.Solve(Bases(problem, problem.D, 20), (k, w) => problem.A[k] * w, problem.Cost);
        var dense = problem.Dense();
        for (int k = 0; k < problem.L; k++)
        {
            double[] v = Problem.Gaussian(new Random(k), problem.D, 1).Column(0).ToArray();
            var actual = Vector<double>.Build.DenseOfArray(solution.Gains[k].Apply(v));
            var expected = Vector<double>.Build.DenseOfArray(dense.Gains[k].Apply(v));
            Assert.That((actual - expected).L2Norm() / expected.L2Norm(), Is.LessThan(1e-9));
        }
    }

    [Test]
    public void ABasisThatHoldsThePlantIsExactInIt()
    {
        // A maps span(W) into span(W), the cost lives there: the reduced gain is the dense one.
        var random = new Random(5);
        const int width = 20, order = 4, layers = 7;
        var w = Problem.Orthogonal(random, width).SubMatrix(0, width, 0, order);
        var a = Enumerable.Range(0, layers).Select(_ => w * Problem.Gaussian(random, order, order) * w.Transpose()).ToArray();
        var cost = new FactoredCost([.. Enumerable.Range(0, layers + 1).Select(_ => w * Problem.Gaussian(random, order, 2))], 0.3);
        var problem = new Problem { A = a, Cost = cost };
        var solution = ReducedRiccati.Solve([.. Enumerable.Repeat(w, layers + 1)], (k, x) => a[k] * x, cost);
        Assert.That(Problem.Difference(solution, problem.Dense()), Is.LessThan(1e-9));
        Assert.That(solution.Report.Rank, Is.EqualTo(order));
    }

    [Test]
    public void ASmallOrderReportsItsLeakage()
    {
        var problem = Problem.WithFullCost(4, 6, 12);
        var solution = ReducedRiccati.Solve(Bases(problem, 3, 50), (k, w) => problem.A[k] * w, problem.Cost);
        Assert.That(solution.Report.Leakage, Is.InRange(0.1, 1.0));
    }

    [TestCase(5, 3)]
    [TestCase(5, 40)]
    [TestCase(16, 200)]
    [TestCase(30, 4)]
    public void BasesAreOrthonormalAndHoldTheFeature(int order, int samples)
    {
        var random = new Random(order);
        const int width = 60;
        var feature = Problem.Gaussian(random, width, 2);
        var x = Problem.Gaussian(random, width, samples);
        var push = Problem.Gaussian(random, width, width);
        var bases = ReducedBasis.Build(order, [feature, feature], _ => x, (_, w) => push * w);
        foreach (var w in bases)
        {
            Assert.That(w.ColumnCount, Is.EqualTo(order));
            Assert.That((w.TransposeThisAndMultiply(w) - Matrix<double>.Build.DenseIdentity(order)).FrobeniusNorm(), Is.LessThan(1e-12));
            Assert.That(Problem.Difference(w * w.TransposeThisAndMultiply(feature), feature), Is.LessThan(1e-12));
        }
    }

    [TestCase(30)]
    [TestCase(400)]
    public void ActivationsGiveTheirLeadingDirectionsAroundTheMean(int samples)
    {
        var random = new Random(samples);
        const int width = 80;
        var directions = Problem.Orthogonal(random, width);
        var scales = Vector<double>.Build.Dense(width, i => i < 3 ? 10.0 : 0.01);
        var offset = Problem.Gaussian(random, width, 1, 1000);
        var x = directions * Matrix<double>.Build.DenseOfDiagonalVector(scales) * Problem.Gaussian(random, width, samples);
        var shifted = Matrix<double>.Build.Dense(width, samples, (i, j) => x[i, j] + offset[i, 0]);
        var w = ReducedBasis.Build(4, [Problem.Gaussian(random, width, 1)], _ => shifted)[0];
        var leading = directions.SubMatrix(0, width, 0, 3);
        Assert.That(Problem.Difference(w * w.TransposeThisAndMultiply(leading), leading), Is.LessThan(0.01));
    }

    [Test]
    public void TangentsFillWhatActivationsLeave()
    {
        var problem = Problem.WithFullCost(4, 2, 12);
        var constant = Matrix<double>.Build.Dense(12, 3, 1.0);
        var features = Enumerable.Range(0, 3).Select(k => Problem.Gaussian(new Random(k), 12, 1)).ToArray();
        var bases = ReducedBasis.Build(4, features, _ => constant, (k, w) => problem.A[k] * w);
        var pushed = problem.A[0] * bases[0].SubMatrix(0, 12, 0, 3);
        Assert.That(Problem.Difference(bases[1] * bases[1].TransposeThisAndMultiply(pushed), pushed), Is.LessThan(1e-12));
    }

    [Test]
    public void TheSameSeedGivesTheSameBytes()
    {
        var problem = Problem.WithFullCost(4, 3, 12);
        var one = Bases(problem, 5, 3)[2].ToColumnMajorArray();
        var two = Bases(problem, 5, 3)[2].ToColumnMajorArray();
        Assert.That(one, Is.EqualTo(two));
    }

    [TestCase(0)]
    [TestCase(13)]
    public void AnOrderThatDoesNotFitIsRefused(int order)
    {
        var problem = Problem.WithFullCost(4, 2, 12);
        var e = Assert.Throws<RiccatiException>(() => Bases(problem, order, 4));
        Assert.That(e!.Fault, Is.EqualTo(RiccatiFault.Shape));
    }
}
