using Tiller.Kernels;
using Tiller.Model;

namespace Tiller.Tests.Kernels;

public class HeadKernelsTests : ElementKernelTest
{
    [TestCase(1)]
    [TestCase(31)]
    [TestCase(1025)]
    public void SoftCapsBendTowardsTheCap(int count)
    {
        const float Cap = 30;
        float[] logits = Normal(count, count, 40);
        nint z = Send(logits);
        NewHead().SoftCap(Stream, z, count, Cap);
        Close(Receive<float>(z, count), [.. logits.Select(l => Cap * Math.Tanh(l / Cap))], "z");
    }

    [TestCase(1)]
    [TestCase(33)]
    [TestCase(127)]
    [TestCase(2049)]
    [TestCase(4097)]
    [TestCase(6148)]
    public void TheLowestIdOfTheLargestLogit(int V)
    {
        const int Rows = 5;
        float[] logits = Normal(V, Rows * V);
        int last = V - 1, middle = V / 2;
        (logits[last], logits[V + middle], logits[V + last]) = (9, 9, 9);     // row 0: at the end; row 1: twice
        logits.AsSpan(2 * V, V).Fill(-0f);                                    // row 2: -0 and +0 are equal
        logits[(2 * V) + last] = 0;
        logits.AsSpan(3 * V, V).Fill(float.NegativeInfinity);                 // row 3: all but one masked
        logits[(3 * V) + middle] = float.MinValue;
        int[] expected = [.. Enumerable.Range(0, Rows).Select(row => LogitVector.ArgMax(logits.AsSpan(row * V, V)))];
        Assert.That(ArgMax(logits, Rows, V), Is.EqualTo(expected));
    }

    [Test]
    public void LogitsThatAreNotFiniteAreNamed()
    {
        const int V = 4099;
        float[] logits = Normal(1, 6 * V);
        logits[2500] = float.NaN;
        logits[4098] = float.PositiveInfinity;
        logits[V + 4098] = float.PositiveInfinity;
        logits.AsSpan(2 * V, V).Fill(float.NegativeInfinity);
        logits[(3 * V) + 7] = float.NegativeInfinity;
        logits[4 * V] = float.NaN;
        int[] ids = ArgMax(logits, 6, V);
        Assert.That(ids[0], Is.EqualTo(~2500));
        Assert.That(ids[1], Is.EqualTo(~4098));
        Assert.That(ids[2], Is.EqualTo(~0));
        Assert.That(ids[3], Is.EqualTo(LogitVector.ArgMax(logits.AsSpan(3 * V, V))));
        Assert.That(ids[4], Is.EqualTo(~0));
        Assert.That(ids[5], Is.EqualTo(LogitVector.ArgMax(logits.AsSpan(5 * V, V))));
    }

    [Test]
    public void ADrawnTokenBecomesTheNextRow()
    {
        const int Capacity = 3, V = 10;
        var head = NewHead();
        nint seen = Send(new byte[V]);
        nint rows = Send(new DeviceRow { Id = 1, Position = 4, Slot = 3, Cache = 77 }, new DeviceRow { Id = 2, Position = 0 });
        nint sampling = Send(new DeviceSampling { Seen = seen }, default), ring = Poisoned<int>(Capacity * 2), count = Send(0);
        head.MarkSeen(Stream, seen, Send(3, 0), 2);
        foreach (int[] ids in (int[][])[[5, 6], [7, ~2], [9, 1], [8, 0]])
        {
            head.Advance(Stream, rows, 2, sampling, Send(ids), ring, width: 1, Capacity, count);
        }

        DeviceRow[] after = Receive<DeviceRow>(rows, 2);
        Assert.That((after[0].Id, after[0].Position, after[0].Slot, after[0].Cache), Is.EqualTo((8, 8, 3, (nint)77)));
        Assert.That((after[1].Id, after[1].Position), Is.EqualTo((0, 4)));
        Assert.That(Receive<int>(ring, Capacity * 2), Is.EqualTo(new[] { 8, 0, 7, ~2, 9, 1 }));
        Assert.That(Receive<int>(count, 1)[0], Is.EqualTo(4));
        Assert.That(Receive<byte>(seen, V), Is.EqualTo(new byte[] { 1, 0, 0, 1, 0, 1, 0, 1, 1, 1 }));
    }

    [Test]
    public void ALawsStateIsHandedOutAndTheNextStartsFromItsErrors()
    {
        // Two states that follow each other: a line of two, of which the second is the last step's, and one of a single line.
        const int Sensors = 3, L = 2, Width = 1 + Sensors + (2 * L);
        nint errors = Send(1f, 2, 3, 4, 5, 6), inputs = Send(0f, 0, 7, 8), states = Send(0f, 0, 9, 10), nextErrors = Poisoned<float>(Sensors);
        nint next = Send(new DeviceSteering { Errors = nextErrors, Sensors = Sensors, LayerCount = L });
        nint now = Send(new DeviceSteering { Errors = errors, InputNorms = inputs, StateNorms = states, Sensors = Sensors, LayerCount = L, Next = next });
        nint rows = Send(new DeviceRow { Position = 4, Slot = 1, Steering = now }, new DeviceRow { Position = 8, Slot = 5 });
        nint ring = Poisoned<int>(2 * Width);
        NewHead().Advance(Stream, rows, 2, 0, Send(11, ~4), ring, Width, 1, Send(0));
        DeviceRow[] after = Receive<DeviceRow>(rows, 2);
        Assert.That((after[0].Id, after[0].Position, after[0].Slot, after[0].Steering), Is.EqualTo((11, 5, 0, next)));
        Assert.That((after[1].Id, after[1].Position, after[1].Slot, after[1].Steering), Is.EqualTo((0, 9, 5, (nint)0)));
        Assert.That(Receive<float>(nextErrors, Sensors), Is.EqualTo(new float[] { 4, 5, 6 }));
        Assert.That(Receive<int>(ring, 1)[0], Is.EqualTo(11));
        Assert.That(Receive<float>(ring, Width)[1..], Is.EqualTo(new float[] { 4, 5, 6, 7, 8, 9, 10 }));
        Assert.That(Receive<int>(ring, Width + 1)[Width], Is.EqualTo(~4));
    }

