using Tiller.Checkpoint;
using Tiller.Model;

namespace Tiller.Bench;

/// <summary>What is measured; lower-case names on the command line.</summary>
public enum BenchMode
{
    Decode,
    Prefill,
    Batch,
    Schedule,
    Jacobian,
    Pullback,
    Riccati,
    Fit,
    Load,
    Tokenize,
    Kernels,
    Sharing,
    Interrupt,
    Ceilings,
}

/// <summary>What <c>tiller bench</c> was asked for.</summary>
internal sealed record BenchRequest
{
    /// <summary>What is measured.</summary>
    public required BenchMode Mode { get; init; }

    /// <summary>Shape of the model.</summary>
    public required BenchShape Shape { get; init; }

    /// <summary>Stored type of the weights: BF16, F16 or F32.</summary>
    public TensorType Type { get; init; } = TensorType.BF16;

    /// <summary>Tokens in the context, or of the prompt; null for 512 when a prompt is run and 128 otherwise.</summary>
    public int? Context { get; init; }

    /// <summary>cpu, cuda, cuda:N or auto; null is the environment's TILLER_DEVICE, else auto.</summary>
    public Device? Device { get; init; }

    /// <summary>Threads that share one step on the CPU; 0 takes one per processor.</summary>
    public int Threads { get; init; }

    /// <summary>Time spent on one row, in seconds; a row takes at least <see cref="Meter.MinSamples"/> samples.</summary>
    public double Seconds { get; init; } = 3;

    /// <summary>Folder of the demo checkpoint with its contrast texts, which fit, load and tokenize read.</summary>
    public required string DemoFolder { get; init; }

    /// <summary>Prompts on each side of the contrast that a fit is measured with, at most as many as the demo's texts.</summary>
    public int FitPrompts { get; init; } = 50;

    /// <summary>Fits measured: dense, factored, reduced; null for all.</summary>
    public IReadOnlyList<string>? Fits { get; init; }

    /// <summary>Terms a layer of the laws that decoding is steered with; null for 1 and 16, on a device 1, 4 and 16.</summary>
    public IReadOnlyList<int>? Terms { get; init; }

    /// <summary>Tangents that a token is decoded with; null for 31, on a device 8, 31 and 63.</summary>
    public IReadOnlyList<int>? Tangents { get; init; }

    /// <summary>
    /// Sessions stepped at once, plain and each with its own controller; null for 8 and, plain alone, 64; on a device 1, 8 and 64. Texts scheduled
    /// at once; null for 1 and 8, on a device 64 too.
    /// </summary>
    public IReadOnlyList<int>? Batches { get; init; }

    /// <summary>Rows that the linear map is measured with, the most of them the stages too; null for 1 to 256.</summary>
    public IReadOnlyList<int>? Rows { get; init; }

    /// <summary>
    /// With <see cref="BenchMode.Decode"/> and <see cref="BenchMode.Prefill"/> on a CUDA device: what each choice of its kernels is worth, every one
    /// left out in turn, instead of the usual rows.
    /// </summary>
    public bool Variants { get; init; }

    /// <summary>With <see cref="BenchMode.Decode"/>: laws that sense, gate, turn in planes and move inputs too, each kind a row.</summary>
    public bool Laws { get; init; }

    /// <summary>Do not measure a fit but tell what it takes.</summary>
    public bool Plan { get; init; }

    /// <summary>Print a JSON array, at the end.</summary>
    public bool Json { get; init; }

    /// <summary>Print a JSON object a line, each when its row is there.</summary>
    public bool JsonLines { get; init; }

    /// <summary>Print a Markdown table.</summary>
    public bool Markdown { get; init; }

    /// <summary>How a model is opened.</summary>
    public LoadOptions LoadOptions => new() { Device = Device, Threads = ThreadCount };

    /// <summary><see cref="Context"/>, or its default.</summary>
    public int ContextLength => Context ?? (Mode is BenchMode.Prefill or BenchMode.Interrupt ? 512 : 128);

    /// <summary><see cref="Threads"/>, counted.</summary>
    public int ThreadCount => Threads == 0 ? Environment.ProcessorCount : Threads;
}

/// <summary>A measurement that cannot be made as asked.</summary>
internal sealed class BenchException(string message) : TillerException(message);
