using Tiller.Kernels;
using Tiller.Model;

namespace Tiller.Tests.Kernels;

public class SampleKernelsTests : ElementKernelTest
{
    // Every filter alone and together, one row each, at every vocabulary.
    private static readonly SamplingOptions[] Options =
    [
        new() { Temperature = 0 },
        new() { Temperature = 1 },
        new() { Temperature = 0.3f, Seed = 1 },
        new() { Temperature = 1, TopK = 1, Seed = 2 },
        new() { Temperature = 1.5f, TopK = 7, Seed = 3 },
        new() { Temperature = 1, TopK = 40, Seed = 4 },
        new() { Temperature = 1, TopP = 0.5f, Seed = 5 },
        new() { Temperature = 1, TopP = 0.999f, Seed = 6 },
        new() { Temperature = 2, TopP = 1e-6f, Seed = 7 },
        new() { Temperature = 1, MinP = 0.2f, Seed = 8 },
        new() { Temperature = 1, MinP = 1, Seed = 9 },
        new() { Temperature = 1, RepetitionPenalty = 1.7f, Seed = 10 },
        new() { Temperature = 0, RepetitionPenalty = 5f },
        new() { Temperature = 0.8f, TopK = 50, TopP = 0.9f, MinP = 0.05f, RepetitionPenalty = 0.5f, Seed = 11 },
        new() { Temperature = 100, TopK = 400, TopP = 0.7f, Seed = ulong.MaxValue },
    ];

    [TestCase(1, 3)]
    [TestCase(33, 3)]
    [TestCase(127, 3)]
    [TestCase(4097, 3)]
    [TestCase(9000, 2)]
    public void TokensAreTheCpuSamplers(int V, int steps) => Compare(V, steps, (step, row) => Normal((1000 * step) + row + V, V, 3));

    [Test]
    public void TiesAreBrokenAsTheCpuDoes() =>
        Compare(300, 4, (step, row) => [.. Normal(step + row, 300, 1).Select(l => MathF.Round(l))]); // a handful of distinct logits

    [Test]
    public void MaskedTokensAreNeverDrawn() =>
        Compare(2100, 2, (step, row) => [.. Normal(step + row, 2100, 2).Select((l, i) => i % 50 == 7 ? l : float.NegativeInfinity)]);

    [Test]
    public void AFlatDistributionWithMoreCandidatesThanSharedMemoryHolds() => Compare(5003, 1, (_, _) => new float[5003]);

    [Test]
    public void RowsFailAlone()
    {
        const int V = 50;
        float[] logits = Normal(1, 3 * V);
        logits[V + 9] = float.NaN;
        DeviceSampling[] sampling = [.. Enumerable.Repeat(Device(Options[6], 0), 3)];
        var table = SendSpan(sampling);
        int[] ids = Sample(NewHead(), SendRows(V, logits), table);
        Assert.That(ids[1], Is.EqualTo(~9));
        Assert.That(ids[0], Is.InRange(0, V - 1));
        DeviceSampling[] after = Receive(table);
        Assert.That(after[1].Random, Is.EqualTo(sampling[1].Random), "nothing was drawn");
        Assert.That(after[0].Random, Is.Not.EqualTo(sampling[0].Random));
    }

    [Test]
    public void DrawsFollowTheDistribution()
    {
        // 400 rows with seeds of their own: the frequencies of 4 tokens, four standard deviations wide.
        const int V = 4, Rows = 400;
        float[] one = [.. new[] { 0.1, 0.2, 0.3, 0.4 }.Select(p => (float)Math.Log(p))];
        float[] logits = [.. Enumerable.Repeat(one, Rows).SelectMany(l => l)];
        DeviceSampling[] sampling = [.. Enumerable.Range(0, Rows).Select(i => Device(new SamplingOptions { Temperature = 1, Seed = (ulong)i }, 0))];
        int[] ids = Sample(NewHead(), SendRows(V, logits), SendSpan(sampling));
        for (int id = 0; id < V; id++)
        {
            double p = 0.1 * (id + 1);
            Assert.That(ids.Count(i => i == id), Is.EqualTo(p * Rows).Within(4 * Math.Sqrt(p * (1 - p) * Rows)), $"token {id}");
        }
    }

    // All options as rows of one batch, a few steps each, the penalty growing with what was drawn.
    private void Compare(int V, int steps, Func<int, int, float[]> logitsOf)
    {
        var head = NewHead();
        int rows = Options.Length;
        int[] prompt = [0, V / 3, 0, V - 1];
        DeviceSpan<byte>[] seen = [.. Options.Select(_ => SendSpan(new byte[V]))];
        var sampling = SendSpan<DeviceSampling>([.. Options.Select((o, i) => Device(o, o.RepetitionPenalty != 1 ? seen[i].Address : 0))]);
        var table = SendSpan(new DeviceRow[rows]);
        var ring = new TokenRing(PoisonedSpan<int>(steps * rows), Width: 1, steps, SendSpan(0));
        Sampler[] cpu = [.. Options.Select(o => new Sampler(o with { Seed = o.Seed ?? 0 }, V))];
        List<int>[] history = [.. Options.Select(_ => prompt.ToList())];
        foreach (var s in seen)
        {
            head.MarkSeen(Stream, s, SendSpan(prompt));
        }

        for (int step = 0; step < steps; step++)
        {
            float[][] logits = [.. Enumerable.Range(0, rows).Select(row => logitsOf(step, row))];
            var ids = PoisonedSpan<int>(rows);
            head.Sample(
                Stream, SendRows(V, [.. logits.SelectMany(l => l)]), sampling, ids,
                PoisonedSpan<byte>(HeadKernels.ScratchSizeInBytes(rows, V, draws: true)));
            head.Advance(Stream, table, sampling, ids, ring);
            int[] expected = [.. cpu.Select((s, row) => s.Next(logits[row], history[row].ToArray()))];
            Assert.That(Receive(ids), Is.EqualTo(expected), $"step {step}");
            for (int row = 0; row < rows; row++)
            {
                history[row].Add(expected[row]);
            }
        }
    }

    private static DeviceSampling Device(SamplingOptions o, nint seen) => new()
    {
        Random = o.Seed ?? 0,
        Seen = seen,
        Temperature = o.Temperature,
        TopP = o.TopP,
        MinP = o.MinP,
        Penalty = o.RepetitionPenalty,
        TopK = o.TopK,
    };

    private HeadKernels NewHead() => Load(k => new HeadKernels(k));

    private int[] Sample(HeadKernels head, Floats logits, DeviceSpan<DeviceSampling> sampling)
    {
        var ids = PoisonedSpan<int>(logits.Rows);
        head.Sample(Stream, logits, sampling, ids, PoisonedSpan<byte>(HeadKernels.ScratchSizeInBytes(logits.Rows, logits.Columns, draws: true)));
        return Receive(ids);
    }
}
