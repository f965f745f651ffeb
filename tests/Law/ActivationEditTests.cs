using System.Numerics.Tensors;
using Tiller.Law;
using Tiller.Tests.Model;

namespace Tiller.Tests.Law;

/// <summary>What edits do to one activation, by their definitions, and which laws may hold them.</summary>
public sealed class ActivationEditTests
{
    private const int Width = 37;

    [TestCase(0f)]
    [TestCase(0.5f)]
    [TestCase(1f)]
    public void A_neuron_is_mapped_strictly_inside_its_range_alone(float strength)
    {
        float[] z = [-2, -1, 0.5f, 1, 2];
        float[] Five(float value) => [.. Enumerable.Repeat(value, 5)];
        new AffineEdit(0, EditPoint.Output, strength, Five(3), Five(0.25f), Five(-1), Five(1)).Apply(z);
        Assert.That(z, Is.EqualTo(new[] { -2, -1, 0.5f + (strength * 1.25f), 1, 2 }), "the ends are outside");
    }

    [Test]
    public void A_range_without_inside_leaves_every_value_alone()
    {
        float[] z = [1, 2], one = [1, 2], slope = [5, 5];
        new AffineEdit(0, EditPoint.Output, 1, slope, slope, one, one).Apply(z);
        Assert.That(z, Is.EqualTo(one));
    }

    [Test]
    public void Ablation_leaves_nothing_along_the_direction_and_all_across_it()
    {
        var random = new Random(1);
        float[] r = Numbers.Unit(random, Width), z = Numbers.Gaussian(random, Width), before = [.. z];
        new AblationEdit(0, EditPoint.Attention, 1, r).Apply(z);
        Assert.That(TensorPrimitives.Dot<float>(r, z), Is.Zero.Within(1e-6));
        float along = TensorPrimitives.Dot<float>(r, before);
        Assert.That(z.Select((x, i) => x + (along * r[i])), Is.EqualTo(before).Within(1e-6));
    }

    [Test]
    public void A_token_that_grew_is_scaled_back_and_one_that_shrank_is_not()
    {
        float[] c = [1, 0, 0], grows = [3, 4, 0], shrinks = [-3, 4, 0];
        var edit = new NormKeepingEdit(0, EditPoint.Input, 2, c, WholePass: false);
        edit.Apply(grows);
        edit.Apply(shrinks);
        Assert.That(TensorPrimitives.Norm<float>(grows), Is.EqualTo(5).Within(1e-6));
        Assert.That(grows[0] / grows[1], Is.EqualTo(5 / 4f).Within(1e-6), "the direction is that of the sum");
        Assert.That(shrinks, Is.EqualTo(new float[] { -1, 4, 0 }));
    }

    [Test]
    public void The_field_of_a_sketch_is_the_gradient_of_its_features_at_unit_length()
    {
        var random = new Random(2);
        var sketch = CountSketch.Random(Width, 16, gamma: 0.3, constant: 0.7, seed: 5);
        double[] weights = [.. Numbers.Gaussian(random, 16).Select(x => (double)x)], x = [.. Numbers.Gaussian(random, Width).Select(v => (double)v)];
        double[] gradient = new double[Width], field = new double[Width];
        double H(double[] at) => sketch.Features(at).Zip(weights, (phi, c) => phi * c).Sum();
        for (int i = 0; i < Width; i++)
        {
            const double Step = 1e-5;
            double[] up = [.. x], down = [.. x];
            up[i] += Step;
            down[i] -= Step;
            gradient[i] = (H(up) - H(down)) / (2 * Step);
        }

        sketch.Field(weights, x, field);
        double length = Math.Sqrt(gradient.Sum(g => g * g));
        Assert.That(field, Is.EqualTo(gradient.Select(g => g / length)).Within(1e-7));
    }

