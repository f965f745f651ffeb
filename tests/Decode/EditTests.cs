using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Scheduling;
using Tiller.Synthesis;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>Edits of activations inside the forward pass: where they act, on which tokens, beside what, and what they leave alone.</summary>
public sealed class EditTests(string device) : OnEveryDevice(device)
{
    private static readonly int[] s_prompt = [3, 4, 5, 6, 7];

    private static readonly SteeredTokens[] s_tokens = [SteeredTokens.Last, SteeredTokens.All, SteeredTokens.LastOverCleanPrefix];

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Edits_of_no_effect_are_the_plain_model(string family)
    {
        var model = TestModels.Load(family);
        float[][] plain = Decode(model, null, SteeredTokens.All);
        var zero = new float[model.Config.D];
        foreach (var point in Enum.GetValues<EditPoint>())
        {
            var nothing = Law(model, k => [new AblationEdit(k, point, 1, zero), new AffineEdit(k, point, 1, zero, zero, zero, zero)]);
            Assert.That(Decode(model, nothing, SteeredTokens.All).Zip(plain, (x, y) => Numbers.Error(x, y)), Is.All.LessThan(1e-5), $"{point}");
        }
    }

    [Test]
    public void Ablation_at_the_input_is_what_a_sensor_and_a_term_do()
    {
        var model = AnyModel;
        float[][] r = Directions(model, 1);
        var law = new FeedbackLaw(
            model.Config.L, model.Config.D, [.. r.Select((v, k) => new Sensor(k, v, 0f) { Hook = Hook.Input })],
            [.. r.Select((v, k) => new Term(k, v, 0, new Feed(k, 1)) { Hook = Hook.Input })]);
        var edits = Law(model, k => [new AblationEdit(k, EditPoint.Input, 1, r[k])]);
        foreach (var tokens in s_tokens)
        {
            float[][] expected = Decode(model, law, tokens);
            Assert.That(Decode(model, edits, tokens).Zip(expected, (x, y) => Numbers.Error(x, y)), Is.All.LessThan(1e-5), $"{tokens}");
            Assert.That(expected, Is.Not.EqualTo(Decode(model, null, tokens)));
        }
    }

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void An_output_that_is_edited_is_the_next_blocks_edited_input(string family)
    {
        var model = TestModels.Load(family);
        foreach (var tokens in s_tokens)
        {
            var output = Law(model, k => k < model.Config.L - 1 ? Everything(model, k, k, EditPoint.Output) : []);
            var input = Law(model, k => k > 0 ? Everything(model, k - 1, k, EditPoint.Input) : []);
            float[][] expected = Decode(model, output, tokens), actual = Decode(model, input, tokens);
            Assert.That(actual.Zip(expected, (x, y) => Numbers.Error(x, y)), Is.All.LessThan(1e-4), $"{tokens}");
        }
    }

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void A_direction_that_no_block_may_write_stays_out_of_every_state(string family)
    {
        // Without a norm behind them, what attention and the feed-forward part add has nothing along it, and the first input has lost it.
        var model = TestModels.Load(family);
        var feature = Laws.RandomFeature(model, 3);
        var method = new DirectionalAblation(feature, model.Config.L / 2);
        float[] r = feature.V[method.Block];
        float[][] states = BlockProbe.Steered(model, s_prompt, method.Compile(1), SteeredTokens.All, null, CancellationToken.None);
        var nothing = new FeedbackLaw(feature.L, feature.D, [], []);
        float[][] plain = BlockProbe.Steered(model, s_prompt, nothing, SteeredTokens.All, null, CancellationToken.None);
        for (int k = 1; k <= feature.L; k++)
        {
            double along = Share(states[k], r);
            if (model.Config.PostNorms || !model.Config.PreNorms)
            {
                continue; // a norm behind the edit turns what is left
            }

            Assert.That(along, Is.LessThan(1e-5), $"state {k}");
            Assert.That(Share(plain[k], r), Is.GreaterThan(along));
        }

        Assert.That(Numbers.Error(states[^1], plain[^1]), Is.GreaterThan(1e-3));
    }

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void A_prompt_at_once_is_the_same_tokens_one_by_one(string family)
    {
        var model = TestModels.Load(family);
        var law = Law(model, k => [.. Enum.GetValues<EditPoint>().SelectMany((point, i) => Everything(model, (4 * k) + i, k, point))]);
        using var whole = new Session(model, law, SteeredTokens.All);
        using var parts = new Session(model, law, SteeredTokens.All);
        whole.Append(s_prompt);
        foreach (int id in s_prompt)
        {
            parts.Append(id);
        }

        Assert.That(Numbers.Error(parts.Logits.ToArray(), whole.Logits.ToArray()), Is.LessThan(1e-4));
        using var plain = new Session(model);
        Assert.That(Numbers.Error(plain.Prefill(s_prompt).ToArray(), whole.Logits.ToArray()), Is.GreaterThan(1e-3), "they do something");
    }

