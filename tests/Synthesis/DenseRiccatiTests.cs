using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

public sealed class DenseRiccatiTests
{
    [Test]
    public void GainsEqualTheGoldens([ValueSource(typeof(Repository), nameof(Repository.Goldens))] string folder)
    {
        var golden = new Golden(folder);
        var a = golden.Matrices("A");
        var exact = golden.Matrices("gain_exact");
        var published = golden.Matrices("gain");
        var solution = DenseRiccati.Solve(a.Length, k => a[k], new IsotropicCost(golden.Weights));
        for (int k = 0; k < a.Length; k++)
        {
            var gain = ((DenseGain)solution.Gains[k]).K;
            Assert.That(Problem.Difference(gain, exact[k]), Is.LessThan(1e-9), $"layer {k}, float64");
            Assert.That(Problem.Difference(gain, published[k]), Is.LessThan(1e-5), $"layer {k}, published");
        }

        Assert.That(solution.Report.Residual, Is.LessThan(1e-12));
        Assert.That(solution.Report.SymmetryError, Is.LessThan(1e-14));
        Assert.That(solution.Report.Rank, Is.EqualTo(a[0].RowCount));
    }

    [TestCase(1, 6, 4)]
    [TestCase(2, 1, 9)]
    [TestCase(3, 12, 5)]
    public void InputsEqualTheKktSystemOfTheWholeHorizon(int seed, int layers, int width)
    {
        var problem = Problem.WithFullCost(seed, layers, width);
        var x0 = Problem.Gaussian(new Random(seed), width, 1).Column(0);
        var u = problem.Rollout(problem.Dense(), x0);
        var kkt = problem.Kkt(x0);
        double scale = kkt.Max(x => x.L2Norm());
        for (int k = 0; k < layers; k++)
        {
            Assert.That((u[k] - kkt[k]).L2Norm() / scale, Is.LessThan(1e-9), $"layer {k}");
        }
    }

    [Test]
    public void ACheaperInputDoesNotExist()
    {
        var problem = Problem.WithFullCost(7, 8, 6);
        var random = new Random(8);
        var x0 = Problem.Gaussian(random, 6, 1).Column(0);
        var solution = problem.Dense();
        var u = problem.Rollout(solution, x0);
        double best = problem.Objective(x0, u);
        double predicted = x0.DotProduct(problem.Values(solution)[0] * x0);
        Assert.That(best, Is.EqualTo(predicted).Within(1e-10 * predicted));
        for (int trial = 0; trial < 20; trial++)
        {
            var other = u.Select(x => x + Problem.Gaussian(random, 6, 1, 0.01).Column(0)).ToArray();
            Assert.That(problem.Objective(x0, other), Is.GreaterThan(best));
        }
    }

    [Test]
    public void StreamedGainsComeLastLayerFirstAndAskForEachJacobianOnce()
    {
        var problem = Problem.WithFullCost(5, 5, 4);
        var asked = new List<int>();
        var came = new List<int>();
        DenseRiccati.Stream(
            5,
            k =>
            {
                asked.Add(k);
                return problem.A[k];
            },
            problem.Cost,
            (k, _) => came.Add(k));
        Assert.That(asked, Is.EqualTo(new[] { 4, 3, 2, 1, 0 }));
        Assert.That(came, Is.EqualTo(asked));
    }

    [Test]
    public void TheReportCoversEveryLayer()
    {
        var report = Problem.WithFullCost(6, 3, 5).Dense().Report;
        Assert.That(report.Steps.Select(s => s.Layer), Is.EqualTo(new[] { 0, 1, 2 }));
        Assert.That(report.Steps.Select(s => s.Residual), Is.All.LessThan(1e-13).And.All.GreaterThan(0));
        Assert.That(report.Steps.Select(s => s.Condition), Is.All.GreaterThan(1));
    }

    [Test]
    public void CancelsBetweenLayers()
    {
        var problem = Problem.WithFullCost(5, 5, 4);
        using var source = new CancellationTokenSource();
        int asked = 0;
        Assert.Throws<OperationCanceledException>(() => DenseRiccati.Solve(
            5,
            k =>
            {
                asked++;
                source.Cancel();
                return problem.A[k];
            },
            problem.Cost,
            source.Token));
        Assert.That(asked, Is.EqualTo(1));
    }

    [Test]
    public void AGainRefusesAVectorOfAnotherWidth()
    {
        var gain = Problem.WithFullCost(5, 1, 4).Dense().Gains[0];
        Assert.Throws<ArgumentException>(() => gain.Apply(new double[3]));
    }
}
