using System.Diagnostics;

namespace Tiller.Bench;

/// <summary>
/// Times works beside each other, in turn, so that whatever else the machine does hits all alike; a sample is the mean of as many runs as
/// fill a millisecond, as a user's loop runs them. Measures the ceilings right before, now and then in between, and right after.
/// </summary>
internal sealed class Meter : IDisposable
{
    /// <summary>Fewest samples of a row.</summary>
    public const int MinSamples = 3;

    private const int MaxSamples = 200_000;
    private const int WarmUpRuns = 100;
    private const double WarmUpSeconds = 0.5;
    private const double SampleSeconds = 1e-3;
    private const int MaxRunsPerSample = 64;
    private const double CeilingSeconds = 0.15;
    private const double SecondsBetweenCeilings = 0.3;

    private readonly double _seconds;
    private readonly CancellationToken _cancellationToken;
    private readonly Dictionary<int, Ceilings> _machines = [];

    /// <summary>Prepares measurements.</summary>
    /// <param name="threads">Threads of the ceilings.</param>
    /// <param name="seconds">Time per row.</param>
    /// <param name="cancellationToken">Looked at between runs.</param>
    public Meter(int threads, double seconds, CancellationToken cancellationToken)
    {
        (Threads, _seconds, _cancellationToken) = (threads, seconds, cancellationToken);
    }

    /// <summary>Threads of the ceilings.</summary>
    public int Threads { get; }

    /// <summary>One row.</summary>
    /// <param name="work">What is timed.</param>
    /// <param name="warmUp">Run it first until the runtime has compiled it for good.</param>
    public BenchRow Measure(Work work, bool warmUp = true) => Measure([work], warmUp)[0];

    /// <summary>Rows compared with the first of them.</summary>
    public IReadOnlyList<BenchRow> Measure(IReadOnlyList<Work> works, bool warmUp = true)
    {
        if (warmUp)
        {
            WarmUp(works);
        }

        var ceilings = new Dictionary<CeilingKey, List<double>>();
        Sample(works, ceilings, CeilingSeconds);
        var times = works.Select(_ => new List<double>()).ToArray();
        int[] runs = [.. works.Select(work => Math.Clamp((int)(SampleSeconds / Time(work, 1)), 1, MaxRunsPerSample))];
        double budget = _seconds * works.Count;
        var clock = Stopwatch.StartNew();
        var sinceSample = Stopwatch.StartNew();
        for (int round = 0; round < MinSamples || (clock.Elapsed.TotalSeconds < budget && round < MaxSamples); round++)
        {
            _cancellationToken.ThrowIfCancellationRequested();
            if (sinceSample.Elapsed.TotalSeconds > SecondsBetweenCeilings)
            {
                Sample(works, ceilings, enough: 0);
                sinceSample.Restart();
            }

            // There and back, so that no work always follows the same other.
            for (int i = 0; i < works.Count; i++)
            {
                int which = round % 2 == 0 ? i : works.Count - 1 - i;
                times[which].Add(Time(works[which], runs[which]));
            }
        }

        Sample(works, ceilings, CeilingSeconds);
        var rows = new BenchRow[works.Count];
        double baseline = Quantile(times[0], 0.5);
        for (int i = 0; i < rows.Length; i++)
        {
            rows[i] = Row(works[i], times[i], ceilings, baseline, works[0].Name);
        }

        return rows;
    }

    /// <summary>A row of times taken elsewhere, in seconds.</summary>
    public BenchRow Row(Work work, IReadOnlyList<double> times)
    {
        var ceilings = new Dictionary<CeilingKey, List<double>>();
        Sample([work], ceilings, CeilingSeconds);
        return Row(work, times, ceilings, Quantile(times, 0.5), work.Name);
    }

    /// <summary>Gives the ceilings' memory back.</summary>
    public void Release()
    {
        foreach (var ceilings in _machines.Values)
        {
            ceilings.Release();
        }
    }

    public void Dispose()
    {
        foreach (var ceilings in _machines.Values)
        {
            ceilings.Dispose();
        }
    }

    /// <summary>The value below which a share <paramref name="q"/> of the samples lies, interpolated.</summary>
    internal static double Quantile(IReadOnlyList<double> samples, double q)
    {
        double[] sorted = [.. samples.Order()];
        double at = q * (sorted.Length - 1);
        int below = (int)at;
        int above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + ((at - below) * (sorted[above] - sorted[below]));
    }

    private static double Time(Work work, int runs)
    {
        long ticks = 0;
        for (int i = 0; i < runs; i++)
        {
            work.Prepare?.Invoke();
            long begin = Stopwatch.GetTimestamp();
            work.Run();
            ticks += Stopwatch.GetTimestamp() - begin;
        }

        return (double)ticks / Stopwatch.Frequency / runs;
    }

