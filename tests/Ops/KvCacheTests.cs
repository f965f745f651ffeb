using Tiller.Bench;
using Tiller.Cpu;
using Tiller.Ops;

namespace Tiller.Tests.Ops;

/// <summary>How the cache of keys and values grows.</summary>
public sealed unsafe class KvCacheTests
{
    [TestCase(1, 1)]
    [TestCase(1, 60)]
    [TestCase(4681, 1)]
    [TestCase(8192, 300)]
    public void A_long_cache_that_grows_token_by_token_has_room_for_a_quarter_more_at_most(int prompt, int step)
    {
        const int Limit = 1 << 20;
        int capacity = KvCache.CapacityFor(prompt, Limit);
        Assert.That(capacity, Is.EqualTo(Math.Max(prompt, 16)));
        long copied = 0;
        for (int positions = prompt; positions < 100_000; positions += step)
        {
            int before = capacity;
            capacity = KvCache.CapacityFor(positions, Limit, capacity);
            copied += capacity == before ? 0 : before;
            Assert.That(capacity, Is.GreaterThanOrEqualTo(positions));
            Assert.That(capacity, Is.LessThanOrEqualTo(Math.Max(2 * KvCache.DoublesUpTo, 1.25 * Math.Max(positions, prompt))), $"at {positions}");
        }

        Assert.That(copied, Is.LessThanOrEqualTo(5L * capacity), "each key is copied five times at most");
        Assert.That(KvCache.CapacityFor(1_000_001, 1_048_576, 1_000_000), Is.EqualTo(1_048_576), "not beyond the context");
        Assert.That(KvCache.CapacityFor(int.MaxValue - 1, int.MaxValue, 2_000_000_000), Is.EqualTo(int.MaxValue - 1).Or.EqualTo(int.MaxValue));
    }

    [Test]
    public void A_cache_that_grows_gives_its_old_memory_back_meanwhile()
    {
        const string Peak = "/proc/self/clear_refs";
        if (!OperatingSystem.IsLinux())
        {
            Assert.Ignore("only on Linux are parts of a buffer given back");
        }

        var c = BenchShape.Parse("demo").Config;
        int positions = (int)((192L << 20) / KvCache.SizeInBytesFor(c, 1000) * 1000);
        using var ops = new CpuOps(threads: 1);
        using var cache = new KvCache(ops, c, positions);
        for (int k = 0; k < c.L; k++)
        {
            for (int g = 0; g < c.G; g++)
            {
                new Span<float>((void*)cache.Keys(k, g).Address, positions * c.E).Fill(1);
                new Span<float>((void*)cache.Values(k, g).Address, positions * c.E).Fill(1);
            }
        }

        // 5 makes the peak of the resident memory what is resident now.
        File.WriteAllText(Peak, "5");
        double before = Megabytes("VmRSS");
        cache.Reserve(positions + 1, positions);
        Assert.That(Megabytes("VmHWM") - before, Is.LessThan(96), "half of what was copied");
        Assert.That(*(float*)cache.Values(c.L - 1, c.G - 1).From(positions - 1).Address, Is.EqualTo(1));

        static double Megabytes(string name) => ProcFile.Kilobytes("/proc/self/status", name)!.Value / 1024.0;
    }

    [Test]
    public void A_cache_of_many_megabytes_keeps_its_rows_when_it_grows([Values] KvType type)
    {
        var c = BenchShape.Parse("demo").Config;
        using var ops = new CpuOps(threads: 1);
        using var cache = new KvCache(ops, c, 1000, type);
        int written = 0;
        foreach (int positions in new[] { 1000, 1001, 2001, 4000 })
        {
            cache.Reserve(positions, written);
            ForAll((k, g, rows, first) =>
            {
                float* row = stackalloc float[c.E];
                for (; first < positions; first++)
                {
                    new Span<float>(row, c.E).Fill(Number(k, g, first));
                    rows.Write(first, row);
                }
            });
            written = positions;
            ForAll((k, g, rows, _) =>
            {
                float[] widened = new float[c.E];
                fixed (float* p = widened)
                {
                    for (int position = 0; position < written; position++)
                    {
                        Assert.That(*rows.Read(position, 1, p), Is.EqualTo(Number(k, g, position)));
                    }
                }
            });
        }

        void ForAll(RowsAction action)
        {
            for (int k = 0; k < c.L; k++)
            {
                for (int g = 0; g < c.G; g++)
                {
                    action(k, g, cache.Keys(k, g), written);
                    action(k, c.G + g, cache.Values(k, g), written);
                }
            }
        }

        // Eight bits are kept in bfloat16 too.
        static float Number(int k, int g, int position) => ((7 * k) + (3 * g) + position) % 251;
    }

    private delegate void RowsAction(int k, int g, KvRows rows, int first);
}
