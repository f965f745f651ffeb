using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Cpu;
using Tiller.Ops;

namespace Tiller.Tests.Cpu;

/// <summary>Attention of a row alone, which is divided into ranges of 256 keys, and keys and values in bfloat16.</summary>
public sealed unsafe class AttentionRangeTests
{
    private static readonly ModelConfig s_shape = BenchShape.Parse("1,64,96,6,2,20,96").Config;

    [Test]
    public void Ranges_join_to_the_softmax_over_all_keys(
        [Values(1, 63, 255, 256, 257, 512, 700)] int length, [Values(0, 0.5f)] float softCap, [Values("20", "64", "128")] string size)
    {
        var c = BenchShape.Parse($"1,64,96,6,2,{size},96").Config with { AttentionSoftCap = softCap };
        using var ops = new CpuOps(threads: 2);
        using var sequence = new Sequence(ops, c, length);
        float[] o = Attend(ops, c, (sequence, 0))[0];
        Assert.That(o, Is.EqualTo(sequence.Expected(c)).Within(2e-6));
        Assert.That(o.Max(MathF.Abs), Is.GreaterThan(0.01));
    }

    [Test]
    public void A_row_has_the_same_bits_alone_in_a_batch_beside_tangents_and_on_any_number_of_threads()
    {
        using var one = new CpuOps(threads: 1);
        using Sequence row = new(one, s_shape, 700), longer = new(one, s_shape, 1500), shortest = new(one, s_shape, 1);
        float[] expected = Attend(one, s_shape, (row, 0))[0];
        foreach (int threads in new[] { 1, 2, 3 })
        {
            using var ops = new CpuOps(threads);
            Assert.That(Attend(ops, s_shape, (row, 0))[0], Is.EqualTo(expected), $"{threads} threads");
            Assert.That(Attend(ops, s_shape, (longer, 0), (row, 0), (shortest, 0))[1], Is.EqualTo(expected), $"{threads} threads, batch");
            Assert.That(Attend(ops, s_shape, (shortest, 3), (row, 2), (longer, 0))[1], Is.EqualTo(expected), $"{threads} threads, tangents");
            Assert.That(Attend(ops, s_shape, (row, s_shape.E))[0], Is.EqualTo(expected), $"{threads} threads, many tangents");
        }
    }

    [Test]
    public void Numbers_are_rounded_to_the_nearest_bfloat16_and_ties_to_even([Values(1, 7, 8, 20)] int size)
    {
        (float From, uint To)[] cases =
        [
            (0, 0), (-0f, 0x8000_0000), (1, 0x3F80_0000), (Bits(0x3F80_7FFF), 0x3F80_0000), (Bits(0x3F80_8000), 0x3F80_0000),
            (Bits(0x3F80_8001), 0x3F81_0000), (Bits(0x3F81_8000), 0x3F82_0000), (Bits(0xBF81_8000), 0xBF82_0000), (Bits(0x0000_8001), 0x0001_0000),
            (float.MaxValue, 0x7F80_0000), (float.PositiveInfinity, 0x7F80_0000), (float.NegativeInfinity, 0xFF80_0000),
            (Bits(0x7F7F_7FFF), 0x7F7F_0000),
        ];
        foreach (var (from, to) in cases)
        {
            Assert.That(Stored(from), Is.All.EqualTo(to), $"{BitConverter.SingleToUInt32Bits(from):X8}");
        }

        Assert.That(Stored(float.NaN).Concat(Stored(Bits(0x7F80_0001))).Select(BitConverter.UInt32BitsToSingle), Is.All.NaN);

        uint[] Stored(float number)
        {
            float[] numbers = [.. Enumerable.Repeat(number, size)], memory = new float[size], widened = new float[2 * size];
            fixed (float* from = numbers, to = memory, read = widened)
            {
                var rows = new KvRows((nint)to, KvType.BF16, size);
                rows.Write(0, from);
                rows.Write(1, from);
                Assert.That(rows.Widened(2), Is.EqualTo(2 * size));
                return [.. new Span<float>(rows.Read(0, 2, read), 2 * size).ToArray().Select(BitConverter.SingleToUInt32Bits)];
            }
        }

        static float Bits(uint bits) => BitConverter.UInt32BitsToSingle(bits);
    }

