using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>The first input of a bounded plan as a curve of the error: the LQR below the knee, the plans that are solved one by one beyond.</summary>
public sealed class InputCurveTests
{
    private static readonly LqrWeights s_weights = new(0.4, 0.6, 1.5);

    [Test]
    public void The_curve_is_the_first_input_of_a_fresh_plan_at_random_errors([Range(1, 6)] int seed)
    {
        var random = new Random(seed);
        int steps = 1 + (seed % 5), width = 3 + seed;
        var (a, v, curve) = Solve(random, steps, width, seed % 2 == 0 ? 0.8 : 1.3, s_weights);
        double worst = 0;
        for (int i = 0; i < 60; i++)
        {
            double bound = Math.Exp(4 * (random.NextDouble() - 0.5)), error = bound * curve.Knee * Math.Exp(6 * (random.NextDouble() - 0.2));
            error *= i % 2 == 0 ? 1 : -1;
            var plan = PredictiveControl.Plan(a, s_weights, [.. v.Select(x => -error * x)], bound);
            double[] u = Input(curve, error, bound);
            worst = Math.Max(worst, TensorPrimitives.Distance<double>(u, plan.Inputs[0]) / bound);
            Assert.That(TensorPrimitives.Norm<double>(u), Is.AtMost(bound * (1 + (2 * InputCurve.Tolerance))), "the law's bound takes off the rest");
        }

        Assert.That(worst, Is.LessThan(1.2 * InputCurve.Tolerance), $"{curve.Nodes.Length} nodes, {curve.Directions.Count} directions");
    }

    [Test]
    public void Up_to_the_knee_it_is_the_lqr_to_the_bit_and_no_bound_is_met([Range(1, 4)] int seed)
    {
        var random = new Random(seed);
        var (a, v, curve) = Solve(random, 4, 6, 1.1, s_weights);
        var gain = DenseRiccati.Solve(a.Length, k => a[k], new IsotropicCost(s_weights)).Gains[0];
        Assert.That(curve.W, Is.EqualTo(Array.ConvertAll(gain.Apply(v), x => (float)x)));
        for (int i = 0; i < 20; i++)
        {
            float error = curve.Knee * (float)((2 * random.NextDouble()) - 1);
            Assert.That(Curve(curve, 0, 1).At(error), Is.EqualTo(error), "e itself");
            Assert.That(Enumerable.Range(1, curve.Directions.Count).Select(j => Curve(curve, j, 1).At(error)), Is.All.Zero);
        }

        var plan = PredictiveControl.Plan(a, s_weights, [.. v.Select(x => (double)-x * curve.Knee)], 1);
        Assert.That(plan.Multipliers, Is.All.LessThan(1e-6));
        Assert.That(plan.Inputs.Max(u => TensorPrimitives.Norm<double>(u)), Is.EqualTo(1).Within(1e-6), "at the knee the first bound is just met");
    }

    [Test]
    public void A_curve_of_one_step_is_the_projected_gain()
    {
        // One step, so only u_0: (r + q_f + m) u = q_f A v e, a direction that stays.
        var (_, _, curve) = Solve(new Random(5), 1, 5, 1, s_weights);
        Assert.That(curve.Directions, Is.Empty);
        double length = Math.Sqrt(curve.W.Sum(x => (double)x * x));
        foreach (double error in new[] { 0.3, 0.99, 1.01, 3, 1e4, 1e30 })
        {
            double expected = Math.Min(error / length, 1 / length);
            Assert.That(Curve(curve, 0, 1).At((float)(error / length)), Is.EqualTo(expected).Within(1e-5 * expected));
        }
    }

    [Test]
    public void Plants_that_feel_nothing_have_no_curve_and_hard_ones_one_that_is_right()
    {
        var random = new Random(3);
        var a = Problem.Plant(random, 3, 4);
        float[] v = [1, 0, 0, 0];
        Assert.That(Curve(a, v, new LqrWeights(0, 1, 0)), Is.Null, "nothing costs anything");
        Matrix<double>[] zero = [.. a.Select(m => 0 * m)];
        Assert.That(Curve(zero, v, s_weights), Is.Null, "nothing is passed on");
        foreach (var (plant, weights) in new (Matrix<double>[], LqrWeights)[]
        {
            (a, new LqrWeights(0, 1, 1)), (a, new LqrWeights(1, 1, 0)), (a, new LqrWeights(0.1, 1e4, 1)), (a, new LqrWeights(1, 0.02, 1)),
            ([.. a.Select((m, k) => k == 1 ? 0 * m : m)], s_weights), ([.. a.Select(m => 3 * m)], s_weights),
        })
        {
            var curve = Curve(plant, v, weights)!;
            foreach (double share in new[] { 0.5, 1.001, 1.5, 4, 50, 1e4 })
            {
                double error = share * curve.Knee;
                var plan = PredictiveControl.Plan(plant, weights, [-error, 0, 0, 0], 1);
                Assert.That(TensorPrimitives.Distance<double>(Input(curve, error, 1), plan.Inputs[0]), Is.LessThan(3 * InputCurve.Tolerance),
                    $"q {weights.Q} r {weights.R} qf {weights.Qf} at {share} knees");
            }
        }
    }

