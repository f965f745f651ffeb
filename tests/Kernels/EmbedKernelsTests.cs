using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

public class EmbedKernelsTests : ElementKernelTest
{
    private static readonly int[] Positions = [0, 1, 31, 127, 4097, 131071, 1048575];

    [TestCase(2, 1)]
    [TestCase(20, 2)]
    [TestCase(128, 3)]
    public void RotationsAreCosinesAndSinesOfPositionTimesFrequency(int E, int tables)
    {
        var kernels = Load(k => new EmbedKernels(k));
        float[][] frequencies = [.. Enumerable.Range(0, 2 * tables).Select(t =>
            Enumerable.Range(0, E / 2).Select(e => t == 1 ? 0 : (float)Math.Pow(500000 + t, -2.0 * e / E)).ToArray())];
        float[][] amplitudes =
            [.. Enumerable.Range(0, 2 * tables).Select(t => Enumerable.Range(0, E / 2).Select(e => t == 1 ? 1 : 1 + (t / 7f) + e).ToArray())];
        DeviceRow[] rows = [.. Positions.Select((position, i) => new DeviceRow { Position = position, IsLong = i % 2 })];
        int lines = rows.Length + 2;
        var rotation = PoisonedRows(tables * lines, E, beyond: 1);
        kernels.Rotate(Stream, SendSpan(rows),
            SendRows(E, [.. Enumerable.Range(0, 2 * tables).SelectMany(t => frequencies[t].Concat(amplitudes[t]))]), tables, rotation);
        float[] actual = Receive(rotation, beyond: 1);
        for (int table = 0; table < tables; table++)
        {
            for (int i = 0; i < rows.Length; i++)
            {
                int from = rows[i].IsLong == 0 ? table : tables + table;
                double[] angles = [.. frequencies[from].Select(f => (double)(f * Positions[i]))];
                double[] expected = [.. angles.Select((angle, e) => amplitudes[from][e] * Math.Cos(angle)),
                    .. angles.Select((angle, e) => amplitudes[from][e] * Math.Sin(angle))];
                Close(Row(actual, E, (table * lines) + i), expected, $"position {Positions[i]}, table {table}");
            }
        }

        Assert.That(actual.Count(float.IsNaN), Is.EqualTo((2 * tables * E) + 1), "no line without a row is written, and nothing past the end");
    }

    [TestCase(1, WeightType.F32)]
    [TestCase(31, WeightType.F16)]
    [TestCase(33, WeightType.BF16)]
    [TestCase(127, WeightType.F32)]
    [TestCase(64, WeightType.F16)]
    [TestCase(516, WeightType.F32)]
    [TestCase(1028, WeightType.BF16)]
    public void RowsOfTheTableAreGatheredAndScaled(int D, WeightType type)
    {
        const int V = 9;
        const float Scale = 45.25f;
        var kernels = Load(k => new EmbedKernels(k));
        var random = new Random(D);
        ushort[] stored = [.. Enumerable.Range(0, V * D).Select(_ => (ushort)random.Next(65536))];
        stored[0] = 1; // the smallest subnormal number
        float[] wide = Normal(D, V * D);
        float Weight(int i) => type switch
        {
            WeightType.F32 => wide[i],
            WeightType.F16 => (float)BitConverter.UInt16BitsToHalf(stored[i]),
            _ => BitConverter.UInt32BitsToSingle((uint)stored[i] << 16),
        };
        int[] ids = [8, 0, 3, 3];
        DeviceRow[] rows = [.. ids.Select(id => new DeviceRow { Id = id })];
        var x = PoisonedRows(ids.Length, D, beyond: 4);
        var table = new Matrix(type == WeightType.F32 ? Send(wide) : Send(stored), type, V, D);
        kernels.Embed(Stream, SendSpan(rows), table, Scale, x);
        float[] actual = Receive(x, beyond: 4);
        float[] expected = [.. ids.SelectMany(id => Enumerable.Range(0, D).Select(c => Scale * Weight((id * D) + c)))];
        Assert.That(actual[..expected.Length], Is.EqualTo(expected));
        Assert.That(actual[expected.Length..], Is.All.NaN, "nothing is written past the end");
    }

    [Test]
    public void NoRowsAreNoLaunch()
    {
        var kernels = Load(k => new EmbedKernels(k));
        Assert.That(() =>
        {
            kernels.Rotate(Stream, default, default, tables: 1, default);
            kernels.Embed(Stream, default, default, 1, default);
            Stream.Synchronize();
        }, Throws.Nothing);
    }
}
