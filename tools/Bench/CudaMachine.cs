using System.Globalization;
using Tiller.Checkpoint;
using Tiller.Cuda;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Model;

namespace Tiller.Bench;

/// <summary>A CUDA device. Times are wall time until the device has finished, or device time if a work measures that itself.</summary>
internal sealed class CudaMachine : Machine
{
    private readonly PrimaryContext _context;
    private readonly CudaCeilings _ceilings;
    private readonly bool _bf16;
    private readonly long _mostInBytes; // largest buffer of the ceilings

    /// <summary>Opens a device.</summary>
    /// <param name="ordinal">Number of the device.</param>
    /// <param name="type">Stored type of the weights. bf16 weights can use tensor cores.</param>
    /// <exception cref="CudaException">There is no such device, or no kernel image fits it.</exception>
    public CudaMachine(int ordinal, TensorType type)
    {
        _bf16 = type == TensorType.BF16;
        _context = new PrimaryContext(ordinal);
        try
        {
            _ceilings = new CudaCeilings(_context);
            _mostInBytes = CudaCeilings.BufferFor(double.PositiveInfinity, AvailableInBytes());
        }
        catch
        {
            _context.Dispose();
            throw;
        }
    }

    public override Device Device => Device.Cuda(_context.Device.Ordinal);

    public override string Name => $"{Device} ({_context.Device.Name})";

    // Runs follow each other without waits, because a step's launches run ahead of the device. With a wait for each run, the cost of its first
    // launches would not be hidden behind earlier work.
    public override double SampleSeconds => 20e-3;

    public override int JacobianRows => CudaOps.MaxJacobianRows;

    protected override double ReserveInBytes => _mostInBytes + (1L << 30);

    public override IReadOnlyList<Ceiling> Ceilings
    {
        get
        {
            Ceiling[] own =
            [
                new(CeilingKind.Read, 1, _mostInBytes), new(CeilingKind.Copy, 1, _mostInBytes),
                new(CeilingKind.Upload, 1, CudaCeilings.UploadInBytes), new(CeilingKind.Fma32, 1, 0), new(CeilingKind.Fma64, 1, 0),
            ];
            return _ceilings.HasLibrary ? [.. own, new(CeilingKind.Gemm16, 1, 0), new(CeilingKind.Gemm64, 1, 0)] : own;
        }
    }

    /// <summary>The device's context.</summary>
    public PrimaryContext Context => _context;

    /// <summary>Microseconds from one node of a graph to the next, of kernels that do nothing.</summary>
    public double NodeUs(bool programmatic) => _ceilings.NodeUs(programmatic);

    public override Ceiling MemoryOf(Work work) => work.Copies
        ? new(CeilingKind.Upload, 1, CudaCeilings.UploadInBytes)
        : new(CeilingKind.Read, 1, Math.Min(_mostInBytes, CudaCeilings.BufferFor(work.WorkingSet, long.MaxValue)));

    public override Ceiling ArithmeticOf(Work work)
    {
        int tangents = (int)Math.Round(work.Tangents), values = (int)Math.Round(work.Rows) - tangents;
        return (work.Precision, _ceilings.HasLibrary) switch
        {
            (Precision.Double, true) => new(CeilingKind.Gemm64, 1, 0),
            (Precision.Double, false) => new(CeilingKind.Fma64, 1, 0),
            (_, true) when _bf16 && values + tangents > LinearKernels.FewRows =>
                new(CeilingKind.Gemm16, 1, 0, LinearKernels.PassesOf(new RowCounts(values, tangents))),
            _ => new(CeilingKind.Fma32, 1, 0),
        };
    }

    public override double Measure(Ceiling ceiling) => ceiling.Kind switch
    {
        CeilingKind.Read => _ceilings.Read(ceiling.SizeInBytes),
        CeilingKind.Copy => _ceilings.Copy(ceiling.SizeInBytes),
        CeilingKind.Upload => _ceilings.Upload(),
        CeilingKind.Fma32 => _ceilings.Multiply(Precision.Single),
        CeilingKind.Fma64 => _ceilings.Multiply(Precision.Double),
        CeilingKind.Gemm16 => _ceilings.Gemm16() / ceiling.Passes,
        _ => _ceilings.Gemm64(),
    };

    public override string NameOf(Ceiling ceiling)
    {
        string size = Size(ceiling.SizeInBytes, _context.Device.L2CacheInBytes);
        string what = ceiling.Kind switch
        {
            CeilingKind.Read => $"read {size}",
            CeilingKind.Copy => $"copy {size}, read and written",
            CeilingKind.Upload => $"upload {size}, pinned",
            CeilingKind.Fma32 => "FMA float32",
            CeilingKind.Fma64 => "FMA float64",
            CeilingKind.Gemm16 => string.Create(
                CultureInfo.InvariantCulture, $"bf16 GEMM {_ceilings.Gemm16Size}³{(ceiling.Passes > 1 ? $" in {ceiling.Passes:0.##} passes" : "")}"),
            _ => $"float64 GEMM {_ceilings.Gemm64Size}³",
        };
        return $"{what}, {_context.Device.Name}";
    }

    public override void Wait() => _context.Synchronize();

    public override long AvailableInBytes() => _context.GetMemoryInfo().FreeInBytes;

    public override void Release() => _ceilings.Release();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _ceilings.Dispose();
            _context.Dispose();
        }
    }
}
