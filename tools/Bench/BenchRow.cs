namespace Tiller.Bench;

/// <summary>Number formats that the ceiling of floating-point work depends on.</summary>
internal enum Precision
{
    Single,
    Double,
}

/// <summary>How a row is compared with the first of its group.</summary>
internal enum Comparison
{
    /// <summary>Not at all.</summary>
    None,

    /// <summary>Speed over speed: 1 is as fast, above 1 faster.</summary>
    Speed,

    /// <summary>Time over time: 2 takes twice as long.</summary>
    Time,
}

/// <summary>One thing to be timed.</summary>
internal sealed record Work
{
    /// <summary>Name of the row.</summary>
    public required string Name { get; init; }

    /// <summary>Bytes that must move at least, once each.</summary>
    public required double Bytes { get; init; }

    /// <summary>Floating-point operations, a multiply-add counting as two.</summary>
    public required double Flops { get; init; }

    /// <summary>Bytes that are gone through before any is touched again: the size of buffer whose bandwidth is the ceiling.</summary>
    public required double WorkingSet { get; init; }

    /// <summary>Format of the arithmetic.</summary>
    public Precision Precision { get; init; }

    /// <summary>Rows that one pass over the weights serves: from nine on a GPU computes on its matrix units.</summary>
    public double Rows { get; init; } = 1;

    /// <summary>Of <see cref="Rows"/>, those that are tangents or cotangents, which take fewer products on matrix units than values do.</summary>
    public double Tangents { get; init; }

    /// <summary>Whether the bytes are copied (to a device: uploaded) rather than read.</summary>
    public bool Copies { get; init; }

    /// <summary>Threads of the ceilings; 0 for all that the bench was given.</summary>
    public int Threads { get; init; }

    /// <summary>Things done in one run, for the rate.</summary>
    public double Amount { get; init; } = 1;

    /// <summary>Unit of the rate, such as tok/s.</summary>
    public string RateUnit { get; init; } = "1/s";

    /// <summary>Comparison with the first work of the group.</summary>
    public Comparison Comparison { get; init; }

    /// <summary>Seconds of one run by a device's own clock; null for wall time until the device is done.</summary>
    public Func<Work, double>? Clock { get; init; }

    /// <summary>Makes ready for so many runs that follow each other, outside the time; null for nothing.</summary>
    public Action<int>? Prepare { get; init; }

    /// <summary>Most runs that <see cref="Prepare"/> can make ready for at once: 1 where every run needs it anew.</summary>
    public int MaxRuns { get; init; } = int.MaxValue;

    /// <summary>What is timed.</summary>
    public required Action Run { get; init; }
}

/// <summary>One measured figure.</summary>
internal sealed record BenchRow
{
    /// <summary>What it was measured on, such as "cpu (2 threads)".</summary>
    public required string Device { get; init; }

    public required string Name { get; init; }

    /// <summary>Median of the samples, in <see cref="Unit"/>.</summary>
    public required double Median { get; init; }

    /// <summary>Tenth percentile, in <see cref="Unit"/>.</summary>
    public required double P10 { get; init; }

    /// <summary>Ninetieth percentile, in <see cref="Unit"/>.</summary>
    public required double P90 { get; init; }

    public required string Unit { get; init; }

    public required int Samples { get; init; }

    /// <summary>Amount per second at the median, in <see cref="RateUnit"/>.</summary>
    public required double Rate { get; init; }

    public required string RateUnit { get; init; }

    public required double Bytes { get; init; }

    public required double Flops { get; init; }

    /// <summary>100 · bound / median, the bound being the larger of bytes / bandwidth and FLOPs / peak.</summary>
    public required double PercentOfCeiling { get; init; }

    /// <summary>The ceiling that binds, in <see cref="CeilingUnit"/>.</summary>
    public required double Ceiling { get; init; }

    public required string CeilingUnit { get; init; }

    public required string CeilingName { get; init; }

    /// <summary>Median against the first row of the group, or null.</summary>
    public double? Ratio { get; init; }

    /// <summary>What the ratio is of, such as "speed / decode plain".</summary>
    public string? RatioOf { get; init; }
}
