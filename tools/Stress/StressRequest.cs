using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Model;

namespace Tiller.Stress;

/// <summary>The request for a stress run.</summary>
internal sealed record StressRequest
{
    /// <summary>Shape of the model, whose weights are random.</summary>
    public required BenchShape Shape { get; init; }

    /// <summary>Stored type of the weights: BF16, F16 or F32.</summary>
    public TensorType Type { get; init; } = TensorType.BF16;

    /// <summary>cpu, cuda, cuda:N or auto; null for the device in TILLER_DEVICE, or auto if that is not set.</summary>
    public Device? Device { get; init; }

    /// <summary>Number of threads that share one step on the CPU; 0 for one per processor.</summary>
    public int Threads { get; init; }

    /// <summary>Length of the run.</summary>
    public double Minutes { get; init; } = 5;

    /// <summary>Number of sessions that decode at once.</summary>
    public int Sessions { get; init; } = 64;

    /// <summary>Whether to print a JSON object.</summary>
    public bool Json { get; init; }

    /// <summary>Whether to print a Markdown table.</summary>
    public bool Markdown { get; init; }

    /// <summary>The bench request for the same model on the same machine.</summary>
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
