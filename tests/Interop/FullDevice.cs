using Tiller.Interop;

namespace Tiller.Tests.Interop;

/// <summary>
/// Leaves no free memory on the device until it is disposed of: the host CUDA is told to have none, on a GPU all of it is allocated. Tests that run
/// it on a GPU are marked <see cref="CudaTest.TakesAllMemory"/>.
/// </summary>
internal sealed class FullDevice : IDisposable
{
    private const long Granularity = 512; // the least that cuMemAlloc allocates

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
