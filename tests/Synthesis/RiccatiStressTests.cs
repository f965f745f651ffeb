using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>Awkward plants and weights, all with B = I.</summary>
public sealed class RiccatiStressTests
{
    private static readonly double[] Grid = [1e-12, 1e-9, 1e-6, 1e-3, 1, 1e3, 1e6, 1e9, 1e12];

    private static RiccatiSolution Factored(Problem problem, int maxRank = int.MaxValue) =>
        FactoredRiccati.Solve(problem.L, (k, z) => problem.A[k].TransposeThisAndMultiply(z), (FactoredCost)problem.Cost, maxRank);

    private static Problem Isotropic(Matrix<double>[] a, double q, double r, double qf) => new()
    {
        A = a,
        Cost = new IsotropicCost(new LqrWeights(q, r, qf)),
    };

    private static double Least(Matrix<double> symmetric) => symmetric.Evd(Symmetricity.Symmetric).EigenValues.Min(x => x.Real);

    /// <summary>0 ≤ S_k ≤ Q_k + A'S_{k+1}A, |(rI+S)^{-1}S| &lt; 1 so |K| ≤ |A|, and the report's residuals.</summary>
    private static void Invariants(Problem problem, RiccatiSolution solution, string what)
    {
        var s = problem.Values(solution);
        Assert.That(solution.Report.Residual, Is.LessThan(1e-9), what);

        // Rounding of the solve enters K, and with it A'K, by the condition of S + rI.
        Assert.That(solution.Report.SymmetryError, Is.LessThan(8 * Math.Max(problem.D, 4) * 2.3e-16 * Math.Sqrt(solution.Report.Condition)), what);
        for (int k = 0; k < problem.L; k++)
        {
            double scale = 1e-12 * Math.Max(s[k].FrobeniusNorm(), double.Epsilon);
            var open = problem.Q(k) + problem.A[k].TransposeThisAndMultiply(s[k + 1] * problem.A[k]);
            Assert.That(Least(s[k]), Is.GreaterThanOrEqualTo(-scale), what);
            Assert.That(Least(open - s[k]), Is.GreaterThanOrEqualTo(-1e-12 * Math.Max(open.FrobeniusNorm(), double.Epsilon)), what);
            var gain = Problem.Matrix(solution.Gains[k]);
            Assert.That(gain.L2Norm(), Is.LessThanOrEqualTo(problem.A[k].L2Norm() * (1 + 1e-9)), what);
        }
    }

    // Row 1.
    [Test]
    public void AZeroFeatureGivesExactlyZero()
    {
        var random = new Random(1);
        var a = Problem.Plant(random, 5, 6);
        var feature = Feature.FromDifference([.. Enumerable.Range(0, 6).Select(_ => new float[6])]);
        var problem = new Problem { A = a, Cost = FactoredCost.OfFeatures(new LqrWeights(1, 1, 1), feature) };
        foreach (var solution in new[] { problem.Dense(), Factored(problem) })
        {
            Assert.That(solution.Gains.SelectMany(g => Problem.Matrix(g).Enumerate()), Is.All.EqualTo(0));
        }
    }

    // Row 2.
    [Test]
    public void OnlyTheTerminalLayerWeighted()
    {
        var random = new Random(2);
        var a = Problem.Plant(random, 6, 5);
        Invariants(Isotropic(a, 0, 1, 1), Isotropic(a, 0, 1, 1).Dense(), "q = 0");
        var none = Isotropic(a, 0, 1, 0);
        Assert.That(none.Dense().Gains.SelectMany(g => Problem.Matrix(g).Enumerate()), Is.All.EqualTo(0));
        var c = Enumerable.Range(0, 7).Select(k => k % 2 == 0 ? Matrix<double>.Build.Dense(5, 1) : Problem.Gaussian(random, 5, 1)).ToArray();
        var some = new Problem { A = a, Cost = new FactoredCost(c, 1) };
        Invariants(some, some.Dense(), "every second layer");
        Assert.That(Problem.Difference(Factored(some), some.Dense()), Is.LessThan(1e-10));
    }

