using Tiller.Cpu;
using Tiller.Law;
using Tiller.Tests.Decode;
using Tiller.Tests.Model;

namespace Tiller.Tests.Law;

/// <summary>Errors, the matrix, gates and planes of a law, against its definition and by their properties.</summary>
public sealed class FeedbackLawTests
{
    private const int L = 3;
    private const int D = 37;

    [Test]
    public void Every_kind_of_error_and_gate_is_what_the_definition_says([Range(1, 40)] int seed)
    {
        var random = new Random(seed);
        var law = Laws.Every(L, D, random, scale: 1);
        float[][][] states = [.. Enumerable.Range(0, 4).Select(_ => Enumerable.Range(0, L).Select(_ => Numbers.Gaussian(random, D)).ToArray())];
        var steering = new CpuSteering(law);
        float[] errors = new float[law.Sensors.Count];
        var expected = new List<double[]>();
        double[][][] inputs = LawReference.Inputs(law, states, (_, all) => expected.Add([.. all]));
        for (int t = 0; t < states.Length; t++)
        {
            for (int k = 0; k < L; k++)
            {
                float[] u = new float[D];
                steering.Sense(k, 0, states[t][k]);
                steering.Act(k, 0, u);
                Assert.That(u.Select(x => (double)x), Is.EqualTo(inputs[t][k]).Within(1e-4), $"token {t}, layer {k}");
            }

            steering.ReadErrors(0, errors);
            Assert.That(errors.Select(x => (double)x), Is.EqualTo(expected[t]).Within(1e-5), $"token {t}");
        }
    }

    [Test]
    public void The_sum_of_one_law_is_that_law()
    {
        var law = Laws.Every(L, D, new Random(1), 1);
        Assert.That(FeedbackLaw.Sum([law]), Is.SameAs(law));
    }

    [Test]
    public void A_law_within_some_blocks_keeps_only_the_conditions_that_are_asked_there()
    {
        float[] v = [.. Enumerable.Repeat(1f, D)];
        PromptCondition Condition(double threshold) => new([new ConditionProbe(0, v)], threshold, Above: true);
        var law = new FeedbackLaw(
            L, D, [], [new Term(0, v, 1) { Condition = 0 }, new Term(1, v, 1) { Condition = 2 }, new Term(2, v, 1)],
            edits: [new AblationEdit(1, EditPoint.Output, 1, v) { Condition = 1 }, new AblationEdit(2, EditPoint.Output, 1, v) { Condition = 2 }],
            conditions: [Condition(0.1), Condition(0.2), Condition(0.3)]);
        var one = law.Within(new LayerSet(1, 1));
        Assert.That(one.Conditions.Select(c => c.Threshold), Is.EqualTo(new[] { 0.2, 0.3 }));
        Assert.That((one.Terms.Single().Condition, one.Edits.Single().Condition), Is.EqualTo((1, 0)));
        var last = law.Within(new LayerSet(2, 2));
        Assert.That(last.Conditions.Select(c => c.Threshold), Is.EqualTo(new[] { 0.3 }));
        Assert.That((last.Terms.Single().Condition, last.Edits.Single().Condition), Is.EqualTo((-1, 0)));
        Assert.That(law.Within(new LayerSet(0, 2)).Conditions, Is.EqualTo(law.Conditions));
    }

    [Test]
    public void A_setpoint_is_the_interval_whose_ends_meet_to_the_last_bit([Range(1, 20)] int seed)
    {
        var random = new Random(seed);
        float[] v = Numbers.Unit(random, D), x = Numbers.Gaussian(random, D, 100);
        float beta = (float)(100 * random.NextDouble()) - 50;
        float projection = -ErrorOf(new Sensor(0, v, 0f), x);
        Assert.That(ErrorOf(new Sensor(0, v, beta), x), Is.EqualTo(beta - projection));
        Assert.That(ErrorOf(new Sensor(0, v, beta, beta), x), Is.EqualTo(beta - projection));
    }

    [TestCase(float.NegativeInfinity, 1f)]
    [TestCase(-1f, float.PositiveInfinity)]
    [TestCase(-1f, 1f)]
    [TestCase(float.NegativeInfinity, float.PositiveInfinity)]
    public void An_interval_moves_what_is_outside_to_its_nearer_end_and_leaves_alone_what_is_inside(float low, float high)
    {
        float[] v = Numbers.Unit(new Random(3), D);
        foreach (float projection in new[] { -5f, -1.01f, -0.99f, 0, 0.99f, 1.01f, 5 })
        {
            var sensor = new Sensor(0, v, low, high);
            float error = ErrorOf(sensor, [.. v.Select(y => projection * y)]);
            Assert.That(error, Is.EqualTo(Math.Clamp(projection, low, high) - projection).Within(1e-5));
            bool inside = projection > low && projection < high;
            Assert.That(error == 0, Is.EqualTo(inside));
            Assert.That(sensor.Projection(error), inside ? Is.NaN : Is.EqualTo(projection).Within(1e-5),
                "the projection is told where the error tells it");
        }
    }

