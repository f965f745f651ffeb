using System.Runtime.InteropServices;
using Tiller.Interop;
using Tiller.Kernels;

namespace Tiller.Tensors;

/// <summary>
/// What a sequence needs for its next token to be drawn, and taken by a step, without the host: how it is drawn, on the device; and a line of
/// pinned memory, to which the device writes the token with what the law read and did. A line is read before the next token is drawn.
/// Belongs to one <see cref="CudaRows"/>.
/// </summary>
internal sealed class CudaAhead : IDisposable
{
    private const int SamplingAt = 64, SizeInBytes = 128;

    private readonly PrimaryContext _context;
    private readonly CudaOps _ops;
    private readonly DeviceBuffer _memory;
    private readonly CudaEvent _drawn;
    private CudaPinnedHostMemory<int>? _line;
    private CudaSteering? _steering;
    private DeviceSampling _sampling;

    public CudaAhead(PrimaryContext context, CudaOps ops)
    {
        (_context, _ops) = (context, ops);
        _memory = ops.Allocate(SizeInBytes);
        try
        {
            _drawn = new CudaEvent(context, timing: false);
        }
        catch
        {
            _memory.Dispose();
            throw;
        }
    }

    /// <summary>Lines written so far, int.</summary>
    public nint Count => _memory.Address;

    /// <summary>A <see cref="DeviceSampling"/>.</summary>
    public nint Sampling => _memory.Address + SamplingAt;

    /// <summary>The line, at its address on the device.</summary>
    public nint Line => _line!.DevicePointer;

    /// <summary>Four-byte words of the line that the law needs.</summary>
    public int Width => _steering is null ? 1 : 1 + _steering.HandedOut;

    /// <summary>Makes room for the line of a row with or without a law.</summary>
    /// <returns>False if the system refuses to lock memory: the device cannot write it.</returns>
    public bool Reserve(CudaSteering? steering)
    {
        _steering = steering;
        if (_line is null || _line.Length < Width)
        {
            _ops.Settle(); // a step given up by an error may have left the line to be written
            _line?.Dispose();
            _line = null;
            _line = new CudaPinnedHostMemory<int>(_context, Width);
        }

        return _line.IsPinned;
    }

    /// <summary>Says how the next token is drawn; the device moves the random sequence on, so this seldom sends anything.</summary>
    public void Send(CudaStream stream, DeviceSampling sampling, ulong randomAfter)
    {
        var wanted = MemoryMarshal.AsBytes(new ReadOnlySpan<DeviceSampling>(in sampling));
        if (!wanted.SequenceEqual(MemoryMarshal.AsBytes(new ReadOnlySpan<DeviceSampling>(in _sampling))))
        {
            stream.CopyToDevice(Sampling, wanted);
        }

        _sampling = sampling with { Random = randomAfter };
    }

    /// <summary>Marks the line as written once the stream's work so far is done.</summary>
    public void Mark(CudaStream stream) => _drawn.Record(stream);

    /// <summary>Waits for the line.</summary>
    /// <returns>The token, or what <see cref="HeadKernels.ArgMax"/> gives where a logit is not finite.</returns>
    public int Take()
    {
        _drawn.Synchronize();
        var line = _line!.Span();
        _steering?.Receive(MemoryMarshal.Cast<int, float>(line[1..]));
        return line[0];
    }

    /// <summary>The step that was begun counts.</summary>
    public void Keep() => _steering?.Follow();

    public void Dispose()
    {
        _ops.Settle();
        _drawn.Dispose();
        _line?.Dispose();
        _memory.Dispose();
    }
}