    // Row 3.
    [Test]
    public void WeightsOverTwentyFourDecades([ValueSource(nameof(Grid))] double q, [ValueSource(nameof(Grid))] double r)
    {
        var problem = Isotropic(Problem.Plant(new Random(3), 6, 8), q, r, q);
        var solution = problem.Dense();
        Invariants(problem, solution, $"q {q}, r {r}");
        var x0 = Problem.Gaussian(new Random(4), 8, 1).Column(0);
        double best = x0.DotProduct(problem.Values(solution)[0] * x0);
        var u = problem.Rollout(solution, x0);
        Assert.That(problem.Objective(x0, u), Is.EqualTo(best).Within(1e-10 * best));
        Assert.That(best, Is.LessThanOrEqualTo(problem.Objective(x0, [.. u.Select(_ => Vector<double>.Build.Dense(8))]) * (1 + 1e-12)));
    }

    // Row 4.
    [Test]
    public void CheapAndExpensiveControlReachTheirLimits()
    {
        var random = new Random(5);
        var a = Problem.Plant(random, 1, 6);
        var z = Problem.Gaussian(random, 6, 1);
        var projector = z * z.Transpose() / Math.Pow(z.FrobeniusNorm(), 2);

        // r → 0: K → z z'A/|z|²; z'(A − K) = 0, so one step closes the error.
        var cheap = new Problem { A = a, Cost = new FactoredCost([0 * z, z], 1e-9) };
        Assert.That(Problem.Difference(Problem.Matrix(Factored(cheap).Gains[0]), projector * a[0]), Is.LessThan(1e-6));
        Assert.That(Problem.Difference(Problem.Matrix(cheap.Dense().Gains[0]), projector * a[0]), Is.LessThan(1e-6));

        // r → ∞: r K → P A.
        var expensive = new Problem { A = a, Cost = new FactoredCost([0 * z, z], 1e9) };
        Assert.That(Problem.Difference(1e9 * Problem.Matrix(Factored(expensive).Gains[0]), z * z.Transpose() * a[0]), Is.LessThan(1e-6));
    }

    // Row 5.
    [TestCase(1, 0, 1)]
    [TestCase(1, -1, 1)]
    [TestCase(-1, 1, 1)]
    [TestCase(1, 1, -1e-300)]
    [TestCase(double.NaN, 1, 1)]
    [TestCase(1, double.NaN, 1)]
    [TestCase(1, 1, double.NaN)]
    [TestCase(double.PositiveInfinity, 1, 1)]
    [TestCase(1, double.PositiveInfinity, 1)]
    [TestCase(1, 1, double.NegativeInfinity)]
    public void WeightsOutOfRangeAreRefused(double q, double r, double qf)
    {
        var e = Assert.Throws<RiccatiException>(() => _ = new LqrWeights(q, r, qf));
        Assert.That(e!.Fault, Is.EqualTo(RiccatiFault.Range));
        Assert.That(e.Message, Does.Contain("must be"));
    }

    [TestCase(0)]
    [TestCase(-1)]
    [TestCase(double.NaN)]
    public void APriceOutOfRangeIsRefusedByEveryCost(double r)
    {
        var one = Matrix<double>.Build.DenseIdentity(2);
        Assert.That(Assert.Throws<RiccatiException>(() => _ = new MatrixCost([one], r))!.Fault, Is.EqualTo(RiccatiFault.Range));
        Assert.That(Assert.Throws<RiccatiException>(() => _ = new FactoredCost([one], r))!.Fault, Is.EqualTo(RiccatiFault.Range));
    }

    // Row 6.
    [TestCase(0, 0, 0, double.NaN)]
    [TestCase(2, 3, 1, double.PositiveInfinity)]
    [TestCase(4, 1, 4, double.NegativeInfinity)]
    public void ANonFiniteEntryIsNamed(int layer, int row, int column, double value)
    {
        var a = Problem.Plant(new Random(6), 5, 5);
        a[layer][row, column] = value;
        void Named(Action solve)
        {
            var e = Assert.Throws<RiccatiException>(solve);
            Assert.That((e!.Fault, e.Layer, e.Row, e.Column), Is.EqualTo((RiccatiFault.NonFinite, (int?)layer, (int?)row, (int?)column)));
        }

        Named(() => Isotropic(a, 1, 1, 1).Dense());
        var c = Enumerable.Range(0, 6).Select(_ => Matrix<double>.Build.Dense(5, 5, 1.0)).ToArray();
        c[layer][row, column] = value;
        Named(() => _ = new FactoredCost(c, 1));
        Named(() => _ = new MatrixCost(c, 1));
    }

