using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Model;

namespace Tiller.Stress;

/// <summary>What a stress run was asked for.</summary>
internal sealed record StressRequest
{
    /// <summary>Shape of the model, whose weights are random.</summary>
    public required BenchShape Shape { get; init; }

    /// <summary>Stored type of the weights: BF16, F16 or F32.</summary>
    public TensorType Type { get; init; } = TensorType.BF16;

    /// <summary>cpu, cuda, cuda:N or auto; null is the environment's TILLER_DEVICE, else auto.</summary>
    public Device? Device { get; init; }

    /// <summary>Threads that share one step on the CPU; 0 takes one per processor.</summary>
    public int Threads { get; init; }

    /// <summary>Length of the run.</summary>
    public double Minutes { get; init; } = 5;

    /// <summary>Sessions that decode at once.</summary>
    public int Sessions { get; init; } = 64;

    /// <summary>Print a JSON object.</summary>
    public bool Json { get; init; }

    /// <summary>Print a Markdown table.</summary>
    public bool Markdown { get; init; }

    /// <summary>The same model on the same machine, as a bench takes it.</summary>
    public BenchRequest OnMachine => new()
    {
        Mode = BenchMode.Decode,
        Shape = Shape,
        Type = Type,
        Device = Device,
        Threads = Threads,
        DemoFolder = "",
    };
}
