using Tiller.Cpu;
using Tiller.Kernels;
using Tiller.Law;

namespace Tiller.Tests.Kernels;

public class SteerKernelsTests : SteeredKernelTest
{
    // Rows: law 0 (slot 0), plain, law 1 (slots 0 and 1); tangents of rows 0, 0, 1 and 3.
    private static readonly int[] LawOf = [0, -1, 1, 1];
    private static readonly int[] Slots = [0, 0, 0, 1];
    private static readonly int[] Owners = [0, 0, 1, 3];

    [TestCase(1, float.PositiveInfinity)]
    [TestCase(31, 0.5f)]
    [TestCase(33, float.PositiveInfinity)]
    [TestCase(127, 3f)]
    [TestCase(516, 2f)]
    [TestCase(4097, float.PositiveInfinity)]
    [TestCase(4112, 40f)]
    public void EveryRowFollowsItsOwnLaw(int D, float bound)
    {
        FeedbackLaw[] laws =
        [
            NewLaw(D, D, [1, 0, 9], [1, 0, 3], bound, hasCurves: D > 500),
            NewLaw(D + 50, D, [5, 2, 1], [2, 1, 7], float.PositiveInfinity, hasCurves: true),
        ];
        CpuSteering[] cpu = [.. laws.Select(law => new CpuSteering(law))];
        OnDevice[] device = [.. laws.Select(law => Ready(law, slots: 2, Owners.Length))];
        var kernels = Load(k => new SteerKernels(k));
        var rows = Rows(device);
        int values = LawOf.Length, total = values + Owners.Length;
        for (int k = 0; k < L; k++)
        {
            float[] x = Normal((D * 10) + k, total * D), y = Normal((D * 20) + k, total * D);
            Floats state = SendRows(D, x), output = SendRows(D, y);
            kernels.Sense(Stream, rows, state, k);
            kernels.Act(Stream, rows, output, k);
            float[] actual = Receive(output), expected = [.. y];
            Assert.That(Bits(Receive(state)), Is.EqualTo(Bits(x)), "sensing moves nothing");
            for (int i = 0; i < values; i++)
            {
                if (LawOf[i] >= 0)
                {
                    cpu[LawOf[i]].Sense(k, Slots[i], Row(x, D, i));
                    cpu[LawOf[i]].Act(k, Slots[i], expected.AsSpan(i * D, D));
                }
            }

            for (int t = 0; t < Owners.Length; t++)
            {
                if (LawOf[Owners[t]] >= 0)
                {
                    var law = cpu[LawOf[Owners[t]]];
                    law.SenseTangent(k, t, Row(x, D, Owners[t]), Row(x, D, values + t));
                    law.ActTangent(k, Slots[Owners[t]], t, expected.AsSpan((values + t) * D, D));
                }
            }

            for (int i = 0; i < total; i++)
            {
                int law = LawOf[i < values ? i : Owners[i - values]];
                Close(Row(actual, D, i), [.. Row(expected, D, i).Select(v => (double)v)], $"layer {k} row {i}");
                if (law < 0 || laws[law].TermsOf(k).Length == 0)
                {
                    Assert.That(Bits(Row(actual, D, i)), Is.EqualTo(Bits(Row(y, D, i))), $"layer {k} row {i} is not steered");
                }
            }
        }

        for (int j = 0; j < laws.Length; j++)
        {
            for (int slot = 0; slot <= j; slot++)
            {
                SameReadings(laws[j], cpu[j], device[j], slot);
            }
        }
    }

