using MathNet.Numerics.LinearAlgebra;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>H∞ gains: known answers, limits, and what no gain can do better.</summary>
public sealed class HInfinityRiccatiTests
{
    [Test]
    public void The_scalar_case_has_its_least_gamma_in_closed_form()
    {
        var plant = Scalar(a: 0.8, b: 0.6, d: 0.4, q: 0.1, r: 1, qf: 1.2);
        double star = Math.Sqrt(0.4 * 0.4 * 1.2);
        Assert.That(HInfinityRiccati.LeastGamma(plant), Is.EqualTo(star).Within(1e-12));
        Assert.That(HInfinityRiccati.TrySolve(plant, star * 0.999999), Is.Null);
        Assert.That(HInfinityRiccati.TrySolve(plant, star * 1.000001), Is.Not.Null);
    }

    [Test]
    public void A_large_gamma_gives_the_lqr([Range(1, 5)] int seed)
    {
        var random = new Random(seed);
        var a = Problem.Plant(random, 6, 5);
        var weights = new LqrWeights(0.3, 0.7, 2);
        var lqr = DenseRiccati.Solve(a.Length, k => a[k], new IsotropicCost(weights));
        var robust = HInfinityRiccati.TrySolve(DisturbedPlant.Isotropic(a, weights), 1e7)!;
        for (int k = 0; k < a.Length; k++)
        {
            Assert.That(Problem.Difference(robust[k], ((DenseGain)lqr.Gains[k]).K), Is.LessThan(1e-10), $"layer {k}");
        }
    }

    [Test]
    public void The_worst_disturbance_gains_no_more_than_gamma_and_the_lqr_does_no_better([Range(1, 5)] int seed)
    {
        // The largest singular value of the closed loop as one map from all disturbances to all that is charged for.
        var random = new Random(seed);
        var a = Problem.Plant(random, 4, 3, 1.2);
        var weights = new LqrWeights(0.5, 1.5, 1);
        var plant = DisturbedPlant.Isotropic(a, weights);
        double star = HInfinityRiccati.LeastGamma(plant), gamma = HInfinityRiccati.Margin * star;
        double robust = WorstGain(a, HInfinityRiccati.TrySolve(plant, gamma)!, weights);
        var lqr = DenseRiccati.Solve(a.Length, k => a[k], new IsotropicCost(weights)).Gains;
        Assert.That(robust, Is.InRange(star * (1 - 1e-9), gamma));
        Assert.That(WorstGain(a, [.. lqr.Select(gain => ((DenseGain)gain).K)], weights), Is.GreaterThanOrEqualTo(star * (1 - 1e-9)));
    }

    [TestCase(1e-8, 0)]
    [TestCase(1e-8, 1)]
    [TestCase(1, 0.1)]
    [TestCase(1e8, 1)]
    public void No_digits_are_lost_where_effort_is_cheap(double r, double q)
    {
        // A diagonal plant is as many scalar ones, which have a form without a difference: S ← q + r K A.
        double[] diagonal = [0.3, 1.1, -2, 0.7];
        var a = Enumerable.Repeat(Matrix<double>.Build.DenseOfDiagonalArray(diagonal), 5).ToArray();
        const double Gamma = 200;
        var gains = HInfinityRiccati.TrySolve(DisturbedPlant.Isotropic(a, new LqrWeights(q, r, 1)), Gamma)!;
        for (int i = 0; i < diagonal.Length; i++)
        {
            double s = 1;
            for (int k = a.Length - 1; k >= 0; k--)
            {
                double game = Gamma * Gamma * s / ((Gamma * Gamma) - s), gain = game * diagonal[i] / (r + game);
                Assert.That(gains[k][i, i], Is.EqualTo(gain).Within(1e-12 * Math.Abs(gain)), $"entry {i}, layer {k}");
                s = q + (r * gain * diagonal[i]);
            }
        }
    }

    [Test]
    public void What_cannot_be_asked_is_refused()
    {
        var plant = Scalar(1, 1, 1, 1, 1, 1);
        Assert.That(() => HInfinityRiccati.TrySolve(plant, 0), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => HInfinityRiccati.TrySolve(plant, double.NaN), Throws.InstanceOf<ArgumentOutOfRangeException>());
        Assert.That(() => HInfinityRiccati.TrySolve(Scalar(1, 1, 1, 1, -1, 1), 5), Throws.InstanceOf<RiccatiException>());
        Assert.That(HInfinityRiccati.LeastGamma(Scalar(1, 1, 1, 0, 1, 0)), Is.Zero, "nothing is charged for");
    }

    private static DisturbedPlant Scalar(double a, double b, double d, double q, double r, double qf)
    {
        Matrix<double> One(double x) => Matrix<double>.Build.Dense(1, 1, x);
        return new DisturbedPlant([One(a)], [One(b)], [One(d)], [One(q), One(qf)], [One(r)]);
    }

    private static double WorstGain(Matrix<double>[] a, IReadOnlyList<Matrix<double>> gains, LqrWeights weights)
    {
        int n = a[0].RowCount, steps = a.Length;
        var all = Matrix<double>.Build.Dense(((2 * steps) + 1) * n, steps * n);
        for (int source = 0; source < steps; source++)
        {
            // A disturbance of step j enters δx_{j+1} and runs on by the closed loop.
            var state = Matrix<double>.Build.DenseIdentity(n);
            for (int k = source + 1; k <= steps; k++)
            {
                all.SetSubMatrix(2 * k * n, source * n, Math.Sqrt(k == steps ? weights.Qf : weights.Q) * state);
                if (k < steps)
                {
                    all.SetSubMatrix(((2 * k) + 1) * n, source * n, Math.Sqrt(weights.R) * gains[k] * state);
                    state = (a[k] - gains[k]) * state;
                }
            }
        }

        return all.Svd(computeVectors: false).S.Maximum();
    }
}
