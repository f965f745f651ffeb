using Tiller.Controllers;
using Tiller.Cpu;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>What a feedback law does inside the forward pass, and what it must leave alone.</summary>
public sealed class SteeringTests(string device) : OnEveryDevice(device)
{
    private static IEnumerable<string> EveryFamily => TestModels.Families.Concat(FamilyCheckpoint.Names);

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void A_law_without_terms_or_with_zero_directions_is_the_plain_model_bit_for_bit(string family)
    {
        var model = TestModels.Load(family);
        var (layers, width) = (model.Config.L, model.Config.D);
        var random = Laws.Random(model, 1);
        FeedbackLaw[] nothing =
        [
            new(layers, width, [], []),
            new(layers, width, random.Sensors, []),
            new(layers, width, random.Sensors, [.. random.Terms.Select(t => t with { W = new float[width] })]),
            new(layers, width, random.Sensors, [.. random.Terms.Select(t => t with { W = new float[width] })], maxEffort: 0.01f),
        ];
        float[][] plain = Decode(model, null, SteeredTokens.Last);
        foreach (var law in nothing)
        {
            foreach (var tokens in new[] { SteeredTokens.Last, SteeredTokens.All })
            {
                Assert.That(Decode(model, law, tokens), Is.EqualTo(plain));
            }
        }

        Assert.That(Decode(model, random, SteeredTokens.Last), Is.Not.EqualTo(plain), "the law itself does something");
    }

    // With a bias of the down projection, which steered steps add in a kernel of their own.
    [TestCase("own-llama")]
    [TestCase("own-granite")]
    public void A_plain_row_has_the_same_bits_beside_a_steered_one(string family)
    {
        var model = TestModels.Load(family);
        Assert.That(model.Config.FeedForwardBias, Is.True);
        using var alone = new Session(model);
        using var beside = new Session(model);
        using var steered = new Session(model, Laws.Random(model, 1));
        using var batch = new SessionBatch(model);
        Session[] sessions = [alone, beside, steered];
        Array.ForEach(sessions, session => session.Append([3, 4, 5]));
        BatchRow[] rows = [new(beside), new(steered)];
        for (int id = 6; id < 9; id++)
        {
            alone.Append(id);
            batch.Step(rows, [id, id]);
            Assert.That(beside.Logits.ToArray(), Is.EqualTo(alone.Logits.ToArray()), $"token {id}");
        }
    }

    [Test]
    public void Laws_add_up()
    {
        var model = TestModels.Load("llama3-bf16");
        var a = Laws.Random(model, 1, maxEffort: 5);
        var b = Laws.Random(model, 2, maxEffort: 3);
        var nothing = new FeedbackLaw(a.Layers, a.Width, [], []);
        Assert.That(FeedbackLaw.Sum([a, b]).MaxEffort, Is.EqualTo(3));
        Assert.That(Decode(model, FeedbackLaw.Sum([a]), SteeredTokens.All), Is.EqualTo(Decode(model, a, SteeredTokens.All)));
        Assert.That(Decode(model, FeedbackLaw.Sum([nothing, a]), SteeredTokens.All), Is.EqualTo(Decode(model, a, SteeredTokens.All)));

        // Another order sums in another order: equal up to rounding. A law and its opposite cancel.
        float[][] ab = Decode(model, FeedbackLaw.Sum([a, b]), SteeredTokens.Last);
        float[][] ba = Decode(model, FeedbackLaw.Sum([b, a]), SteeredTokens.Last);
        Assert.That(ab.Zip(ba, (x, y) => Numbers.Error(x, y)), Is.All.LessThan(1e-4));
        var opposite = new FeedbackLaw(a.Layers, a.Width, a.Sensors,
            [.. a.Terms.Select(t => t with { C = -t.C, Feeds = [.. t.Feeds.Select(f => f with { Gain = -f.Gain })] })]);
        float[][] plain = Decode(model, null, SteeredTokens.Last);
        Assert.That(Decode(model, FeedbackLaw.Sum([a, opposite]), SteeredTokens.Last).Zip(plain, (x, y) => Numbers.Error(x, y)),
            Is.All.LessThan(1e-4));
    }

    [TestCaseSource(nameof(EveryFamily))]
    public void Tangents_are_the_derivative_of_the_closed_loop(string family) => CheckTangents(family, float.PositiveInfinity);

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Tangents_are_the_derivative_of_intervals_planes_and_gates(string family) =>
        CheckTangents(family, float.PositiveInfinity, everyKind: true);

