using MathNet.Numerics.LinearAlgebra;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>One sweep for many weights against a factored solve for each of them.</summary>
public sealed class WeightSweepTests
{
    private static readonly LqrWeights[] s_weights =
    [
        new(0.1, 1, 1), new(3, 0.2, 0), new(0, 5, 2), new(1e-4, 1e-3, 1e4), new(100, 1e4, 1e-6), new(1, 1e-6, 1),
    ];

    [TestCase(1, 8, 20, 1, null)]
    [TestCase(2, 12, 24, 2, null)]
    [TestCase(3, 20, 6, 1, null)]
    [TestCase(4, 3, 70, 5, null)]
    [TestCase(5, 9, 30, 1, "1-2,5-7")]
    [TestCase(6, 7, 1, 1, null)]
    public void Equals_the_factored_solve_of_each(int seed, int layers, int width, int count, string? inputs)
    {
        var random = new Random(seed);
        var a = Problem.Plant(random, layers, width);
        var v = Enumerable.Range(0, layers + 1).Select(_ => Problem.Gaussian(random, width, count)).ToArray();

        // A layer where nothing is steered has a direction of 0.
        v[layers / 2].Clear();
        LayerSet? steered = inputs is null ? null : LayerSet.TryParse(inputs, out var parsed) ? parsed : null;
        int pullbacks = 0;
        var swept = WeightSweep.Solve(layers, (k, b) => Pull(k, b, ref pullbacks), v, s_weights, steered);
        Assert.That(pullbacks, Is.EqualTo(layers), "of all weights together");
        foreach (var (weights, solution) in s_weights.Zip(swept))
        {
            var cost = new FactoredCost([.. v.Select((d, k) => Math.Sqrt(k == layers ? weights.Qf : weights.Q) * d)], weights.R) { Inputs = steered };
            var alone = FactoredRiccati.Solve(layers, (k, z) => a[k].TransposeThisAndMultiply(z), cost);
            Assert.That(Problem.Difference(solution, alone), Is.LessThan(1e-8), $"{weights}");
            Assert.That(solution.Report.Residual, Is.LessThan(1e-8), $"{weights}");
            Assert.That(solution.Gains.Select(g => g is ZeroGain), Is.EqualTo(alone.Gains.Select(g => g is ZeroGain)));
            foreach (var gain in solution.Gains)
            {
                double[] x = [.. Enumerable.Range(0, width).Select(_ => Problem.Normal(random))];
                var (left, right) = gain.Factors();
                var product = left * right.TransposeThisAndMultiply(Vector<double>.Build.DenseOfArray(x));
                Assert.That(product.ToArray(), Is.EqualTo(gain.Apply(x)).Within(1e-9));
            }
        }

        Matrix<double> Pull(int k, Matrix<double> b, ref int count)
        {
            count++;
            return a[k].TransposeThisAndMultiply(b);
        }
    }

    [Test]
    public void Shapes_that_disagree_and_numbers_that_are_none_are_refused()
    {
        var random = new Random(7);
        var v = Enumerable.Range(0, 4).Select(_ => Problem.Gaussian(random, 5, 1)).ToArray();
        Matrix<double> Pull(int k, Matrix<double> b) => b;
        Assert.That(() => WeightSweep.Solve(4, Pull, v, s_weights), Throws.InstanceOf<RiccatiException>());
        Assert.That(() => WeightSweep.Solve(3, (_, b) => b.RemoveColumn(0), v, s_weights), Throws.InstanceOf<RiccatiException>());
        Assert.That(() => WeightSweep.Solve(3, (_, b) => b * double.NaN, v, s_weights), Throws.InstanceOf<RiccatiException>());
        v[1] = Problem.Gaussian(random, 6, 1);
        Assert.That(() => WeightSweep.Solve(3, Pull, v, s_weights), Throws.InstanceOf<RiccatiException>());
        v[1] = Matrix<double>.Build.Dense(5, 1, double.PositiveInfinity);
        Assert.That(() => WeightSweep.Solve(3, Pull, v, s_weights), Throws.InstanceOf<RiccatiException>());
        Assert.That(WeightSweep.Solve(0, Pull, v[..1], s_weights).Select(s => s.Gains.Count), Is.All.Zero);
    }
}
