using Tiller.Interop;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// A pool of pinned buffers for copies from files to the device. Several threads fill buffers while others are being copied. Loading uses no other
/// host memory for the weights.
/// </summary>
internal sealed class CudaStaging : IDisposable
{
    // Enough for every reader to fill one while as many are being copied.
    private const int Buffers = 8;

    private readonly PrimaryContext _context;
    private readonly CudaStream _stream;
    private readonly int _sizeInBytes;
    private readonly SemaphoreSlim _free = new(Buffers);
    private readonly Lock _gate = new();
    private readonly Stack<Slot> _slots = [];

    public CudaStaging(PrimaryContext context, CudaStream stream, int sizeInBytes)
        => (_context, _stream, _sizeInBytes) = (context, stream, sizeInBytes);

    public int SizeInBytes => _sizeInBytes;

    /// <summary>Lets <paramref name="fill"/> write a pinned buffer, and queues its copy to the device.</summary>
    public void Fill(nint destination, int sizeInBytes, DeviceOps.FillBytes fill, Lock launching)
    {
        _free.Wait();
        Slot? slot = null;
        try
        {
            lock (_gate)
            {
                _slots.TryPop(out slot);
            }

            slot ??= new Slot(_context, _sizeInBytes);
            slot.Sent.Synchronize();
            fill(slot.Memory.Span(0, sizeInBytes));
            lock (launching)
            {
                _stream.CopyToDevice(destination, slot.Memory, 0, sizeInBytes);
                slot.Sent.Record(_stream);
            }
        }
        finally
        {
            if (slot is not null)
            {
                lock (_gate)
                {
                    _slots.Push(slot);
                }
            }

            _free.Release();
        }
    }

    public void Dispose()
    {
        foreach (var slot in _slots)
        {
            slot.Dispose();
        }

        _free.Dispose();
    }

    private sealed class Slot : IDisposable
    {
        public Slot(PrimaryContext context, int sizeInBytes)
        {
            Memory = new CudaPinnedHostMemory<byte>(context, sizeInBytes);
            try
            {
                Sent = new CudaEvent(context, timing: false);
            }
            catch
            {
                Memory.Dispose();
                throw;
            }
        }

        public CudaPinnedHostMemory<byte> Memory { get; }

        public CudaEvent Sent { get; }

        public void Dispose()
        {
            Sent.Dispose();
            Memory.Dispose();
        }
    }
}
