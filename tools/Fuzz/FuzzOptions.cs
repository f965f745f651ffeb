namespace Tiller.Fuzz;

/// <summary>A fuzzing run.</summary>
internal sealed record FuzzOptions
{
    /// <summary>Readers to attack.</summary>
    public required IReadOnlyList<string> Targets { get; init; }

    /// <summary>Folder of goldens that the seeds are made from.</summary>
    public required string Corpus { get; init; }

    /// <summary>Folder for findings.</summary>
    public required string Out { get; init; }

    public required int Seed { get; init; }

    /// <summary>The run ends after this time, or</summary>
    public TimeSpan Duration { get; init; } = TimeSpan.MaxValue;

    /// <summary>after so many inputs.</summary>
    public long Count { get; init; } = long.MaxValue;

    /// <summary>A reader that takes more of the processor's time for a megabyte, or for what is less, hangs.</summary>
    public TimeSpan HangsAfter { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>The first finding ends the run.</summary>
    public bool StopAtFinding { get; init; }
}
