using System.Diagnostics;

namespace Tiller.Bench;

/// <summary>
/// Times several works in turn, so that other load on the machine affects all of them alike. A sample is the mean of as many consecutive runs as
/// fill <see cref="Machine.SampleSeconds"/>, as in a user's loop. The ceilings are measured before the works, again and again between them, and after
/// them. Each time is compared with the ceilings right before and after it, so that a state of the machine hits both; and with the higher of them,
/// since a disturbance lowers a ceiling and never raises it.
/// </summary>
internal sealed class Meter : IDisposable
{
    /// <summary>Minimum number of samples in a row.</summary>
    public const int MinSamples = 3;

    private const int MaxSamples = 200_000;
    private const int WarmUpRuns = 100;
    private const double WarmUpSeconds = 0.5;
    private const int MaxRunsPerSample = 64;
    private const double CeilingSeconds = 0.15;

    private readonly double _seconds;
    private readonly double _secondsBetweenCeilings;
    private readonly CancellationToken _cancellationToken;

    /// <summary>Creates a meter.</summary>
    /// <param name="machine">The machine, which is disposed of together with this object.</param>
    /// <param name="seconds">Time for each row.</param>
    /// <param name="cancellationToken">Checked between runs.</param>
    /// <param name="secondsBetweenCeilings">Time after which the ceilings are measured again.</param>
    public Meter(Machine machine, double seconds, CancellationToken cancellationToken, double secondsBetweenCeilings = 0.15) =>
        (Machine, _seconds, _cancellationToken, _secondsBetweenCeilings) = (machine, seconds, cancellationToken, secondsBetweenCeilings);

    /// <summary>The machine.</summary>
    public Machine Machine { get; }

    /// <summary>Measures one row.</summary>
    /// <param name="work">The work to time.</param>
    /// <param name="warmUp">Whether to run the work first until the runtime has compiled its final code.</param>
    public BenchRow Measure(Work work, bool warmUp = true) => Measure([work], warmUp)[0];

    /// <summary>Measures rows that are compared with the first of them.</summary>
    public IReadOnlyList<BenchRow> Measure(IReadOnlyList<Work> works, bool warmUp = true)
    {
        if (warmUp)
        {
            WarmUp(works);
        }

        var ceilings = new Dictionary<Ceiling, List<double>>();
        Sample(works, ceilings, CeilingSeconds);
        var times = works.Select(_ => new List<double>()).ToArray();
        var moments = works.Select(_ => new List<Moment>()).ToArray();
        double sample = Math.Min(Machine.SampleSeconds, _seconds);
        int[] runs = [.. works.Select(work => Math.Clamp((int)(sample / Machine.Time(work, 1)), 1, Math.Min(MaxRunsPerSample, work.MaxRuns)))];
        double budget = _seconds * works.Count;
        var clock = Stopwatch.StartNew();
        var sinceSample = Stopwatch.StartNew();
        for (int round = 0; round < MinSamples || (clock.Elapsed.TotalSeconds < budget && round < MaxSamples); round++)
        {
            _cancellationToken.ThrowIfCancellationRequested();
            if (sinceSample.Elapsed.TotalSeconds >= _secondsBetweenCeilings)
            {
                Sample(works, ceilings, enough: 0);
                sinceSample.Restart();
            }

            // The order alternates, so that no work always follows the same other one.
            for (int i = 0; i < works.Count; i++)
            {
                int which = round % 2 == 0 ? i : works.Count - 1 - i;
                times[which].Add(Machine.Time(works[which], runs[which]));
                moments[which].Add(new Moment(ceilings[Machine.MemoryOf(works[which])].Count, Count(works[which])));
            }
        }

        Sample(works, ceilings, CeilingSeconds);
        var rows = new BenchRow[works.Count];
        for (int i = 0; i < rows.Length; i++)
        {
            rows[i] = Row(works[i], times[i], ceilings, times[0], works[0], moments[i]);
        }

        return rows;

        int Count(Work work) => work.Flops > 0 ? ceilings[Machine.ArithmeticOf(work)].Count : 0;
    }

