using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Tests.Interop;

/// <summary>Every call of a small job fails once, with each code: a typed error, nothing left alive, and the same job works afterwards.</summary>
public class CudaFaultTests : HostCudaTest
{
    [TestCase(1)]
    [TestCase(2)]
    [TestCase(700)]
    [TestCase(719)]
    public void EveryCallMayFail(int code)
    {
        Run();
        HostCuda.Reset();
        Run();
        long calls = HostCuda.Calls;
        Assert.That(calls, Is.GreaterThan(40));
        int threw = 0;
        for (long n = 1; n <= calls; n++)
        {
            HostCuda.Reset();
            HostCuda.FailAt(n, code);
            try
            {
                Run();
            }
            catch (CudaException e)
            {
                threw++;
                Assert.That(code is 2 && e is not CudaOutOfMemoryException, Is.False, $"call {n}: {e}");
                Assert.That(code is 700 or 719 && e.Fault!.Call is { } call && call.StartsWith("cu", StringComparison.Ordinal)
                    && e is not CudaDeviceLostException, Is.False, $"call {n}: {e}");
            }

            Assert.That(HostCuda.LiveAllocations, Is.Zero, $"call {n} leaks");
            HostCuda.Reset();
            Run();
        }

        // Only releases, and pinned memory that becomes pageable, get by without an exception.
        Assert.That(threw, Is.GreaterThan(calls / 2));
    }

    private static void Run()
    {
        const int N = 70;
        const CublasOperation AsStored = CublasOperation.NonTranspose;
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using CudaModule module = TestKernels.Load(context, "vector_add.cu");
        using var pinned = new CudaPinnedHostMemory<byte>(context, sizeof(float) * N);
        using var x = new CudaDeviceVariable<float>(context, N);
        using var done = new CudaEvent(context);
        using var blas = new CudaBlas(context, stream);
        using var lt = new CudaBlasLt(context);
        using var solver = new CudaSolveDense(context, stream);
        using var s = new CudaDeviceVariable<double>(context, 1);
        MemoryMarshal.Cast<byte, float>(pinned.Span()).Fill(1);
        stream.CopyToDevice(x.DevicePointer, pinned, 0, sizeof(float) * N);
        CudaKernel kernel = module.GetKernel("tillerTestVectorAdd");
        using CudaGraph graph = stream.Capture(() => CudaKernelTests.Add(kernel, stream, x.DevicePointer, x.DevicePointer, x.DevicePointer, 1, N));
        using CudaGraphExec exec = graph.Instantiate();
        exec.Launch(stream);
        s.CopyToDevice([16]);
        blas.Dgemm(AsStored, AsStored, 1, 1, 1, 1, s.DevicePointer, 1, s.DevicePointer, 1, 0, s.DevicePointer, 1);
        lt.Matmul(AsStored, AsStored, 1, 1, 1, 1, s.DevicePointer, 1, s.DevicePointer, 1, CudaDataType.R64F, 0, s.DevicePointer, 1,
            CudaDataType.R64F, stream);
        Assert.That(solver.Potrf(CublasFillMode.Lower, 1, CudaDataType.R64F, s.DevicePointer, 1), Is.Zero);
        done.Record(stream);
        done.Synchronize();
        stream.CopyToHost(x.DevicePointer, pinned.Span());
        Assert.That(MemoryMarshal.Cast<byte, float>(pinned.Span()).ToArray(), Is.All.EqualTo(2));
        double[] root = new double[1];
        s.CopyToHost(root);
        Assert.That(root[0], Is.EqualTo(256)); // 16² squared, and its root
    }
}
