using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Cpu;
using Tiller.Ops;

namespace Tiller.Tests.Cpu;

/// <summary>Linear maps of many sequences ask for the keys and values that the attention after them reads, and for nothing else.</summary>
public sealed class AttentionAheadTests
{
    private const int Line = 64;

    private static readonly CpuOps s_ops = new(1);

    [OneTimeTearDown]
    public void Close() => s_ops.Dispose();

    [Test]
    public void All_parts_together_ask_once_for_all_that_attention_reads(
        [Values(1, 7, 30)] int parts, [Values(1, 5, 48)] int steps, [Values] bool ofValues, [Values(0, 5)] int window)
    {
        using var batch = new Batch(sequences: 20, window, KvType.F32);
        var ahead = AttentionAhead.Of(batch.Rows, batch.Config, 1, ofValues);
        var asked = new List<nint>();
        for (int part = 0; part < parts; part++)
        {
            var share = ahead.Of(part, parts, steps);
            double at = 20.0 * batch.Config.G * part / parts, step = 20.0 * batch.Config.G / parts / steps;
            for (int i = 1; i <= steps; i++)
            {
                while (share.Take(at + (step * i), out nint begin, out nint end))
                {
                    // A line between two steps is asked for twice.
                    asked.AddRange(Lines(begin, end).Where(line => asked.Count == 0 || line != asked[^1]));
                }
            }
        }

        // In the order of the rows and their key/value heads, as attention reads them.
        Assert.That(asked, Is.EqualTo(batch.Read(1, ofValues).SelectMany(memory => Lines(memory.Address, memory.Address + memory.SizeInBytes))));

        static IEnumerable<nint> Lines(nint begin, nint end)
        {
            for (nint line = begin / Line * Line; line < end; line += Line)
            {
                yield return line;
            }
        }
    }

    [Test]
    public void Small_batches_ask_for_nothing() => Assert.That(Asks(new Batch(sequences: 8, window: 0, KvType.F32)), Is.False);

    [Test]
    public void Rows_with_tangents_ask_for_nothing() => Assert.That(Asks(new Batch(sequences: 20, window: 0, KvType.F32, tangents: 2)), Is.False);

    [Test]
    public void Rows_of_one_sequence_ask_for_nothing() =>
        Assert.That(Asks(new Batch(sequences: 1, window: 0, KvType.F32, rowsOfEach: 20)), Is.False);

    [Test]
    public void More_than_a_cache_holds_is_not_asked_for()
    {
        // 20 sequences of 2,000 tokens, two heads of 64 numbers: 20 MB in float32, 10 MB in bfloat16; with a window of 100 tokens, 1 MB.
        Assert.That(Asks(new Batch(sequences: 20, window: 0, KvType.F32, length: 2000)), Is.False);
        Assert.That(Asks(new Batch(sequences: 20, window: 0, KvType.BF16, length: 2000)), Is.False);
        Assert.That(Asks(new Batch(sequences: 20, window: 100, KvType.F32, length: 2000)), Is.True);
    }

    private static bool Asks(Batch batch)
    {
        using (batch)
        {
            var share = AttentionAhead.Of(batch.Rows, batch.Config, 1, ofValues: true).Of(0, 1, 1);
            return share.Asks;
        }
    }

    private sealed class Batch : IDisposable
    {
        private readonly List<KvCache> _caches = [];

        public Batch(int sequences, int window, KvType type, int length = 0, int rowsOfEach = 1, int tangents = 0)
        {
            Config = Config with { Windows = [0, window] };
            for (int i = 0; i < sequences; i++)
            {
                int position = length > 0 ? length : 3 * i;
                _caches.Add(new KvCache(s_ops, Config, position + rowsOfEach, type));
                for (int row = 0; row < rowsOfEach; row++)
                {
                    Rows.Add(id: 0, position + row, _caches[i], tangents: tangents);
                }
            }
        }

        public ModelConfig Config { get; } = BenchShape.Parse("2,128,64,4,2,64,96").Config;

        public RowBatch Rows { get; } = new();

        public IEnumerable<(nint Address, nint SizeInBytes)> Read(int k, bool ofValues)
        {
            for (int i = 0; i < Rows.Values; i++)
            {
                for (int group = 0; group < Config.G; group++)
                {
                    int position = Rows[i].Position, window = Config.Windows[k], begin = window > 0 ? Math.Max(0, position + 1 - window) : 0;
                    var rows = ofValues ? _caches[i].Values(k, group) : _caches[i].Keys(k, group);
                    yield return (rows.Address + (begin * rows.RowInBytes), (position - begin) * rows.RowInBytes);
                }
            }
        }

        public void Dispose() => _caches.ForEach(cache => cache.Dispose());
    }
}