    [Test]
    public void ANonFinitePullbackIsNamed()
    {
        var cost = new FactoredCost([.. Enumerable.Range(0, 4).Select(_ => Matrix<double>.Build.Dense(3, 1, 1.0))], 1);
        var e = Assert.Throws<RiccatiException>(() => FactoredRiccati.Solve(3, (k, z) => k == 1 ? z * double.NaN : z, cost));
        Assert.That((e!.Fault, e.Layer), Is.EqualTo((RiccatiFault.NonFinite, (int?)1)));
        var basis = Matrix<double>.Build.DenseIdentity(3);
        e = Assert.Throws<RiccatiException>(() => ReducedRiccati.Solve([basis, basis, basis], (k, w) => k == 0 ? w * double.NaN : w, cost));
        Assert.That((e!.Fault, e.Layer), Is.EqualTo((RiccatiFault.NonFinite, (int?)0)));
    }

    // Row 7.
    [Test]
    public void AnAsymmetricOrIndefiniteCostIsRefused()
    {
        var good = Matrix<double>.Build.DenseIdentity(4);
        var skew = good.Clone();
        skew[2, 1] = 1e-9;
        var e = Assert.Throws<RiccatiException>(() => _ = new MatrixCost([good, skew], 1));
        Assert.That((e!.Fault, e.Layer, e.Row, e.Column), Is.EqualTo((RiccatiFault.NotSymmetric, (int?)1, (int?)2, (int?)1)));
        var indefinite = good.Clone();
        indefinite[3, 3] = -1e-6;
        e = Assert.Throws<RiccatiException>(() => _ = new MatrixCost([good, good, indefinite], 1));
        Assert.That((e!.Fault, e.Layer), Is.EqualTo((RiccatiFault.NotPositiveDefinite, (int?)2)));
        skew[2, 1] = 1e-12;
        Assert.That(() => new MatrixCost([skew, 0 * good], 1), Throws.Nothing);
    }

    // Row 8.
    [TestCase("zero")]
    [TestCase("identity")]
    [TestCase("minus identity")]
    [TestCase("nilpotent shift")]
    [TestCase("singular")]
    public void SpecialPlants(string kind)
    {
        int n = kind == "nilpotent shift" ? 100 : 9;
        var one = Matrix<double>.Build.DenseIdentity(n);
        var a = kind switch
        {
            "zero" => 0 * one,
            "identity" => one,
            "minus identity" => -one,
            "nilpotent shift" => Matrix<double>.Build.Dense(n, n, (i, j) => j == i + 1 ? 1 : 0),
            _ => Problem.Gaussian(new Random(8), n, 3) * Problem.Gaussian(new Random(9), 3, n),
        };
        var problem = Isotropic([.. Enumerable.Repeat(a, 5)], 1, 1, 1);
        Invariants(problem, problem.Dense(), kind);
        var v = Problem.Gaussian(new Random(7), n, 1);
        var feature = new Problem { A = problem.A, Cost = new FactoredCost([.. Enumerable.Repeat(v / v.FrobeniusNorm(), 6)], 0.5) };
        Invariants(feature, feature.Dense(), kind);
        Assert.That(Problem.Difference(Factored(feature), feature.Dense()), Is.LessThan(1e-10));
    }

    // Row 9.
    [Test]
    public void AGrowingPlantOverAWholeHorizon()
    {
        var random = new Random(10);
        var a = Enumerable.Range(0, 80).Select(_ => 1.5 * Problem.Orthogonal(random, 6)).ToArray();
        Invariants(Isotropic(a, 1e-3, 1, 1), Isotropic(a, 1e-3, 1, 1).Dense(), "growth 1.5^80");
        var large = Problem.Plant(random, 10, 6, 1e3);
        Invariants(Isotropic(large, 1, 1, 1), Isotropic(large, 1, 1, 1).Dense(), "|A| = 1e3");
        var feature = new Problem { A = a, Cost = new FactoredCost([.. Enumerable.Range(0, 81).Select(_ => Problem.Gaussian(random, 6, 1))], 1) };
        Assert.That(Problem.Difference(Factored(feature, maxRank: 6), feature.Dense()), Is.LessThan(1e-10));
    }

    // Rows 12 and I9: powers of two only move exponents.
    [Test]
    public void ScalingTheCostByAPowerOfTwoKeepsEveryBit()
    {
        var random = new Random(12);
        var a = Problem.Plant(random, 6, 9);
        var one = Isotropic(a, 0.3, 0.7, 0.2).Dense();
        double two = Math.Pow(2, 20);
        var scaled = Isotropic(a, 0.3 * two, 0.7 * two, 0.2 * two).Dense();
        for (int k = 0; k < 6; k++)
        {
            Assert.That(((DenseGain)scaled.Gains[k]).K.ToColumnMajorArray(), Is.EqualTo(((DenseGain)one.Gains[k]).K.ToColumnMajorArray()));
        }
    }