    /// <summary>Makes a row of times in seconds that were measured elsewhere.</summary>
    public BenchRow Row(Work work, IReadOnlyList<double> times)
    {
        var ceilings = new Dictionary<Ceiling, List<double>>();
        Sample([work], ceilings, CeilingSeconds);
        return Row(work, times, ceilings, times, work, moments: null);
    }

    /// <summary>Measures a ceiling, in billions per second.</summary>
    public BenchRow Measure(Ceiling ceiling)
    {
        Machine.Measure(ceiling);
        string name = Machine.NameOf(ceiling);
        return Figures(name, ceiling.SizeInBytes > 0 ? "GB/s" : "GFLOP/s", () => Machine.Measure(ceiling) / 1e9);
    }

    /// <summary>Makes a row of figures that are their own ceiling.</summary>
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

    /// <summary>Frees the memory of the ceilings. The next measurement allocates it again.</summary>
    public void Release() => Machine.Release();

    public void Dispose() => Machine.Dispose();

    /// <summary>The quantile <paramref name="q"/> of the samples, interpolated.</summary>
    internal static double Quantile(IReadOnlyList<double> samples, double q)
    {
        double[] sorted = [.. samples.Order()];
        double at = q * (sorted.Length - 1);
        int below = (int)at;
        int above = Math.Min(below + 1, sorted.Length - 1);
        return sorted[below] + ((at - below) * (sorted[above] - sorted[below]));
    }

    // Tiered compilation needs calls and time. If a run is longer than the warm-up, one run is enough.
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

    // Adds samples to the series of every ceiling of the works, for the given seconds each and at least one.
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

    private BenchRow Row(
        Work work,
        IReadOnlyList<double> times,
        Dictionary<Ceiling, List<double>> ceilings,
        IReadOnlyList<double> baseline,
        Work baselineWork,
        IReadOnlyList<Moment>? moments)
    {
        double median = Quantile(times, 0.5);
        double bandwidth = Quantile(ceilings[Machine.MemoryOf(work)], 0.5);
        double bytesTime = work.Bytes / bandwidth;
        double peak = work.Flops > 0 ? Quantile(ceilings[Machine.ArithmeticOf(work)], 0.5) : double.PositiveInfinity;
        double flopsTime = work.Flops / peak;
        bool arithmetic = flopsTime > bytesTime;

        // Samples of one round are close in time, so their ratio is hardly affected by changes of the machine from round to round.
        double[]? ratios = work.Comparison == Comparison.None ? null
            : [.. times.Zip(baseline, (time, other) =>
                work.Comparison == Comparison.Speed ? work.Amount / time / (baselineWork.Amount / other) : time / other)];
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
            PercentOfCeiling = 100 * (moments is null ? Math.Max(bytesTime, flopsTime) / median
                : Quantile([.. times.Zip(moments, (time, moment) => TimeAt(work, ceilings, moment) / time)], 0.5)),
            Ceiling = (arithmetic ? peak : bandwidth) / 1e9,
            CeilingUnit = arithmetic ? "GFLOP/s" : "GB/s",
            CeilingName = Machine.NameOf(arithmetic ? Machine.ArithmeticOf(work) : Machine.MemoryOf(work)),
            Ratio = ratios is null ? null : Quantile(ratios, 0.5),
            RatioP10 = ratios is null ? null : Quantile(ratios, 0.1),
            RatioP90 = ratios is null ? null : Quantile(ratios, 0.9),
            RatioOf = ratios is null ? null : $"{(work.Comparison == Comparison.Speed ? "speed" : "time")} / {baselineWork.Name}",
        };
    }

    // The least time of a work by the higher of the ceilings right before and after a sample.
    private double TimeAt(Work work, Dictionary<Ceiling, List<double>> ceilings, Moment moment)
    {
        double bytesTime = work.Bytes / Around(ceilings[Machine.MemoryOf(work)], moment.MemorySamples);
        return work.Flops > 0 ? Math.Max(bytesTime, work.Flops / Around(ceilings[Machine.ArithmeticOf(work)], moment.ArithmeticSamples)) : bytesTime;
    }

    private static double Around(List<double> rates, int before) => Math.Max(rates[before - 1], rates[before]);

    /// <summary>When a sample was taken: the number of samples of both ceilings of its work before it.</summary>
    private readonly record struct Moment(int MemorySamples, int ArithmeticSamples);
}