    [Test]
    public void A_law_on_the_input_of_a_block_is_one_on_the_output_of_the_block_before()
    {
        // Sensors of the same place: what enters block k is what left block k − 1. The output's are written as open-loop pushes, which read nothing.
        var model = AnyModel;
        var (layers, width) = (model.Config.L, model.Config.D);
        var random = new Random(16);
        float[][] pushes = [.. Enumerable.Range(0, layers - 1).Select(_ => Numbers.Unit(random, width))];
        FeedbackLaw Pushing(Hook hook) =>
            new(layers, width, [], [.. pushes.Select((w, k) => new Term(hook == Hook.Input ? k + 1 : k, w, 0.7f) { Hook = hook })], maxEffort: 0.5f);
        foreach (var tokens in new[] { SteeredTokens.Last, SteeredTokens.All })
        {
            float[][] input = Decode(model, Pushing(Hook.Input), tokens), output = Decode(model, Pushing(Hook.Output), tokens);
            Assert.That(input.Zip(output, (x, y) => Numbers.Error(x, y)), Is.All.LessThan(1e-5));
        }
    }

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Tangents_are_the_derivative_of_the_closed_loop_at_the_bound(string family) => CheckTangents(family, 0.02f);

    [Test]
    public void Tangents_forget_the_pass_before()
    {
        // A term that looks back reads the token before, which a tangent of this token does not move.
        var model = TestModels.Load("qwen2-bf16");
        var law = Laws.LooksBack(model, 5);
        var states = TestModels.States(model, TestModels.Prompts("qwen2-bf16")[0]);
        using var run = new BlockRun(model, states);
        float[][][] dx = [[Numbers.Unit(new Random(6), model.Config.D)]];
        using var fresh = model.NewSteering(law);
        using var used = model.NewSteering(law);
        float[] expected = run.Through(0, model.Config.L - 1, run.Inputs(0), dx, [fresh]).Dy[0][0];
        run.Through(0, model.Config.L - 1, run.Inputs(0), [[Numbers.Unit(new Random(7), model.Config.D)]], [used]);
        used.WriteErrors(new float[law.Sensors.Count]);
        Assert.That(run.Through(0, model.Config.L - 1, run.Inputs(0), dx, [used]).Dy[0][0], Is.EqualTo(expected));
        states[0].Dispose();
    }

    [Test]
    public void The_bound_holds_at_every_layer_and_token_and_is_reached()
    {
        var model = AnyModel;
        foreach (float bound in new[] { 1e-3f, 0.3f, 1, 7.77f })
        {
            var law = Laws.Random(model, 8, bound);
            using var session = new Session(model, law, SteeredTokens.All);
            session.Prefill([0, 5, 9, 12, 40]);
            float[] inputs = new float[law.Layers], states = new float[law.Layers];
            int reached = 0;
            for (int step = 0; step < 20; step++)
            {
                for (int slot = 0; slot < session.Steering!.Slots; slot++)
                {
                    session.Steering.ReadEffort(slot, inputs, states);
                    Assert.That(inputs, Is.All.LessThanOrEqualTo(bound));
                    reached += inputs.Count(u => u > 0.999999f * bound);
                    Assert.That(states, Is.All.Positive);
                }

                session.Step(10 + step);
            }

            Assert.That(reached, bound < 1 ? Is.Positive : Is.AtLeast(0), $"bound {bound}");
        }
    }

    [Test]
    public void What_is_added_has_the_length_that_is_reported()
    {
        // The stage alone: u is what it adds to zero.
        var random = new Random(9);
        for (int trial = 0; trial < 2000; trial++)
        {
            int width = random.Next(1, 70);
            float bound = (float)Math.Pow(10, (6 * random.NextDouble()) - 3);
            double scale = Math.Pow(10, (6 * random.NextDouble()) - 3);
            var law = new FeedbackLaw(
                1, width, [new Sensor(0, Numbers.Unit(random, width), (float)scale)],
                [new Term(0, Numbers.Gaussian(random, width, scale), 0.5f, new Feed(0, 1))], bound);
            var steering = new CpuSteering(law);
            float[] u = new float[width], norm = new float[1], state = new float[1];
            steering.Sense(0, 0, Numbers.Gaussian(random, width));
            steering.Act(0, 0, u);
            steering.ReadEffort(0, norm, state);
            Assert.That(norm[0], Is.EqualTo((float)Numbers.Norm(u)), $"trial {trial}");
            Assert.That(Numbers.Norm(u), Is.LessThanOrEqualTo(bound).And.GreaterThan(Math.Min(bound * (1 - 1e-5), norm[0] * 0.999)),
                $"trial {trial}");
        }
    }