    [TestCase(1e-40f, 31)]
    [TestCase(1e-20f, 33)]
    [TestCase(0.1f, 127)]
    [TestCase(1f, 1)]
    [TestCase(7.3f, 516)]
    [TestCase(1e30f, 4097)]
    public void TheBoundHoldsToTheLastBit(float bound, int D)
    {
        var kernels = Load(k => new SteerKernels(k));
        for (int seed = 0; seed < 8; seed++)
        {
            // A strength that makes u from far below to far above the bound.
            float strength = bound * MathF.Pow(10, seed - 3) / MathF.Sqrt(D);
            var law = new FeedbackLaw(1, D, [], [new Term(0, Normal(seed, D), strength)], bound);
            var device = Ready(law, 1, 0);
            var y = SendRows(D, new float[D]);
            var rows = Table([new DeviceRow { Steering = device.Address }]);
            kernels.Sense(Stream, rows, y, 0);
            kernels.Act(Stream, rows, y, 0);
            float[] u = Receive(y);
            double norm = Math.Sqrt(u.Sum(v => (double)v * v)), free = Math.Sqrt(law.Terms[0].W.Sum(w => (double)(w * strength) * (w * strength)));
            Assert.That(norm, Is.LessThanOrEqualTo(bound), $"seed {seed}");
            float kept = Receive<float>(device.InputNorms, 1)[0];
            Assert.That(kept, Is.LessThanOrEqualTo(bound));
            double slack = (2e-7 * bound) + (1.5e-45 * Math.Sqrt(D)); // subnormal numbers are that far apart
            Assert.That(norm, Is.EqualTo(Math.Min(free, bound)).Within(slack), $"seed {seed}: no effort is given away");
            Assert.That(kept, Is.EqualTo(norm).Within(slack));
            Assert.That((double)Receive<float>(device.FreeNorms, 1)[0], Is.EqualTo(free).Within(slack + (1e-6 * free)));
        }
    }

    [Test]
    public void AnInputWhoseNormOverflowsIsNoNumber()
    {
        const int D = 33;
        var law = new FeedbackLaw(1, D, [], [new Term(0, [.. Enumerable.Repeat(1f, D)], 3e38f)], 1f);
        var kernels = Load(k => new SteerKernels(k));
        var rows = Table([new DeviceRow { Steering = Ready(law, 1, 0).Address }]);
        var y = SendRows(D, new float[D]);
        kernels.Sense(Stream, rows, y, 0);
        kernels.Act(Stream, rows, y, 0);
        Assert.That(Receive(y), Is.All.NaN);
    }

    [Test]
    public void MoreTermsThanSharedMemoryHolds()
    {
        const int D = 132, Terms = 300;
        var law = NewLaw(5, D, [3, 2, 1], [Terms, 1, 1], 11f);
        var cpu = new CpuSteering(law);
        var device = Ready(law, 1, 1);
        var kernels = Load(k => new SteerKernels(k));
        float[] x = Normal(6, 2 * D), y = Normal(7, 2 * D);
        var rows = Table([new DeviceRow { Steering = device.Address, EndTangent = 1 }], 0);
        var output = SendRows(D, y);
        kernels.Sense(Stream, rows, SendRows(D, x), 0);
        kernels.Act(Stream, rows, output, 0);
        cpu.Sense(0, 0, Row(x, D, 0));
        cpu.Act(0, 0, y.AsSpan(0, D));
        cpu.SenseTangent(0, 0, Row(x, D, 0), Row(x, D, 1));
        cpu.ActTangent(0, 0, 0, y.AsSpan(D, D));
        float[] actual = Receive(output);
        Close(Row(actual, D, 0), [.. Row(y, D, 0).Select(v => (double)v)], "value");
        Close(Row(actual, D, 1), [.. Row(y, D, 1).Select(v => (double)v)], "tangent");
    }

