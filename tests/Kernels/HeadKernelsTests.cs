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
        var z = SendRows(count, logits);
        NewHead().SoftCap(Stream, z, Cap);
        Close(Receive(z), [.. logits.Select(l => Cap * Math.Tanh(l / Cap))], "z");
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
        const int Capacity = 3;
        var head = NewHead();
        var rows = SendSpan(new DeviceRow { Id = 1, Position = 4, Slot = 3, Cache = 77 }, new DeviceRow { Id = 2, Position = 0 });
        var ring = new TokenRing(PoisonedSpan<int>(Capacity * 2), Width: 1, Capacity, SendSpan(0));
        foreach (int[] ids in (int[][])[[5, 6], [7, ~2], [9, 1], [8, 0]])
        {
            head.Advance(Stream, rows, SendSpan(ids), ring);
        }

        DeviceRow[] after = Receive(rows);
        Assert.That((after[0].Id, after[0].Position, after[0].Slot, after[0].Cache), Is.EqualTo((8, 8, 3, (nint)77)));
        Assert.That((after[1].Id, after[1].Position), Is.EqualTo((0, 4)));
        Assert.That(Receive(ring.Lines), Is.EqualTo(new[] { 8, 0, 7, ~2, 9, 1 }));
        Assert.That(Receive(ring.Count)[0], Is.EqualTo(4));
    }

    [Test]
    public void WordsOfSeveralTalliesAreWritten()
    {
        var first = SendSpan(1, 2, 3);
        var second = SendSpan(Enumerable.Range(0, 700).ToArray());
        TallyChange[] changes =
        [
            new() { Address = first.Address + 4, Word = 9 },
            .. Enumerable.Range(0, 300).Select(i => new TallyChange { Address = second.Address + (8 * i), Word = -i }),
        ];
        NewHead().Tally(Stream, SendSpan(changes));
        Assert.That(Receive(first), Is.EqualTo(new[] { 1, 9, 3 }));
        Assert.That(Receive(second), Is.EqualTo(Enumerable.Range(0, 700).Select(i => i % 2 == 0 && i < 600 ? -i / 2 : i)));
    }

    [Test]
    public void ALawsStateIsHandedOutAndTheNextStartsFromItsErrors()
    {
        // Two states that follow each other: a line of two, of which the second is the last step's, and one of a single line.
        const int Sensors = 3, L = 2, Edits = 3, Width = 1 + Sensors + (2 * L) + Edits;
        nint errors = Send(1f, 2, 3, 4, 5, 6), inputs = Send(0f, 0, 7, 8), states = Send(0f, 0, 9, 10), nextErrors = Poisoned<float>(Sensors);
        nint next = Send(new DeviceSteering { Errors = nextErrors, Sensors = Sensors, LayerCount = L });
        nint now = Send(new DeviceSteering
        {
            Errors = errors,
            InputNorms = inputs,
            StateNorms = states,
            Sensors = Sensors,
            LayerCount = L,
            EditNorms = Send(0f, 0, 0, 11, 12, 13),
            EditPoints = Edits,
            Next = next,
        });
        var rows = SendSpan(new DeviceRow { Position = 4, Slot = 1, Steering = now }, new DeviceRow { Position = 8, Slot = 5 });
        var ring = PoisonedSpan<int>(2 * Width);
        NewHead().Advance(Stream, rows, SendSpan(11, ~4), new TokenRing(ring, Width, Capacity: 1, SendSpan(0)));
        DeviceRow[] after = Receive(rows);
        Assert.That((after[0].Id, after[0].Position, after[0].Slot, after[0].Steering), Is.EqualTo((11, 5, 0, next)));
        Assert.That((after[1].Id, after[1].Position, after[1].Slot, after[1].Steering), Is.EqualTo((0, 9, 5, (nint)0)));
        Assert.That(Receive<float>(nextErrors, Sensors), Is.EqualTo(new float[] { 4, 5, 6 }));
        Assert.That(Receive(ring)[0], Is.EqualTo(11));
        Assert.That(Receive<float>(ring.Address, Width)[1..], Is.EqualTo(new float[] { 4, 5, 6, 7, 8, 9, 10, 11, 12, 13 }));
        Assert.That(Receive(ring)[Width], Is.EqualTo(~4));
    }

    [TestCase(1)]
    [TestCase(3)]
    [TestCase(37)]
    public void LawsOfEveryRowAreHandedOut(int count)
    {
        const int L = 3, MaxSensors = 4 * 67, Width = 1 + MaxSensors + (2 * L);
        float[][] errors = [.. Enumerable.Range(0, count).Select(i => Normal(i, (i % 5) * 67))],
            norms = [.. Enumerable.Range(0, count).Select(i => Normal(100 + i, 2 * L))];
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

        var ring = SendSpan(new int[count * Width]);
        NewHead().Advance(
            Stream, SendSpan(table), SendSpan(Enumerable.Range(50, count).ToArray()), new TokenRing(ring, Width, Capacity: 1, SendSpan(0)));
        int[] lines = Receive(ring);
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
        var rows = SendSpan(new DeviceRow { Id = 2 }, new DeviceRow { Id = 30, Position = 9 });
        var logits = PoisonedRows(2, V);
        var ids = PoisonedSpan<int>(2);
        var ring = new TokenRing(PoisonedSpan<int>(Steps * 2), Width: 1, Steps, SendSpan(0));
        var weights = new Matrix(Send(table), WeightType.F32, V, V);
        var scratch = PoisonedSpan<byte>(HeadKernels.ScratchSizeInBytes(2, V, draws: false));
        using var graph = Stream.Capture(() =>
        {
            embed.Embed(Stream, rows, weights, 1, logits);
            head.ArgMax(Stream, logits, ids, scratch);
            head.Advance(Stream, rows, ids, ring);
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

        Assert.That(Receive(ring.Lines), Is.EqualTo(expected));
        Assert.That(Receive(rows).Select(r => r.Position), Is.EqualTo(new[] { Steps, 9 + Steps }));
    }

    private HeadKernels NewHead() => Load(k => new HeadKernels(k));

    private int[] ArgMax(float[] logits, int rows, int V)
    {
        var ids = PoisonedSpan<int>(rows + 1);
        var memory = SendRows(V, logits);
        NewHead().ArgMax(Stream, memory, ids.Slice(0, rows), PoisonedSpan<byte>(HeadKernels.ScratchSizeInBytes(rows, V, draws: false)));
        int[] actual = Receive(ids);
        Assert.That(Bits(Receive(memory)), Is.EqualTo(Bits(logits)), "the logits stay");
        Assert.That(actual[rows], Is.EqualTo(-1), "nothing is written past the end");
        return actual[..rows];
    }
}