    [Test]
    public void An_input_whose_length_overflows_is_still_held_to_the_bound()
    {
        var law = new FeedbackLaw(1, 2, [], [new Term(0, [3e30f, 4e30f], 1)], maxEffort: 5);
        var steering = new CpuSteering(law);
        float[] u = new float[2];
        steering.Sense(0, 0, u);
        steering.Act(0, 0, u);
        Assert.That(u[0], Is.EqualTo(3).Within(1e-5));
        Assert.That(u[1], Is.EqualTo(4).Within(1e-5));
        Assert.That(Numbers.Norm(u), Is.LessThanOrEqualTo(5));
    }

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void A_bound_holds_at_every_layer_and_token_to_the_last_bit(string family)
    {
        var model = TestModels.Load(family);
        float[] effort = new float[model.Config.L], states = new float[model.Config.L];
        int bound = 0;
        foreach (float most in new[] { 0.1f, 0.7f, 1 / 3f, 3e-3f, 1e-20f, 1e-41f })
        {
            var law = Laws.Random(model, 11, most);
            using var session = new Session(model, law, SteeredTokens.All);
            session.Prefill([3, 4, 5, 6]);
            for (int step = 0; step < 6; step++)
            {
                for (int slot = 0; slot < session.Steering!.Slots; slot++)
                {
                    session.Steering.ReadEffort(slot, effort, states);
                    Assert.That(effort, Has.All.LessThanOrEqualTo(most));
                    bound += effort.Count(u => u > most * 0.9999f);
                }

                session.Step(7 + step);
            }
        }

        Assert.That(bound, Is.GreaterThan(20), "the bound was reached");
    }

    // Numbers that no longer halve: the smallest bounds leave only zero, or one denormal, below them.
    [Test]
    public void A_bound_among_the_denormal_numbers_holds([Values(1e-45f, 3e-45f, 1e-44f, 1e-40f, 1.2e-38f)] float most)
    {
        for (int width = 1; width < 20; width++)
        {
            var law = new FeedbackLaw(1, width, [], [new Term(0, [.. Enumerable.Repeat(1f, width)], 1)], most);
            var steering = new CpuSteering(law);
            float[] u = new float[width];
            steering.Sense(0, 0, u);
            steering.Act(0, 0, u);
            Assert.That(Numbers.Norm(u), Is.LessThanOrEqualTo(most), $"width {width}");
        }
    }

    [Test]
    public void Use_changes_the_strength_in_the_middle_of_a_text()
    {
        var model = TestModels.Demo;
        var method = new Proportional(Laws.RandomFeature(model, 10), 0.2);
        using var session = new Session(model, method.Compile(1));
        float[] weak = new float[model.Config.L], strong = new float[model.Config.L];
        session.Prefill([0, 4, 5]);
        session.Step(9);
        session.Steering!.ReadErrors(0, weak);
        session.Use(method.Compile(3));
        session.Step(9);
        session.Steering.ReadErrors(0, strong);

        // The same token enters block 0 as the same vector, so α moves by exactly (3 − 1) μ_0.
        Assert.That(strong[0] - weak[0], Is.EqualTo(2 * method.Feature.Mu[0]).Within(1e-5));

        // Without a law the next token is a plain one; with one of another model nothing changes.
        using var twin = new Session(model, method.Compile(1));
        twin.Prefill([0, 4, 5]);
        twin.Step(9);
        twin.Use(method.Compile(3));
        twin.Step(9);
        session.Use(null);
        twin.Use(new FeedbackLaw(model.Config.L, model.Config.D, [], []));
        Assert.That(() => twin.Use(new FeedbackLaw(model.Config.L, 3, [], [])), Throws.InstanceOf<ModelMismatchException>());
        Assert.That(session.Step(11).ToArray(), Is.EqualTo(twin.Step(11).ToArray()));
        Assert.That(session.Steering, Is.Null);
        session.Use(method.Compile(2));
        twin.Use(method.Compile(2));
        Assert.That(session.Step(12).ToArray(), Is.EqualTo(twin.Step(12).ToArray()));
    }

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Steering_every_token_at_once_is_steering_token_by_token(string family)
    {
        var model = TestModels.Load(family);
        int[] ids = TestModels.LongPrompt(family, 12);
        var (layers, width) = (model.Config.L, model.Config.D);
        foreach (var law in new[] { Laws.Random(model, 11), Laws.LooksBack(model, 12), Laws.Every(layers, width, new Random(13), 1, inputs: true) })
        {
            using var whole = new Session(model, law, SteeredTokens.All);
            using var single = new Session(model, law, SteeredTokens.All);
            float[] atOnce = whole.Prefill(ids).ToArray();
            single.Prefill(ids.AsSpan(0, 1));
            foreach (int id in ids[1..])
            {
                single.Step(id);
            }

            // A law that looks back is run token by token anyway.
            Assert.That(Numbers.Error(atOnce, single.Logits), law.LooksBack ? Is.Zero : Is.LessThan(1e-4));
        }
    }

