using System.Text;
using System.Text.Json;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Checkpoint;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>The trace holds what the law read and did, for every steered token.</summary>
public sealed class SteeringTraceTests(string device) : OnEveryDevice(device)
{
    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Projections_are_those_of_the_steered_state(string family)
    {
        // One token without a past can be followed block by block: v_k·x_k is recomputed in float64 from the states between them.
        var model = TestModels.Load(family);
        var law = Laws.Random(model, 1, maxEffort: 2);
        int[] prompt = [5];
        var trace = new SteeringTrace(law);
        using var generation = new Generation(model, prompt, new GenerationOptions { Law = law, Trace = trace, MaxNewTokens = 1 });
        generation.MoveNext();

        var states = TestModels.States(model, prompt);
        using var run = new BlockRun(model, states);
        using var steering = model.NewSteering(law);
        float[][] x = run.Inputs(0);
        for (int k = 0; k < model.Config.L; k++)
        {
            double projection = Numbers.Dot(law.Sensors[k].V, x[0]);
            Assert.That(law.Sensors[k].Beta - trace.Errors(0)[k], Is.EqualTo(projection).Within(1e-4 * Numbers.Norm(x[0])), $"layer {k}");
            var (plain, _) = run.Forward(k, x, [[]]);
            (x, _) = run.Through(k, k, x, [[]], [steering]);
            double effort = Numbers.Norm(Numbers.Add(x[0], -1, plain[0]));
            Assert.That(trace.InputNorms(0)[k], Is.EqualTo(effort).Within(1e-4 * Numbers.Norm(x[0])), $"layer {k}");
        }

        states[0].Dispose();
    }

    [Test]
    public void Every_steered_token_is_recorded_once_in_order([Values] bool steersAll, [Values] bool looksBack)
    {
        var tokens = steersAll ? SteeredTokens.All : SteeredTokens.Last;
        // 300 tokens are more than one pass; a law that looks back takes one at a time.
        int count = IsHostCuda && looksBack ? 40 : 300;
        var model = AnyModel;
        var law = looksBack ? Laws.LooksBack(model, 2) : Laws.Random(model, 2);
        int[] prompt = TestModels.LongPrompt(AnyFamily, count);
        var trace = new SteeringTrace(law, capacity: 7);
        using var generation = new Generation(
            model, prompt, new GenerationOptions { Law = law, Trace = trace, SteeredTokens = tokens, MaxNewTokens = 5, StopIds = [] });
        while (generation.MoveNext())
        {
        }

        int[] all = [.. prompt, .. generation.NewIds];
        int first = steersAll ? 0 : count - 1;
        Assert.That(trace.Count, Is.EqualTo(count + 4 - first));
        Assert.That(Enumerable.Range(0, trace.Count).Select(trace.Position), Is.EqualTo(Enumerable.Range(first, trace.Count)));
        Assert.That(Enumerable.Range(0, trace.Count).Select(trace.Id), Is.EqualTo(all[first..(count + 4)]));

        // Block 0 reads the embedding, which no law has moved yet.
        var probe = Probe.Run(model, all.AsSpan(0, count + 4), CancellationToken.None);
        double error = 0;
        for (int i = 0; i < trace.Count; i++)
        {
            double projection = law.Sensors[0].V.Select((v, e) => v * probe.States[((first + i) * model.Config.D) + e]).Sum();
            Assert.That(law.Sensors[0].Beta - trace.Errors(i)[0], Is.EqualTo(projection).Within(1e-5), $"token {i}");
            error += trace.Errors(i).ToArray().Sum(Math.Abs);
        }

        Assert.That(generation.Steering!.TrackingError, Is.EqualTo(error / (trace.Count * law.Sensors.Count)).Within(1e-5));
    }