    [Test]
    public void Rows_of_a_batch_follow_their_own_edits()
    {
        var model = AnyModel;
        FeedbackLaw?[] laws =
        [
            Law(model, k => Everything(model, k, k, EditPoint.Attention)), null, Law(model, k => Everything(model, 50 + k, k, EditPoint.FeedForward)),
            Laws.Random(model, 4), Law(model, k => Everything(model, 90 + k, k, EditPoint.Input)),
        ];
        Session[] alone = [.. laws.Select(law => new Session(model, law))], beside = [.. laws.Select(law => new Session(model, law))];
        using var batch = new SessionBatch(model);
        try
        {
            foreach (var session in alone.Concat(beside))
            {
                session.Append(s_prompt);
            }

            for (int id = 8; id < 11; id++)
            {
                batch.Step([.. beside.Select(session => new BatchRow(session))], [.. laws.Select(_ => id)]);
                for (int i = 0; i < laws.Length; i++)
                {
                    alone[i].Append(id);
                    Assert.That(Numbers.Error(beside[i].Logits.ToArray(), alone[i].Logits.ToArray()), Is.LessThan(1e-5), $"row {i}, token {id}");
                }
            }

            Assert.That(beside[1].Logits.ToArray(), Is.EqualTo(alone[1].Logits.ToArray()), "a plain row keeps its bits");
        }
        finally
        {
            Array.ForEach([.. alone, .. beside], session => session.Dispose());
        }
    }

    [Test]
    public void Excluded_positions_and_closed_gates_are_not_edited()
    {
        var model = AnyModel;
        float[][] plain = Decode(model, null, SteeredTokens.All);
        var law = Law(model, k => Everything(model, k, k, EditPoint.Output));
        var none = SteeredTokens.All with { ExcludedPositions = [.. Enumerable.Range(0, 20)] };
        Assert.That(Decode(model, law, none), Is.EqualTo(plain));

        // A gate that is always open, and one that never is, behind which every bit is the plain model's.
        float[] always = Numbers.Unit(new Random(9), model.Config.D);
        FeedbackLaw Gated(float threshold) => new(
            model.Config.L, model.Config.D, [new Sensor(0, always, threshold)], [], edits: [.. law.Edits.Select(e => e with { Gate = 0 })]);
        float[][] open = Decode(model, Gated(-1e9f), SteeredTokens.All), closed = Decode(model, Gated(1e9f), SteeredTokens.All);
        Assert.That(closed, Is.EqualTo(plain));
        foreach (var point in Enum.GetValues<EditPoint>())
        {
            var shut = new FeedbackLaw(
                model.Config.L, model.Config.D, [new Sensor(0, always, 1e9f)], [],
                edits: [.. Law(model, k => Everything(model, k, k, point)).Edits.Select(e => e with { Gate = 0 })]);
            Assert.That(Decode(model, shut, SteeredTokens.All), Is.EqualTo(plain), $"{point}");
        }

        Assert.That(open.Zip(Decode(model, law, SteeredTokens.All), (x, y) => Numbers.Error(x, y)), Is.All.LessThan(1e-5));
        Assert.That(Numbers.Error(open[0], plain[0]), Is.GreaterThan(1e-3));
    }

