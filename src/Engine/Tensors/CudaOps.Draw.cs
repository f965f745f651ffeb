using System.Runtime.InteropServices;
using Tiller.Kernels;

namespace Tiller.Tensors;

// A drawn token is the only thing that comes back to the host: four bytes instead of V logits.
internal sealed partial class CudaOps
{
    // DeviceSampling, then the id, then scratch.
    private DeviceBuffer? _draw;

    /// <inheritdoc/>
    public override int? Draw(Floats logits, in DrawSettings settings)
    {
        const int IdAt = 64, ScratchAt = 128;
        int vocabulary = logits.Columns;
        if (vocabulary > HeadKernels.MaxVocabulary)
        {
            return null;
        }

        var sampling = new DeviceSampling
        {
            Random = settings.Random,
            Temperature = settings.Temperature,
            TopK = settings.TopK,
            TopP = settings.TopP,
            MinP = settings.MinP,
            Penalty = 1,
        };
        int id = 0;
        lock (_launching)
        {
            long size = ScratchAt + HeadKernels.ScratchSizeInBytes(1, vocabulary, draws: true);
            if (_draw is null || _draw.SizeInBytes < size)
            {
                _draw?.Dispose();
                _draw = null;
                _draw = Allocate(size);
            }

            nint at = _draw.Address;
            if (settings.Temperature == 0)
            {
                _head.ArgMax(_stream, logits.Address, 1, vocabulary, at + IdAt, at + ScratchAt);
            }
            else
            {
                _stream.CopyToDevice(at, MemoryMarshal.AsBytes(new ReadOnlySpan<DeviceSampling>(in sampling)));
                _head.Sample(_stream, logits.Address, 1, vocabulary, at, at + IdAt, at + ScratchAt);
            }

            _stream.CopyToHost(at + IdAt, MemoryMarshal.AsBytes(new Span<int>(ref id)));
        }

        return id >= 0 ? id : null;
    }
}
