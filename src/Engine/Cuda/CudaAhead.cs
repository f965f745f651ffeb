using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// What rows need for their next tokens to be drawn, and taken by a step, without the host: how they are drawn, on the device; and a line of
/// pinned memory for each, to which the device writes the token with what the law read and did. Lines are read before the next tokens are
/// drawn. Belongs to one <see cref="CudaRows"/>.
/// </summary>
internal sealed class CudaAhead : IDisposable
{
    private const int SamplingAt = 64;

    private readonly PrimaryContext _context;
    private readonly CudaOps _ops;
    private readonly CudaEvent _drawn;
    private DeviceBuffer? _memory; // the count of steps, then DeviceSampling // (rows)
    private CudaPinnedHostMemory<int>? _lines;
    private CudaPinnedHostMemory<SoftmaxLine>? _softmaxLines;
    private SoftmaxTop?[] _softmax = [];
    private CudaSteering?[] _steerings = [];
    private DeviceSampling[] _sampling = []; // as on the device, if it is there
    private bool _isThere;
    private bool _isSent;
    private int _rows;

    public CudaAhead(PrimaryContext context, CudaOps ops)
    {
        (_context, _ops) = (context, ops);
        _drawn = new CudaEvent(context, timing: false);
    }

    /// <summary>How the rows are drawn // (rows).</summary>
    public DeviceSpan<DeviceSampling> Sampling => new(_memory!.Address + SamplingAt, _sampling.Length);

    /// <summary>The lines, of one step at a time.</summary>
    public TokenRing Ring => new(new(_lines!.DevicePointer, _lines.Length), Width, Capacity: 1, Count: new(_memory!.Address, 1));

    /// <summary>Where the rows' softmax goes // (rows); absent where none is asked for.</summary>
    public DeviceSpan<SoftmaxLine> Softmax => _softmaxLines is null ? default : new(_softmaxLines.DevicePointer, _softmaxLines.Length);

    /// <summary>Four-byte words of a line: as many as the law with most of them needs.</summary>
    public int Width { get; private set; }

    /// <summary>Makes room for the lines of rows with or without a law.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="settings">How each is drawn.</param>
    /// <returns>False if the system refuses to lock memory: the device cannot write it.</returns>
    public bool Reserve(RowBatch rows, ReadOnlySpan<DrawSettings> settings)
    {
        if (_steerings.Length < rows.Values)
        {
            _steerings = new CudaSteering?[Math.Max(rows.Values, 2 * _steerings.Length)];
            _softmax = new SoftmaxTop?[_steerings.Length];
            _sampling = new DeviceSampling[_steerings.Length];
            _isThere = false;
        }

        (_rows, Width, _isSent) = (rows.Values, 1, false);
        for (int i = 0; i < _rows; i++)
        {
            _steerings[i] = (CudaSteering?)rows[i].Steering;
            _softmax[i] = settings[i].Softmax;
            Width = Math.Max(Width, 1 + (_steerings[i]?.HandedOut ?? 0));
        }

        _steerings.AsSpan(_rows).Clear();
        _softmax.AsSpan(_rows).Clear();
        int sizeInBytes = SamplingAt + (_sampling.Length * Unsafe.SizeOf<DeviceSampling>());
        if (_memory is null || _memory.SizeInBytes < sizeInBytes)
        {
            _memory?.Dispose();
            (_memory, _isThere) = (null, false);
            _memory = _ops.Allocate(sizeInBytes);
        }

        if (_lines is null || _lines.Length < _rows * Width)
        {
            _ops.Settle(); // a step given up by an error may have left the lines to be written
            _lines?.Dispose();
            _lines = null;
            _lines = new CudaPinnedHostMemory<int>(_context, _steerings.Length * Width);
        }

        return _lines.IsPinned && (!CudaOps.AsksForSoftmax(settings) || ReserveSoftmax());
    }

    /// <summary>Says how the next tokens are drawn; the device moves the random sequences on, so this seldom sends anything.</summary>
    public void Send(CudaStream stream, ReadOnlySpan<DrawSettings> settings)
    {
        bool isThere = _isThere;
        _isThere = false;
        for (int i = 0; i < settings.Length; i++)
        {
            var wanted = CudaOps.Sampling(settings[i]);
            isThere &= wanted == _sampling[i];
            _sampling[i] = wanted;
        }

        if (!isThere)
        {
            // All of it: behind the rows of now may be those of a batch that was larger.
            stream.CopyToDevice(Sampling.Address, MemoryMarshal.AsBytes(_sampling.AsSpan()));
        }

        _isSent = true;
        for (int i = 0; i < settings.Length; i++)
        {
            _sampling[i].Random = settings[i].RandomAfter;
        }
    }

    /// <summary>Marks the lines as written once the stream's work so far is done.</summary>
    public void Mark(CudaStream stream) => _drawn.Record(stream);

    /// <summary>Waits for the lines.</summary>
    /// <param name="ids">Tokens, or what <see cref="HeadKernels.ArgMax"/> gives where a logit is not finite // (rows).</param>
    /// <param name="vocabulary">V.</param>
    public void Take(Span<int> ids, int vocabulary)
    {
        _drawn.Synchronize();
        _isThere |= _isSent;
        for (int i = 0; i < _rows; i++)
        {
            var line = _lines!.Span(i * Width, Width);
            ids[i] = line[0];
            _isThere &= ids[i] >= 0; // of a row that fails nothing is drawn
            _steerings[i]?.Receive(MemoryMarshal.Cast<int, float>(line[1..]));
            if (ids[i] >= 0)
            {
                _softmax[i]?.Receive(_softmaxLines!.Span(i, 1)[0], vocabulary);
            }
        }
    }

    /// <summary>The step that was begun counts for a row.</summary>
    public void Keep(int row) => _steerings[row]?.Follow();

    public void Dispose()
    {
        _ops.Settle();
        _drawn.Dispose();
        _lines?.Dispose();
        _softmaxLines?.Dispose();
        _memory?.Dispose();
    }

    private bool ReserveSoftmax()
    {
        if (_softmaxLines is null || _softmaxLines.Length < _steerings.Length)
        {
            _ops.Settle();
            _softmaxLines?.Dispose();
            _softmaxLines = null;
            _softmaxLines = new CudaPinnedHostMemory<SoftmaxLine>(_context, _steerings.Length);
        }

        return _softmaxLines.IsPinned;
    }
}
