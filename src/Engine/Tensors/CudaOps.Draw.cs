using System.Runtime.InteropServices;
using Tiller.Kernels;

namespace Tiller.Tensors;

// A drawn token is the only thing that comes back to the host: four bytes instead of V logits.
internal sealed partial class CudaOps
{
    private const int IdAt = 64, ScratchAt = 128;

    // DeviceSampling, then the id, then scratch.
    private DeviceBuffer? _draw;

    /// <inheritdoc/>
    public override int? Draw(Floats logits, in DrawSettings settings)
    {
        if (logits.Columns > HeadKernels.MaxVocabulary)
        {
            return null;
        }

        int id = 0;
        lock (_launching)
        {
            nint at = ReserveDraw(logits.Columns);
            if (settings.Temperature > 0)
            {
                var sampling = Sampling(settings);
                _stream.CopyToDevice(at, MemoryMarshal.AsBytes(new ReadOnlySpan<DeviceSampling>(in sampling)));
            }

            _stream.CopyToHost(Launch(logits, settings, at), MemoryMarshal.AsBytes(new Span<int>(ref id)));
        }

        return id >= 0 ? id : null;
    }

    private static DeviceSampling Sampling(in DrawSettings settings) => new()
    {
        Random = settings.Random,
        Temperature = settings.Temperature,
        TopK = settings.TopK,
        TopP = settings.TopP,
        MinP = settings.MinP,
        Penalty = 1,
    };

    private nint ReserveDraw(int vocabulary)
    {
        long size = ScratchAt + HeadKernels.ScratchSizeInBytes(1, vocabulary, draws: true);
        if (_draw is null || _draw.SizeInBytes < size)
        {
            _draw?.Dispose();
            _draw = null;
            _draw = Allocate(size);
        }

        return _draw.Address;
    }

    // Draws by the DeviceSampling at an address; gives back that of the id, which holds until the next draw.
    private nint Launch(Floats logits, in DrawSettings settings, nint sampling)
    {
        nint at = _draw!.Address;
        if (settings.Temperature == 0)
        {
            _head.ArgMax(_stream, logits.Address, 1, logits.Columns, at + IdAt, at + ScratchAt);
        }
        else
        {
            _head.Sample(_stream, logits.Address, 1, logits.Columns, sampling, at + IdAt, at + ScratchAt);
        }

        return at + IdAt;
    }
}
