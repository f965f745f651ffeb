using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Tests.Interop;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>
/// A device that begins the next step before the host knows the token: ids, texts, traces, logits and errors are those of a device that waits.
/// </summary>
public sealed class RunAheadTests : CudaTest
{
    private static readonly int[] s_prompt = [3, 4, 5, 6, 7];

    private static readonly SamplingOptions s_sampled = new() { Temperature = 0.9f, TopK = 60, TopP = 0.95f, Seed = 11 };

    private static IEnumerable<Func<LanguageModel, FeedbackLaw?>> Laws() =>
    [
        _ => null,
        model => new Proportional(Decode.Laws.RandomFeature(model, 3), 0.3).Compile(1),
        model => Decode.Laws.Random(model, 4, maxEffort: 3),
        model => Decode.Laws.LooksBack(model, 5),
        model => Edits(model)(0.3),
    ];

    // Two edits in every block, of which λ is the strength, beside a sensor that is read and a gate.
    private static Func<double, FeedbackLaw> Edits(LanguageModel model)
    {
        var (c, random) = (model.Config, new Random(6));
        float[][] directions = [.. Enumerable.Range(0, 2 * c.L).Select(_ => Numbers.Unit(random, c.D))];
        Sensor[] sensors = [.. Enumerable.Range(0, c.L).Select(k => new Sensor(k, directions[k], 0f))];
        return lambda => new FeedbackLaw(c.L, c.D, sensors, [], edits:
        [
            .. Enumerable.Range(0, c.L).SelectMany(k => (ActivationEdit[])
            [
                new AblationEdit(k, EditPoint.FeedForward, (float)lambda, directions[k]) { Gate = k },
                new NormKeepingEdit(k, EditPoint.Output, (float)lambda, directions[c.L + k], WholePass: false),
            ]),
        ]);
    }

    [TestCase(0, false)]
    [TestCase(1, true)]
    [TestCase(2, false)]
    [TestCase(3, true)]
    [TestCase(4, false)]
    public void A_text_is_the_same(int law, bool samples)
    {
        using var model = Open();
        var options = new GenerationOptions
        {
            MaxNewTokens = 10,
            StopIds = [],
            Law = Laws().ElementAt(law)(model),
            Sampling = samples ? s_sampled : new(),
        };
        var whole = Waiting(model, options);
        Assert.That(whole.Ids, Has.Length.EqualTo(10));
        Compare(Run(model, options), whole);

        // An id and a string in the middle: what was begun after them does not count.
        int end = Array.FindIndex(whole.Ids, 2, id => Array.IndexOf(whole.Ids, id) >= 2);
        var ended = options with { StopIds = [whole.Ids[end]] };
        var expected = Waiting(model, ended);
        Assert.That((expected.Reason, expected.Ids.Length), Is.EqualTo((StopReason.EndToken, end + 1)));
        Compare(Run(model, ended), expected);
        string text = string.Concat(whole.Texts);
        var cut = options with { StopStrings = new StopStrings([text.Substring(text.Length / 3, 2)]) };
        expected = Waiting(model, cut);
        Assert.That(expected.Reason, Is.EqualTo(StopReason.StopString));
        Compare(Run(model, cut), expected);
    }

    [Test]
    public void A_steered_prompt_of_many_rows_is_followed()
    {
        using var model = Open();
        foreach (var law in Laws().Skip(2))
        {
            var options = new GenerationOptions { MaxNewTokens = 3, StopIds = [], Law = law(model), SteeredTokens = SteeredTokens.All };
            Compare(Run(model, options), Waiting(model, options));
        }
    }

    [Test]
    public void A_cancelled_text_goes_on_where_it_was()
    {
        using var model = Open();
        var options = new GenerationOptions { MaxNewTokens = 6, StopIds = [], Law = Decode.Laws.LooksBack(model, 5), Sampling = s_sampled };
        Compare(Run(model, options, cancelAt: 4), Waiting(model, options));
    }

