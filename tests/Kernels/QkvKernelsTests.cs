using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

public class QkvKernelsTests : ElementKernelTest
{
    private const float Eps = 1e-6f;
    private const int Values = 3, L = 2, Layer = 1, Capacity = 7;
    private static readonly int[] Owners = [0, 0, 2, 2, 2];
    private static readonly int[] Positions = [6, 0, 3];

    [TestCase(1, 1, 2, false)]
    [TestCase(8, 2, 20, false)]
    [TestCase(3, 1, 62, false)]
    [TestCase(4, 2, 128, false)]
    [TestCase(2, 1, 24, true)]
    [TestCase(1, 1, 66, true)]
    [TestCase(4, 2, 128, true)]
    public void ValuesTangentsCacheAndCotangents(int H, int G, int E, bool norms)
    {
        int rows = Values + Owners.Length, heads = H + (2 * G), turned = H + G;
        var kernels = Load(k => new QkvKernels(k));
        float[] qkv = Normal(E, rows * heads * E), rotation = Normal(E + 1, Values * E), bar = Normal(E + 4, Owners.Length * heads * E);
        float[] queryNorm = Normal(E + 2, E), keyNorm = Normal(E + 3, E);
        nint[] caches = [.. Positions.Select(_ => Poisoned<float>(L * 2 * G * Capacity * E))];
        DeviceRow[] table = [.. Positions.Select((p, i) => new DeviceRow { Position = p, Capacity = Capacity, Cache = caches[i] })];
        Floats at = SendRows(heads * E, qkv), raw = norms ? PoisonedRows(Values, turned * E) : default, back = SendRows(heads * E, bar);
        var angles = SendRows(E, rotation);
        var headNorms = norms ? new HeadNorms(SendRows(E, queryNorm), SendRows(E, keyNorm), Eps) : default;
        var owners = SendSpan(Owners);
        var shape = new HeadShape(H, G, E);
        kernels.Finish(Stream, new RowTable(SendSpan(table), owners), at, raw, angles, headNorms, shape, Layer);
        var (sums, total) = Sums(E + 5, rows, heads * E, Values, hasResidual: false);
        Floats there = SendRows(heads * E, total), left = PoisonedRows(rows, heads * E);
        DeviceRow[] Elsewhere() => [.. table.Select(row => row with { Cache = Poisoned<float>(L * 2 * G * Capacity * E) })];
        Floats Unnormed() => norms ? PoisonedRows(Values, turned * E) : default;
        kernels.Finish(Stream, new RowTable(SendSpan(Elsewhere()), owners), there, Unnormed(), angles, headNorms, shape, Layer);
        kernels.Finish(Stream, new RowTable(SendSpan(Elsewhere()), owners), left, Unnormed(), angles, headNorms, shape, Layer, sums);
        Assert.That(Bits(Receive(left)), Is.EqualTo(Bits(Receive(there))), "sums that the map left are added up");
        kernels.Pull(Stream, owners, back, raw, angles, headNorms, shape);

        float[] actual = Receive(at), pulled = Receive(back);
        float[]? g(int head) => !norms ? null : head < H ? queryNorm : keyNorm;
        for (int row = 0; row < rows; row++)
        {
            int owner = row < Values ? row : Owners[row - Values];
            for (int head = 0; head < heads; head++)
            {
                float[] x = Row(qkv, E, (row * heads) + head), ownersX = Row(qkv, E, (owner * heads) + head);
                double[] expected = [.. x.Select(v => (double)v)];
                if (head < turned)
                {
                    expected = RowReference.Rotate(row < Values ? RowReference.Norm(x, g(head), Eps) : RowReference.Tangent(ownersX, x, g(head), Eps),
                        Row(rotation, E, owner), 1);
                }

                Close(Row(actual, E, (row * heads) + head), expected, $"row {row} head {head}");
            }
        }

        for (int t = 0; t < Owners.Length; t++)
        {
            for (int head = 0; head < heads; head++)
            {
                float[] z = Row(bar, E, (t * heads) + head), ownersX = Row(qkv, E, (Owners[t] * heads) + head);
                double[] expected = [.. z.Select(v => (double)v)];
                if (head < turned)
                {
                    expected = RowReference.PullNorm(ownersX, RowReference.Rotate(expected, Row(rotation, E, Owners[t]), -1), g(head), Eps);
                }

                Close(Row(pulled, E, (t * heads) + head), expected, $"cotangent {t} head {head}");
            }
        }

        for (int row = 0; row < Values; row++)
        {
            float[] cache = Receive<float>(caches[row], L * 2 * G * Capacity * E);
            for (int head = 0; head < 2 * G; head++)
            {
                int first = ((((Layer * 2 * G) + head) * Capacity) + Positions[row]) * E;
                float[] written = Row(actual, E, (row * heads) + H + head);
                Assert.That(Bits(cache[first..(first + E)]), Is.EqualTo(Bits(written)), $"row {row} cached head {head}");
            }

            Assert.That(cache.Count(float.IsNaN), Is.EqualTo(cache.Length - (2 * G * E)), "nothing else of the cache is written");
        }

        if (norms)
        {
            float[] kept = Receive(raw);
            Assert.That(kept, Is.EqualTo(Enumerable.Range(0, Values).SelectMany(row => qkv.Skip(row * heads * E).Take(turned * E))));
        }
    }

