using Tiller.Interop;

namespace Tiller.Tests.Interop;

public unsafe class CudaKernelTests : CudaTest
{
    private struct BlockSumParameters
    {
        public nint Sums;
        public nint X;
        public int N;
    }

    [TestCase(1)]
    [TestCase(31)]
    [TestCase(127)]
    [TestCase(4097)]
    public void VectorAddAddsEveryElement(int n)
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using CudaModule module = TestKernels.Load(context, "vector_add.cu");
        float[] a = [.. Enumerable.Range(0, n).Select(i => (float)i)], b = [.. a.Select(v => 2 * v + 1)], c = new float[n];
        using var deviceA = new CudaDeviceVariable<float>(context, n);
        using var deviceB = new CudaDeviceVariable<float>(context, n);
        using var deviceC = new CudaDeviceVariable<float>(context, n);
        deviceA.CopyToDevice(a);
        deviceB.CopyToDevice(b);
        Add(module.GetKernel("tillerTestVectorAdd"), stream, deviceC.DevicePointer, deviceA.DevicePointer, deviceB.DevicePointer, 3, n);
        stream.Synchronize();
        deviceC.CopyToHost(c);
        Assert.That(c, Is.EqualTo(a.Zip(b, (x, y) => x + 3 * y)));
    }

    [TestCase(1, 32)]
    [TestCase(33, 64)]
    [TestCase(4097, 1024)]
    public void BlockSumsMatchASerialSum(int n, int threads)
    {
        const int Rows = 5;
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using CudaModule module = TestKernels.Load(context, "block_sum.cu");
        float[] x = [.. Enumerable.Range(0, Rows * n).Select(i => i % 17 - 8f)], sums = new float[Rows]; // exact in float
        using var deviceX = new CudaDeviceVariable<float>(context, x.Length);
        using var deviceSums = new CudaDeviceVariable<float>(context, Rows);
        deviceX.CopyToDevice(x);
        var parameters = new BlockSumParameters { Sums = deviceSums.DevicePointer, X = deviceX.DevicePointer, N = n };
        module.GetKernel("tillerTestBlockSum").Launch(new CudaLaunch(Rows, threads), stream, parameters);
        stream.Synchronize();
        deviceSums.CopyToHost(sums);
        Assert.That(sums, Is.EqualTo(x.Chunk(n).Select(row => row.Sum())));
    }

    [TestCase(1, 1)]
    [TestCase(31, 33)]
    [TestCase(127, 64)]
    public void TransposeMovesEveryElement(int rows, int columns)
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using CudaModule module = TestKernels.Load(context, "transpose.cu");
        float[] x = [.. Enumerable.Range(0, rows * columns).Select(i => (float)i)], y = new float[x.Length];
        using var deviceX = new CudaDeviceVariable<float>(context, x.Length);
        using var deviceY = new CudaDeviceVariable<float>(context, x.Length);
        deviceX.CopyToDevice(x);
        nint to = deviceY.DevicePointer, from = deviceX.DevicePointer;
        int height = rows, width = columns;
        void** parameters = stackalloc void*[] { &to, &from, &height, &width };
        module.GetKernel("tillerTestTranspose")
            .Launch(new CudaLaunch((columns + 31) / 32, (rows + 31) / 32, 1, 32, 8, 1, 32 * 33 * 4, Programmatic: true), stream, parameters);
        stream.Synchronize();
        deviceY.CopyToHost(y);
        Assert.That(y, Is.EqualTo(Enumerable.Range(0, y.Length).Select(i => x[i % rows * columns + i / rows])));
    }

    [TestCase(0, 32)]
    [TestCase(1, 32)]
    [TestCase(5, 8)]
    [TestCase(3, 4)]
    [TestCase(16, 32)]
    public void ShufflesFollowCudasRule(int argument, int width)
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using CudaModule module = TestKernels.Load(context, "block_sum.cu");
        using var device = new CudaDeviceVariable<int>(context, 160);
        nint to = device.DevicePointer;
        int number = argument, segment = width;
        void** parameters = stackalloc void*[] { &to, &number, &segment };
        module.GetKernel("tillerTestShuffles").Launch(new CudaLaunch(1, 32), stream, parameters);
        int[] values = new int[160];
        stream.Synchronize();
        device.CopyToHost(values);

        // CUDA C++ Programming Guide, warp shuffle functions: a source outside the segment leaves the value as it is.
        int[] lanes = [.. Enumerable.Range(0, 32)];
        IEnumerable<int> Values(Func<int, int> source) => lanes.Select(lane => 100 + source(lane));
        int First(int lane) => lane / width * width;
        Assert.That(values[..32], Is.EqualTo(Values(lane => First(lane) + argument % width)));
        Assert.That(values[32..64], Is.EqualTo(Values(lane => lane - argument < First(lane) ? lane : lane - argument)));
        Assert.That(values[64..96], Is.EqualTo(Values(lane => lane + argument >= First(lane) + width ? lane : lane + argument)));
        Assert.That(values[96..128], Is.EqualTo(Values(lane => (lane ^ argument) >= First(lane) + width ? lane : lane ^ argument)));
        uint votes = lanes.Where(lane => lane % (argument + 1) == 0).Aggregate(0u, (bits, lane) => bits | 1u << lane);
        Assert.That(values[128..], Is.All.EqualTo((int)votes));
    }

    [Test]
    public void ALaunchAllocatesNothing()
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using CudaModule module = TestKernels.Load(context, "vector_add.cu");
        using var x = new CudaDeviceVariable<float>(context, 8);
        x.ClearAsync(stream);
        CudaKernel kernel = module.GetKernel("tillerTestVectorAdd");
        Add(kernel, stream, x.DevicePointer, x.DevicePointer, x.DevicePointer, 1, 8);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 100; i++)
        {
            Add(kernel, stream, x.DevicePointer, x.DevicePointer, x.DevicePointer, 1, 8);
        }

        Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
    }

    [TestCase(33, ExpectedResult = typeof(CudaDeviceLostException))]
    [TestCase(-1, ExpectedResult = typeof(CudaDeviceLostException))]
    [TestCase(100_000, ExpectedResult = typeof(CudaDeviceLostException))]
    [TestCase(32, ExpectedResult = null)]
    public Type? AStoreOutsideAnArrayEndsTheDevice(long index)
    {
        HostCuda.Require();
        using var context = new PrimaryContext();
        using CudaModule module = TestKernels.Load(context, "vector_add.cu");
        using var stream = new CudaStream(context);
        using var x = new CudaDeviceVariable<float>(context, 33);
        return Store(module, stream, x.DevicePointer, index);
    }

    [Test]
    public void AStoreIntoFreedMemoryEndsTheDevice()
    {
        HostCuda.Require();
        using var context = new PrimaryContext();
        using CudaModule module = TestKernels.Load(context, "vector_add.cu");
        using var stream = new CudaStream(context);
        var x = new CudaDeviceVariable<float>(context, 33);
        nint pointer = x.DevicePointer;
        x.Dispose();
        Assert.That(Store(module, stream, pointer, 0), Is.EqualTo(typeof(CudaDeviceLostException)));
    }

    [Test]
    public void SynchronizeAfterLaunchNamesTheKernel()
    {
        HostCuda.Require();
        using var context = new PrimaryContext { SynchronizeAfterLaunch = true };
        using CudaModule module = TestKernels.Load(context, "vector_add.cu");
        using var stream = new CudaStream(context);
        nint nowhere = 0;
        long index = 0;
        float value = 1;
        CudaKernel kernel = module.GetKernel("tillerTestStore");
        var e = Assert.Throws<CudaDeviceLostException>(() =>
        {
            nint to = nowhere;
            long at = index;
            float what = value;
            void** parameters = stackalloc void*[] { &to, &at, &what };
            kernel.Launch(new CudaLaunch(1, 32), stream, parameters);
        })!;
        Assert.That(e.Message, Does.Contain("tillerTestStore").And.Contain("CUDA_ERROR_ILLEGAL_ADDRESS"));
    }

    [Test]
    public void ThreadsThatWaitForEachOtherEndTheLaunch()
    {
        HostCuda.Require();
        using var context = new PrimaryContext();
        using CudaModule module = TestKernels.Load(context, "vector_add.cu");
        using var stream = new CudaStream(context);
        using var x = new CudaDeviceVariable<float>(context, 32);
        nint to = x.DevicePointer;
        module.GetKernel("tillerTestDeadlock").Launch(new CudaLaunch(1, 32), stream, to);
        Assert.That(stream.Synchronize, Throws.TypeOf<CudaDeviceLostException>().With.Property("Code").EqualTo(719));
    }

    [Test]
    public void AnImpossibleLaunchNamesKernelAndShape()
    {
        HostCuda.Require();
        using var context = new PrimaryContext();
        using CudaModule module = TestKernels.Load(context, "vector_add.cu");
        using var stream = new CudaStream(context);
        CudaKernel kernel = module.GetKernel("tillerTestDeadlock");
        Assert.That(() => kernel.Launch(new CudaLaunch(1, 1025), stream, (nint)0),
            Throws.TypeOf<CudaException>().With.Message.Contains("tillerTestDeadlock").And.Message.Contains("1025"));
        Assert.That(() => kernel.Launch(new CudaLaunch(1, 1, 1, 32, SharedInBytes: 100 << 10), stream, (nint)0), Throws.TypeOf<CudaException>());
        kernel.MaxDynamicSharedInBytes = 100 << 10;
        Assert.That(kernel.MaxDynamicSharedInBytes, Is.EqualTo(100 << 10));
        Assert.That(kernel.SharedCarveout, Is.EqualTo(-1), "the driver's choice");
        kernel.SharedCarveout = 100;
        Assert.That(kernel.SharedCarveout, Is.EqualTo(100));
        Assert.That(() => kernel.SharedCarveout = 101, Throws.TypeOf<CudaException>().With.Message.Contains("101"));
        Assert.That(kernel.GetAttribute(CUfunction_attribute.LocalSizeBytes), Is.Zero);
        Assert.That(kernel.MaxBlocksPerMultiprocessor(256), Is.EqualTo(8));
        Assert.That(() => module.GetKernel("nothing"), Throws.TypeOf<CudaException>().With.Message.Contains("nothing of vector_add.cu"));
    }

    internal static void Add(CudaKernel kernel, CudaStream stream, nint c, nint a, nint b, float scale, int n)
    {
        void** parameters = stackalloc void*[] { &c, &a, &b, &scale, &n };
        kernel.Launch(new CudaLaunch((n + 127) / 128, 128), stream, parameters);
    }

    internal static Type? Store(CudaModule module, CudaStream stream, nint pointer, long index)
    {
        float value = 1;
        void** parameters = stackalloc void*[] { &pointer, &index, &value };
        module.GetKernel("tillerTestStore").Launch(new CudaLaunch(1, 32), stream, parameters);
        try
        {
            stream.Synchronize();
            return null;
        }
        catch (CudaException e)
        {
            return e.GetType();
        }
    }
}