    [Test]
    public void A_sketch_of_degree_2_tells_products_of_its_kernel()
    {
        // The mean of φ(x)·φ(y) over hashes is (γ x̂·ŷ + c₀)²: 400 sketches come within a few hundredths.
        var random = new Random(3);
        double[] x = [.. Numbers.Unit(random, Width).Select(v => 3.0 * v)], y = [.. Numbers.Unit(random, Width).Zip(x, (v, w) => v + (0.3 * w))];
        double cosine = x.Zip(y, (a, b) => a * b).Sum() / Math.Sqrt(x.Sum(a => a * a) * y.Sum(b => b * b));
        double mean = Enumerable.Range(0, 400).Average(seed =>
        {
            var sketch = CountSketch.Random(Width, 64, gamma: 0.5, constant: 1, (ulong)seed * 7919);
            return sketch.Features(x).Zip(sketch.Features(y), (a, b) => a * b).Sum();
        });
        Assert.That(mean, Is.EqualTo(Math.Pow((0.5 * cosine) + 1, 2)).Within(0.05));
    }

    [Test]
    public void A_flow_climbs_its_function_and_goes_as_far_as_its_time()
    {
        var random = new Random(4);
        var sketch = CountSketch.Random(Width, 16, gamma: 1, constant: 1, seed: 6);
        float[] weights = Numbers.Gaussian(random, 16), z = Numbers.Gaussian(random, Width), before = [.. z];
        double H(float[] at) => sketch.Features([.. at.Select(v => (double)v)]).Zip(weights, (phi, c) => phi * c).Sum();
        new FlowEdit(0, EditPoint.Output, 0.5f, sketch, weights, 10).Apply(z);
        Assert.That(H(z), Is.GreaterThan(H(before)));
        Assert.That(TensorPrimitives.Distance<float>(z, before), Is.InRange(0.1, 0.5 + 1e-5), "ten steps of a twentieth, which may turn");
    }

    [Test]
    public void Laws_with_edits_add_up_in_their_order_with_gates_and_conditions_moved_along()
    {
        var random = new Random(5);
        float[] v = Numbers.Unit(random, Width);
        var asked = new PromptCondition([new ConditionProbe(0, v)], 0.1, Above: true);
        var edit = new AblationEdit(1, EditPoint.Output, 1, v) { Gate = 0, Condition = 0 };
        var law = new FeedbackLaw(2, Width, [new Sensor(0, v, 1f)], [], edits: [edit], conditions: [asked]);
        var sum = FeedbackLaw.Sum([new FeedbackLaw(2, Width, [new Sensor(1, v, 2f)], []), law, law]);
        Assert.That(sum.Edits, Is.EqualTo(new[] { edit with { Gate = 1, Condition = 0 }, edit with { Gate = 2, Condition = 1 } }));
        Assert.That(sum.Conditions, Has.Count.EqualTo(2));
        Assert.That(sum.Within(new LayerSet(0, 0)).Edits, Is.Empty);
        Assert.That(sum.Within(new LayerSet(1, 1)).Edits.Select(e => e.Gate), Is.EqualTo(new[] { 0, 1 }), "sensors that serve nothing are gone");
    }

    [Test]
    public void A_decided_law_has_what_the_prompt_allows_and_every_sensor()
    {
        float[] v = Numbers.Unit(new Random(6), Width);
        PromptCondition[] asked = [.. Enumerable.Range(0, 2).Select(i => new PromptCondition([new ConditionProbe(i, v)], 0.1, Above: true))];
        var law = new FeedbackLaw(
            2, Width, [new Sensor(0, v, 1f)], [new Term(0, v, 1) { Condition = 0 }, new Term(1, v, 2) { Condition = 1 }, new Term(1, v, 3)],
            edits: [new AblationEdit(1, EditPoint.Output, 1, v) { Condition = 1 }], conditions: asked);
        var decided = law.Decide([true, false]);
        Assert.That(decided.Terms.Select(t => t.C), Is.EqualTo(new[] { 1f, 3 }));
        Assert.That((decided.Edits.Count, decided.Sensors.Count, decided.Conditions.Count), Is.EqualTo((0, 1, 0)));
        Assert.That(decided.Decisions, Is.EqualTo(new[] { true, false }));
        Assert.That(decided.Undecided, Is.SameAs(law));
        Assert.That(() => law.Decide([true]), Throws.ArgumentException.With.Message.Contains("2 conditions"));
    }

    [Test]
    public void A_bound_and_edits_exclude_each_other()
    {
        float[] v = Numbers.Unit(new Random(7), Width);
        Assert.That(
            () => new FeedbackLaw(1, Width, [], [], maxEffort: 1, edits: [new AblationEdit(0, EditPoint.Output, 1, v)]),
            Throws.TypeOf<LawCombinationException>().With.Message.Contains("Leave the bound out"));
    }