    [Test]
    public void A_curve_is_odd_and_scales_with_the_bound_and_its_slope_is_its_derivative()
    {
        var (_, _, solved) = Solve(new Random(7), 4, 6, 1.2, s_weights);
        for (int j = 0; j <= solved.Directions.Count; j++)
        {
            ErrorCurve one = Curve(solved, j, 1), eight = Curve(solved, j, 8);
            foreach (float share in new[] { 0.2f, 0.9f, 1.1f, 1.7f, 3.3f, 20f, 4000f })
            {
                float error = share * solved.Knee;
                Assert.That(one.At(-error), Is.EqualTo(-one.At(error)));
                Assert.That(one.SlopeAt(-error), Is.EqualTo(one.SlopeAt(error)));
                Assert.That(eight.At(8 * error), Is.EqualTo(8 * one.At(error)), "a power of two scales exactly");
                float step = 3e-3f * error;
                double slope = ((double)one.At(error + step) - one.At(error - step)) / (2.0 * step);
                Assert.That((double)one.SlopeAt(error), Is.EqualTo(slope).Within(2e-3 * Math.Max(1 / share, 1e-3)), $"{j} at {share}");
            }

            Assert.That(one.At(float.NaN), Is.NaN);
            Assert.That(one.At(float.PositiveInfinity), Is.EqualTo(one.Values()[0]));
            Assert.That(one.SlopeAt(float.PositiveInfinity), Is.Zero);
        }
    }

    [Test]
    public void The_curves_of_all_horizons_are_each_right_and_a_bound_that_begins_to_be_met_costs_few_nodes()
    {
        var random = new Random(8);
        var a = Problem.Plant(random, 9, 24, 1.2);
        float[][] v = [.. a.Select(_ => Array.ConvertAll(Problem.Gaussian(random, 24, 1).Column(0).Normalize(2).ToArray(), x => (float)x))];
        var gains = DenseRiccati.Solve(a.Length, k => a[k], new IsotropicCost(s_weights)).Gains;
        var told = new List<int>();
        var curves = InputCurve.SolveAll(a, gains, s_weights, [.. v.Take(4), null, .. v.Skip(5)], told.Add);
        Assert.That(curves.Select(curve => curve is null), Is.EqualTo(Enumerable.Range(0, 9).Select(k => k == 4)));
        Assert.That(told, Is.Ordered.And.Some.EqualTo(0).And.Some.EqualTo(9), "curves that are solved, at every plan");
        Assert.That(told, Has.Count.GreaterThan(200));
        for (int k = 0; k < 9; k += 2)
        {
            if (curves[k] is { } curve)
            {
                Assert.That(curve.Nodes, Has.Length.LessThan(60 + (20 * (9 - k))));
                foreach (double share in new[] { 0.7, 1.02, 1.3, 2, 3.7, 9, 40, 1e3 })
                {
                    double error = share * curve.Knee;
                    var plan = PredictiveControl.Plan(a[k..], s_weights, [.. v[k].Select(x => -error * x)], 1);
                    Assert.That(TensorPrimitives.Distance<double>(Input(curve, error, 1), plan.Inputs[0]), Is.LessThan(1.2 * InputCurve.Tolerance),
                        $"block {k} at {share} knees, {curve.Nodes.Length} nodes");
                }
            }
        }

        var again = InputCurve.SolveAll(a, gains, s_weights, v);
        Assert.That(again[0]!.Values, Is.EqualTo(curves[0]!.Values), "to the bit");
    }

