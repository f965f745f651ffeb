using MathNet.Numerics.LinearAlgebra;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>Plants from the literature and from rounding, with B = I; the numbers are rows of docs/hostile-inputs.md §4.</summary>
public sealed class RiccatiPlantsTests
{
    private static Problem Isotropic(Matrix<double>[] a, double q, double r, double qf) => new()
    {
        A = a,
        Cost = new IsotropicCost(new LqrWeights(q, r, qf)),
    };

    private static double Least(Matrix<double> symmetric) => symmetric.Evd(Symmetricity.Symmetric).EigenValues.Min(x => x.Real);

    // The residual bounds are SciPy's for these plants, divided by ten.
    [TestCase(12, 1, 2e-3)]
    [TestCase(13, 1e6, 2e-5)]
    [TestCase(14, 0.25, 1.5e-7)]
    public void Row10_plants_of_darex(int example, double r, double bound)
    {
        Matrix<double> a = example switch
        {
            12 => Matrix<double>.Build.DenseOfRowMajor(2, 2, [0.0, 1e6, 0, 0]),
            13 => Matrix<double>.Build.DenseOfRowMajor(3, 3, [16.0, 10, -2, 10, 13, -8, -2, -8, 7]) / 9,
            _ => Matrix<double>.Build.DenseOfRowMajor(4, 4, [1 - 1e-8, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]),
        };
        int n = a.RowCount;
        Matrix<double> q = example switch
        {
            13 => 1e6 * Matrix<double>.Build.DenseIdentity(n),
            14 => Matrix<double>.Build.DenseOfDiagonalArray([0.0, 0, 0, 1]),
            _ => Matrix<double>.Build.DenseIdentity(n),
        };
        const int Long = 400;
        var problem = new Problem { A = [.. Enumerable.Repeat(a, Long)], Cost = new MatrixCost([.. Enumerable.Repeat(q, Long + 1)], r) };
        var s = problem.Values(problem.Dense())[0];
        var sa = s * a;
        var again = q + a.TransposeThisAndMultiply(sa) - sa.TransposeThisAndMultiply((s + (r * Matrix<double>.Build.DenseIdentity(n))).Cholesky()
            .Solve(sa));
        Assert.That((again - s).FrobeniusNorm() / Math.Max(1, s.FrobeniusNorm()), Is.LessThan(Math.Min(bound, 1e-8)));
        Assert.That(Least(s), Is.GreaterThanOrEqualTo(-1e-12 * s.FrobeniusNorm()));
    }

    [Test]
    public void Row12_scaling_the_features_by_a_power_of_two_keeps_every_bit()
    {
        const double Scale = 4096;
        var problem = Problem.WithLowRankCost(12, 6, 9, 2);
        var c = ((FactoredCost)problem.Cost).C;
        var scaled = new Problem { A = problem.A, Cost = new FactoredCost([.. c.Select(x => Scale * x)], problem.Cost.R * Scale * Scale) };
        foreach (Func<Problem, RiccatiSolution> solve in (Func<Problem, RiccatiSolution>[])[p => p.Dense(),
            p => FactoredRiccati.Solve(p.L, (k, z) => p.A[k].TransposeThisAndMultiply(z), (FactoredCost)p.Cost)])
        {
            foreach (var (one, other) in solve(problem).Gains.Zip(solve(scaled).Gains))
            {
                Assert.That(Problem.Matrix(other).ToColumnMajorArray(), Is.EqualTo(Problem.Matrix(one).ToColumnMajorArray()));
            }
        }
    }

    [TestCase(1e-20f, false)]
    [TestCase(float.Epsilon, false)]
    [TestCase(1e-5f, true)]
    [TestCase(1e20f, true)]
    [TestCase(1e38f, true)]
    public void Row12_features_of_any_length_give_unit_directions_or_none(float size, bool steers)
    {
        var feature = Feature.FromDifference([[3 * size, -size], [size, size / 2]]);
        for (int k = 0; k < 2; k++)
        {
            double length = Math.Sqrt(feature.V[k].Sum(x => (double)x * x));
            Assert.That(length, steers ? Is.EqualTo(1).Within(1e-6) : Is.Zero);
            Assert.That(float.IsFinite(feature.Mu[k]) && (feature.Mu[k] > 0) == steers);
        }
    }

