namespace Tiller.Bench;

/// <summary>Formats of arithmetic, on which the ceiling of FLOPs depends.</summary>
internal enum Precision
{
    Single,
    Double,
}

/// <summary>How a row is compared with the first row of its group.</summary>
internal enum Comparison
{
    /// <summary>No comparison.</summary>
    None,

    /// <summary>Ratio of rates: 1 is equally fast, above 1 is faster.</summary>
    Speed,

    /// <summary>Ratio of times: 2 takes twice as long.</summary>
    Time,
}

/// <summary>One operation to be timed.</summary>
internal sealed record Work
{
    /// <summary>Name of the row.</summary>
    public required string Name { get; init; }

    /// <summary>Minimum number of bytes that one run must move.</summary>
    public required double Bytes { get; init; }

    /// <summary>Floating-point operations of one run; a multiply-add counts as two.</summary>
    public required double Flops { get; init; }

    /// <summary>
    /// Working set in bytes: the bytes that are used before any of them is used again. The ceiling is the bandwidth of a buffer of this size.
    /// </summary>
    public required double WorkingSet { get; init; }

    /// <summary>Format of the arithmetic.</summary>
    public Precision Precision { get; init; }

    /// <summary>Number of rows for one pass over the weights. From nine rows on, a GPU uses its tensor cores.</summary>
    public double Rows { get; init; } = 1;

    /// <summary>Number of tangents or cotangents among <see cref="Rows"/>. They take fewer products on tensor cores than values.</summary>
    public double Tangents { get; init; }

    /// <summary>Whether the bytes are copied (on a device: uploaded) rather than read.</summary>
    public bool Copies { get; init; }

    /// <summary>Number of threads for the ceilings; 0 for all threads of the bench.</summary>
    public int Threads { get; init; }

    /// <summary>Number of units, such as tokens, in one run, for the rate.</summary>
    public double Amount { get; init; } = 1;

    /// <summary>Unit of the rate, such as tok/s.</summary>
    public string RateUnit { get; init; } = "1/s";

    /// <summary>How it is compared with the first work of the group.</summary>
    public Comparison Comparison { get; init; }

    /// <summary>Returns the seconds of one run by the device's clock; null to measure the wall time until the device has finished.</summary>
    public Func<Work, double>? Clock { get; init; }

    /// <summary>Prepares the given number of consecutive runs, outside the measured time; null if nothing is necessary.</summary>
    public Action<int>? Prepare { get; init; }

    /// <summary>Maximum number of runs that one <see cref="Prepare"/> can serve; 1 if every run needs its own.</summary>
    public int MaxRuns { get; init; } = int.MaxValue;

    /// <summary>The operation itself.</summary>
    public required Action Run { get; init; }
}

/// <summary>One measured figure.</summary>
internal sealed record BenchRow
{
    /// <summary>Name of the device, such as "cpu (2 threads)".</summary>
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

    /// <summary>Rate at the median, in <see cref="RateUnit"/>.</summary>
    public required double Rate { get; init; }

    public required string RateUnit { get; init; }

    public required double Bytes { get; init; }

    public required double Flops { get; init; }

    /// <summary>
    /// Median of 100 · bound / time over the samples; the bound is the larger of bytes / bandwidth and FLOPs / peak, by the higher of the ceilings
    /// right before and after the sample.
    /// </summary>
    public required double PercentOfCeiling { get; init; }

    /// <summary>The ceiling that limits the row, in <see cref="CeilingUnit"/>.</summary>
    public required double Ceiling { get; init; }

    public required string CeilingUnit { get; init; }

    public required string CeilingName { get; init; }

    /// <summary>Median ratio of this row's samples to those of the group's first row, paired in the order of time; or null.</summary>
    public double? Ratio { get; init; }

    /// <summary>Tenth percentile of these ratios.</summary>
    public double? RatioP10 { get; init; }

    /// <summary>Ninetieth percentile of these ratios.</summary>
    public double? RatioP90 { get; init; }

    /// <summary>Meaning of the ratio, such as "speed / decode plain".</summary>
    public string? RatioOf { get; init; }
}
