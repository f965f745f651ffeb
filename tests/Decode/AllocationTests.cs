using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>A decoded token costs no managed memory.</summary>
public sealed class AllocationTests(string device) : OnEveryDevice(device)
{
    private const int Rounds = 3;

    // Every round lies between two sizes of the cache; on the host CUDA, where every token counts, the warm-up records the steps once.
    private int Prompt => IsHostCuda ? 33 : 3;

    private int WarmUp => IsHostCuda ? 8 : 80;

    private int StepsPerRound => IsHostCuda ? 6 : 15;

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void A_plain_step_allocates_nothing(string family) => Measure(TestModels.Load(family), null);

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void A_steered_and_traced_step_allocates_nothing(string family)
    {
        var model = TestModels.Load(family);
        Measure(model, Laws.Random(model, 1));
        Measure(model, Laws.Random(model, 1, 0.01f));
        Measure(model, Laws.LooksBack(model, 2));
    }

    [TestCase("qwen2-bf16")]
    public void A_token_drawn_and_taken_allocates_nothing(string family)
    {
        // Room for two rounds before the cache grows; on the host CUDA every token counts.
        const int Tokens = 12;
        var model = TestModels.Load(family);
        var law = Laws.LooksBack(model, 2);
        var trace = new SteeringTrace(law, 64);
        using var session = new Session(model, law);
        var sampler = new Sampler(new SamplingOptions { Temperature = 1, TopK = 50, Seed = 1 }, model.Config.V);
        int[] id = [7];
        session.Prefill([3, 4, 5]);
        session.Step(6);
        session.Append(6, CancellationToken.None);
        Decode(32 - session.Length);
        Decode(Tokens / 4); // records the steps of longer sequences
        long least = long.MaxValue;
        for (int round = 0; round < 2; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            Decode(Tokens);
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        Assert.That(least, Is.Zero);

        void Decode(int tokens)
        {
            for (int i = 0; i < tokens; i++)
            {
                id[0] = session.Draw(sampler);
                trace.Add(session.Steering!, session.Ids, session.SteeredPositions);
                session.Append(id[0], CancellationToken.None);
            }
        }
    }

    [TestCase("qwen2-bf16", false)]
    [TestCase("qwen2-bf16", true)]
    public void Tokens_of_a_batch_drawn_and_taken_allocate_nothing(string family, bool penalty)
    {
        const int Tokens = 4;
        var model = TestModels.Load(family);
        Session[] sessions = [new(model), new(model, Laws.Random(model, 1)), new(model, Laws.LooksBack(model, 2))];
        Sampler[] samplers =
            [.. sessions.Select((_, i) => new Sampler(new SamplingOptions
            {
                Temperature = i,
                Seed = 1,
                RepetitionPenalty = penalty && i == 1 ? 1.2f : 1,
            }, model.Config.V))];
        BatchRow[] rows = [.. sessions.Zip(samplers, (session, sampler) => new BatchRow(session, sampler))];
        using var batch = new SessionBatch(model);
        int[] ids = new int[3];
        Array.ForEach(sessions, session => session.Append([3]));
        Decode(4); // both buffers of logits; the caches have room for 16
        long least = long.MaxValue;
        for (int round = 0; round < 2; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            Decode(Tokens);
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        Assert.That(least, Is.Zero);
        Array.ForEach(sessions, session => session.Dispose());

        void Decode(int tokens)
        {
            for (int i = 0; i < tokens; i++)
            {
                batch.Draw(rows, ids);
                batch.Step(rows, ids);
            }
        }
    }

    [Test]
    public void A_step_of_a_batch_allocates_nothing()
    {
        var model = AnyModel;
        Session[] sessions = [new(model), new(model, Laws.Random(model, 1)), new(model, Laws.LooksBack(model, 2))];
        using var batch = new SessionBatch(model);
        BatchRow[] rows = [.. sessions.Select(session => new BatchRow(session))];
        int[] ids = [4, 5, 6];
        foreach (var session in sessions)
        {
            session.Prefill([.. Enumerable.Range(3, Prompt)]);
        }

        Assert.That(BytesOf(() => batch.Step(rows, ids)), Is.Zero);
        foreach (var session in sessions)
        {
            session.Dispose();
        }
    }

    private void Measure(LanguageModel model, FeedbackLaw? law)
    {
        using var session = new Session(model, law);
        var trace = law is null ? null : new SteeringTrace(law, WarmUp + (Rounds * StepsPerRound));
        var summary = law is null ? null : new SteeringSummary(law);
        int[] ids = [7];
        session.Prefill([.. Enumerable.Range(3, Prompt)]);
        Assert.That(BytesOf(() =>
        {
            session.Step(ids[0]);
            if (session.Steering is { } steering)
            {
                trace!.Add(steering, session.Ids, session.SteeredPositions);
                summary!.Add(steering);
            }
        }), Is.Zero);
    }

    // A collection that happens to come counts what is left of the thread's allocation block as allocated; what a step allocates shows in every
    // round.
    private long BytesOf(Action step)
    {
        for (int i = 0; i < WarmUp; i++)
        {
            step();
        }

        int steps = StepsPerRound;
        long least = long.MaxValue;
        for (int round = 0; round < Rounds; round++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < steps; i++)
            {
                step();
            }

            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        return least;
    }
}