    [Test]
    public void A_law_that_moves_nothing_reads_the_plain_model()
    {
        var model = TestModels.Load("mistral-f16");
        var random = Laws.Random(model, 3);
        var law = new FeedbackLaw(random.Layers, random.Width, random.Sensors, [.. random.Terms.Select(t => t with { W = new float[random.Width] })]);
        int[] prompt = TestModels.Prompts("mistral-f16")[0];
        var trace = new SteeringTrace(law);
        using var generation = new Generation(
            model, prompt, new GenerationOptions { Law = law, Trace = trace, SteeredTokens = SteeredTokens.All, MaxNewTokens = 6, StopIds = [] });
        while (generation.MoveNext())
        {
        }

        var probe = Probe.Run(model, [.. prompt, .. generation.NewIds], CancellationToken.None);
        int length = prompt.Length + 6;
        for (int i = 0; i < trace.Count; i++)
        {
            for (int k = 0; k < law.Layers; k++)
            {
                double[] x = probe.States[(((k * length) + i) * law.Width)..(((k * length) + i + 1) * law.Width)];
                double projection = law.Sensors[k].V.Zip(x, (v, value) => v * value).Sum();
                Assert.That(law.Sensors[k].Beta - trace.Errors(i)[k], Is.EqualTo(projection).Within(1e-4), $"token {i}, layer {k}");
                Assert.That(trace.InputNorms(i)[k], Is.Zero);
            }
        }
    }

    // docs/hostile-inputs.md §4, row 13: the state is where the setpoint wants it, so nothing is done, to the last bit.
    [Test]
    public void A_law_at_its_setpoint_moves_nothing()
    {
        var model = TestModels.Load("llama2-f32");
        var random = new Random(13);
        float[] v = Numbers.Unit(random, model.Config.D), w = Numbers.Unit(random, model.Config.D);
        (SteeringTrace Trace, float[] Logits) Run(float beta)
        {
            var law = new FeedbackLaw(model.Config.L, model.Config.D, [new Sensor(2, v, beta)], [new Term(2, w, 0, new Feed(0, 1.7f))]);
            var trace = new SteeringTrace(law);
            using var session = new Session(model, law);
            session.Prefill([5, 6, 7]);
            trace.Add(session.Steering!, session.Ids, session.SteeredPositions);
            return (trace, session.Logits.ToArray());
        }

        // β = 0 gives α = −v·x, exactly.
        float projection = -Run(0).Trace.Errors(0)[0];
        var (still, logits) = Run(projection);
        using var plain = new Session(model);
        Assert.That(projection, Is.Not.Zero);
        Assert.That((still.Errors(0)[0], still.InputNorms(0)[2]), Is.EqualTo((0f, 0f)));
        Assert.That(logits, Is.EqualTo(plain.Prefill([5, 6, 7]).ToArray()));
        Assert.That(Run(-projection).Trace.InputNorms(0)[2], Is.EqualTo(1.7f * 2 * Math.Abs(projection)).Within(1e-5 * Math.Abs(projection)));
    }

    [Test]
    public void The_file_has_one_object_a_line()
    {
        var model = TestModels.Load("llama2-f32");
        var law = Laws.LooksBack(model, 4);
        var trace = new SteeringTrace(law);
        using var generation = new Generation(model, [5, 6, 7], new GenerationOptions { Law = law, Trace = trace, MaxNewTokens = 4, StopIds = [] });
        while (generation.MoveNext())
        {
        }

        using var folder = new TemporaryFolder();
        trace.Write(folder["trace.jsonl"]);
        using var stream = new MemoryStream();
        trace.Write(stream);
        string text = File.ReadAllText(folder["trace.jsonl"]);
        Assert.That(text, Is.EqualTo(Encoding.UTF8.GetString(stream.ToArray())).And.EndsWith("\n"));
        string[] lines = text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.That(lines, Has.Length.EqualTo(trace.Count).And.Length.EqualTo(4));
        for (int i = 0; i < lines.Length; i++)
        {
            using var json = JsonDocument.Parse(lines[i]);
            var line = json.RootElement;
            Assert.That(line.GetProperty("position").GetInt32(), Is.EqualTo(2 + i));
            Assert.That(line.GetProperty("id").GetInt32(), Is.EqualTo(trace.Id(i)));
            Assert.That(Numbers(line, "layers"), Is.EqualTo(law.Sensors.Select(s => (float)s.Layer)));
            Assert.That(Numbers(line, "error"), Is.EqualTo(trace.Errors(i).ToArray()));
            Assert.That(Numbers(line, "effort"), Is.EqualTo(trace.InputNorms(i).ToArray()));
            Assert.That(Numbers(line, "projection"), Is.EqualTo(law.Sensors.Select((s, j) => s.Beta - trace.Errors(i)[j])));
        }

        static float[] Numbers(JsonElement line, string name) => [.. line.GetProperty(name).EnumerateArray().Select(x => x.GetSingle())];
    }
}
