using Tiller.Decode;
using Tiller.Interop;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Decode;

/// <summary>
/// A device that begins the next step of a batch before the host knows its tokens: whatever comes then, ids, laws and logits are those of a device
/// that waits.
/// </summary>
public sealed class BatchAheadTests : CudaTest
{
    private static readonly SamplingOptions s_sampled = new() { Temperature = 0.9f, TopK = 60, Seed = 11 };

    [Test]
    public void Tokens_wait_once_and_copy_nothing()
    {
        HostCuda.Require(); // which counts the calls
        using var model = RunAheadTests.Open(layers: 2);
        using var loop = new Loop(model, null, Laws.Random(model, 4), Laws.LooksBack(model, 5));
        loop.Run(4);
        Assert.That(Counted(() => loop.Run(3)), Is.EqualTo(new long[] { 3, 3, 0, 0, 0, 0 }));
        Assert.That(Counted(() => loop.Run(1), "cuLaunchKernelEx"), Is.EqualTo(new long[] { 5 }), "scan, pick, filter, draw, advance");

        // What is begun counts for those who stay, without a call.
        loop.Draw();
        long before = HostCuda.Calls;
        loop.Leave(1);
        loop.Step();
        Assert.That(HostCuda.Calls, Is.EqualTo(before));
        Assert.That(loop.Sessions.Select(s => s.Length), Is.EqualTo(new[] { 10, 10 }));
        Assert.That(Counted(() => loop.Run(1)), Is.EqualTo(new long[] { 1, 1, 0, 1, 0, 3 }),
            "the rows' table; two rows of logits side by side, and that of the one who left");
        loop.Run(1);
        Assert.That(Counted(() => loop.Run(1)), Is.EqualTo(new long[] { 1, 1, 0, 0, 0, 0 }));

        model.RunsAhead = false;
        loop.Run(2);
        Assert.That(Counted(() => loop.Draw()), Is.EqualTo(new long[] { 0, 0, 1, 1, 1, 0 }), "one wait for the ids of all");

        static long[] Counted(Action work, params string[] functions)
        {
            functions = functions.Length > 0 ? functions :
                ["cuGraphLaunch", "cuEventSynchronize", "cuStreamSynchronize", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2",
                    "cuMemcpyDtoDAsync_v2"];
            long[] before = [.. functions.Select(HostCuda.CallsOf)];
            work();
            return [.. functions.Select((f, i) => HostCuda.CallsOf(f) - before[i])];
        }
    }

    [Test]
    public void Batches_that_differ_by_some_sessions_run_one_recording()
    {
        using var model = RunAheadTests.Open(layers: 2);
        Assert.That(Shrink(ahead: true), Is.EqualTo(Shrink(ahead: false)));

        ulong[] Shrink(bool ahead)
        {
            model.RunsAhead = ahead;
            using var loop = new Loop(model, [.. Enumerable.Range(0, 17).Select(i => i % 5 == 1 ? Laws.Random(model, i) : null)]);
            loop.Run(2);
            loop.Leave(0);
            long before = OnGpu ? 0 : HostCuda.CallsOf("cuGraphInstantiateWithFlags");
            loop.Run(3);
            for (int left = 15; left > 9; left--)
            {
                loop.Leave(left / 2);
                loop.Run(2);
            }

            if (!OnGpu)
            {
                long recorded = HostCuda.CallsOf("cuGraphInstantiateWithFlags") - before;
                Assert.That(recorded, Is.InRange(1, 2), "of 16 to 10 rows: one for each place of the logits");
            }

            return [.. loop.Sessions.Select(s => Generation.Hash(s.Logits))];
        }
    }