    // Row 14.
    [Test]
    public void NoLayersGiveNoGains()
    {
        var solution = DenseRiccati.Solve(0, _ => throw new InvalidOperationException("no layer to ask for"),
            new IsotropicCost(new LqrWeights(1, 1, 1)));
        Assert.That(solution.Gains, Is.Empty);
        Assert.That(solution.Report.Residual, Is.Zero);
        Assert.That(FactoredRiccati.Solve(0, (_, z) => z, new FactoredCost([Matrix<double>.Build.Dense(3, 1)], 1)).Gains, Is.Empty);
    }

    [TestCase(1)]
    [TestCase(200)]
    public void OneDimensionHasAClosedForm(int layers)
    {
        // s = q + a² s r / (r + s),  K = a s / (r + s)
        double[] a = [.. Enumerable.Range(0, layers).Select(k => 0.5 + (k % 7))];
        const double q = 0.3, r = 1.7;
        var problem = Isotropic([.. a.Select(x => Matrix<double>.Build.Dense(1, 1, x))], q, r, 0.9);
        var solution = problem.Dense();
        double s = 0.9;
        for (int k = layers - 1; k >= 0; k--)
        {
            double gain = a[k] * s / (r + s);
            Assert.That(solution.Gains[k].Apply([1.0])[0], Is.EqualTo(gain).Within(1e-14 * gain));
            s = q + (a[k] * a[k] * s * r / (r + s));
        }
    }

    [Test]
    public void TwoDimensionsByHand()
    {
        // S = I, r = 1, A = [1 2; 3 4]: K = A/2, S_0 = 0 + A'A/2.
        var a = Matrix<double>.Build.DenseOfRowMajor(2, 2, [1.0, 2, 3, 4]);
        var two = Isotropic([a, a], 0, 1, 1).Dense();
        Assert.That(Problem.Difference(Problem.Matrix(two.Gains[1]), 0.5 * a), Is.LessThan(1e-14));

        // S_1 = [5 7; 7 10]; S_1 + I = [6 7; 7 11], determinant 17; K_0 = (S_1 + I)^{-1} S_1 A = (I − [11 -7; -7 6]/17) A.
        var expected = Matrix<double>.Build.DenseOfRowMajor(2, 2, [6.0, 7, 7, 11]) / 17 * a;
        Assert.That(Problem.Difference(Problem.Matrix(two.Gains[0]), expected), Is.LessThan(1e-14));
    }

    // Row 16.
    [Test]
    public void ALongHorizonConvergesToTheAlgebraicSolutionAndStaysThere()
    {
        var a = Problem.Plant(new Random(16), 1, 7, 1.2)[0];
        var problem = Isotropic([.. Enumerable.Repeat(a, 200)], 1, 2, 0);
        var s = problem.Values(problem.Dense())[0];

        // S = Q + A'SA − A'S (S + rI)^{-1} SA
        var one = Matrix<double>.Build.DenseIdentity(7);
        var sa = s * a;
        var dare = one + a.TransposeThisAndMultiply(sa) - sa.TransposeThisAndMultiply((s + (2 * one)).Cholesky().Solve(sa));
        Assert.That(Problem.Difference(dare, s), Is.LessThan(1e-8));
        var start = 0.5 * (s + s.Transpose());
        var again = new Problem { A = [a], Cost = new MatrixCost([one, start], 2) };
        Assert.That(Problem.Difference(again.Values(again.Dense())[0], s), Is.LessThan(1e-12));
    }

    // Row 18.
    [Test]
    public void AChangeOfBasisAndAPermutation()
    {
        var random = new Random(18);
        var problem = Problem.WithLowRankCost(18, 6, 8, 2);
        var dense = problem.Dense();
        var permutation = Matrix<double>.Build.Dense(8, 8, (i, j) => j == (5 * i) % 8 ? 1 : 0);
        foreach (var (basis, bound) in new[] { (Problem.Orthogonal(random, 8), 1e-12), (permutation, 1e-13) })
        {
            var c = ((FactoredCost)problem.Cost).C.Select(x => basis * x).ToArray();
            var other = new Problem
            {
                A = [.. problem.A.Select(x => basis * x * basis.Transpose())],
                Cost = new FactoredCost(c, problem.Cost.R),
            }.Dense();
            for (int k = 0; k < 6; k++)
            {
                Assert.That(Problem.Difference(Problem.Matrix(other.Gains[k]), basis * Problem.Matrix(dense.Gains[k]) * basis.Transpose()),
                    Is.LessThan(bound));
            }
        }
    }

