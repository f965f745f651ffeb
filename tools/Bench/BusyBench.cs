using System.Diagnostics;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Bench;

/// <summary>Measures decoding while other threads keep the processors busy, relative to decoding alone.</summary>
internal static class BusyBench
{
    // Many slices of a scheduler, which are some milliseconds long.
    private const double SampleSeconds = 0.25;

    /// <summary>Measures one session alone, beside one busy thread, and beside one on every processor.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, Meter meter)
    {
        var c = request.Shape.Config;
        var counts = request.Counts;
        int context = request.ContextLength;
        using var model = RandomParts.Model(
            request, meter.Machine, counts.CacheBytes(DecodeLoop.LastLength(context)) + Activations.RowSizeInBytes(c) + (4.0 * c.V));
        using var loop = new DecodeLoop(model, context, null as FeedbackLaw);
        using var busy = new BusyThreads();
        var alone = loop.AsWork($"decode alone, context {context}", counts) with { Clock = _ => Time(0) };
        int processors = Environment.ProcessorCount;
        Work[] works = [alone, Beside(1, "1 busy thread"), Beside(processors, $"{processors} busy threads, one on each processor")];
        foreach (var row in meter.Measure(works))
        {
            yield return row;
        }

        Work Beside(int threads, string what) => alone with
        {
            Name = $"decode beside {what}",
            Comparison = Comparison.Speed,
            Clock = _ => Time(threads),
        };

        // Seconds of a step. The busy threads end with the sample, so that they do not disturb another one.
        double Time(int threads)
        {
            loop.Prepare(loop.MaxRuns);
            busy.Set(threads);
            int steps = 0;
            long begin = Stopwatch.GetTimestamp();
            do
            {
                loop.Step();
                steps++;
            }
            while (steps < loop.MaxRuns && Stopwatch.GetElapsedTime(begin).TotalSeconds < SampleSeconds);
            double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds / steps;
            busy.Set(0);
            return seconds;
        }
    }
}

/// <summary>Threads that do nothing but keep a processor busy.</summary>
internal sealed class BusyThreads : IDisposable
{
    private readonly List<Thread> _threads = [];
    private volatile bool _stopping;

    /// <summary>Number of threads that run.</summary>
    public int Count => _threads.Count(thread => thread.IsAlive);

    /// <summary>
    /// Replaces the threads by <paramref name="count"/> others: as many as there are processors are tied to one each, fewer run where the system puts
    /// them.
    /// </summary>
    public void Set(int count)
    {
        Dispose();
        _stopping = false;
        using var started = new CountdownEvent(Math.Max(1, count));
        for (int i = 0; i < count; i++)
        {
            int processor = count == Environment.ProcessorCount ? i : -1;
            var thread = new Thread(() => Run(processor, started)) { IsBackground = true, Name = FormattableString.Invariant($"busy-{i}") };
            _threads.Add(thread);
            thread.Start();
        }

        if (count > 0)
        {
            started.Wait();
        }
    }

    public void Dispose()
    {
        _stopping = true;
        _threads.ForEach(thread => thread.Join());
        _threads.Clear();
    }

    private void Run(int processor, CountdownEvent started)
    {
        if (processor >= 0)
        {
            Processors.Tie(processor);
        }

        started.Signal();
        while (!_stopping)
        {
            Thread.SpinWait(1000);
        }
    }
}
