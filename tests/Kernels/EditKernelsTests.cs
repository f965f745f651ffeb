using Tiller.Cpu;
using Tiller.Cuda;
using Tiller.Kernels;
using Tiller.Law;

namespace Tiller.Tests.Kernels;

public class EditKernelsTests : SteeredKernelTest
{
    // Rows: law 0 (slot 0), plain, law 1 (slots 0, 1 and 2), a law without edits.
    private static readonly int[] LawOf = [0, -1, 1, 1, 1, 2];
    private static readonly int[] Slots = [0, 0, 0, 1, 2, 0];

    [TestCase(1)]
    [TestCase(31)]
    [TestCase(33)]
    [TestCase(127)]
    [TestCase(516)]
    [TestCase(4097)]
    public void Every_row_is_edited_by_its_own_law(int D)
    {
        var random = new Random(D);
        FeedbackLaw[] laws =
        [
            new(L, D, [new Sensor(0, Normal(1, D, 1 / Math.Sqrt(D)), 1e6f)], [], edits: Edits(random, D, joins: false, gate: -1)),
            new(L, D, [new Sensor(0, Normal(2, D, 1 / Math.Sqrt(D)), 0f) { Hook = Hook.Input }], [], edits: Edits(random, D, joins: true, gate: 0)),
            new(L, D, [], []),
        ];
        CpuSteering[] cpu = [.. laws.Select(law => new CpuSteering(law))];
        (nint Address, nint EditNorms)[] device = [.. laws.Select(law => Sent(law, slots: 3))];
        var kernels = Load(k => new EditKernels(k));
        var steer = Load(k => new SteerKernels(k));
        var rows = Table([.. LawOf.Select((law, i) => new DeviceRow { Steering = law < 0 ? 0 : device[law].Address, Slot = Slots[i] })]);
        float[] read = Normal(D + 7, LawOf.Length * D);
        steer.Sense(Stream, rows, SendRows(D, read), L);
        steer.Sense(Stream, rows, SendRows(D, read), 0);
        for (int i = 0; i < LawOf.Length; i++)
        {
            if (LawOf[i] >= 0)
            {
                cpu[LawOf[i]].Sense(laws[LawOf[i]].FirstStage, Slots[i], Row(read, D, i));
                cpu[LawOf[i]].Sense(0, Slots[i], Row(read, D, i));
            }
        }

        for (int k = 0; k < L; k++)
        {
            foreach (var point in Enum.GetValues<EditPoint>())
            {
                foreach (bool hasOrigin in new[] { false, true })
                {
                    float[] y = Normal((D * 10) + k, LawOf.Length * D), origin = Normal((D * 20) + k, LawOf.Length * D), expected = [.. y];
                    Floats output = SendRows(D, y), residual = hasOrigin ? SendRows(D, origin) : default;
                    kernels.Edit(Stream, rows, output, residual, ((int)point * L) + k);
                    kernels.Join(Stream, rows, output, residual, ((int)point * L) + k);
                    foreach (bool joins in new[] { false, true })
                    {
                        for (int i = 0; i < LawOf.Length; i++)
                        {
                            if (LawOf[i] >= 0)
                            {
                                Action<int, EditPoint, int, Span<float>, ReadOnlySpan<float>> act = joins ? cpu[LawOf[i]].Join : cpu[LawOf[i]].Edit;
                                act(k, point, Slots[i], expected.AsSpan(i * D, D), hasOrigin ? origin.AsSpan(i * D, D) : default);
                            }
                        }
                    }

                    float[] actual = Receive(output);
                    for (int i = 0; i < LawOf.Length; i++)
                    {
                        string what = $"layer {k}, {point}, row {i}, origin {hasOrigin}";
                        Close(Row(actual, D, i), [.. Row(expected, D, i).Select(v => (double)v)], what);
                        if (LawOf[i] is < 0 or 2)
                        {
                            Assert.That(Bits(Row(actual, D, i)), Is.EqualTo(Bits(Row(y, D, i))), what + " is not edited");
                        }
                    }
                }
            }
        }

        int points = laws[0].EditStages;
        for (int law = 0; law < 2; law++)
        {
            for (int slot = 0; slot <= 2 * law; slot++)
            {
                float[] norms = Receive<float>(device[law].EditNorms, 3 * points)[(slot * points)..];
                float[] inputs = new float[L], states = new float[L], sums = new float[L];
                cpu[law].ReadEffort(slot, inputs, states);
                for (int i = 0; i < points; i++)
                {
                    sums[i % L] += norms[i];
                }

                Assert.That(sums, Is.EqualTo(inputs).Within(1e-4 * (1 + inputs.Max())), $"law {law}, slot {slot}");
            }
        }
    }