    [Test]
    public void Rows_that_are_scaled_back_together_are_so_last_and_at_once()
    {
        float[] v = Numbers.Unit(new Random(8), Width);
        var joined = new NormKeepingEdit(0, EditPoint.Input, 1, v, WholePass: true);
        var later = new Term(0, v, 0, new Feed(0, 1));
        Assert.That(() => new FeedbackLaw(2, Width, [], [], edits: [joined, joined]), Throws.TypeOf<LawCombinationException>());
        Assert.That(() => new FeedbackLaw(2, Width, [new Sensor(1, v, 1f)], [later], edits: [joined]), Throws.TypeOf<LawCombinationException>());
        Assert.That(() => new FeedbackLaw(2, Width, [], [], edits: [new AblationEdit(0, EditPoint.Input, 1, v), joined]), Throws.Nothing);
    }

    private static IEnumerable<ActivationEdit> Wrong()
    {
        float[] good = new float[Width], bad = new float[Width], shorter = new float[Width - 1];
        bad[3] = float.NaN;
        var sketch = CountSketch.Random(Width, 8, 1, 1, 1);
        return
        [
            new AblationEdit(2, EditPoint.Output, 1, good), new AblationEdit(-1, EditPoint.Output, 1, good),
            new AblationEdit(0, EditPoint.Output, 1, bad), new AblationEdit(0, EditPoint.Output, 1, shorter),
            new AblationEdit(0, EditPoint.Output, float.NaN, good), new AffineEdit(0, EditPoint.Output, 1, good, good, shorter, good),
            new AblationEdit(0, EditPoint.Output, 1, good) { Gate = 0 }, new AblationEdit(0, EditPoint.Output, 1, good) { Condition = 0 },
            new FlowEdit(0, EditPoint.Output, 1, sketch, new float[7], 10), new FlowEdit(0, EditPoint.Output, 1, sketch, new float[8], 0),
            new FlowEdit(0, EditPoint.Output, 1, CountSketch.Random(Width + 1, 8, 1, 1, 1), new float[8], 10),
            new FlowEdit(0, EditPoint.Output, 1, sketch, [1, 1, 1, 1, 1, 1, 1, float.NaN], 10),
        ];
    }

    [TestCase(0, 8)]
    [TestCase(8, 0)]
    public void A_sketch_has_a_width_and_features(int width, int components) =>
        Assert.That(() => CountSketch.Random(width, components, 1, 1, 1), Throws.InstanceOf<ArgumentOutOfRangeException>());

    [TestCaseSource(nameof(Wrong))]
    public void An_edit_that_does_not_fit_the_model_is_refused(ActivationEdit edit) =>
        Assert.That(() => new FeedbackLaw(2, Width, [], [], edits: [edit]), Throws.InstanceOf<ArgumentException>());

    [Test]
    public void A_similarity_is_a_cosine_with_the_bent_projection()
    {
        // Along c alone tanh changes the length and not the direction; across it nothing is left.
        float[] c = [2, 0, 0];
        Assert.That(PromptCondition.Similarity(c, [5, 0, 0]), Is.EqualTo(1).Within(1e-12));
        Assert.That(PromptCondition.Similarity(c, [-5, 0, 0]), Is.EqualTo(1).Within(1e-12), "a projection against c points where h does");
        Assert.That(PromptCondition.Similarity(c, [0, 1, 2]), Is.Zero);
        Assert.That(PromptCondition.Similarity(c, [3, 4, 0]), Is.EqualTo(0.6).Within(1e-12));
        Assert.That(PromptCondition.Similarity([0, 0, 0], [1, 2, 3]), Is.Zero);
    }

    [TestCase(true, 0.5, true)]
    [TestCase(true, 0.7, false)]
    [TestCase(false, 0.5, false)]
    [TestCase(false, 0.7, true)]
    public void One_probe_on_the_right_side_meets_a_condition(bool above, double threshold, bool met)
    {
        float[] c = [1, 0], h = [3, 4], across = [0, 4];
        var condition = new PromptCondition([new ConditionProbe(0, c), new ConditionProbe(1, c)], threshold, above);
        Assert.That(condition.IsMet([h, h]), Is.EqualTo(met));
        Assert.That(condition.IsMet([across, h]), Is.EqualTo(met || !above), "0 is below every threshold here");
    }
}
