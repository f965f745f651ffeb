using Tiller.Interop;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>Memory of a CUDA device.</summary>
internal sealed class CudaBuffer : DeviceBuffer
{
    private readonly CudaDeviceVariable<byte> _memory;

    public CudaBuffer(CudaDeviceVariable<byte> memory)
        : base(memory.DevicePointer, memory.SizeInBytes) => _memory = memory;

    protected override bool ReleaseHandle()
    {
        _memory.Dispose();
        return true;
    }
}
