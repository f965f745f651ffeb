using Tiller.Decode;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Scheduling;

namespace Tiller.Bench;

/// <summary>Measures whole texts, decoded by a loop over a batch and by the scheduler, with the same number of rows.</summary>
internal static class SchedulerBench
{
    private const int Tokens = 32;

    /// <summary>Measures a pair of rows for each number of texts.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, Meter meter)
    {
        var c = request.Shape.Config;
        var counts = request.Counts;
        IReadOnlyList<int> all = request.Batches ?? (meter.Machine is CudaMachine ? [1, 8, 64] : [1, 8]);
        using var model = RandomParts.Model(
            request, meter.Machine, all.Max() * (counts.CacheBytes(Tokens) + (2.0 * Activations.RowSizeInBytes(c)) + (20.0 * c.V)));
        foreach (int texts in all)
        {
            using var loop = new BatchTextsLoop(model, texts, Tokens);
            using var scheduler = new ScheduledTextsLoop(model, texts, Tokens);
            var batch = new Work
            {
                Name = $"{texts} text{(texts == 1 ? "" : "s")} of {Tokens} tokens, batch",
                Bytes = Tokens * (counts.DecodeBytes + (texts * counts.CacheBytes(Tokens / 2))),
                Flops = Tokens * texts * (counts.RowFlops(Tokens / 2.0) + counts.HeadFlops),
                WorkingSet = counts.DecodeBytes,
                Rows = texts,
                Amount = Tokens * texts,
                RateUnit = "tok/s",
                MaxRuns = 1,
                Run = loop.Run,
            };
            var scheduled = batch with
            {
                Name = $"{texts} text{(texts == 1 ? "" : "s")} of {Tokens} tokens, scheduler",
                Comparison = Comparison.Speed,
                Run = scheduler.Run
            };
            foreach (var row in meter.Measure([batch, scheduled]))
            {
                yield return row;
            }
        }
    }

    /// <summary>The loop of a program without a scheduler.</summary>
    private sealed class BatchTextsLoop(LanguageModel model, int texts, int tokens) : IDisposable
    {
        private readonly SessionBatch _batch = new(model);
        private readonly int[] _ids = new int[texts];

        public void Run()
        {
            BatchRow[] rows = [.. Enumerable.Range(0, texts).Select(_ => new BatchRow(new Session(model), new Sampler(new SamplingOptions(),
                model.Config.V)))];
            for (int i = 0; i < texts; i++)
            {
                rows[i].Session.Append([i % model.Config.V]);
            }

            for (int i = 1; i < tokens; i++)
            {
                _batch.Draw(rows, _ids);
                _batch.Step(rows, _ids);
            }

            _batch.Draw(rows, _ids, goesOn: false);
            Array.ForEach(rows, row => row.Session.Dispose());
        }

        public void Dispose() => _batch.Dispose();
    }

    private sealed class ScheduledTextsLoop(LanguageModel model, int texts, int tokens) : IDisposable
    {
        private readonly Scheduler _scheduler = new(model, new SchedulerOptions
        {
            MaxSequences = texts,
            MaxQueued = texts,
            MaxKvBytes = long.MaxValue,
            ReaderBuffer = tokens
        });
        private readonly GenerationOptions _options = new() { MaxNewTokens = tokens, StopIds = [] };

        public void Run()
        {
            ScheduledText[] all = [.. Enumerable.Range(0, texts).Select(i => _scheduler.Submit([i % model.Config.V], _options))];
            foreach (var text in all)
            {
                if (text.Completion.GetAwaiter().GetResult() is { End: not TextEnd.Stopped } result)
                {
                    throw result.Error ?? new BenchException($"A text has ended as {result.End}.");
                }
            }
        }

        public void Dispose() => _scheduler.Dispose();
    }
}