    [TestCase(1)]
    [TestCase(3)]
    [TestCase(37)]
    public void LawsOfEveryRowAreHandedOut(int count)
    {
        const int L = 3, MostSensors = 4 * 67, Width = 1 + MostSensors + (2 * L);
        float[][] errors = [.. Enumerable.Range(0, count).Select(i => Normal(i, (i % 5) * 67))], norms = [.. Enumerable.Range(0, count).Select(i => Normal(100 + i, 2 * L))];
        nint[] after = new nint[count];
        var table = new DeviceRow[count];
        for (int i = 0; i < count; i++)
        {
            int sensors = errors[i].Length;
            after[i] = Poisoned<float>(Math.Max(1, sensors));
            nint next = Send(new DeviceSteering { Errors = after[i], Sensors = sensors, LayerCount = L }), both = Send(norms[i]);
            table[i] = new DeviceRow
            {
                Position = i,
                Steering = i % 7 == 6 ? 0 : Send(new DeviceSteering
                {
                    Errors = sensors == 0 ? 0 : Send(errors[i]),
                    InputNorms = both,
                    StateNorms = both + (4 * L),
                    Sensors = sensors,
                    LayerCount = L,
                    Next = next,
                }),
            };
        }

        nint rows = Send(table), ring = Send(new int[count * Width]);
        NewHead().Advance(Stream, rows, count, 0, Send(Enumerable.Range(50, count).ToArray()), ring, Width, 1, Send(0));
        int[] lines = Receive<int>(ring, count * Width);
        for (int i = 0; i < count; i++)
        {
            int[] numbers = [.. (table[i].Steering == 0 ? [] : errors[i].Concat(norms[i])).Select(BitConverter.SingleToInt32Bits)];
            int[] line = [50 + i, .. numbers, .. new int[Width - 1 - numbers.Length]];
            Assert.That(lines.AsSpan(i * Width, Width).ToArray(), Is.EqualTo(line), $"row {i}");
            if (table[i].Steering != 0)
            {
                Assert.That(Receive<float>(after[i], errors[i].Length), Is.EqualTo(errors[i]), $"row {i}");
            }
        }
    }

    [Test]
    public void AGraphGoesOnWithoutTheHost()
    {
        // Logits that prefer the token after the last, read as an embedding of ids: x = table[id] is the next step's logits.
        const int V = 37, Steps = 6;
        var head = NewHead();
        var embed = Load(k => new EmbedKernels(k));
        float[] table = [.. Enumerable.Range(0, V * V).Select(i => i % V == (i / V * 5 + 3) % V ? 1f : 0f)];
        nint rows = Send(new DeviceRow { Id = 2 }, new DeviceRow { Id = 30, Position = 9 }), logits = Poisoned<float>(2 * V), ids = Poisoned<int>(2);
        nint ring = Poisoned<int>(Steps * 2), count = Send(0), weights = Send(table);
        nint scratch = Poisoned<byte>((int)HeadKernels.ScratchSizeInBytes(2, V, draws: false));
        using var graph = Stream.Capture(() =>
        {
            embed.Embed(Stream, rows, 2, new Matrix(weights, WeightType.F32, V, V), 1, logits);
            head.ArgMax(Stream, logits, 2, V, ids, scratch);
            head.Advance(Stream, rows, 2, 0, ids, ring, width: 1, Steps, count);
        });
        using var step = graph.Instantiate();
        for (int i = 0; i < Steps; i++)
        {
            step.Launch(Stream);
        }

        int[] expected = new int[Steps * 2];
        for (int i = 0, first = 2, second = 30; i < Steps; i++)
        {
            (first, second) = ((first * 5 + 3) % V, (second * 5 + 3) % V);
            (expected[2 * i], expected[(2 * i) + 1]) = (first, second);
        }

        Assert.That(Receive<int>(ring, Steps * 2), Is.EqualTo(expected));
        Assert.That(Receive<DeviceRow>(rows, 2).Select(r => r.Position), Is.EqualTo(new[] { Steps, 9 + Steps }));
    }

    private HeadKernels NewHead() => Load(k => new HeadKernels(k));

    private int[] ArgMax(float[] logits, int rows, int V)
    {
        nint ids = Poisoned<int>(rows + 1), memory = Send(logits);
        NewHead().ArgMax(Stream, memory, rows, V, ids, Poisoned<byte>((int)HeadKernels.ScratchSizeInBytes(rows, V, draws: false)));
        int[] actual = Receive<int>(ids, rows + 1);
        Assert.That(Bits(Receive<float>(memory, logits.Length)), Is.EqualTo(Bits(logits)), "the logits stay");
        Assert.That(actual[rows], Is.EqualTo(-1), "nothing is written past the end");
        return actual[..rows];
    }
}