    [Test]
    public void Calls_between_two_tokens_find_the_last_one_that_counts()
    {
        using var model = Open();
        float[][] expected = Between(model, ahead: false), actual = Between(model, ahead: true);
        Assert.That(actual, Has.Length.EqualTo(expected.Length));
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.That(actual[i], Is.EqualTo(expected[i]), $"reading {i}");
        }
    }

    [TestCase(0, true)]
    [TestCase(2, false)]
    [TestCase(3, true)]
    [TestCase(4, false)]
    public void A_token_waits_once_and_copies_nothing(int law, bool samples)
    {
        HostCuda.Require(); // which counts the calls
        using var model = Open();
        using var loop = new Loop(model, Laws().ElementAt(law)(model), samples ? s_sampled : new());
        loop.Run(18 - s_prompt.Length); // past a growth of the cache
        long[] before = Counts();
        loop.Run(6);
        Assert.That(Counts().Zip(before, (after, was) => after - was), Is.EqualTo(new long[] { 6, 6, 0, 0, 0, 0 }));

        model.RunsAhead = false;
        loop.Run(2);
        before = Counts();
        loop.Run(1);
        Assert.That(Counts().Zip(before, (after, was) => after - was).Take(3), Is.EqualTo(new long[] { 1, 0, law == 0 ? 1 : 2 }),
            "graph, waits for an event and for everything");

        static long[] Counts() =>
        [
            HostCuda.CallsOf("cuGraphLaunch"), HostCuda.CallsOf("cuEventSynchronize"), HostCuda.CallsOf("cuStreamSynchronize"),
            HostCuda.CallsOf("cuMemcpyHtoDAsync_v2"), HostCuda.CallsOf("cuMemcpyDtoHAsync_v2"), HostCuda.CallsOf("cuMemcpyDtoDAsync_v2"),
        ];
    }

    [Test]
    public void What_has_been_queued_ends_before_memory_goes()
    {
        using var model = Open();
        var law = Decode.Laws.LooksBack(model, 1);
        var sampler = new Sampler(new SamplingOptions(), model.Config.V);
        using SessionBatch batch = new(model), idle = new(model);
        using Session prefilled = new(model, law), ahead = new(model, law), steered = new(model, law);
        using Session first = new(model, law), second = new(model), last = new(model);
        foreach (var session in (Session[])[ahead, steered, first, second, last])
        {
            session.Append(s_prompt);
            session.Append(session.Draw(sampler));
        }

        batch.Draw([new(first, sampler), new(second, new Sampler(new SamplingOptions(), model.Config.V))], new int[2]);
        Frees(prefilled.Dispose, () => prefilled.Append(s_prompt));
        Frees(ahead.Dispose, () => ahead.Draw(sampler)); // its next step is running
        Frees(() => steered.Use(null), () => steered.Append(7));
        Frees(first.Dispose, () => idle.Step([new(second)], [7]));
        Frees(batch.Dispose, () => second.Append(7));
        Frees(idle.Dispose, () => idle.Step([new(second)], [7]));
        Frees(second.Dispose, () => last.Append(7)); // with the logits that were the batch's
        Frees(model.Dispose, () => last.Append(7));
        Frees(last.Dispose, () => { });

        static void Frees(Action free, Action queue)
        {
            queue();
            if (OnGpu)
            {
                free(); // under the step, it would be a fault that the next call meets
                return;
            }

            long eager = HostCuda.EagerFrees, freed = HostCuda.CallsOf("cuMemFree_v2");
            free();
            Assert.That(HostCuda.CallsOf("cuMemFree_v2"), Is.GreaterThan(freed));
            Assert.That(HostCuda.EagerFrees, Is.EqualTo(eager));
        }
    }

    [Test]
    public void The_drawn_token_is_appended_without_a_call()
    {
        HostCuda.Require(); // which counts the calls
        using var model = Open();
        using var loop = new Loop(model, Decode.Laws.Random(model, 4), new());
        loop.Run(4);
        int id = loop.Draw();
        long before = HostCuda.Calls;
        loop.Session.Append(id, CancellationToken.None);
        Assert.That(HostCuda.Calls, Is.EqualTo(before));
        Assert.That(() => loop.Session.Append(loop.Draw(), new CancellationToken(canceled: true)), Throws.InstanceOf<OperationCanceledException>());
    }

    [TestCase(false)]
    [TestCase(true)]
    public void Another_law_is_not_recorded_again(bool edits)
    {
        HostCuda.Require(); // which counts the calls
        using var model = Open();
        var method = new Proportional(Decode.Laws.RandomFeature(model, 3), 0.3);
        var compile = edits ? Edits(model) : lambda => method.Compile(lambda);
        using var loop = new Loop(model, compile(1), new());
        loop.Run(4);
        loop.Session.Use(compile(2)); // the step that waits for the law is one that the host begins
        loop.Run(2);
        long recorded = HostCuda.CallsOf("cuGraphInstantiateWithFlags");
        Assert.That(recorded, Is.InRange(2, 4), "one for each buffer of logits and of the residual stream");
        for (int i = 0; i < 8; i++)
        {
            loop.Session.Use(i == 5 && !edits ? Decode.Laws.Random(model, i) : compile(i));
            loop.Run(1 + (i % 2));
        }

        Assert.That(HostCuda.CallsOf("cuGraphInstantiateWithFlags"), Is.EqualTo(recorded).Within(2), "the other half of the buffers at most");
    }

    [Test]
    public void A_generated_token_that_is_not_finite_is_named_by_position_and_block()
    {
        // The head of this family is not its embedding.
        const string Family = "llama2-f32";
        GenerationOptions options;
        int[] ids;
        using (var model = LanguageModel.Load(TestModels.Folder(Family), new LoadOptions { Device = Device.Cuda() }))
        {
            options = new GenerationOptions { MaxNewTokens = 4, StopIds = [], Law = Decode.Laws.LooksBack(model, 5), Sampling = s_sampled };
            ids = Run(model, options).Ids;
        }

        int bad = Array.FindIndex(ids, 1, id => !s_prompt.Contains(id) && Array.IndexOf(ids, id) >= 1);
        using var checkpoint = new EditableCheckpoint(Family);
        NonFiniteTests.SpoilEmbedding(checkpoint, ids[bad]);
        using var spoilt = LanguageModel.Load(checkpoint.Save(), new LoadOptions { Device = Device.Cuda() });
        foreach (bool ahead in new[] { false, true })
        {
            spoilt.RunsAhead = ahead;
            using var generation = new Generation(spoilt, s_prompt, options);
            for (int i = 0; i <= bad; i++)
            {
                Assert.That(generation.MoveNext(), Is.True);
            }

            var error = Assert.Throws<NonFiniteStateException>(() => generation.MoveNext())!;
            Assert.That((error.Position, error.Layer), Is.EqualTo((s_prompt.Length + bad, 0)));
        }
    }

    [Test]
    [Category(TakesAllMemory)]
    public void Without_room_for_the_next_token_one_is_still_drawn()
    {
        using var model = Open();
        using var loop = new Loop(model, null, new());
        loop.Run(16 - s_prompt.Length); // the cache is full
        int id;
        using (new FullDevice())
        {
            id = loop.Draw();
            Assert.That(() => loop.Session.Append(id, CancellationToken.None), Throws.TypeOf<DeviceMemoryException>());
        }

        loop.Session.Append(id, CancellationToken.None);
        Assert.That(loop.Session.Length, Is.EqualTo(17));
    }

    [Test]
    public void The_last_position_is_used_and_none_beyond()
    {
        using var model = Open(positions: 9);
        var options = new GenerationOptions { StopIds = [], Law = Decode.Laws.LooksBack(model, 5) };
        var text = Run(model, options);
        Assert.That((text.Reason, text.Ids.Length), Is.EqualTo((StopReason.ContextFull, 9 - s_prompt.Length + 1)));
        Compare(text, Waiting(model, options));
    }

    // Three layers are enough, and soon run: as they are odd, a step ends in the other buffer of the residual stream.
    internal static LanguageModel Open(int? positions = null, int layers = 3)
    {
        using var checkpoint = new EditableCheckpoint("qwen2-bf16");
        checkpoint.Config["num_hidden_layers"] = layers;
        checkpoint.Config.Remove("layer_types");
        foreach (string name in checkpoint.Tensors.Keys.Where(IsLeftOut).ToArray())
        {
            checkpoint.Tensors.Remove(name);
        }

        bool IsLeftOut(string name) => name.Split('.') is ["model", "layers", var layer, ..] && int.Parse(layer) >= layers;

        if (positions is { } most)
        {
            checkpoint.Config["max_position_embeddings"] = most;
        }

        return LanguageModel.Load(checkpoint.Save(), new LoadOptions { Device = Device.Cuda() });
    }

    private static Text Waiting(LanguageModel model, GenerationOptions options)
    {
        model.RunsAhead = false;
        var text = Run(model, options);
        model.RunsAhead = true;
        return text;
    }

    private static Text Run(LanguageModel model, GenerationOptions options, int cancelAt = -1)
    {
        var trace = options.Law is null ? null : new SteeringTrace(options.Law);
        using var generation = new Generation(model, s_prompt, options with { Trace = trace });
        var texts = new List<string>();
        do
        {
            if (generation.NewIds.Length == cancelAt)
            {
                Assert.That(() => generation.MoveNext(new CancellationToken(canceled: true)), Throws.InstanceOf<OperationCanceledException>());
            }

            Assert.That(generation.MoveNext(), Is.True);
            texts.Add(generation.Current.Text);
        }
        while (generation.Current.StopReason is null);
        using var written = new MemoryStream();
        trace?.Write(written);
        var means = generation.Steering;
        return new Text(
            generation.NewIds.ToArray(), [.. texts], generation.Current.StopReason, generation.LogitsHash,
            (means?.TrackingError, means?.InputNorm, means?.Effort), System.Text.Encoding.UTF8.GetString(written.ToArray()));
    }

    private static void Compare(Text actual, Text expected)
    {
        Assert.That(actual.Ids, Is.EqualTo(expected.Ids));
        Assert.That(actual.Texts, Is.EqualTo(expected.Texts));
        Assert.That((actual.Reason, actual.LogitsHash, actual.Means), Is.EqualTo((expected.Reason, expected.LogitsHash, expected.Means)));
        Assert.That(actual.Trace, Is.EqualTo(expected.Trace));
    }

    // Everything that may come between a draw and the append of what was drawn, and what the session then says.
    private static float[][] Between(LanguageModel model, bool ahead)
    {
        model.RunsAhead = ahead;
        var (first, second) = (Decode.Laws.LooksBack(model, 5), Decode.Laws.LooksBack(model, 5, lambda: -2));
        using var loop = new Loop(model, first, s_sampled);
        using var other = new Session(model);
        using var batch = new SessionBatch(model);
        other.Prefill(s_prompt);
        var session = loop.Session;
        var readings = new List<float[]>();
        Action<int>[] calls =
        [
            _ => { },
            _ => session.Use(second),
            _ => session.Use(null),
            _ => session.Use(first),
            id => session.Append((id + 1) % 700, CancellationToken.None),
            _ => session.Prefill([8, 9, 10]),
            id => batch.Step([new(other), new(session)], [11, id]),
            _ => readings.Add(session.Logits.ToArray()),
            _ => loop.Draw(),
            _ => session.Use(Decode.Laws.Random(model, 4)),
            _ => session.Prefill([12]),
        ];
        foreach (var call in calls)
        {
            loop.Run(1);
            int id = loop.Draw();
            Read();
            call(id);
            Read();
            session.Append(id, CancellationToken.None);
            Read();
        }

        readings.Add(session.Logits.ToArray());
        return [.. readings];

        void Read()
        {
            readings.Add([session.Length, .. loop.History]);
            if (session.Steering is { } steering)
            {
                float[] errors = new float[steering.Law.Sensors.Count], inputs = new float[model.Config.L], states = new float[model.Config.L];
                steering.ReadErrors(steering.Slots - 1, errors);
                steering.ReadEffort(steering.Slots - 1, inputs, states);
                readings.Add([.. errors, .. inputs, .. states]);
            }
        }
    }

    private sealed record Text(
        int[] Ids, string[] Texts, StopReason? Reason, ulong LogitsHash, (double? TrackingError, double? InputNorm, double? Effort) Means,
        string Trace);

    /// <summary>A session that draws its own tokens and takes down what its law does.</summary>
    private sealed class Loop : IDisposable
    {
        private readonly Sampler _sampler;
        private readonly List<int> _history = [];
        private readonly SteeringSummary? _summary;

        public Loop(LanguageModel model, FeedbackLaw? law, SamplingOptions sampling)
        {
            _sampler = new Sampler(sampling, model.Config.V);
            _summary = law is null ? null : new SteeringSummary(law);
            Session = new Session(model, law);
            Session.Prefill(s_prompt, null, CancellationToken.None);
        }

        public Session Session { get; }

        public IEnumerable<float> History => _history.Select(id => (float)id);

        public int Draw()
        {
            int id = Session.Draw(_sampler);
            _history.Add(id);
            return id;
        }

        public void Run(int tokens)
        {
            for (int i = 0; i < tokens; i++)
            {
                int id = Draw();
                if (Session.Steering is { } steering && steering.Law.Sensors.Count == Session.Model.Config.L)
                {
                    _summary?.Add(steering);
                }

                Session.Append(id, CancellationToken.None);
            }
        }

        public void Dispose() => Session.Dispose();
    }
}