    [Test]
    public void Calls_between_draw_and_step_find_what_counts()
    {
        using var model = RunAheadTests.Open(layers: 2);
        float[][] expected = Between(model, ahead: false), actual = Between(model, ahead: true);
        Assert.That(actual, Has.Length.EqualTo(expected.Length));
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.That(actual[i], Is.EqualTo(expected[i]), $"reading {i}");
        }
    }

    [Test]
    public void A_batch_that_shrinks_past_eight_is_as_if_it_had_waited()
    {
        using var model = RunAheadTests.Open(layers: 1);
        Assert.That(Shrink(ahead: true), Is.EqualTo(Shrink(ahead: false)));

        ulong[] Shrink(bool ahead)
        {
            model.RunsAhead = ahead;
            using var loop = new Loop(model, [.. Enumerable.Range(0, 9).Select(i => i == 1 ? Laws.Random(model, i) : null)]);
            loop.Draw();
            loop.Leave(3);
            loop.Step();

            return [.. loop.Sessions.Select(s => Generation.Hash(s.Logits))];
        }
    }

    [Test]
    public void A_full_session_keeps_none_from_being_drawn()
    {
        using var model = RunAheadTests.Open(positions: 8, layers: 2);
        BatchText[] texts = [new([3, 4, 5], Laws.LooksBack(model, 1), s_sampled, 6), new([6, 7], Laws.Random(model, 2), new(), 7)];
        using var loop = new Loop(model, texts);
        loop.Run(5);
        Assert.That(loop.Sessions.Select(s => s.Length), Is.EqualTo(new[] { 8, 7 }));
        loop.Draw();
        int[] ids = [.. loop.Ids];
        Assert.That(() => loop.Step(), Throws.TypeOf<ContextLengthException>());
        Assert.That(loop.Sessions.Select(s => s.Length), Is.EqualTo(new[] { 8, 7 }));
        Assert.That($"{loop.Drawn(0)}", Is.EqualTo(texts[0].Alone(model).Ids));
        loop.Leave(0);
        loop.Step();
        loop.Draw();
        Assert.That($"{loop.Drawn(0)}", Is.EqualTo(texts[1].Alone(model).Ids));
    }

    [Test]
    [Category(TakesAllMemory)]
    public void Without_room_for_the_next_tokens_they_are_still_drawn()
    {
        using var model = RunAheadTests.Open(layers: 2);
        int[] prompt = [.. Enumerable.Range(3, 13)];
        BatchText[] texts = [new(prompt, Laws.LooksBack(model, 1), s_sampled, 5), new(prompt[1..], null, new(), 5)];
        using var loop = new Loop(model, texts);
        loop.Run(3); // the caches are full
        using (new FullDevice())
        {
            loop.Draw();
            Assert.That(() => loop.Step(), Throws.TypeOf<DeviceMemoryException>());
        }

        loop.Step();
        loop.Draw();
        Assert.That(new[] { loop.Drawn(0), loop.Drawn(1) }, Is.EqualTo(texts.Select(text => text.Alone(model).Ids)));
    }

    [Test]
    public void Tokens_whose_calls_fail_are_drawn_again_and_are_the_same()
    {
        HostCuda.Require(); // which counts the calls and lets one fail
        const int OutOfMemory = 2;
        using var model = RunAheadTests.Open(layers: 2);
        BatchText[] texts = [new([3, 4], Laws.Random(model, 1), s_sampled, 3), new([5], Laws.LooksBack(model, 2), s_sampled, 3),
            new([6, 7], null, new(), 3)];
        string[] expected = [.. texts.Select(text => text.Alone(model).Ids)];
        int failures = 0;
        Run(0, out long calls);
        for (long n = 1; n <= calls; n += 61)
        {
            Run(n, out _);
        }

        Assert.That(failures, Is.Positive);

        void Run(long failAt, out long calls)
        {
            using var loop = new Loop(model, texts);
            long before = HostCuda.Calls;
            HostCuda.FailAt(failAt, OutOfMemory);
            for (int i = 0; i < 3; i++)
            {
                if (i > 0)
                {
                    Twice(loop.Step);
                }

                Twice(loop.Draw);
            }

            HostCuda.FailAt(0, 0);
            calls = HostCuda.Calls - before;
            Assert.That(texts.Select((_, i) => loop.Drawn(i)), Is.EqualTo(expected), $"call {failAt}");
        }

        void Twice(Action call)
        {
            try
            {
                call();
            }
            catch (TillerException e)
            {
                Assert.That(e, Is.InstanceOf<CudaException>().Or.InstanceOf<DeviceMemoryException>());
                failures++;
                call();
            }
        }
    }

    // Everything that may come between a draw and the step that takes it, and what the sessions then say.
    private static float[][] Between(LanguageModel model, bool ahead)
    {
        model.RunsAhead = ahead;
        var (first, second) = (Laws.LooksBack(model, 5), Laws.LooksBack(model, 5, lambda: -2));
        using var loop = new Loop(model, first, null, Laws.Random(model, 6));
        using var fourth = new Session(model, first);
        using var other = new SessionBatch(model);
        var sampler = new Sampler(s_sampled, model.Config.V);
        fourth.Append([8]);
        var (a, b, c) = (loop.Sessions[0], loop.Sessions[1], loop.Sessions[2]);
        var readings = new List<float[]>();
        Action[] calls =
        [
            () => { },
            () => a.Use(second),
            () => b.Use(first),
            () => c.Append(9),
            () => a.Append([10, 11]),
            () => other.Step([new(c), new(b)], [loop.Ids[2], loop.Ids[1]]),
            () => Assert.That(() => loop.Step(new CancellationToken(canceled: true)), Throws.InstanceOf<OperationCanceledException>()),
            () => readings.Add(a.Logits.ToArray()),
            loop.Draw,
            () => readings.Add([a.Draw(sampler)]),
            () => loop.Batch.Step([new(c), new(fourth)], [loop.Ids[2], 12]),
            () => loop.Batch.Step([new(c), new(a)], [loop.Ids[2], loop.Ids[0]]),
            () => loop.Batch.Step([new(a), new(b), new(c)], [loop.Ids[0], loop.Ids[1], (loop.Ids[2] + 1) % 700]),
            () => Assert.That(a.FindNonFinite(a.Ids[^1..]), Is.Null),
            () => b.Use(null),
        ];
        foreach (var call in calls)
        {
            loop.Draw();
            Read();
            call();
            Read();
            loop.Step();
            Read();
        }

        readings.AddRange(loop.Sessions.Select(session => session.Logits.ToArray()));
        return [.. readings];

        void Read()
        {
            foreach (var session in loop.Sessions)
            {
                readings.Add([session.Length, .. session.Ids.ToArray().Select(id => (float)id), .. loop.Ids.Select(id => (float)id)]);
                if (session.Steering is { } steering)
                {
                    float[] errors = new float[steering.Law.Sensors.Count], inputs = new float[model.Config.L], states = new float[model.Config.L];
                    steering.ReadErrors(steering.Slots - 1, errors);
                    steering.ReadEffort(steering.Slots - 1, inputs, states);
                    readings.Add([.. errors, .. inputs, .. states]);
                }
            }
        }
    }

    /// <summary>Sessions that are drawn and stepped together.</summary>
    private sealed class Loop : IDisposable
    {
        private readonly List<BatchSession> _all;
        private readonly List<BatchSession> _running;

        public Loop(LanguageModel model, params FeedbackLaw?[] laws)
            : this(model, [.. laws.Select((law, i) => new BatchText([5 + i], law, i == 0 ? s_sampled : new(), int.MaxValue))])
        {
        }

        public Loop(LanguageModel model, BatchText[] texts)
        {
            _all = [.. texts.Select(text => new BatchSession(model, text))];
            _running = [.. _all];
            Batch = new SessionBatch(model);
            Ids = new int[texts.Length];
        }

        public SessionBatch Batch { get; }

        public Session[] Sessions => [.. _running.Select(r => r.Session)];

        private BatchRow[] Rows => [.. _running.Select(r => r.Row)];

        public int[] Ids { get; private set; }

        public string Drawn(int i) => string.Join(' ', _running[i].Ids);

        public void Draw()
        {
            Batch.Draw(Rows, Ids);
            for (int i = 0; i < Ids.Length; i++)
            {
                _running[i].Ids.Add(Ids[i]);
            }
        }

        public void Step() => Step(CancellationToken.None);

        public void Step(CancellationToken cancellationToken) => Batch.Step(Rows, Ids, cancellationToken);

        public void Run(int tokens)
        {
            for (int i = 0; i < tokens; i++)
            {
                Draw();
                Step();
            }
        }

        public void Leave(int i)
        {
            _running.RemoveAt(i);
            Ids = [.. Ids.Where((_, j) => j != i)];
        }

        public void Dispose()
        {
            _all.ForEach(r => r.Dispose());
            Batch.Dispose();
        }
    }
}
