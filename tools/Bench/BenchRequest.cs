using Tiller.Checkpoint;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Bench;

/// <summary>The kinds of measurement. The command line has the names in lower case.</summary>
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
    Busy,
    Interrupt,
    Ceilings,

    /// <summary>Measured where the server is: in the tool.</summary>
    Serve,

    /// <summary>Measured where the evaluation is: in the tool.</summary>
    Eval,
}

/// <summary>A request to <c>tiller bench</c>.</summary>
internal sealed record BenchRequest
{
    /// <summary>The kind of measurement.</summary>
    public required BenchMode Mode { get; init; }

    /// <summary>Shape of the model.</summary>
    public required BenchShape Shape { get; init; }

    /// <summary>Stored type of the weights: BF16, F16 or F32.</summary>
    public TensorType Type { get; init; } = TensorType.BF16;

    /// <summary>Number of tokens in the context or the prompt; null for the default of <see cref="ContextLength"/>.</summary>
    public int? Context { get; init; }

    /// <summary>For serve, number of new tokens of each text.</summary>
    public int NewTokens { get; init; } = 32;

    /// <summary>cpu, cuda, cuda:N or auto; null for the device in TILLER_DEVICE, or auto if that is not set.</summary>
    public Device? Device { get; init; }

    /// <summary>Number of threads that share one step on the CPU; 0 for one per processor.</summary>
    public int Threads { get; init; }

    /// <summary>Time for one row, in seconds. A row has at least <see cref="Meter.MinSamples"/> samples.</summary>
    public double Seconds { get; init; } = 3;

    /// <summary>Folder of the demo checkpoint and its contrast texts, which fit, load, tokenize and serve read.</summary>
    public required string DemoFolder { get; init; }

    /// <summary>Number of prompts on each side of a fit's contrast, at most the number of the demo's texts.</summary>
    public int FitPrompts { get; init; } = 50;

    /// <summary>The fits to measure: dense, factored, reduced; null for all.</summary>
    public IReadOnlyList<string>? Fits { get; init; }

    /// <summary>Numbers of terms per layer of the laws that steer decoding; null for 1 and 16, on CUDA 1, 4 and 16.</summary>
    public IReadOnlyList<int>? Terms { get; init; }

    /// <summary>Numbers of tangents of a decoded token; null for 31, on CUDA 8, 31 and 63.</summary>
    public IReadOnlyList<int>? Tangents { get; init; }

    /// <summary>
    /// For batch, numbers of sessions that are stepped together, plain and each with its own controller; null for 8 and, plain only, 64; on CUDA 1, 8
    /// and 64. For schedule, numbers of texts at once; null for 1 and 8, on CUDA also 64. For serve, numbers of streams at once; null for 1, 8 and
    /// 32. For eval, numbers of texts at once; null for 8.
    /// </summary>
    public IReadOnlyList<int>? Batches { get; init; }

    /// <summary>Numbers of rows for the linear map, the largest of which the stages take too; null for 1 to 256.</summary>
    public IReadOnlyList<int>? Rows { get; init; }

    /// <summary>
    /// With <see cref="BenchMode.Decode"/> and <see cref="BenchMode.Prefill"/> on a CUDA device: whether to measure the gain of each optimisation of
    /// the kernels, by changing each in turn, instead of the usual rows.
    /// </summary>
    public bool Variants { get; init; }

    /// <summary>
    /// With <see cref="BenchMode.Decode"/>: whether to add a row for each kind of law: with sensors only, with gates, with planes, and with moved
    /// inputs.
    /// </summary>
    public bool Laws { get; init; }

    /// <summary>Whether to estimate the cost of a fit instead of measuring it.</summary>
    public bool Plan { get; init; }

    /// <summary>Whether to print a JSON array at the end.</summary>
    public bool Json { get; init; }

    /// <summary>Whether to print every row as a line of JSON as soon as it is measured.</summary>
    public bool JsonLines { get; init; }

    /// <summary>Whether to print a Markdown table.</summary>
    public bool Markdown { get; init; }

    /// <summary>How keys and values are stored.</summary>
    public KvType Kv { get; init; }

    /// <summary>The options for opening a model.</summary>
    public LoadOptions LoadOptions => new() { Device = Device, Threads = ThreadCount, KvType = Kv };

    /// <summary>Bytes and FLOPs of the steps.</summary>
    public Counts Counts => new(Shape.Config, Type, Kv);

    /// <summary><see cref="Context"/>, or its default: 512 if a prompt is run, 16 with serve and eval, and 128 otherwise.</summary>
    public int ContextLength => Context ?? Mode switch
    {
        BenchMode.Prefill or BenchMode.Interrupt => 512,
        BenchMode.Serve or BenchMode.Eval => 16,
        _ => 128,
    };

    /// <summary>The actual number of threads for <see cref="Threads"/>.</summary>
    public int ThreadCount => Threads == 0 ? Environment.ProcessorCount : Threads;
}

/// <summary>The requested measurement is not possible.</summary>
internal sealed class BenchException(string message) : TillerException(message);