    [Test]
    public void A_plane_keeps_the_length_and_sets_the_angle([Values(0, 60, 90, 180, -45)] double degrees)
    {
        var random = new Random(5);
        float[] first = Numbers.Unit(random, D), second = Numbers.Unit(random, D);
        double along = Numbers.Dot(first, second);
        second = [.. second.Zip(first, (y, b) => (float)(y - (along * b)))];
        double length = Numbers.Norm(second);
        second = [.. second.Select(y => (float)(y / length))];
        var (sine, cosine) = Math.SinCos(degrees * Math.PI / 180);
        var law = new FeedbackLaw(
            1, D, [new Sensor(0, first, 0f), new Sensor(0, second, 0f)],
                [new Term(0, first, 0, new Feed(0, 1)), new Term(0, second, 0, new Feed(1, 1))],
            planes: [new Plane(0, 1, (float)cosine, (float)sine)]);
        float[] x = Numbers.Gaussian(random, D), y = [.. x];
        var steering = new CpuSteering(law);
        steering.Sense(0, 0, x);
        steering.Act(0, 0, y);
        double a = Numbers.Dot(first, x), b = Numbers.Dot(second, x), inPlane = Math.Sqrt((a * a) + (b * b));
        Assert.That(Numbers.Dot(first, y), Is.EqualTo(inPlane * cosine).Within(1e-5));
        Assert.That(Numbers.Dot(second, y), Is.EqualTo(inPlane * sine).Within(1e-5));
        Assert.That(Numbers.Norm(y), Is.EqualTo(Numbers.Norm(x)).Within(1e-5), "nothing outside the plane moves");
    }

    [Test]
    public void A_gate_is_open_above_its_threshold_alone()
    {
        float[] v = Numbers.Unit(new Random(6), D), w = Numbers.Unit(new Random(7), D);
        var law = new FeedbackLaw(1, D, [new Sensor(0, v, 2f)], [new Term(0, w, 3) { Gate = 0 }]);
        foreach (var (projection, opens) in new[] { (1.9f, false), (2.1f, true), (-5f, false) })
        {
            float[] y = new float[D];
            var steering = new CpuSteering(law);
            steering.Sense(0, 0, [.. v.Select(z => projection * z)]);
            steering.Act(0, 0, y);
            Assert.That(y, Is.EqualTo(opens ? w.Select(z => 3 * z) : new float[D]), $"v·x = {projection}");
        }
    }

    [Test]
    public void A_gate_at_its_threshold_is_closed()
    {
        float[] axis = [1, 0, 0], y = new float[3];
        var steering = new CpuSteering(new FeedbackLaw(1, 3, [new Sensor(0, axis, 2f)], [new Term(0, axis, 3) { Gate = 0 }]));
        steering.Sense(0, 0, [2, 7, 7]);
        steering.Act(0, 0, y);
        Assert.That(y, Is.EqualTo(new float[3]));
    }

    [Test]
    public void A_gate_of_a_later_layer_goes_by_the_token_before_and_is_closed_before_the_first()
    {
        float[] v = Numbers.Unit(new Random(8), D), w = Numbers.Unit(new Random(9), D), above = [.. v.Select(z => 5 * z)];
        var law = new FeedbackLaw(2, D, [new Sensor(1, v, 2f)], [new Term(0, w, 1) { Gate = 0 }]);
        Assert.That(law.LooksBack);
        var steering = new CpuSteering(law);
        foreach (bool opens in new[] { false, true, true })
        {
            float[] y = new float[D];
            steering.Sense(0, 0, above);
            steering.Act(0, 0, y);
            steering.Sense(1, 0, above);
            Assert.That(y.Any(z => z != 0), Is.EqualTo(opens));
        }
    }

    [Test]
    public void An_input_is_moved_before_anything_reads_it()
    {
        // Removed from the input, and put back at the output by what the block's own sensor then reads: 0.
        var random = new Random(11);
        float[] v = Numbers.Unit(random, D), w = Numbers.Unit(random, D), x = Numbers.Gaussian(random, D);
        Sensor before = new(0, v, 0f) { Hook = Hook.Input }, after = new(0, v, 5f);
        var law = new FeedbackLaw(
            2, D, [before, after], [new Term(0, v, 0, new Feed(0, 1)) { Hook = Hook.Input }, new Term(0, w, 0, new Feed(0, 1), new Feed(1, 1))]);
        Assert.That((law.LooksBack, law.Moves(0), law.Moves(1)), Is.EqualTo((false, true, false)));
        double projection = Numbers.Dot(v, x);
        var steering = new CpuSteering(law);
        float[] input = [.. x], output = new float[D], errors = new float[2], efforts = new float[2], states = new float[2];
        steering.Sense(law.Layers, 0, input);
        steering.Act(law.Layers, 0, input);
        steering.Sense(0, 0, input);
        steering.Act(0, 0, output);
        steering.ReadErrors(0, errors);
        steering.ReadEffort(0, efforts, states);
        Assert.That(Numbers.Dot(v, input), Is.EqualTo(0).Within(1e-5));
        Assert.That(errors[0], Is.EqualTo(-projection).Within(1e-5));
        Assert.That(errors[1], Is.EqualTo(5).Within(1e-5), "the block's own sensor reads the input as it was moved");
        Assert.That(output, Is.EqualTo(w.Select(y => (float)(5 - projection) * y)).Within(1e-4));
        Assert.That(efforts[0], Is.EqualTo(Math.Abs(projection) + Math.Abs(5 - projection)).Within(1e-4), "lengths at input and output add up");
        Assert.That(efforts[1], Is.Zero);
    }

