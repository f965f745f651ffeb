namespace Tiller.Fuzz;

/// <summary>The options of a fuzzing run.</summary>
internal sealed record FuzzOptions
{
    /// <summary>The readers to attack.</summary>
    public required IReadOnlyList<string> Targets { get; init; }

    /// <summary>Folder of golden values, from which the seeds are made.</summary>
    public required string Corpus { get; init; }

    /// <summary>Folder for findings.</summary>
    public required string Out { get; init; }

    public required int Seed { get; init; }

    /// <summary>Time after which the run ends.</summary>
    public TimeSpan Duration { get; init; } = TimeSpan.MaxValue;

    /// <summary>Number of inputs after which the run ends.</summary>
    public long Count { get; init; } = long.MaxValue;

    /// <summary>CPU time per megabyte above which a reader is considered to hang. A smaller input counts as a megabyte.</summary>
    public TimeSpan HangsAfter { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Whether the first finding ends the run.</summary>
    public bool StopAtFinding { get; init; }
}