    [TestCase(33, 2f)]
    [TestCase(516, float.PositiveInfinity)]
    public void SensingRidesOnTheNorm(int D, float bound)
    {
        var law = NewLaw(D, D, [5, 1, 0], [2, 0, 1], bound);
        OnDevice[] apart = [Ready(law, 2, Owners.Length), Ready(law, 2, Owners.Length)];
        OnDevice[] together = [Ready(law, 2, Owners.Length), Ready(law, 2, Owners.Length)];
        var kernels = Load(k => new SteerKernels(k));
        var norm = Load(k => new NormKernels(k));
        int values = LawOf.Length, total = values + Owners.Length;
        var weights = new RmsNorm(SendRows(D, Normal(D + 1, D)), 1e-5f);
        Floats expected = PoisonedRows(total, D), actual = PoisonedRows(total, D);
        RowTable rowsApart = Rows(apart), rowsTogether = Rows(together);
        for (int k = 0; k < L; k++)
        {
            var x = SendRows(D, Normal((D * 10) + k, total * D));
            kernels.Sense(Stream, rowsApart, x, k);
            norm.Forward(Stream, x, rowsApart.Dual, weights, expected);
            kernels.SenseNorm(Stream, rowsTogether, x, k, weights, actual);
            Assert.That(Bits(Receive(actual)), Is.EqualTo(Bits(Receive(expected))), $"layer {k}");
        }

        for (int j = 0; j < apart.Length; j++)
        {
            float[] All(OnDevice d) => [.. Receive<float>(d.Errors, 2 * law.Sensors.Count), .. Receive<float>(d.InputNorms, 2 * L),
                .. Receive<float>(d.StateNorms, 2 * L), .. Receive<float>(d.FreeNorms, 2 * L)];
            Assert.That(Bits(All(together[j])), Is.EqualTo(Bits(All(apart[j]))));
            Assert.That(All(together[j]).Count(v => v != 0), Is.GreaterThan(L));
        }
    }

    [Test]
    public void ARowsBitsDependNeitherOnItsNeighboursNorOnTheRun()
    {
        const int D = 260;
        var law = NewLaw(9, D, [5, 1, 1], [3, 1, 1], 4f);
        var kernels = Load(k => new SteerKernels(k));
        float[] x = Normal(8, 2 * D), y = Normal(9, 2 * D);
        float[] Run(int before)
        {
            var device = Ready(law, 1, before + 1);
            DeviceRow[] rows = [.. new DeviceRow[before], new DeviceRow { Steering = device.Address }];
            float[] noise = [.. Enumerable.Repeat(float.NaN, before * D)];
            int[] owners = [.. Enumerable.Range(0, before + 1)];
            var table = Table(rows, owners);
            Floats state = SendRows(D, [.. noise, .. x[..D], .. noise, .. x[D..]]), output = SendRows(D, [.. noise, .. y[..D], .. noise, .. y[D..]]);
            kernels.Sense(Stream, table, state, 0);
            kernels.Act(Stream, table, output, 0);
            float[] all = Receive(output);
            return [.. Row(all, D, before), .. Row(all, D, (2 * before) + 1)];
        }

        uint[] alone = Bits(Run(0));
        Assert.That(Bits(Run(3)), Is.EqualTo(alone));
        Assert.That(Bits(Run(0)), Is.EqualTo(alone));
    }

    private void SameReadings(FeedbackLaw law, CpuSteering cpu, OnDevice device, int slot)
    {
        int sensors = law.Sensors.Count;
        float[] errors = new float[sensors], inputs = new float[L], states = new float[L];
        cpu.ReadErrors(slot, errors);
        cpu.ReadEffort(slot, inputs, states);
        Close(Receive<float>(device.Errors + (4 * slot * sensors), sensors), [.. errors.Select(v => (double)v)], "α");
        Close(Receive<float>(device.InputNorms + (4 * slot * L), L), [.. inputs.Select(v => (double)v)], "|u|");
        Close(Receive<float>(device.StateNorms + (4 * slot * L), L), [.. states.Select(v => (double)v)], "|x|");
    }

    private RowTable Rows(OnDevice[] laws) =>
        Table([.. LawOf.Select((law, i) => new DeviceRow { Slot = Slots[i], Steering = law < 0 ? 0 : laws[law].Address })], Owners);

    private RowTable Table(DeviceRow[] rows, params int[] owners) => new(SendSpan(rows), SendSpan(owners));
}