    // Tiered compilation needs calls and time; a run longer than the warm-up is warm after one.
    private void WarmUp(IReadOnlyList<Work> works)
    {
        double enough = Math.Min(WarmUpSeconds, _seconds);
        foreach (var work in works)
        {
            var clock = Stopwatch.StartNew();
            for (int runs = 0; clock.Elapsed.TotalSeconds < enough || (runs < WarmUpRuns && clock.Elapsed.TotalSeconds < 2 * enough); runs++)
            {
                _cancellationToken.ThrowIfCancellationRequested();
                work.Prepare?.Invoke();
                work.Run();
            }
        }
    }

    // Adds to the series of every ceiling that one of the works has, for as many seconds each; at least one sample.
    private void Sample(IReadOnlyList<Work> works, Dictionary<CeilingKey, List<double>> series, double enough)
    {
        foreach (var key in works.SelectMany(Keys).Distinct())
        {
            if (!series.TryGetValue(key, out var rates))
            {
                series.Add(key, rates = []);
                Measure(key);
            }

            var clock = Stopwatch.StartNew();
            do
            {
                _cancellationToken.ThrowIfCancellationRequested();
                rates.Add(Measure(key));
            }
            while (clock.Elapsed.TotalSeconds < Math.Min(enough, _seconds / 2));
        }
    }

    private double Measure(CeilingKey key)
    {
        if (!_machines.TryGetValue(key.Threads, out var machine))
        {
            machine = new Ceilings(key.Threads);
            _machines.Add(key.Threads, machine);
        }

        return key.Kind switch
        {
            CeilingKind.Read => machine.Read(key.SizeInBytes),
            CeilingKind.Copy => machine.Copy(key.SizeInBytes),
            CeilingKind.Fma32 => machine.Peak(Precision.Single),
            _ => machine.Peak(Precision.Double),
        };
    }

    private IEnumerable<CeilingKey> Keys(Work work)
    {
        yield return MemoryKey(work);
        if (work.Flops > 0)
        {
            yield return ArithmeticKey(work);
        }
    }

    private CeilingKey MemoryKey(Work work) => new(work.Copies ? CeilingKind.Copy : CeilingKind.Read, ThreadsOf(work), Ceilings.BufferFor(work.WorkingSet));

    private CeilingKey ArithmeticKey(Work work) => new(work.Precision == Precision.Single ? CeilingKind.Fma32 : CeilingKind.Fma64, ThreadsOf(work), 0);

    private int ThreadsOf(Work work) => work.Threads == 0 ? Threads : work.Threads;

    private BenchRow Row(Work work, IReadOnlyList<double> times, Dictionary<CeilingKey, List<double>> ceilings, double baseline, string baselineName)
    {
        double median = Quantile(times, 0.5);
        double bandwidth = Quantile(ceilings[MemoryKey(work)], 0.5);
        double bytesTime = work.Bytes / bandwidth;
        double peak = work.Flops > 0 ? Quantile(ceilings[ArithmeticKey(work)], 0.5) : double.PositiveInfinity;
        double flopsTime = work.Flops / peak;
        bool arithmetic = flopsTime > bytesTime;
        int threads = ThreadsOf(work);
        long buffer = Ceilings.BufferFor(work.WorkingSet);
        string where = buffer <= Hardware.LargestCacheInBytes() ? " in cache" : "";
        string memory = $"{(work.Copies ? "copy" : "read")} {buffer / 1048576.0:0.#} MiB{where}";
        string name = arithmetic ? $"FMA float{(work.Precision == Precision.Single ? 32 : 64)}" : memory;
        bool compared = work.Comparison != Comparison.None;
        return new BenchRow
        {
            Name = work.Name,
            Median = 1000 * median,
            P10 = 1000 * Quantile(times, 0.1),
            P90 = 1000 * Quantile(times, 0.9),
            Unit = "ms",
            Samples = times.Count,
            Rate = work.Amount / median,
            RateUnit = work.RateUnit,
            Bytes = work.Bytes,
            Flops = work.Flops,
            PercentOfCeiling = 100 * Math.Max(bytesTime, flopsTime) / median,
            Ceiling = (arithmetic ? peak : bandwidth) / 1e9,
            CeilingUnit = arithmetic ? "GFLOP/s" : "GB/s",
            CeilingName = $"{name}, {threads} thread{(threads == 1 ? "" : "s")}",
            Ratio = !compared ? null : work.Comparison == Comparison.Speed ? baseline / median : median / baseline,
            RatioOf = !compared ? null : $"{(work.Comparison == Comparison.Speed ? "speed" : "time")} / {baselineName}",
        };
    }

    private enum CeilingKind
    {
        Read,
        Copy,
        Fma32,
        Fma64,
    }

    private readonly record struct CeilingKey(CeilingKind Kind, int Threads, long SizeInBytes);
}
