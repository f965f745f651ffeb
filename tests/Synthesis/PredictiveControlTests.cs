using MathNet.Numerics.LinearAlgebra;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>Plans with a bound on each input: the LQR without it, and the conditions of the minimum with it.</summary>
public sealed class PredictiveControlTests
{
    private static readonly LqrWeights s_weights = new(0.4, 0.6, 1.5);

    [Test]
    public void A_plan_without_a_bound_is_the_lqr([Range(1, 5)] int seed)
    {
        var random = new Random(seed);
        var a = Problem.Plant(random, 5, 7);
        double[] start = Problem.Gaussian(random, 7, 1).Column(0).ToArray();
        var plan = PredictiveControl.Plan(a, s_weights, start, double.PositiveInfinity);
        var gains = DenseRiccati.Solve(a.Length, k => a[k], new IsotropicCost(s_weights)).Gains;
        var x = Vector<double>.Build.DenseOfArray(start);
        for (int k = 0; k < a.Length; k++)
        {
            var u = -Vector<double>.Build.DenseOfArray(gains[k].Apply(x.ToArray()));
            Assert.That(plan.Inputs[k], Is.EqualTo(u.ToArray()).Within(1e-11 * x.L2Norm()), $"step {k}");
            x = (a[k] * x) + u;
        }

        Assert.That(plan.Multipliers, Is.All.Zero);
    }

    [Test]
    public void A_bounded_plan_meets_its_bound_and_is_the_lqr_of_the_prices_it_found([Range(1, 5)] int seed)
    {
        var random = new Random(seed);
        var a = Problem.Plant(random, 5, 6, 1.2);
        double[] start = Problem.Gaussian(random, 6, 1).Column(0).ToArray();
        var free = PredictiveControl.Plan(a, s_weights, start, double.PositiveInfinity);
        double bound = 0.9 * free.Inputs.Max(Length);
        var plan = PredictiveControl.Plan(a, s_weights, start, bound);
        Assert.That(plan.Inputs.Select(Length), Has.All.LessThanOrEqualTo(bound * (1 + 1e-12)).And.Some.EqualTo(bound).Within(1e-12 * bound));
        Assert.That(plan.Multipliers, Has.All.Not.Negative.And.Some.Positive.And.Some.Zero);
        Assert.That(plan.Cost, Is.GreaterThan(free.Cost));

        // The minimum with |u_k| ≤ U is that without, with r + multiplier in place of r: backward S, forward u.
        int n = a.Length;
        var s = s_weights.Qf * Matrix<double>.Build.DenseIdentity(6);
        var gains = new Matrix<double>[n];
        for (int k = n - 1; k >= 0; k--)
        {
            var price = (s_weights.R + plan.Multipliers[k]) * Matrix<double>.Build.DenseIdentity(6);
            gains[k] = (s + price).Solve(s * a[k]);
            s = (s_weights.Q * Matrix<double>.Build.DenseIdentity(6)) + (a[k].Transpose() * s * (a[k] - gains[k]));
        }

        var x = Vector<double>.Build.DenseOfArray(start);
        for (int k = 0; k < n; k++)
        {
            var u = -(gains[k] * x);
            Assert.That(plan.Inputs[k], Is.EqualTo(u.ToArray()).Within(1e-9), $"step {k}");
            x = (a[k] * x) + u;
        }
    }

    [Test]
    public void What_cannot_be_planned_is_refused()
    {
        var a = Problem.Plant(new Random(1), 2, 3);
        Assert.Throws<ArgumentException>(() => PredictiveControl.Plan([], s_weights, [1, 2, 3], 1));
        Assert.Throws<ArgumentException>(() => PredictiveControl.Plan(a, s_weights, [1, 2], 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => PredictiveControl.Plan(a, s_weights, [1, 2, 3], 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => PredictiveControl.Plan(a, s_weights, [1, 2, 3], double.NaN));
        Assert.Throws<OperationCanceledException>(() => PredictiveControl.Plan(a, s_weights, [1, 2, 3], 1, new CancellationToken(canceled: true)));
        Assert.That(PredictiveControl.Plan(a, s_weights, [0, 0, 0], 1).Inputs.SelectMany(u => u), Is.All.Zero);
    }

    private static double Length(double[] x) => Math.Sqrt(x.Sum(y => y * y));
}