    [Test]
    public void A_term_on_an_input_that_reads_the_blocks_own_sensor_looks_back()
    {
        float[] v = Numbers.Unit(new Random(12), D);
        FeedbackLaw Make(Hook sensor, Hook term, int sensorLayer) =>
            new(2, D, [new Sensor(sensorLayer, v, 0f) { Hook = sensor }], [new Term(1, v, 0, new Feed(0, 1)) { Hook = term }]);
        Assert.That(Make(Hook.Output, Hook.Input, 1).LooksBack);
        Assert.That(Make(Hook.Output, Hook.Input, 0).LooksBack, Is.False);
        Assert.That(Make(Hook.Input, Hook.Input, 1).LooksBack, Is.False);
        Assert.That(Make(Hook.Input, Hook.Output, 1).LooksBack, Is.False);
    }

    [Test]
    public void A_sum_keeps_gates_planes_and_feeds()
    {
        var random = new Random(10);
        FeedbackLaw a = Laws.Every(L, D, random, 1), b = Laws.Every(L, D, random, 1), both = FeedbackLaw.Sum([a, b]);
        float[][][] states = [.. Enumerable.Range(0, 3).Select(_ => Enumerable.Range(0, L).Select(_ => Numbers.Gaussian(random, D)).ToArray())];
        double[][][] ua = LawReference.Inputs(a, states), ub = LawReference.Inputs(b, states), sum = LawReference.Inputs(both, states);
        for (int t = 0; t < states.Length; t++)
        {
            for (int k = 0; k < L; k++)
            {
                Assert.That(sum[t][k], Is.EqualTo(ua[t][k].Zip(ub[t][k], (x, y) => x + y)).Within(1e-12));
            }
        }
    }

    [Test]
    public void A_law_that_cannot_be_is_refused()
    {
        float[] v = new float[D];
        Sensor zero = new(0, v, 0f), elsewhere = new(1, v, 0f), other = new(0, v, 1f);
        FeedbackLaw Make(Sensor[] sensors, Term[] terms, params Plane[] planes) => new(2, D, sensors, terms, planes: planes);
        Assert.That(() => Make([new Sensor(0, v, 2, 1)], []), Throws.InstanceOf<ArgumentException>().With.Message.Contains("2 to 1"));
        Assert.That(() => Make([new Sensor(0, v, float.NaN)], []), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => Make([new Sensor(0, v, float.PositiveInfinity)], []), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => Make([new Sensor(0, v, float.NegativeInfinity)], []), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => Make([zero], [new Term(0, v, 0, new Feed(1, 1))]),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("sensor 1"));
        Assert.That(() => Make([zero], [new Term(0, v, 0, new Feed(-1, 1))]), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => Make([zero], [new Term(0, v, 0, new Feed(0, float.NaN))]), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => Make([zero], [new Term(0, v, 0) { Gate = 1 }]), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => Make([zero], [new Term(0, v, 0) { Gate = -2 }]), Throws.InstanceOf<ArgumentException>());
        foreach (var (first, second) in new[] { (0, 0), (0, 1), (0, 2), (0, 4), (-1, 0) })
        {
            Assert.That(() => Make([zero, elsewhere, other, zero], [], new Plane(first, second, 1, 0)), Throws.InstanceOf<ArgumentException>(),
                $"{first}, {second}");
        }

        Assert.That(() => Make([zero, zero, zero], [], new Plane(0, 1, 1, 0), new Plane(2, 1, 1, 0)), Throws.InstanceOf<ArgumentException>());
        foreach (var (t1, t2) in new[] { (float.NaN, 0), (0, 0), (1, 1), (0.7f, 0.7f), (2, 0), (float.PositiveInfinity, 0), (-3e38f, 3e38f) })
        {
            Assert.That(() => Make([zero, zero], [], new Plane(0, 1, t1, t2)), Throws.InstanceOf<ArgumentException>(), $"{t1}, {t2}");
        }

        Assert.That(() => Make([zero, elsewhere, other, zero], [], new Plane(0, 3, 1, 0)), Throws.Nothing);
    }

    private static float ErrorOf(Sensor sensor, float[] x)
    {
        float[] error = new float[1];
        var steering = new CpuSteering(new FeedbackLaw(1, x.Length, [sensor], []));
        steering.Sense(0, 0, x);
        steering.ReadErrors(0, error);
        return error[0];
    }
}