    [Test]
    public void A_fit_can_be_cancelled_within_a_curve()
    {
        using var stop = new CancellationTokenSource();
        var a = Problem.Plant(new Random(6), 5, 8, 1.2);
        var gains = DenseRiccati.Solve(a.Length, k => a[k], new IsotropicCost(s_weights)).Gains;
        int plans = 0;
        Assert.Throws<OperationCanceledException>(() => InputCurve.SolveAll(a, gains, s_weights, [[1, 0, 0, 0, 0, 0, 0, 0]], _ =>
        {
            if (++plans == 7)
            {
                stop.Cancel();
            }
        }, stop.Token));
        Assert.That(plans, Is.EqualTo(7));
    }

    [Test]
    public void What_is_no_curve_is_refused()
    {
        var a = Problem.Plant(new Random(1), 2, 3);
        var gains = DenseRiccati.Solve(2, k => a[k], new IsotropicCost(s_weights)).Gains;
        Assert.Throws<ArgumentException>(() => InputCurve.Solve([], [], s_weights, [1, 0, 0]));
        Assert.Throws<ArgumentException>(() => InputCurve.Solve(a, [gains[0]], s_weights, [1, 0, 0]));
        Assert.Throws<ArgumentException>(() => InputCurve.Solve(a, gains, s_weights, [1, 0]));
        Assert.Throws<OperationCanceledException>(() => InputCurve.Solve(a, gains, s_weights, [1, 0, 0], new CancellationToken(canceled: true)));
        Assert.Throws<ArgumentException>(() => InputCurve.SolveAll(a, gains, s_weights, [null, null, null]));
        Assert.Throws<ArgumentException>(() => InputCurve.SolveAll(a, gains, s_weights, [null, [1, 2]]));
        foreach (Action bad in (Action[])
        [
            () => _ = new ErrorCurve([0], [1], [1], 1, 1), () => _ = new ErrorCurve([0, 1], [1], [1, 1], 1, 1),
            () => _ = new ErrorCurve([0, 0.5f], [1, 1], [1, 1], 1, 1), () => _ = new ErrorCurve([0.1f, 1], [1, 1], [1, 1], 1, 1),
            () => _ = new ErrorCurve([0, 0.5f, 0.5f, 1], [1, 1, 1, 1], [1, 1, 1, 1], 1, 1),
            () => _ = new ErrorCurve([0, float.NaN, 1], [1, 1, 1], [1, 1, 1], 1, 1),
            () => _ = new ErrorCurve([0, 1], [1, float.NaN], [1, 1], 1, 1),
            () => _ = new ErrorCurve([0, 1], [1, 1], [float.PositiveInfinity, 1], 1, 1),
            () => _ = new ErrorCurve([0, 1], [1, 1], [1, 1], 0, 1), () => _ = new ErrorCurve([0, 1], [1, 1], [1, 1], 1, 0),
            () => _ = new ErrorCurve([0, 1], [1, 1], [1, 1], -1, 1), () => _ = new ErrorCurve([0, 1], [1, 1], [1, 1], float.NaN, 1),
            () => _ = new ErrorCurve([0, 1], [1, 1], [1, 1], 1e30f, 1e30f), () => _ = new ErrorCurve([0, 1], [1, 1], [1, 1], 1e-30f, 1e-30f),
        ])
        {
            Assert.Catch<ArgumentException>(() => bad());
        }
    }

    private static (Matrix<double>[] A, float[] V, InputCurve Curve) Solve(Random random, int steps, int width, double scale, LqrWeights weights)
    {
        var a = Problem.Plant(random, steps, width, scale);
        var v = Problem.Gaussian(random, width, 1).Column(0).Normalize(2);
        float[] narrow = Array.ConvertAll(v.ToArray(), x => (float)x);
        return (a, narrow, Curve(a, narrow, weights)!);
    }

    private static InputCurve? Curve(Matrix<double>[] a, float[] v, LqrWeights weights) =>
        InputCurve.Solve(a, DenseRiccati.Solve(a.Length, k => a[k], new IsotropicCost(weights)).Gains, weights, v);

    private static ErrorCurve Curve(InputCurve curve, int j, float bound) =>
        new(curve.Nodes, curve.Values[j], curve.Slopes[j], curve.Knee, bound);

    private static double[] Input(InputCurve curve, double error, double bound)
    {
        double[] sum = new double[curve.W.Length];
        for (int j = 0; j <= curve.Directions.Count; j++)
        {
            double share = Curve(curve, j, (float)bound).At((float)error);
            float[] direction = j == 0 ? curve.W : curve.Directions[j - 1];
            for (int i = 0; i < sum.Length; i++)
            {
                sum[i] += share * direction[i];
            }
        }

        return sum;
    }
}