    [Test]
    public void Row13_the_opposite_strength_gives_the_opposite_setpoint()
    {
        var problem = Problem.WithFullCost(13, 4, 6);
        var random = new Random(13);
        var feature =
            Feature.FromDifference([.. Enumerable.Range(0, 5).Select(_ => Problem.Gaussian(random, 6, 1).Column(0).Select(x => (float)x).ToArray())]);
        var method = LinearQuadratic.FromGains(feature, problem.Dense().Gains);
        foreach (double lambda in new[] { 0.5, 1.5, 1e30 })
        {
            Assert.That(method.Compile(-lambda).Sensors.Select(s => s.Beta), Is.EqualTo(method.Compile(lambda).Sensors.Select(s => -s.Beta)));
            Assert.That(method.Compile(lambda).Sensors.Select(s => s.Beta), Is.All.Matches<float>(float.IsFinite));
        }
    }

    // Layers 1, 2 and 4 of six are not steered: x passes through them as it is.
    [Test]
    public void Row20_a_subset_of_layers_is_the_problem_with_multiplied_plants()
    {
        var a = Problem.Plant(new Random(20), 6, 5);
        int[] steered = [0, 3, 5];
        const double r = 0.7, qf = 2;

        // x_1 = A_0 x_0 + u_0;  x_4 = A_3 (A_2 A_1 x_1) + u_3;  x_6 = A_5 (A_4 x_4) + u_5.
        var multiplied = Isotropic([a[0], a[3] * a[2] * a[1], a[5] * a[4]], 0, r, qf);
        var x0 = Problem.Gaussian(new Random(21), 5, 1).Column(0);
        Vector<double>[] u = multiplied.Rollout(multiplied.Dense(), x0);

        // min q_f |A x_0 + Φu|² + r|u|² over the steered inputs alone: (q_f Φ'Φ + rI) u = −q_f Φ'A x_0.
        Matrix<double> After(int k) => Enumerable.Range(k + 1, 5 - k).Aggregate(Matrix<double>.Build.DenseIdentity(5), (m, j) => a[j] * m);
        Matrix<double> phi = steered.Select(After).Aggregate((left, right) => left.Append(right));
        Vector<double> best = ((qf * phi.TransposeThisAndMultiply(phi)) + (r * Matrix<double>.Build.DenseIdentity(15))).Cholesky()
            .Solve(-qf * phi.TransposeThisAndMultiply(After(0) * a[0] * x0));
        for (int i = 0; i < 3; i++)
        {
            Assert.That((u[i] - best.SubVector(5 * i, 5)).L2Norm(), Is.LessThan(1e-10 * best.L2Norm()), $"layer {steered[i]}");
        }
    }

    private static IEnumerable<TestCaseData> Gaps()
    {
        foreach (string inputs in new[] { "0-0,3-3,5-5", "1-2,5-6", "0-1,3-6", "2-2", "0-6" })
        {
            Assert.That(LayerSet.TryParse(inputs, out var layers));
            yield return new TestCaseData(layers).SetArgDisplayNames(inputs);
        }
    }

