using System.Diagnostics;

namespace Tiller.Bench;

/// <summary>
/// Times works beside each other, one run of each in turn, so that whatever else the machine does hits all alike; measures the ceilings
/// right before and right after.
/// </summary>
internal sealed class Meter : IDisposable
{
    /// <summary>Fewest samples of a row.</summary>
    public const int MinSamples = 3;

    private const int MaxSamples = 200_000;
    private const int WarmUpRuns = 100;
    private const double WarmUpSeconds = 0.5;
    private const double CeilingSeconds = 0.15;

    private readonly double _seconds;
    private readonly CancellationToken _cancellationToken;
    private readonly Dictionary<int, Ceilings> _ceilings = [];

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

        var before = works.Select(Sample).ToArray();
        var times = works.Select(_ => new List<double>()).ToArray();
        double budget = _seconds * works.Count;
        var clock = Stopwatch.StartNew();
        for (int round = 0; round < MinSamples || (clock.Elapsed.TotalSeconds < budget && round < MaxSamples); round++)
        {
            _cancellationToken.ThrowIfCancellationRequested();

            // There and back, so that no work always follows the same other.
            for (int i = 0; i < works.Count; i++)
            {
                int which = round % 2 == 0 ? i : works.Count - 1 - i;
                times[which].Add(Time(works[which]));
            }
        }

        var after = works.Select(Sample).ToArray();
        var rows = new BenchRow[works.Count];
        double baseline = Quantile(times[0], 0.5);
        for (int i = 0; i < rows.Length; i++)
        {
            rows[i] = Row(works[i], times[i], before[i], after[i], baseline, works[0].Name);
        }

        return rows;
    }

    /// <summary>A row of times taken elsewhere, in seconds.</summary>
    public BenchRow Row(Work work, IReadOnlyList<double> times)
    {
        var sample = Sample(work);
        return Row(work, times, sample, Sample(work), Quantile(times, 0.5), work.Name);
    }

    /// <summary>Gives the ceilings' memory back.</summary>
    public void Release()
    {
        foreach (var ceilings in _ceilings.Values)
        {
            ceilings.Release();
        }
    }

    public void Dispose()
    {
        foreach (var ceilings in _ceilings.Values)
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

    private static double Time(Work work)
    {
        work.Prepare?.Invoke();
        long begin = Stopwatch.GetTimestamp();
        work.Run();
        return Stopwatch.GetElapsedTime(begin).TotalSeconds;
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

    private CeilingSample Sample(Work work)
    {
        int threads = work.Threads == 0 ? Threads : work.Threads;
        if (!_ceilings.TryGetValue(threads, out var ceilings))
        {
            ceilings = new Ceilings(threads);
            _ceilings.Add(threads, ceilings);
        }

        long size = Ceilings.BufferFor(work.WorkingSet);
        double enough = Math.Min(CeilingSeconds, _seconds / 2);
        var bandwidth = Repeat(() => work.Copies ? ceilings.Copy(size) : ceilings.Read(size), enough);
        var peak = work.Flops > 0 ? Repeat(() => ceilings.Peak(work.Precision), enough) : [];
        return new CeilingSample(bandwidth, peak);
    }

    private List<double> Repeat(Func<double> measure, double enough)
    {
        measure();
        var rates = new List<double>();
        var clock = Stopwatch.StartNew();
        while (rates.Count < MinSamples || clock.Elapsed.TotalSeconds < enough)
        {
            _cancellationToken.ThrowIfCancellationRequested();
            rates.Add(measure());
        }

        return rates;
    }

    private BenchRow Row(Work work, IReadOnlyList<double> times, CeilingSample before, CeilingSample after, double baseline, string baselineName)
    {
        double median = Quantile(times, 0.5);
        double bandwidth = Quantile([.. before.Bandwidth, .. after.Bandwidth], 0.5);
        double bytesTime = work.Bytes / bandwidth;
        double peak = work.Flops > 0 ? Quantile([.. before.Peak, .. after.Peak], 0.5) : double.PositiveInfinity;
        double flopsTime = work.Flops / peak;
        bool arithmetic = flopsTime > bytesTime;
        int threads = work.Threads == 0 ? Threads : work.Threads;
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

    private readonly record struct CeilingSample(List<double> Bandwidth, List<double> Peak);
}
