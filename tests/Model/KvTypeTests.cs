using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Scheduling;
using Tiller.Synthesis;
using Tiller.Tests.Checkpoint;

namespace Tiller.Tests.Model;

/// <summary>Keys and values in bfloat16: half the memory, logits that change by the rounding alone, the same bits however a text is run.</summary>
public sealed class KvTypeTests
{
    // |Δ| of the rounding is at most 2^-9 of each number.
    private const double LargestError = 0.02;

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void The_logits_change_by_the_rounding(string family)
    {
        int[] ids = TestModels.LongPrompt(family, 60);
        using var model = Open(family, KvType.BF16);
        using var exact = Open(family, KvType.F32);
        Assert.That((model.KvType, exact.KvType), Is.EqualTo((KvType.BF16, KvType.F32)));
        using var session = new Session(model);
        using var reference = new Session(exact);
        float[] logits = session.Prefill(ids).ToArray(), expected = reference.Prefill(ids).ToArray();
        double error = Math.Sqrt(logits.Zip(expected).Sum(pair => Math.Pow(pair.First - pair.Second, 2)) / expected.Sum(x => (double)x * x));
        Assert.That(error, Is.GreaterThan(1e-6).And.LessThan(LargestError));
    }

    [TestCase("demo")]
    [TestCase("gemma2-bf16")]
    public void A_text_has_the_same_bits_in_pieces_and_in_a_batch(string family)
    {
        int[] ids = TestModels.LongPrompt(family, 100);
        using var model = Open(family, KvType.BF16);
        using var whole = new Session(model);
        float[] prompt = whole.Prefill(ids).ToArray(), next = whole.Step(ids[1]).ToArray();
        foreach (int[] pieces in new int[][] { [40, 60], [37, 63] })
        {
            using var session = new Session(model);
            session.Append(ids.AsSpan(0, pieces[0]));
            Assert.That(session.Prefill(ids.AsSpan(pieces[0])).ToArray(), Is.EqualTo(prompt), "its cache grew");
            using var other = new Session(model);
            other.Append(ids.AsSpan(0, 33));
            using var batch = new SessionBatch(model);
            batch.Step([new BatchRow(other), new BatchRow(session)], [ids[2], ids[1]]);
            Assert.That(session.Logits.ToArray(), Is.EqualTo(next));
        }
    }

    [Test]
    public void A_scheduler_has_room_for_twice_as_many_tokens()
    {
        using var model = Open("demo", KvType.BF16);
        using var exact = Open("demo", KvType.F32);
        var options = new SchedulerOptions { MaxKvBytes = KvCache.SizeInBytesFor(model.Config, 100) };
        using var scheduler = new Scheduler(model, options);
        using var reference = new Scheduler(exact, options);
        Assert.That(scheduler.MaxPositions, Is.EqualTo(2 * reference.MaxPositions));
    }

    [Test]
    public void What_is_measured_with_one_type_is_not_taken_for_the_other()
    {
        using var folder = new TemporaryFolder();
        using var model = Open("demo", KvType.BF16);
        using var exact = Open("demo", KvType.F32);
        Assert.That((exact.Identity, model.Fingerprint), Is.EqualTo((exact.Fingerprint, exact.Fingerprint)));
        Assert.That(model.Identity, Is.Not.EqualTo(exact.Identity));
        var contrast = new ContrastSet(["The sea is wide.", "A gull cried."], ["The dog slept.", "A cat ran."]);
        var options = new FitOptions { Layers = new LayerSet(8, 9), Jacobians = folder["jacobians"] };
        ControllerFit.Run(exact, contrast, options);
        Assert.That(
            () => ControllerFit.Run(model, contrast, options),
            Throws.TypeOf<JacobianFileException>().With.Message.Contains("type of keys and values differ"));
        options = options with { Jacobians = null };
        FitShard.Of(exact, contrast, options, new Shard(0, 1)).Measure(folder["parts"]);
        Assert.That(
            () => ControllerFit.Run(model, contrast, options with { Shards = [folder["parts"]] }),
            Throws.TypeOf<ShardException>().With.Message.Contains("type of keys and values differ"));
    }

    private static LanguageModel Open(string family, KvType type) =>
        LanguageModel.Load(TestModels.Folder(family), new LoadOptions { Device = Device.Cpu, Threads = 2, KvType = type });
}