    [TestCaseSource(nameof(Gaps))]
    public void Row20_layers_without_an_input_are_the_minimum_over_the_other_inputs_in_every_form(LayerSet inputs)
    {
        const int layers = 7, width = 6;
        var given = (FactoredCost)Problem.WithLowRankCost(31, layers, width, 2).Cost;
        var problem = new Problem { A = Problem.Plant(new Random(30), layers, width), Cost = new FactoredCost(given.C, given.R) { Inputs = inputs } };
        var dense = problem.Dense();
        var x0 = Problem.Gaussian(new Random(32), width, 1).Column(0);
        Vector<double>[] u = problem.Rollout(dense, x0), best = problem.Kkt(x0);
        for (int k = 0; k < layers; k++)
        {
            Assert.That((u[k] - best[k]).L2Norm(), Is.LessThan(1e-9 * best.Max(b => b.L2Norm())), $"layer {k}");
            Assert.That(u[k].L2Norm() > 0, Is.EqualTo(inputs.Contains(k)), $"layer {k}");
        }

        double cost = problem.Objective(x0, u), predicted = x0.DotProduct(problem.Values(dense)[0] * x0);
        Assert.That(cost, Is.EqualTo(predicted).Within(1e-10 * predicted));

        var factored = FactoredRiccati.Solve(layers, (k, z) => problem.A[k].TransposeThisAndMultiply(z), (FactoredCost)problem.Cost);
        var squeezed = FactoredRiccati.Solve(layers, (k, z) => problem.A[k].TransposeThisAndMultiply(z), (FactoredCost)problem.Cost, maxRank: width);
        var whole = Enumerable.Repeat(Matrix<double>.Build.DenseIdentity(width), layers + 1).ToArray();
        var reduced = ReducedRiccati.Solve(whole, (k, w) => problem.A[k] * w, problem.Cost);
        foreach (var solution in new[] { dense, factored, squeezed, reduced })
        {
            Assert.That(Problem.Difference(solution, dense), Is.LessThan(1e-9));
            Assert.That(solution.Report.Residual, Is.LessThan(1e-12));
            Assert.That(solution.Gains.Select(gain => gain is ZeroGain), Is.EqualTo(Enumerable.Range(0, layers).Select(k => !inputs.Contains(k))));
        }
    }

    [Test]
    public void Row20_the_solver_finds_the_subset_by_itself()
    {
        var a = Problem.Plant(new Random(20), 6, 5);
        int[] steered = [0, 3, 5];
        const double r = 0.7, qf = 2;
        var multiplied = Isotropic([a[0], a[3] * a[2] * a[1], a[5] * a[4]], 0, r, qf);
        var x0 = Problem.Gaussian(new Random(21), 5, 1).Column(0);
        Vector<double>[] expected = multiplied.Rollout(multiplied.Dense(), x0);

        var inputs = new LayerSet(new LayerRange(0, 0), new LayerRange(3, 3), new LayerRange(5, 5));
        var problem = new Problem { A = a, Cost = new IsotropicCost(new LqrWeights(0, r, qf)) { Inputs = inputs } };
        Vector<double>[] u = problem.Rollout(problem.Dense(), x0);
        for (int i = 0; i < steered.Length; i++)
        {
            Assert.That((u[steered[i]] - expected[i]).L2Norm(), Is.LessThan(1e-10 * expected[i].L2Norm()), $"layer {steered[i]}");
        }
    }

    [Test]
    public void Row21_jacobians_rounded_to_bf16_with_one_percent_of_noise()
    {
        var random = new Random(21);
        var exact = Problem.Plant(random, 12, 10);
        Matrix<double>[] rough = [.. exact.Select(m => m.Map(x => Rounded(x * (1 + (0.01 * Problem.Normal(random))))))];
        var problem = Isotropic(rough, 0.3, 1, 1);
        var solution = problem.Dense();
        var s = problem.Values(solution);
        Assert.That(solution.Report.Residual, Is.LessThan(1e-12));
        Assert.That(s.Min(Least), Is.GreaterThan(-1e-12 * s[0].FrobeniusNorm()));
        var x0 = Problem.Gaussian(random, 10, 1).Column(0);
        double predicted = x0.DotProduct(s[0] * x0);
        Assert.That(problem.Objective(x0, problem.Rollout(solution, x0)), Is.EqualTo(predicted).Within(1e-10 * predicted));
        double change = Problem.Difference(solution, Isotropic(exact, 0.3, 1, 1).Dense());
        TestContext.Out.WriteLine($"gains change by {change:P1}");
        Assert.That(change, Is.InRange(1e-3, 0.1));
    }

    private static double Rounded(double value)
        => BitConverter.UInt32BitsToSingle((BitConverter.SingleToUInt32Bits((float)value) + 0x8000) & 0xFFFF0000);
}
