using System.Diagnostics;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Bench;

/// <summary>Measures how two sessions that decode on separate threads share the device's threads.</summary>
internal static class SharingBench
{
    private const int Sessions = 2;
    private const int LeastSteps = 4;
    private const double LeastSeconds = 0.1;

    /// <summary>Measures the fairness and the total speed.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, Meter meter)
    {
        var c = request.Shape.Config;
        var counts = request.Counts;
        int context = request.ContextLength;
        using var model = RandomParts.Model(
            request, meter.Machine, Sessions * (counts.CacheBytes(DecodeLoop.LastLength(context)) + Activations.RowSizeInBytes(c) + (4.0 * c.V)));
        using var owned = new Owned();
        DecodeLoop[] loops = [.. Enumerable.Range(0, Sessions).Select(_ => owned.Add(new DecodeLoop(model, context, null as FeedbackLaw)))];
        yield return meter.Figures($"{Sessions} sessions at once, context {context}: steps of the slower for one of the faster", "x", () =>
        {
            var both = Steps(loops);
            return both.Min() / both.Max();
        });
        yield return meter.Figures($"{Sessions} sessions at once, context {context}: tokens of both for one of a session alone", "x", () =>
        {
            double single = Steps([loops[0]])[0];
            return Steps(loops).Sum() / single;
        });
    }

    /// <summary>Steps per second of each loop while all loops run.</summary>
    private static double[] Steps(DecodeLoop[] loops)
    {
        double[] rates = new double[loops.Length];
        int[] steps = new int[loops.Length];
        using var start = new Barrier(loops.Length);
        bool stop = false;
        var threads = loops.Select((loop, i) => new Thread(() =>
        {
            loop.Prepare(1);
            loop.Step();
            start.SignalAndWait();
            var clock = Stopwatch.StartNew();
            while (true)
            {
                loop.Prepare(1);
                loop.Step();

                // A step does not count if another loop ended during it.
                if (Volatile.Read(ref stop))
                {
                    return;
                }

                Volatile.Write(ref steps[i], steps[i] + 1);
                rates[i] = steps[i] / clock.Elapsed.TotalSeconds;
                if (clock.Elapsed.TotalSeconds >= LeastSeconds && steps.All(n => n >= LeastSteps))
                {
                    Volatile.Write(ref stop, true);
                }
            }
        })).ToArray();
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        return rates;
    }
}