    [Test]
    public void In_bfloat16_rows_have_the_bits_of_rounded_keys_and_values([Values(1, 64, 255, 600)] int length, [Values(0, 2, 20)] int tangents)
    {
        using var ops = new CpuOps(threads: 2);
        using Sequence stored = new(ops, s_shape, length, KvType.BF16), rounded = new(ops, s_shape, length, round: true);
        using Sequence exact = new(ops, s_shape, length);
        float[][] expected = Attend(ops, s_shape, (rounded, tangents));
        Assert.That(Attend(ops, s_shape, (stored, tangents)), Is.EqualTo(expected));
        Assert.That(Attend(ops, s_shape, (exact, tangents)), Is.Not.EqualTo(expected));
        Assert.That(KvCache.SizeInBytesFor(s_shape, length, KvType.BF16), Is.EqualTo(KvCache.SizeInBytesFor(s_shape, length) / 2));
    }

    // The last rows of sequences, with some tangents each: the values, then the tangents.
    private static float[][] Attend(CpuOps ops, ModelConfig c, params (Sequence Of, int Tangents)[] sequences)
    {
        using var a = new Activations(ops, c);
        var rows = new RowBatch();
        foreach (var (of, tangents) in sequences)
        {
            rows.Add(id: 0, of.Length - 1, of.Cache, tangents: tangents);
        }

        a.Reserve(rows.Total);
        for (int i = 0; i < rows.Total; i++)
        {
            float[] qkv = i < rows.Values ? sequences[i].Of.Qkv : Numbers(new Random(i), a.Qkv.Columns);
            qkv.CopyTo(a.Qkv.HostRow(i));
        }

        ops.Attend(c, 0, rows, a);
        return [.. Enumerable.Range(0, rows.Total).Select(i => a.Heads.HostRow(i).ToArray())];
    }

    private static float[] Numbers(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => (2 * random.NextSingle()) - 1)];

    private sealed class Sequence : IDisposable
    {
        private readonly float[][] _keys;
        private readonly float[][] _values;

        public Sequence(CpuOps ops, ModelConfig c, int length, KvType type = KvType.F32, bool round = false)
        {
            var random = new Random(length);
            Length = length;
            Cache = new KvCache(ops, c, length, type);
            _keys = [.. Enumerable.Range(0, c.G).Select(g => Fill(Cache.Keys(0, g)))];
            _values = [.. Enumerable.Range(0, c.G).Select(g => Fill(Cache.Values(0, g)))];

            float[] Fill(KvRows rows)
            {
                float[] numbers = [.. Numbers(random, length * c.E).Select(x => round ? Rounded(x) : x)];
                fixed (float* from = numbers)
                {
                    for (int position = 0; position < length; position++)
                    {
                        rows.Write(position, from + (position * c.E));
                    }
                }

                return numbers;
            }

            Qkv = Numbers(random, (c.H + (2 * c.G)) * c.E);
        }

        public int Length { get; }

        public KvCache Cache { get; }

        public float[] Qkv { get; }

        // In float64, from the definition.
        public float[] Expected(ModelConfig c)
        {
            float[] expected = new float[c.H * c.E];
            for (int h = 0; h < c.H; h++)
            {
                int g = h / (c.H / c.G), head = h;
                double[] z = [.. Enumerable.Range(0, Length).Select(j => Score(head, g, j))];
                double largest = z.Max(), total = z.Sum(x => Math.Exp(x - largest));
                for (int e = 0; e < c.E; e++)
                {
                    expected[(h * c.E) + e] = (float)Enumerable.Range(0, Length).Sum(j =>
                        Math.Exp(z[j] - largest) / total * _values[g][(j * c.E) + e]);
                }
            }

            return expected;

            double Score(int h, int g, int j)
            {
                double dot = Enumerable.Range(0, c.E).Sum(e => (double)Qkv[(h * c.E) + e] * _keys[g][(j * c.E) + e]) * c.ScoreScale;
                return c.AttentionSoftCap > 0 ? c.AttentionSoftCap * Math.Tanh(dot / c.AttentionSoftCap) : dot;
            }
        }

        public void Dispose() => Cache.Dispose();

        private static float Rounded(float x)
        {
            uint bits = BitConverter.SingleToUInt32Bits(x);
            return BitConverter.UInt32BitsToSingle((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000);
        }
    }
}
