using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// The data with which the device draws the next tokens of rows, and begins the step that appends them, without the host. On the device these are
/// the settings of the draws. In pinned memory there is a line for each row, to which the device writes the drawn token and the values that the law
/// read and computed. The host reads the lines before the next tokens are drawn. Belongs to one <see cref="CudaRows"/>.
/// </summary>
internal sealed class CudaAhead : IDisposable
{
    private const int SamplingAt = 64;

    private readonly PrimaryContext _context;
    private readonly CudaOps _ops;
    private readonly CudaEvent _drawn;
    private DeviceBuffer? _memory; // the number of steps, then DeviceSampling // (rows)
    private CudaPinnedHostMemory<int>? _lines;
    private CudaPinnedHostMemory<SoftmaxLine>? _softmaxLines;
    private SoftmaxTop?[] _softmax = [];
    private CudaSteering?[] _steerings = [];
    private DeviceSampling[] _sampling = []; // a copy of the settings on the device, if _isThere
    private bool _isThere;
    private bool _isSent;
    private int _rows;

    public CudaAhead(PrimaryContext context, CudaOps ops)
    {
        (_context, _ops) = (context, ops);
        _drawn = new CudaEvent(context, timing: false);
    }

    /// <summary>The settings of the rows' draws, on the device // (rows).</summary>
    public DeviceSpan<DeviceSampling> Sampling => new(_memory!.Address + SamplingAt, _sampling.Length);

    /// <summary>The lines, which hold one step at a time.</summary>
    public TokenRing Ring => new(new(_lines!.DevicePointer, _lines.Length), Width, Capacity: 1, Count: new(_memory!.Address, 1));

    /// <summary>The results of the rows' softmax, in pinned memory // (rows); absent before the first draw that asks for one.</summary>
    public DeviceSpan<SoftmaxLine> Softmax => _softmaxLines is null ? default : new(_softmaxLines.DevicePointer, _softmaxLines.Length);

    /// <summary>Length of a line in words of four bytes: enough for the law of this batch that needs the most.</summary>
    public int Width { get; private set; }

    /// <summary>Makes room for the lines and settings of rows, with or without a law.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="settings">How each row is drawn.</param>
    /// <returns>False if the system does not lock memory, so that the device cannot write to it.</returns>
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
            _ops.Settle(); // after an error, a discarded step may still write to the lines
            _lines?.Dispose();
            _lines = null;
            _lines = new CudaPinnedHostMemory<int>(_context, _steerings.Length * Width);
        }

        return _lines.IsPinned && (!CudaOps.AsksForSoftmax(settings) || ReserveSoftmax());
    }

    /// <summary>
    /// Sends the settings of the next draws if the device does not have them. It advances the random sequences itself, so this is rare.
    /// </summary>
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
            // Sends all settings, because those beyond the current rows may be left from a larger batch.
            stream.CopyToDevice(Sampling.Address, MemoryMarshal.AsBytes(_sampling.AsSpan()));
        }

        _isSent = true;
        for (int i = 0; i < settings.Length; i++)
        {
            _sampling[i].Random = settings[i].RandomAfter;
        }
    }

    /// <summary>Records an event after the work of the stream so far; the lines are written when it has occurred.</summary>
    public void Mark(CudaStream stream) => _drawn.Record(stream);

    /// <summary>Waits for the lines, and reads them.</summary>
    /// <param name="ids">Result: the tokens, or the negative value of <see cref="HeadKernels.ArgMax"/> if a logit is not finite // (rows).</param>
    /// <param name="vocabulary">The vocabulary's size V.</param>
    public void Take(Span<int> ids, int vocabulary)
    {
        _drawn.Synchronize();
        _isThere |= _isSent;
        for (int i = 0; i < _rows; i++)
        {
            var line = _lines!.Span(i * Width, Width);
            ids[i] = line[0];
            _isThere &= ids[i] >= 0; // a row whose draw failed did not advance its random sequence
            _steerings[i]?.Receive(MemoryMarshal.Cast<int, float>(line[1..]));
            if (ids[i] >= 0)
            {
                _softmax[i]?.Receive(_softmaxLines!.Span(i, 1)[0], vocabulary);
            }
        }
    }

    /// <summary>Accepts the begun step for a row.</summary>
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