    // Row 19.
    [Test]
    public void ASplitHorizonEqualsTheWhole()
    {
        var problem = Isotropic(Problem.Plant(new Random(19), 10, 6), 0.4, 1.3, 2);
        var whole = problem.Dense();
        var values = problem.Values(whole);
        var one = 0.4 * Matrix<double>.Build.DenseIdentity(6);
        var middle = 0.5 * (values[4] + values[4].Transpose());
        var first = DenseRiccati.Solve(4, k => problem.A[k], new MatrixCost([one, one, one, one, middle], 1.3));
        for (int k = 0; k < 4; k++)
        {
            Assert.That(Problem.Difference(Problem.Matrix(first.Gains[k]), Problem.Matrix(whole.Gains[k])), Is.LessThan(1e-12));
        }
    }

    // Row 22, as far as B = I: nothing is controllable that does not need to be, and a longer horizon costs more.
    [Test]
    public void MoreWeightDearerEffortAndALongerHorizonCostMore()
    {
        var a = Problem.Plant(new Random(22), 9, 6);
        var s = Isotropic(a, 1, 1, 0);
        var value = s.Values(s.Dense())[0];
        foreach (var (other, what) in new[] { (Isotropic(a, 1.5, 1, 0), "q"), (Isotropic(a, 1, 1.5, 0), "r"),
            (Isotropic([.. a, a[0]], 1, 1, 0), "horizon") })
        {
            Assert.That(Least(other.Values(other.Dense())[0] - value), Is.GreaterThan(-1e-12 * value.FrobeniusNorm()), what);
        }
    }

    [Test]
    public void ACostOfLowRankWithAVanishingPriceFailsByNameInTheDenseForm()
    {
        // S = 1e12 zz' + 1e-12 I is singular in float64; the factored form solves it.
        var z = Problem.Gaussian(new Random(23), 5, 1, 1e6);
        var problem = new Problem { A = Problem.Plant(new Random(24), 1, 5), Cost = new FactoredCost([z, z], 1e-12) };
        var e = Assert.Throws<RiccatiException>(() => problem.Dense());
        Assert.That((e!.Fault, e.Layer), Is.EqualTo((RiccatiFault.NotPositiveDefinite, (int?)0)));
        Assert.That(e.Message, Does.Contain("factored").And.Contain("pivot"));
        var projector = z * z.Transpose() / Math.Pow(z.FrobeniusNorm(), 2);
        Assert.That(Problem.Difference(Problem.Matrix(Factored(problem).Gains[0]), projector * problem.A[0]), Is.LessThan(1e-12));
    }

    // Row 24.
    [Test]
    public void RandomProblems()
    {
        int seed = Environment.TickCount;
        TestContext.Out.WriteLine($"seed {seed}");
        var random = new Random(seed);
        for (int trial = 0; trial < 150; trial++)
        {
            int n = random.Next(1, 17), layers = random.Next(0, 21), rank = random.Next(1, 3);
            double r = Math.Pow(10, (random.NextDouble() * 8) - 4), q = Math.Pow(10, (random.NextDouble() * 8) - 4);
            bool singular = random.NextDouble() < 0.3;
            var c = Enumerable.Range(0, layers + 1).Select(_ => Problem.Gaussian(random, n, singular ? rank : n, Math.Sqrt(q / n))).ToArray();
            var problem = new Problem
            {
                A = layers == 0 ? [] : Problem.Plant(random, layers, n, 2 * random.NextDouble()),
                Cost = new FactoredCost(c, r),
            };
            string what = $"seed {seed}, trial {trial}: n {n}, L {layers}, q {q:G3}, r {r:G3}, singular {singular}";
            var dense = problem.Dense();
            if (layers == 0)
            {
                Assert.That(dense.Gains, Is.Empty, what);
                continue;
            }

            Invariants(problem, dense, what);


            // Both forms lose digits as the condition of S + rI, at most 1 + |S|/r, grows.
            double condition = 1 + (problem.Values(dense).Max(s => s.L2Norm()) / r);
            Assert.That(Problem.Difference(Factored(problem, maxRank: n), dense), Is.LessThan(Math.Max(1e-9, 1e-12 * condition)), what);
        }
    }
}
