using Tiller.Interop;

namespace Tiller.Tests.Interop;

/// <summary>
/// A device without room for anything while this lives: the host CUDA is told so, of a GPU all memory is held. There its test is marked
/// <see cref="CudaTest.TakesAllMemory"/>.
/// </summary>
internal sealed class FullDevice : IDisposable
{
    private const long Granularity = 512; // what cuMemAlloc hands out at least

    private readonly List<IDisposable> _held = [];

    public FullDevice()
    {
        if (!CudaTest.OnGpu)
        {
            HostCuda.SetMemory(1);
            return;
        }

        var context = new PrimaryContext();
        for (long size = context.GetMemoryInfo().FreeInBytes; size >= Granularity;)
        {
            try
            {
                _held.Add(new CudaDeviceVariable<byte>(context, size));
            }
            catch (CudaOutOfMemoryException)
            {
                size /= 2;
            }
        }

        _held.Add(context);
    }

    public void Dispose()
    {
        if (!CudaTest.OnGpu)
        {
            HostCuda.SetMemory(8L << 30);
        }

        _held.ForEach(held => held.Dispose());
    }
}
