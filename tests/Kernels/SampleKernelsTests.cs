using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Tests.Kernels;

public class SampleKernelsTests : ElementKernelTest
{
    private static readonly Dictionary<int, float> s_bias = new() { [0] = 3 };

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
        new() { PresencePenalty = 1.5f, FrequencyPenalty = -0.25f, LogProbabilities = 0 },
        new() { Temperature = 1, FrequencyPenalty = 2, Seed = 12, LogProbabilities = 1 },
        new() { Temperature = 1, LogitBias = s_bias, Seed = 13, LogProbabilities = 20 },
        new() { Temperature = 1, TopP = 0.8f, LogitBias = s_bias, PresencePenalty = -2, RepetitionPenalty = 1.3f, Seed = 14, LogProbabilities = 7 },
        new() { LogProbabilities = 20 },
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

    // All options as rows of one batch, a few steps each, the penalties growing with what was drawn.
    private void Compare(int V, int steps, Func<int, int, float[]> logitsOf)
    {
        var head = NewHead();
        int rows = Options.Length;
        int[] prompt = [0, V / 3, 0, V - 1];
        float[] bias = new float[V];
        bias[0] = s_bias[0];
        nint biasOnDevice = Send(bias);
        int[][] words = [.. Options.Select(_ => new int[V])];
        DeviceSpan<int>[] tallies = [.. words.Select(own => SendSpan(own))];
        Sampler[] cpu = [.. Options.Select(o => new Sampler(o with { Seed = o.Seed ?? 0 }, V))];
        var sampling = SendSpan<DeviceSampling>(
            [.. Options.Select((o, i) => Device(o, cpu[i].Adjusts ? tallies[i].Address : 0, o.LogitBias is null ? 0 : biasOnDevice))]);
        List<int>[] history = [.. Options.Select(_ => prompt.ToList())];
        foreach (int id in prompt)
        {
            Array.ForEach(words, own => own[id] |= TokenTally.Seen);
            head.Tally(Stream, Words(Enumerable.Repeat(id, rows)));
        }

        for (int step = 0; step < steps; step++)
        {
            float[][] logits = [.. Enumerable.Range(0, rows).Select(row => logitsOf(step, row))];
            var ids = PoisonedSpan<int>(rows);
            var sent = SendRows(V, [.. logits.SelectMany(l => l)]);
            uint[] before = Bits(Receive(sent));
            head.Sample(Stream, sent, sampling, ids, PoisonedSpan<byte>(HeadKernels.ScratchSizeInBytes(rows, V, draws: true)));
            var lines = PoisonedSpan<SoftmaxLine>(rows);
            head.Softmax(Stream, sent, sampling, ids, lines);
            Assert.That(Bits(Receive(sent)), Is.EqualTo(before), "the logits stay");
            int[] expected = [.. cpu.Select((s, row) => s.Next(logits[row], history[row].ToArray()))];
            Assert.That(Receive(ids), Is.EqualTo(expected), $"step {step}");
            CompareSoftmax(cpu, Receive(lines), V);
            for (int row = 0; row < rows; row++)
            {
                history[row].Add(expected[row]);
                words[row][expected[row]] = (words[row][expected[row]] | TokenTally.Seen) + 1;
            }

            head.Tally(Stream, Words(expected));
        }

        DeviceSpan<TallyChange> Words(IEnumerable<int> ids) =>
            SendSpan<TallyChange>([.. ids.Select((id, row) => new TallyChange { Address = tallies[row].Address + (4 * id), Word = words[row][id] })]);
    }

    private static void CompareSoftmax(Sampler[] cpu, SoftmaxLine[] lines, int V)
    {
        for (int row = 0; row < cpu.Length; row++)
        {
            if (Options[row].LogProbabilities is not { } count)
            {
                Assert.That(lines[row].Max, Is.NaN, "nobody asked");
                continue;
            }

            var softmax = new SoftmaxTop(count);
            softmax.Receive(lines[row], V);
            var expected = cpu[row].MostProbable.ToArray();
            Assert.That(softmax.Drawn, Is.EqualTo(cpu[row].LogProbability).Within(1e-5), $"row {row}");
            Assert.That(softmax.Held, Is.EqualTo(Math.Min(count, V)));
            Assert.That(Enumerable.Range(0, softmax.Held).Select(i => softmax[i].Id), Is.EqualTo(expected.Select(t => t.Id)), $"row {row}");
            for (int i = 0; i < softmax.Held; i++)
            {
                Assert.That(softmax[i].LogProbability, Is.EqualTo(expected[i].LogProbability).Within(1e-5), $"row {row}, rank {i}");
            }
        }
    }

    private static DeviceSampling Device(SamplingOptions o, nint tally, nint bias = 0) => new()
    {
        Random = o.Seed ?? 0,
        Tally = tally,
        Bias = bias,
        Temperature = o.Temperature,
        TopP = o.TopP,
        MinP = o.MinP,
        Repetition = o.RepetitionPenalty,
        Presence = o.PresencePenalty,
        Frequency = o.FrequencyPenalty,
        TopK = o.TopK,
        Softmax = o.LogProbabilities + 1 ?? 0,
    };

    private HeadKernels NewHead() => Load(k => new HeadKernels(k));

    private int[] Sample(HeadKernels head, Floats logits, DeviceSpan<DeviceSampling> sampling)
    {
        var ids = PoisonedSpan<int>(logits.Rows);
        head.Sample(Stream, logits, sampling, ids, PoisonedSpan<byte>(HeadKernels.ScratchSizeInBytes(logits.Rows, logits.Columns, draws: true)));
        return Receive(ids);
    }
}
