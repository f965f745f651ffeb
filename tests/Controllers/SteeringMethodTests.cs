using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;
using Tiller.Tests.Law;
using Tiller.Tests.Synthesis;

namespace Tiller.Tests.Controllers;

public sealed class SteeringMethodTests
{
    private const int Layers = 23;
    private const int Width = 8;
    private const int Tokens = 4;

    private static float[] Row(Random random, float scale = 1) => [.. Enumerable.Range(0, Width).Select(_ => scale * (float)Problem.Normal(random))];

    private static Feature MakeFeature(int seed, params int[] zeroLayers)
    {
        var random = new Random(seed);
        var difference = Enumerable.Range(0, Layers + 1).Select(_ => Row(random, 2)).ToArray();
        foreach (int k in zeroLayers)
        {
            difference[k] = [.. difference[k].Select(x => x * 1e-8f)];
        }

        return Feature.FromDifference(difference, [.. difference.Select(_ => Row(random))]);
    }

    /// <summary>Residual streams x[t][k] that a law is evaluated on.</summary>
    private static float[][][] States(int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, Tokens).Select(_ => Enumerable.Range(0, Layers).Select(_ => Row(random)).ToArray())];
    }

    private static double Dot(float[] a, float[] b) => a.Zip(b, (x, y) => (double)x * y).Sum();

    private static double[] Scale(double s, float[] v) => [.. v.Select(x => s * x)];

    private static double[] Sum(params double[][] parts) => [.. Enumerable.Range(0, Width).Select(i => parts.Sum(p => p[i]))];

    private static void Check(FeedbackLaw law, Func<float[][][], int, int, double[]> expected)
    {
        var states = States(99);
        var u = LawReference.Inputs(law, states);
        for (int t = 0; t < Tokens; t++)
        {
            for (int k = 0; k < Layers; k++)
            {
                double[] wanted = expected(states, t, k);
                double scale = Math.Max(1, wanted.Max(Math.Abs));
                Assert.That(u[t][k], Is.EqualTo(wanted).Within(1e-5 * scale), $"token {t}, layer {k}");
            }
        }
    }

    private static float[][] Directions(int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, Layers).Select(_ => Row(random))];
    }

    [Test]
    public void LinearQuadraticFollowsItsFormula([Values] Setpoint setpoint, [Values(1.5, 0, -2)] double lambda)
    {
        var feature = MakeFeature(1, 4);
        var w = Directions(2);
        var layers = new LayerSet(2, 20);
        var law = new LinearQuadratic(feature, w, setpoint, layers).Compile(lambda, 3);
        Assert.That(law.MaxEffort, Is.EqualTo(3));
        Check(law, (x, t, k) =>
        {
            double beta = (lambda * feature.Mu[k]) + (setpoint == Setpoint.Affine ? feature.Origin![k] : 0);
            return Scale(layers.Contains(k) && k != 4 ? beta - Dot(feature.V[k], x[t][k]) : 0, w[k]);
        });
    }

    [Test]
    public void AngularSetpointFollowsItsFormula([Values(0, 60, -90, 180, 725)] double degrees)
    {
        var feature = MakeFeature(1, 4);
        float[][] second = [.. feature.V.Take(Layers).Zip(MakeFeature(5, 7).V, AngularSetpoint.SecondDirection)];
        float[][] w1 = Directions(2), w2 = Directions(3);
        var (sine, cosine) = Math.SinCos(degrees * Math.PI / 180);
        Check(new AngularSetpoint(feature, second, w1, w2).Compile(degrees), (x, t, k) =>
        {
            double first = Dot(feature.V[k], x[t][k]), other = Dot(second[k], x[t][k]), length = Math.Sqrt((first * first) + (other * other));
            bool steers = k is not (4 or 7);
            return Sum(Scale(steers ? (length * cosine) - first : 0, w1[k]), Scale(steers ? (length * sine) - other : 0, w2[k]));
        });
    }

    [Test]
    public void AngularSetpointTakesItsPlaneFromTwoFeaturesAndTheGains()
    {
        var solution = Problem.WithFullCost(3, Layers, Width).Dense();
        Feature feature = MakeFeature(3), other = MakeFeature(4);
        var method = AngularSetpoint.FromGains(feature, other, solution.Gains);
        for (int k = 0; k < Layers; k++)
        {
            Assert.That(Dot(method.Second[k], feature.V[k]), Is.EqualTo(0).Within(1e-6));
            Assert.That(Dot(method.Second[k], method.Second[k]), Is.EqualTo(1).Within(1e-6));
            Assert.That(Dot(method.Second[k], other.V[k]), Is.Positive);
            Assert.That(method.W1[k], Is.EqualTo(solution.Gains[k].Apply(feature.V[k])).Within(1e-6));
            Assert.That(method.W2[k], Is.EqualTo(solution.Gains[k].Apply(method.Second[k])).Within(1e-6));
        }

        Assert.That(AngularSetpoint.FromGains(feature, feature, solution.Gains).Idle, Is.Not.Null, "a plane needs a second direction");
        Assert.That(() => new AngularSetpoint(feature, [.. feature.V.Take(Layers)], method.W1, method.W2), Throws.ArgumentException,
            "not orthogonal");
    }

    [Test]
    public void ClampFollowsItsFormula([Values(1.5, 0, -2)] double lambda)
    {
        var feature = MakeFeature(1, 4);
        foreach (var (low, high) in new (double?, double?)[] { (1, null), (null, -0.5), (0.5, 1), (1, 1) })
        {
            Check(new Clamp(feature, low, high).Compile(lambda), (x, t, k) =>
            {
                double projection = Dot(feature.V[k], x[t][k]), scale = lambda * feature.Mu[k];
                double[] ends = [low * scale ?? (lambda < 0 ? double.PositiveInfinity : double.NegativeInfinity),
                    high * scale ?? (lambda < 0 ? double.NegativeInfinity : double.PositiveInfinity)];
                return Scale(k == 4 ? 0 : Math.Clamp(projection, ends.Min(), ends.Max()) - projection, feature.V[k]);
            });
        }

        Assert.That(() => new Clamp(feature, null, null), Throws.ArgumentException);
        Assert.That(() => new Clamp(feature, 2, 1), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => new Clamp(feature, double.NaN, 1), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => new Clamp(feature, -1e30, 1e30).Compile(1e30), Throws.InstanceOf<SteeringOverflowException>());
    }

    [Test]
    public void TrajectoryFollowsItsFormulaWithGainsOfEveryForm([Values(1, 0.5, -1)] double lambda)
    {
        var problem = Problem.WithFullCost(3, Layers, Width);
        var feature = MakeFeature(3);
        float[][] record = Directions(8);
        var factored = FactoredRiccati.Solve(Layers, (k, z) => problem.A[k].TransposeThisAndMultiply(z),
            FactoredCost.OfFeatures(new LqrWeights(1, 1, 1), feature));
        foreach (var gains in new[] { problem.Dense().Gains, factored.Gains })
        {
            Check(Trajectory.FromGains(feature, record, gains).Compile(lambda), (x, t, k) =>
                Scale(-lambda, Array.ConvertAll(gains[k].Apply([.. x[t][k].Zip(record[k], (a, b) => (double)a - b)]), y => (float)y)));
        }
    }

    [Test]
    public void PidSteeringFollowsItsFormula()
    {
        var feature = MakeFeature(1, 4);
        var directions = PidSteering.Directions(feature, 0.9, 0.01, 0.3);
        for (int k = 0; k <= Layers; k++)
        {
            double[] expected = Sum(
                [Scale(0.9, feature.Difference(k)), .. Enumerable.Range(0, k + 1).Select(j => Scale(0.01, feature.Difference(j))),
                    .. k == 0 ? Array.Empty<double[]>() : [Scale(0.3, feature.Difference(k)), Scale(-0.3, feature.Difference(k - 1))]]);
            Assert.That(directions.Difference(k).Select(x => (double)x), Is.EqualTo(expected).Within(1e-5));
        }
    }

    [Test]
    public void AGateSwitchesAMethodByTheStateOfItsBlock()
    {
        var feature = MakeFeature(1, 4);
        float[] probe = Directions(9)[0];
        var method = new Proportional(feature, 0.5, new LayerSet(6, 9));
        var gated = new Gated(method, new TokenGate(3, probe, 0.1f));
        Check(gated.Compile(2), (x, t, k) =>
            Scale(k is >= 6 and <= 9 && Dot(probe, x[t][3]) > 0.1f ? 0.5 * ((2 * feature.Mu[k]) - Dot(feature.V[k], x[t][k])) : 0, feature.V[k]));
        Assert.That((gated.Name, gated.Idle), Is.EqualTo((method.Name, method.Idle)));
        Assert.That(() => new Gated(gated, gated.Gate), Throws.ArgumentException);
        var turned = new AngularSteering(feature, [.. Directions(10).Select(x => new float[x.Length])], adaptive: true);
        Assert.That(() => new Gated(turned, gated.Gate), Throws.ArgumentException, "it has a gate of its own");
        Assert.That(() => new Gated(method, new TokenGate(Layers, probe, 0)), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => new Gated(method, new TokenGate(0, probe, float.NaN)), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => new Gated(method, new TokenGate(0, [1], 0)), Throws.ArgumentException);
    }

    [Test]
    public void LinearQuadraticTakesItsDirectionsFromTheGains()
    {
        var problem = Problem.WithFullCost(3, Layers, Width);
        var feature = MakeFeature(3);
        var solution = problem.Dense();
        var method = LinearQuadratic.FromGains(feature, solution.Gains);
        for (int k = 0; k < Layers; k++)
        {
            double[] expected = solution.Gains[k].Apply(feature.V[k]);
            Assert.That(Array.ConvertAll(method.W[k], x => (double)x), Is.EqualTo(expected).Within(1e-6));
        }
    }

    [Test]
    public void SeveralFeaturesAddUp()
    {
        var one = new LinearQuadratic(MakeFeature(1), Directions(2));
        var two = new LinearQuadratic(MakeFeature(3), Directions(4));
        var law = FeedbackLaw.Sum([one.Compile(1.5), two.Compile(-0.5, 7)]);
        Assert.That(law.MaxEffort, Is.EqualTo(7));
        Check(law, (x, t, k) => Sum(
            Scale((1.5 * one.Feature.Mu[k]) - Dot(one.Feature.V[k], x[t][k]), one.W[k]),
            Scale((-0.5 * two.Feature.Mu[k]) - Dot(two.Feature.V[k], x[t][k]), two.W[k])));
    }

    [Test]
    public void OpenLoopAdditionAddsTheNextLayersDifference()
    {
        var feature = MakeFeature(5, 9);
        var layers = new LayerSet(7, 12);
        var law = new OpenLoopAddition(feature, layers).Compile(1.75);
        Assert.That(law.Sensors, Is.Empty);
        Check(law, (_, _, k) => Scale(layers.Contains(k) ? 1.75 : 0, feature.Difference(k + 1)));
        Assert.That(law.TermsOf(8).Length, Is.Zero, "E_9 is 0");
    }

    [Test]
    public void ProportionalFollowsItsFormula()
    {
        var feature = MakeFeature(6, 11);
        var layers = new LayerSet(10, 15);
        Check(new Proportional(feature, 0.3, layers).Compile(2), (x, t, k) =>
            Scale(layers.Contains(k) && k != 11 ? 0.3 * ((2 * feature.Mu[k]) - Dot(feature.V[k], x[t][k])) : 0, feature.V[k]));
    }

    [TestCase(1)]
    [TestCase(0.5)]
    public void AblationRemovesTheProjection(double share)
    {
        var feature = MakeFeature(7);
        Check(new Ablation(feature).Compile(share), (x, t, k) => Scale(-share * Dot(feature.V[k], x[t][k]), feature.V[k]));
    }

    [Test]
    public void ZeroStrengthOfAdditionAndAblationIsTheNullLaw()
    {
        var feature = MakeFeature(7);
        Assert.That(new Ablation(feature).Compile(0).Terms, Is.Empty);
        Assert.That(new OpenLoopAddition(feature).Compile(0).Terms, Is.Empty);
    }

    private static InputCurve Curve(float[] w) => new(w, 1, [], [0, 1], [[1, 1]], [[0, 0]]);

    [Test]
    public void AZeroFeatureIsTheNullLawOfEveryMethod()
    {
        var feature = MakeFeature(8, [.. Enumerable.Range(0, Layers + 1)]);
        SteeringMethod[] methods =
        [
            new LinearQuadratic(feature, Directions(1)), new OpenLoopAddition(feature), new Proportional(feature), new Ablation(feature),
            new SPid(feature, 1, 1, 1), new PredictiveSteering(feature, [.. Directions(1).Select(Curve)], 1),
        ];
        foreach (var method in methods)
        {
            Assert.That(method.Compile(1.5).Terms, Is.Empty, method.Name);
            Assert.That(method.Idle, Does.Contain("μ is 0"), method.Name);
        }
    }

    [Test]
    public void AMethodThatNeverMovesAnythingSaysWhy()
    {
        // E_4 is 0: feedback reads it at block 4, addition adds it at block 3.
        var feature = MakeFeature(1, 4);
        float[][] w = Directions(2), zero = [.. w.Select(row => new float[row.Length])];
        w[7] = new float[Width];
        var at7 = new LayerSet(7, 7);
        (SteeringMethod Method, string? Says)[] all =
        [
            (new LinearQuadratic(feature, w), null), (new LinearQuadratic(feature, zero), "w = K v is 0"),
            (new LinearQuadratic(feature, w, layers: new LayerSet(4, 4)), "of 4-4"),
            (new LinearQuadratic(feature, w, layers: at7), "of 7-7"),
            (new LinearQuadratic(feature, w, layers: new LayerSet(new LayerRange(4, 4), new LayerRange(7, 7))), "of 4-4,7-7"),
            (new LinearQuadratic(feature, w, layers: new LayerSet(7, 8)), null),
            (new OpenLoopAddition(feature, new LayerSet(3, 3)), "μ is 0"), (new OpenLoopAddition(feature, new LayerSet(4, 4)), null),
            (new Proportional(feature, layers: new LayerSet(4, 4)), "μ is 0"), (new Proportional(feature, layers: new LayerSet(3, 3)), null),
            (new Proportional(feature, 0), "k_p is 0"), (new Ablation(feature, new LayerSet(4, 4)), "μ is 0"), (new Ablation(feature), null),
            (new SPid(feature, 0, 0, 0), "are 0"), (new SPid(feature, 0, 0, 0.1), null),
            (new PredictiveSteering(feature, [.. w.Select((row, k) => k == 7 ? null : Curve(row))], 1), null),
            (new PredictiveSteering(feature, new InputCurve?[w.Length], 1), "w = K v is 0"),
            (new PredictiveSteering(feature, [.. w.Select(Curve)], 1, layers: new LayerSet(4, 4)), "μ is 0"),
        ];
        foreach (var (method, says) in all)
        {
            Assert.That(method.Idle, says is null ? Is.Null : Does.Contain(says), method.Name);

            // What it says is what it does.
            bool moves = new[] { -1.5, 0, 1 }
                .Any(lambda => method.Compile(lambda).Terms.Any(t => (t.C != 0 || t.Feeds.Any(f => f.Gain != 0)) && t.W.Any(x => x != 0)));
            Assert.That(moves, Is.EqualTo(says is null), method.Name);
            Assert.That(says is not null && method.Compile(1).Terms.Count > 0, Is.False, method.Name);
        }
    }

    [Test]
    public void DisjointLayersAreSteeredAndThoseBetweenAreNot()
    {
        var feature = MakeFeature(5, 9);
        var layers = new LayerSet(new LayerRange(1, 3), new LayerRange(8, 10));
        float[][] w = Directions(2);
        Check(new LinearQuadratic(feature, w, layers: layers).Compile(1.5), (x, t, k) =>
            Scale(layers.Contains(k) && k != 9 ? (1.5 * feature.Mu[k]) - Dot(feature.V[k], x[t][k]) : 0, w[k]));
        Check(new OpenLoopAddition(feature, layers).Compile(1.75), (_, _, k) => Scale(layers.Contains(k) ? 1.75 : 0, feature.Difference(k + 1)));
    }

    // The published loop: e = α_k v_k, sum += e, cleared at layers 0, 10, 20 before use, previous error kept across tokens.
    [TestCase(0.7, 0.1, 0.2)]
    [TestCase(1, 0, 0)]
    [TestCase(0, 1, 0)]
    [TestCase(0, 0, 1)]
    public void SPidEqualsTheLoopOverLayersAndTokens(double kp, double ki, double kd)
    {
        var feature = MakeFeature(9, 5, 22);
        const double lambda = 1.3;
        var states = States(99);
        var expected = new double[Tokens][][];
        double[] sum = new double[Width], previous = new double[Width];
        for (int t = 0; t < Tokens; t++)
        {
            expected[t] = new double[Layers][];
            for (int k = 0; k < Layers; k++)
            {
                double[] e = Scale((lambda * feature.Mu[k]) - Dot(feature.V[k], states[t][k]), feature.V[k]);
                sum = Sum(sum, e);
                if (k % 10 == 0)
                {
                    sum = new double[Width];
                }

                expected[t][k] = [.. Enumerable.Range(0, Width).Select(i => (kp * e[i]) + (ki * sum[i]) + (kd * (e[i] - previous[i])))];
                previous = e;
            }
        }

        Check(new SPid(feature, kp, ki, kd).Compile(lambda), (_, t, k) => expected[t][k]);
    }

    [Test]
    public void TheErrorOfTheLastLayerReachesTheNextToken()
    {
        var law = new SPid(MakeFeature(9), 0, 0, 1).Compile(1);
        var terms = law.TermsOf(0).ToArray().Select(i => law.Sensors[law.Terms[i].Feeds[0].Sensor].Layer);
        Assert.That(terms, Is.EquivalentTo(new[] { 0, Layers - 1 }));
    }

    [Test]
    public void BadArgumentsAreRefused()
    {
        var feature = MakeFeature(1);
        var noOrigin = new Feature(feature.V, feature.Mu);
        var w = Directions(1);
        Assert.Throws<ArgumentOutOfRangeException>(() => _ = new Proportional(feature, double.NaN));
        Assert.Throws<ArgumentOutOfRangeException>(() => _ = new SPid(feature, 1, double.PositiveInfinity, 0));
        Assert.Throws<ArgumentOutOfRangeException>(() => _ = new Ablation(feature, new LayerSet(3, 2)));
        Assert.Throws<ArgumentOutOfRangeException>(() => _ = new Ablation(feature, new LayerSet(0, Layers)));
        Assert.Throws<ArgumentException>(() => _ = new LinearQuadratic(noOrigin, w, Setpoint.Affine));
        Assert.Throws<ArgumentException>(() => _ = new LinearQuadratic(feature, w[1..]));
        Assert.Throws<ArgumentOutOfRangeException>(() => new Ablation(feature).Compile(double.NaN));
        Assert.Throws<ArgumentOutOfRangeException>(() => new Ablation(feature).Compile(1e300));
        Assert.Throws<ArgumentException>(() => new Ablation(feature).Compile(1, 0));
        w[3][2] = float.NaN;
        Assert.Throws<ArgumentException>(() => _ = new LinearQuadratic(feature, w));
    }

    [Test]
    public void ClosedLoopSubtractsWhatTheControllerTakes()
    {
        var problem = Problem.WithFullCost(3, Layers, Width);
        var feature = MakeFeature(3, 6);
        var method = LinearQuadratic.FromGains(feature, problem.Dense().Gains, layers: new LayerSet(0, 20));
        double[] v(int k) => Array.ConvertAll(feature.V[k], x => (double)x);
        MathNet.Numerics.LinearAlgebra.Vector<double> Vec(double[] x) => MathNet.Numerics.LinearAlgebra.Vector<double>.Build.DenseOfArray(x);
        double[] open = [.. Enumerable.Range(0, Layers).Select(k => Vec(v(k + 1)).DotProduct(problem.A[k] * Vec(v(k))))];
        var loop = ClosedLoop.Of(method, open);
        for (int k = 0; k < Layers; k++)
        {
            var gain = Problem.Matrix(problem.Dense().Gains[k]) * (k <= 20 ? 1 : 0);
            double closed = Vec(v(k + 1)).DotProduct((problem.A[k] - gain) * Vec(v(k)));
            Assert.That(loop.Layers[k].Open, Is.EqualTo(open[k]));
            Assert.That(loop.Layers[k].Closed, Is.EqualTo(closed).Within(1e-6));
        }

        Assert.That(loop.MeanOpen, Is.GreaterThan(0));
        Assert.Throws<ArgumentException>(() => ClosedLoop.Of(method, open[1..]));
    }
}