    [TestCase(1, 1, 2)]
    [TestCase(8, 2, 20)]
    [TestCase(3, 1, 62)]
    [TestCase(4, 2, 128)]
    public void NormsOverTheWholeWidthAndTheirPull(int H, int G, int E)
    {
        int rows = Values + Owners.Length, line = (H + (2 * G)) * E;
        var kernels = Load(k => new QkvKernels(k));
        float[] qkv = Normal(E, rows * line), bar = Normal(E + 4, Owners.Length * line), queryNorm = Normal(E + 2, H * E), keyNorm =
            Normal(E + 3, G * E);
        Floats at = SendRows(line, qkv), raw = PoisonedRows(Values, (H + G) * E), back = SendRows(line, bar);
        var norms = new HeadNorms(SendRows(H * E, queryNorm), SendRows(G * E, keyNorm), Eps);
        var shape = new HeadShape(H, G, E);
        kernels.NormWidth(Stream, Dual(Values, Owners), at, raw, norms, shape);
        kernels.PullWidth(Stream, SendSpan(Owners), back, raw, norms, shape);
        float[] actual = Receive(at), pulled = Receive(back);
        float[] Part(float[] all, int row, bool keys) => Row(all, line, row)[(keys ? H * E : 0)..(keys ? (H + G) * E : H * E)];
        foreach (bool keys in new[] { false, true })
        {
            float[] g = keys ? keyNorm : queryNorm;
            for (int row = 0; row < rows; row++)
            {
                float[] x = Part(qkv, row, keys), ownersX = Part(qkv, row < Values ? row : Owners[row - Values], keys);
                Close(Part(actual, row, keys), row < Values ? RowReference.Norm(x, g, Eps) : RowReference.Tangent(ownersX, x, g, Eps),
                    $"row {row}, keys {keys}");
            }

            for (int t = 0; t < Owners.Length; t++)
            {
                double[] z = [.. Part(bar, t, keys).Select(v => (double)v)];
                Close(Part(pulled, t, keys), RowReference.PullNorm(Part(qkv, Owners[t], keys), z, g, Eps), $"cotangent {t}, keys {keys}");
            }
        }

        int[] values = [.. Enumerable.Range(0, rows).SelectMany(row => Enumerable.Range((row * line) + ((H + G) * E), G * E))];
        Assert.That(values.Select(i => actual[i]), Is.EqualTo(values.Select(i => qkv[i])), "values stay");
        Assert.That(Receive(raw), Is.EqualTo(Enumerable.Range(0, Values).SelectMany(row => Row(qkv, line, row)[..((H + G) * E)])));
    }

    [TestCase(false)]
    [TestCase(true)]
    public void ARowsBitsDoNotDependOnItsNeighbours(bool norms)
    {
        const int H = 3, G = 1, E = 40, Line = (H + (2 * G)) * E;
        var kernels = Load(k => new QkvKernels(k));
        float[] qkv = Normal(1, 4 * Line), rotation = Normal(2, 2 * E), g = Normal(3, E);
        qkv.AsSpan(0, Line).Fill(float.NaN);
        DeviceRow NewRow() => new() { Capacity = 1, Cache = Poisoned<float>(2 * G * E) };
        var weight = SendRows(E, g);
        var norm = norms ? new HeadNorms(weight, weight, Eps) : default;
        var shape = new HeadShape(H, G, E);
        Floats many = SendRows(Line, qkv), alone = SendRows(Line, [.. Row(qkv, Line, 1), .. Row(qkv, Line, 3)]);
        Floats raw = PoisonedRows(2, shape.QkWidth), rawAlone = PoisonedRows(1, shape.QkWidth);
        kernels.Finish(Stream, new RowTable(SendSpan(NewRow(), NewRow()), SendSpan(0, 1)), many, raw, SendRows(E, rotation), norm, shape, 0);
        kernels.Finish(Stream, new RowTable(SendSpan(NewRow()), SendSpan(0)), alone, rawAlone, SendRows(E, rotation[E..]), norm, shape, 0);
        float[] all = Receive(many);
        Assert.That(Bits(Receive(alone)), Is.EqualTo(Bits([.. Row(all, Line, 1), .. Row(all, Line, 3)])));
    }
}