    [Test]
    public void What_a_prompt_met_is_forgotten_when_its_reading_is_cancelled()
    {
        var model = AnyModel;
        int[] ids = [.. Enumerable.Range(0, Math.Min(model.Config.MaxPositions, 300)).Select(i => 3 + (i % 50))];
        if (model.Ops.PassRows >= ids.Length)
        {
            Assert.Ignore("The whole prompt is one pass here, and a pass that has been run is not cancelled.");
        }

        float[] c = Numbers.Unit(new Random(4), model.Config.D);
        var law = new FeedbackLaw(
            model.Config.L, model.Config.D, [], [], edits: [new AblationEdit(0, EditPoint.Output, 1, c) { Condition = 0 }],
            conditions: [new PromptCondition([new ConditionProbe(1, c)], -2, Above: true)]);
        using var session = new Session(model, law, SteeredTokens.All);
        using var ends = new CancellationTokenSource();
        Assert.That(() => session.Prefill(ids, _ => ends.Cancel(), ends.Token), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(session.Steering!.Law.Decisions, Is.EqualTo(new[] { false }));
        session.Append(ids);
        Assert.That(session.Steering!.Law.Decisions, Is.EqualTo(new[] { true }));
        using var fresh = new Session(model, law, SteeredTokens.All);
        Assert.That(session.Logits.ToArray(), Is.EqualTo(fresh.Prefill(ids).ToArray()));
    }

    [Test]
    public void Effort_is_what_edits_have_moved()
    {
        // A map with slope 1: |Δ| of the addition that it is against the state is λ.
        var model = AnyModel;
        float[] c = Numbers.Unit(new Random(10), model.Config.D);
        var identity = Enumerable.Repeat(1f, model.Config.D).ToArray();
        var push = c.Select(x => 0.25f * x).ToArray();
        float[] All(float value) => [.. Enumerable.Repeat(value, model.Config.D)];
        var law = Law(model, k => [new AffineEdit(k, EditPoint.Output, 1, identity, push, All(-1e6f), All(1e6f))]);
        using var session = new Session(model, law, SteeredTokens.All);
        session.Append(s_prompt);
        float[] inputs = new float[model.Config.L], states = new float[model.Config.L];
        for (int slot = 0; slot < session.SteeredPositions.Length; slot++)
        {
            session.Steering!.ReadEffort(slot, inputs, states);
            Assert.That(inputs, Is.All.EqualTo(0.25f).Within(1e-3), $"slot {slot}");
            Assert.That(states, Is.All.GreaterThan(0));
        }

        session.Use(Law(model, k => [new AffineEdit(k, EditPoint.Output, 2, identity, push, All(-1e6f), All(1e6f))]));
        session.Append(9);
        session.Steering!.ReadEffort(0, inputs, states);
        Assert.That(inputs, Is.All.EqualTo(0.5f).Within(1e-3), "at another strength");
    }

    [Test]
    public void As_soon_as_one_token_of_a_pass_grows_all_are_scaled_to_their_lengths()
    {
        // At block 0's input the states are the embeddings: what is then there is seen by a sensor along each axis of interest.
        var model = AnyModel;
        var (layers, width) = (model.Config.L, model.Config.D);
        float[] c = Numbers.Unit(new Random(11), width);
        FeedbackLaw With(bool whole, float strength) =>
            new(layers, width, [new Sensor(0, c, 0f)], [], edits: [new NormKeepingEdit(0, EditPoint.Input, strength, c, whole)]);
        float[] Read(FeedbackLaw law)
        {
            using var session = new Session(model, law, SteeredTokens.All);
            session.Append(s_prompt);
            float[] error = new float[1];
            return [.. Enumerable.Range(0, s_prompt.Length).Select(slot =>
            {
                session.Steering!.ReadErrors(slot, error);
                return -error[0];
            })];
        }

        float[] plain = Read(new FeedbackLaw(layers, width, [new Sensor(0, c, 0f)], []));
        float[] lengths = [.. s_prompt.Select(id => BlockProbe.Steered(
            model, [id], new FeedbackLaw(layers, width, [], []), SteeredTokens.All, null, CancellationToken.None)[0])
            .Select(x => MathF.Sqrt(x.Sum(y => y * y)))];

        // λ so that tokens with a projection below −λ/2 shrink, of which there are some and not all.
        float strength = -2 * plain.Order().ElementAt(1) * 0.999f;
        strength = strength == 0 ? 1 : strength;
        float After(int i, bool scales)
        {
            float grown = MathF.Sqrt((lengths[i] * lengths[i]) + (2 * strength * plain[i]) + (strength * strength));
            return (plain[i] + strength) * (scales ? lengths[i] / grown : 1);
        }

        bool Grows(int i) => (2 * plain[i] * strength) + (strength * strength) > 0;
        Assert.That(Enumerable.Range(0, plain.Length).Select(Grows), Does.Contain(true).And.Contain(false), "some grow and some shrink");
        Assert.That(Read(With(whole: false, strength)), Is.EqualTo(Enumerable.Range(0, plain.Length).Select(i => After(i, Grows(i)))).Within(2e-3f));
        Assert.That(Read(With(whole: true, strength)), Is.EqualTo(Enumerable.Range(0, plain.Length).Select(i => After(i, true))).Within(2e-3f));
    }

    [Test]
    public void A_condition_on_the_prompt_switches_the_law_for_the_text()
    {
        var model = AnyModel;
        float[] c = Numbers.Unit(new Random(12), model.Config.D);
        int layer = Math.Min(1, model.Config.L - 1);
        int[][] prompts = [s_prompt, [11, 12, 13], [20, 21, 22, 23]];
        double[] similarities = [.. prompts.Select(ids => PromptCondition.Similarity(c, Mean(model, ids, layer)))];
        double middle = similarities.Order().ElementAt(1);
        var behaviour = Laws.Random(model, 5);
        FeedbackLaw Asking(double threshold) => new(
            behaviour.Layers, behaviour.Width, behaviour.Sensors, [.. behaviour.Terms.Select(t => t with { Condition = 0 })],
            conditions: [new PromptCondition([new ConditionProbe(layer, c)], threshold, Above: true)]);
        foreach (var tokens in s_tokens)
        {
            for (int i = 0; i < prompts.Length; i++)
            {
                bool met = similarities[i] > middle + 1e-4;
                float[][] expected = Decode(model, met ? behaviour : null, tokens, prompts[i]);
                float[][] actual = Decode(model, Asking(middle + 1e-4), tokens, prompts[i]);
                Assert.That(actual.Zip(expected, (x, y) => Numbers.Error(x, y)), Is.All.LessThan(1e-5), $"prompt {i}, {tokens}");
            }
        }

        using var session = new Session(model, Asking(2));
        session.Append(s_prompt);
        Assert.That(session.Steering!.Law.Decisions, Is.EqualTo(new[] { false }));
        session.Use(Asking(-2));
        Assert.That(session.Steering.Law.Decisions, Is.EqualTo(new[] { true }), "another condition is asked of the tokens so far");
    }

    [Test]
    public void A_scheduled_prompt_in_parts_is_decided_as_a_whole()
    {
        var model = AnyModel;
        float[] c = Numbers.Unit(new Random(13), model.Config.D);
        int layer = Math.Min(1, model.Config.L - 1);
        int[] prompt = [.. Enumerable.Range(3, 11)];
        double similarity = PromptCondition.Similarity(c, Mean(model, prompt, layer));
        double part = PromptCondition.Similarity(c, Mean(model, prompt[..4], layer));
        double threshold = (similarity + part) / 2;
        var random = Laws.Random(model, 6);
        var behaviour = new FeedbackLaw(random.Layers, random.Width, random.Sensors, [.. random.Terms.Select(t => t with { C = 3000 * t.C })]);
        var asking = new FeedbackLaw(
            behaviour.Layers, behaviour.Width, behaviour.Sensors, [.. behaviour.Terms.Select(t => t with { Condition = 0 })],
            conditions: [new PromptCondition([new ConditionProbe(layer, c)], threshold, Above: similarity > part)]);
        using var scheduler = new Scheduler(model, new SchedulerOptions { PrefillChunk = 4 });
        int[] Text(FeedbackLaw? law, SteeredTokens tokens)
        {
            using var text = scheduler.Submit(
                prompt, new GenerationOptions { Law = law, SteeredTokens = tokens, MaxNewTokens = 6, StopIds = [] });
            return [.. text.ReadAllAsync().ToBlockingEnumerable().Select(token => token.Id)];
        }

        foreach (var tokens in new[] { SteeredTokens.Last, SteeredTokens.All })
        {
            Assert.That(Text(behaviour, tokens), Is.Not.EqualTo(Text(null, tokens)));
            Assert.That(Text(asking, tokens), Is.EqualTo(Text(behaviour, tokens)), $"{tokens}");
            Assert.That(Text(asking, tokens), Is.EqualTo(Text(behaviour, tokens)), $"{tokens}, once more over a kept prefix");
        }
    }

    private static double Share(float[] x, float[] r) =>
        Math.Abs(x.Zip(r, (a, b) => (double)a * b).Sum()) / Math.Sqrt(x.Sum(a => (double)a * a));

    private static float[][] Directions(LanguageModel model, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, model.Config.L).Select(_ => Numbers.Unit(random, model.Config.D))];
    }

    // One edit of each kind that acts on a row alone.
    private static ActivationEdit[] Everything(LanguageModel model, int seed, int k, EditPoint point)
    {
        var random = new Random(seed);
        int width = model.Config.D;
        float[] Around(float middle, float spread) => [.. Enumerable.Range(0, width).Select(_ => middle + (spread * (random.NextSingle() - 0.5f)))];
        return
        [
            new AffineEdit(k, point, 0.5f, Around(1, 0.5f), Around(0, 0.2f), Around(-3, 2), Around(3, 2)),
            new AblationEdit(k, point, 0.8f, Numbers.Unit(random, width)),
            new NormKeepingEdit(k, point, 0.3f, Numbers.Unit(random, width), WholePass: false),
            new FlowEdit(k, point, 0.3f, CountSketch.Random(width, 16, 0.5, 1, (ulong)seed), Numbers.Gaussian(random, 16), 4),
        ];
    }

    private static FeedbackLaw Law(LanguageModel model, Func<int, ActivationEdit[]> edits) => new(
        model.Config.L, model.Config.D, [], [], edits: [.. Enumerable.Range(0, model.Config.L).SelectMany(edits)]);

    private static float[] Mean(LanguageModel model, int[] ids, int layer)
    {
        var nothing = new FeedbackLaw(model.Config.L, model.Config.D, [], []);
        float[][] states = [.. Enumerable.Range(1, ids.Length)
            .Select(count => BlockProbe.Steered(model, ids.AsSpan(0, count), nothing, SteeredTokens.Last, null, CancellationToken.None)[layer])];
        return [.. Enumerable.Range(0, model.Config.D).Select(i => (float)states.Average(x => (double)x[i]))];
    }

    private static float[][] Decode(LanguageModel model, FeedbackLaw? law, SteeredTokens tokens, int[]? prompt = null)
    {
        using var session = new Session(model, law, tokens);
        float[][] logits = new float[3][];
        logits[0] = session.Prefill(prompt ?? s_prompt).ToArray();
        for (int i = 1; i < logits.Length; i++)
        {
            logits[i] = session.Step(6 + i).ToArray();
        }

        return logits;
    }
}
