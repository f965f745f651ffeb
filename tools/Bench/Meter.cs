using System.Diagnostics;

namespace Tiller.Bench;

/// <summary>
/// Times works beside each other, in turn, so that whatever else the machine does hits all alike; a sample is the mean of as many runs after each
/// other as fill <see cref="Machine.SampleSeconds"/>, as a user's loop makes them. Measures the ceilings right before, now and then in between, and
/// right after.
/// </summary>
internal sealed class Meter : IDisposable
{
    /// <summary>Fewest samples of a row.</summary>
    public const int MinSamples = 3;

    private const int MaxSamples = 200_000;
    private const int WarmUpRuns = 100;
    private const double WarmUpSeconds = 0.5;
    private const int MaxRunsPerSample = 64;
    private const double CeilingSeconds = 0.15;
    private const double SecondsBetweenCeilings = 0.3;

    private readonly double _seconds;
    private readonly CancellationToken _cancellationToken;

    /// <summary>Prepares measurements.</summary>
    /// <param name="machine">Disposed with this.</param>
    /// <param name="seconds">Time per row.</param>
    /// <param name="cancellationToken">Checked between runs.</param>
    public Meter(Machine machine, double seconds, CancellationToken cancellationToken) =>
        (Machine, _seconds, _cancellationToken) = (machine, seconds, cancellationToken);

    /// <summary>What is measured.</summary>
    public Machine Machine { get; }

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

        var ceilings = new Dictionary<Ceiling, List<double>>();
        Sample(works, ceilings, CeilingSeconds);
        var times = works.Select(_ => new List<double>()).ToArray();
        double sample = Math.Min(Machine.SampleSeconds, _seconds);
        int[] runs = [.. works.Select(work => Math.Clamp((int)(sample / Machine.Time(work, 1)), 1, Math.Min(MaxRunsPerSample, work.MaxRuns)))];
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
                times[which].Add(Machine.Time(works[which], runs[which]));
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
        var ceilings = new Dictionary<Ceiling, List<double>>();
        Sample([work], ceilings, CeilingSeconds);
        return Row(work, times, ceilings, Quantile(times, 0.5), work.Name);
    }

    /// <summary>A ceiling alone, in billions a second.</summary>
    public BenchRow Measure(Ceiling ceiling)
    {
        Machine.Measure(ceiling);
        string name = Machine.NameOf(ceiling);
        return Figures(name, ceiling.SizeInBytes > 0 ? "GB/s" : "GFLOP/s", () => Machine.Measure(ceiling) / 1e9);
    }

    /// <summary>A row of figures that are their own ceiling.</summary>
    public BenchRow Figures(string name, string unit, Func<double> figure)
    {
        var samples = new List<double>();
        var clock = Stopwatch.StartNew();
        while (samples.Count < MinSamples || (clock.Elapsed.TotalSeconds < _seconds && samples.Count < MaxSamples))
        {
            _cancellationToken.ThrowIfCancellationRequested();
            samples.Add(figure());
        }

        double median = Quantile(samples, 0.5);
        return new BenchRow
        {
            Device = Machine.Name,
            Name = name,
            Median = median,
            P10 = Quantile(samples, 0.1),
            P90 = Quantile(samples, 0.9),
            Unit = unit,
            Samples = samples.Count,
            Rate = median,
            RateUnit = unit,
            Bytes = 0,
            Flops = 0,
            PercentOfCeiling = 100,
            Ceiling = median,
            CeilingUnit = unit,
            CeilingName = "itself",
        };
    }

    /// <summary>Gives the ceilings' memory back; the next measurement takes it anew.</summary>
    public void Release() => Machine.Release();

    public void Dispose() => Machine.Dispose();

    /// <summary>The value below which a share <paramref name="q"/> of the samples lies, interpolated.</summary>
    internal static double Quantile(IReadOnlyList<double> samples, double q)
    {
        double[] sorted = [.. samples.Order()];
        double at = q * (sorted.Length - 1);
        int below = (int)at;
        int above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + ((at - below) * (sorted[above] - sorted[below]));
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
                work.Prepare?.Invoke(1);
                work.Run();
                Machine.Wait();
            }
        }
    }

    // Adds to the series of every ceiling that one of the works has, for as many seconds each; at least one sample.
    private void Sample(IReadOnlyList<Work> works, Dictionary<Ceiling, List<double>> series, double enough)
    {
        foreach (var key in works.SelectMany(Keys).Distinct())
        {
            if (!series.TryGetValue(key, out var rates))
            {
                series.Add(key, rates = []);
                Machine.Measure(key);
            }

            var clock = Stopwatch.StartNew();
            do
            {
                _cancellationToken.ThrowIfCancellationRequested();
                rates.Add(Machine.Measure(key));
            }
            while (clock.Elapsed.TotalSeconds < Math.Min(enough, _seconds / 2));
        }
    }

    private IEnumerable<Ceiling> Keys(Work work)
    {
        yield return Machine.MemoryOf(work);
        if (work.Flops > 0)
        {
            yield return Machine.ArithmeticOf(work);
        }
    }

    private BenchRow Row(Work work, IReadOnlyList<double> times, Dictionary<Ceiling, List<double>> ceilings, double baseline, string baselineName)
    {
        double median = Quantile(times, 0.5);
        double bandwidth = Quantile(ceilings[Machine.MemoryOf(work)], 0.5);
        double bytesTime = work.Bytes / bandwidth;
        double peak = work.Flops > 0 ? Quantile(ceilings[Machine.ArithmeticOf(work)], 0.5) : double.PositiveInfinity;
        double flopsTime = work.Flops / peak;
        bool arithmetic = flopsTime > bytesTime;
        bool compared = work.Comparison != Comparison.None;
        return new BenchRow
        {
            Device = Machine.Name,
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
            CeilingName = Machine.NameOf(arithmetic ? Machine.ArithmeticOf(work) : Machine.MemoryOf(work)),
            Ratio = !compared ? null : work.Comparison == Comparison.Speed ? baseline / median : median / baseline,
            RatioOf = !compared ? null : $"{(work.Comparison == Comparison.Speed ? "speed" : "time")} / {baselineName}",
        };
    }
}