    [Test]
    public void A_law_of_another_shape_is_refused()
    {
        var model = TestModels.Demo;
        Assert.That(() => new Session(model, new FeedbackLaw(model.Config.L - 1, model.Config.D, [], [])),
            Throws.InstanceOf<ModelMismatchException>());
        Assert.That(() => new Session(model, new FeedbackLaw(model.Config.L, model.Config.D + 1, [], [])),
            Throws.InstanceOf<ModelMismatchException>());
    }

    private static void CheckTangents(string family, float bound, bool everyKind = false)
    {
        var model = TestModels.Load(family);
        int last = model.Config.L - 1;

        // The demo's embeddings are so short against what its blocks add that float32 differences of x_L drown; begin where x has grown.
        int first = family == "demo" ? 5 : 0;
        var prompts = TestModels.States(model, [.. TestModels.Prompts(family).Take(2)]);
        using var run = new BlockRun(model, prompts);
        var random = new Random(13);
        FeedbackLaw Law(int seed) =>
            everyKind ? Laws.Every(model.Config.L, model.Config.D, new Random(seed), 1, inputs: seed % 2 == 0) : Laws.Random(model, seed, bound);
        FeedbackLaw[] laws = [Law(14), Law(15)];
        float[][] x = run.Inputs(first);
        float[][][] dx = [.. prompts.Select(_ => new[] { Numbers.Unit(random, model.Config.D), Numbers.Unit(random, model.Config.D) })];
        float[][][] none = [.. prompts.Select(_ => Array.Empty<float[]>())];
        var (_, dy) = Run(x, dx, checkBound: true);
        for (int j = 0; j < 2; j++)
        {
            // Central differences, extrapolated from two steps: error O(h⁴).
            float[][] wide = Difference(j, 6e-3), narrow = Difference(j, 3e-3);
            for (int i = 0; i < x.Length; i++)
            {
                float[] difference = [.. narrow[i].Zip(wide[i], (a, b) => (float)(((4.0 * a) - b) / 3))];
                Assert.That(Numbers.Error(dy[i][j], difference), Is.LessThan(1e-3), $"prompt {i}, tangent {j}");
            }
        }

        foreach (var prompt in prompts)
        {
            prompt.Dispose();
        }

        float[][] Difference(int j, double size)
        {
            double[] step = [.. x.Select(row => size * Numbers.Norm(row))];
            var (above, _) = Run([.. x.Select((row, i) => Numbers.Add(row, step[i], dx[i][j]))], none);
            var (below, _) = Run([.. x.Select((row, i) => Numbers.Add(row, -step[i], dx[i][j]))], none);
            return [.. above.Select((row, i) => row.Zip(below[i], (a, b) => (float)(((double)a - b) / (2 * step[i]))).ToArray())];
        }

        (float[][] Y, float[][][] Dy) Run(float[][] values, float[][][] tangents, bool checkBound = false)
        {
            SteeringState[] steering = [.. laws.Select(model.NewSteering)];
            var result = run.Through(first, last, values, tangents, steering);
            if (checkBound && float.IsFinite(bound))
            {
                float[] inputs = new float[last + 1], states = new float[last + 1];
                foreach (var state in steering)
                {
                    state.ReadEffort(0, inputs, states);
                    Assert.That(inputs[first..], Is.All.GreaterThan(0.999999f * bound), "every layer is at its bound");
                }
            }

            foreach (var state in steering)
            {
                state.Dispose();
            }

            return result;
        }
    }

    /// <summary>Logits after a prompt and after each of eight more tokens.</summary>
    private static float[][] Decode(LanguageModel model, FeedbackLaw? law, SteeredTokens tokens)
    {
        using var session = new Session(model, law, tokens);
        var logits = new List<float[]> { session.Prefill([3, 4, 5, 6, 7]).ToArray() };
        for (int id = 8; id < 16; id++)
        {
            logits.Add(session.Step(id).ToArray());
        }

        return [.. logits];
    }
}