    [Test]
    public void A_flow_has_as_many_features_as_there_is_room_for()
    {
        const int D = 70;
        var sketch = CountSketch.Random(D, FlowEdit.MaxComponents, 0.2, 1, 3);
        var law = new FeedbackLaw(1, D, [], [], edits: [new FlowEdit(0, EditPoint.Output, 2, sketch, Normal(4, FlowEdit.MaxComponents), 10)]);
        float[] y = Normal(5, D), expected = [.. y];
        var rows = Table([new DeviceRow { Steering = Sent(law, 1).Address }]);
        var output = SendRows(D, y);
        Load(k => new EditKernels(k)).Edit(Stream, rows, output, default, (int)EditPoint.Output);
        law.Edits[0].Apply(expected);
        Close(Receive(output), [.. expected.Select(v => (double)v)], "flow");
    }

    private RowTable Table(params DeviceRow[] rows) => new(new(Send(rows), rows.Length), default);

    private static ActivationEdit[] Edits(Random random, int D, bool joins, int gate)
    {
        float[] Direction() => Normal(random.Next(), D, 1 / Math.Sqrt(D));
        float[] Around(float middle, float spread) => [.. Normal(random.Next(), D, spread).Select(x => middle + x)];
        var edits = new List<ActivationEdit>();
        for (int k = 0; k < L; k++)
        {
            foreach (var point in Enum.GetValues<EditPoint>())
            {
                edits.Add(new AffineEdit(k, point, 0.7f, Around(1, 0.3f), Around(0, 0.1f), Around(-1, 0.3f), Around(1, 0.3f)) { Gate = gate });
                edits.Add(new AblationEdit(k, point, 0.9f, Direction()));

                // On a line a state of unit length has no tangent, and the field is rounding.
                if (k != 1 && D > 1)
                {
                    edits.Add(new FlowEdit(k, point, 0.4f, CountSketch.Random(D, 24, 0.5, 1, (ulong)random.Next()), Normal(random.Next(), 24), 3));
                }

                edits.Add(new NormKeepingEdit(k, point, 0.5f, Direction(), WholePass: joins));
            }
        }

        return [.. edits];
    }

    private (nint Address, nint EditNorms) Sent(FeedbackLaw law, int slots)
    {
        var packed = CudaLaw.Of(law);
        nint address = Send(new byte[packed.SizeInBytes + 64]);
        int points = law.EditStages;
        nint norms = Send(new float[(slots * points) + 1]);
        nint there = Send(packed.Bytes(address, directions: true).ToArray());
        Stream.CopyWithinDevice(there, address, packed.SizeInBytes);
        var (edits, begins) = packed.EditsAt;
        var steering = new DeviceSteering
        {
            Layers = address,
            Errors = Send(new float[(slots * law.Sensors.Count) + 1]),
            InputNorms = Send(new float[slots * law.Stages]),
            StateNorms = Send(new float[slots * law.Stages]),
            FreeNorms = Send(new float[slots * law.Stages]),
            Sensors = law.Sensors.Count,
            LayerCount = law.Stages,
            FirstStage = law.FirstStage,
            MaxEffort = law.MaxEffort,
            Edits = edits == 0 ? 0 : address + edits,
            EditBegin = edits == 0 ? 0 : address + begins,
            EditNorms = norms,
            Joined = Send(new float[2 * slots]),
            EditScratch = Send(new float[slots * law.Width]),
            EditPoints = points,
        };
        return (Send(steering), norms);
    }
}
