using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Tests.Interop;

public class CudaMemoryTests : CudaTest
{
    [TestCase(1)]
    [TestCase(31)]
    [TestCase(1023)]
    [TestCase(4097)]
    public void ValuesComeBack(int length)
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using var a = new CudaDeviceVariable<double>(context, length, "a");
        using var b = new CudaDeviceVariable<double>(context, length, "b");
        using var pinned = new CudaPinnedHostMemory<byte>(context, a.SizeInBytes);
        Assert.That(pinned.IsPinned, Is.True);
        double[] values = [.. Enumerable.Range(0, length).Select(i => Math.Sqrt(i))];
        values.CopyTo(MemoryMarshal.Cast<byte, double>(pinned.Span()));
        stream.CopyToDevice(a.DevicePointer, pinned, 0, (int)pinned.Length);
        stream.CopyWithinDevice(a.DevicePointer, b.DevicePointer, b.SizeInBytes);
        double[] result = new double[length];
        stream.CopyToHost(b.DevicePointer, MemoryMarshal.AsBytes(result.AsSpan()));
        Assert.That(result, Is.EqualTo(values));

        b.ClearAsync(stream);
        stream.Synchronize();
        b.CopyToDevice([7], length - 1);
        b.CopyToHost(result);
        Assert.That(result[..^1], Is.All.Zero);
        Assert.That(result[^1], Is.EqualTo(7));
    }

    [Test]
    public void WhatWasNeverWrittenIsNaN()
    {
        HostCuda.Require();
        using var context = new PrimaryContext();
        using var x = new CudaDeviceVariable<float>(context, 5);
        float[] values = new float[5];
        x.CopyToHost(values);
        Assert.That(values, Is.All.NaN);
    }

    [Test]
    public void RangesOutsideAreRefusedBeforeTheDriver()
    {
        using var context = new PrimaryContext();
        using var x = new CudaDeviceVariable<float>(context, 5);
        using var pinned = new CudaPinnedHostMemory<byte>(context, 4);
        using var stream = new CudaStream(context);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(() => x.CopyToDevice(new float[6]), Throws.TypeOf<ArgumentOutOfRangeException>());
            Assert.That(() => x.CopyToHost(new float[3], 3), Throws.TypeOf<ArgumentOutOfRangeException>());
            Assert.That(() => stream.CopyToDevice(x.DevicePointer, pinned, 0, 5), Throws.TypeOf<ArgumentOutOfRangeException>());
            Assert.That(() => x.PointerTo(6), Throws.TypeOf<ArgumentOutOfRangeException>());
            Assert.That(() => new CudaDeviceVariable<float>(context, 0), Throws.TypeOf<ArgumentOutOfRangeException>());
        }
    }

    [Test]
    public void MemoryThatIsGoneIsRefusedBeforeTheDriver()
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using var alive = new CudaDeviceVariable<float>(context, 4);
        var x = new CudaDeviceVariable<float>(context, 4);
        var pinned = new CudaPinnedHostMemory<byte>(context, 4);
        x.Dispose();
        x.Dispose();
        pinned.Dispose();
        using (Assert.EnterMultipleScope())
        {
            Assert.That(() => x.CopyToDevice(new float[4]), Throws.TypeOf<ObjectDisposedException>());
            Assert.That(() => x.CopyToHost(new float[4]), Throws.TypeOf<ObjectDisposedException>());
            Assert.That(() => x.ClearAsync(stream), Throws.TypeOf<ObjectDisposedException>());
            Assert.That(() => stream.CopyToDevice(alive.DevicePointer, pinned, 0, 4), Throws.TypeOf<ObjectDisposedException>());
            Assert.That(() => x.DevicePointer, Throws.TypeOf<ObjectDisposedException>());
        }
    }

    [Test]
    public void MemoryDisposedOfWhileAnotherThreadCopiesGoesWhenTheCopyHasEnded()
    {
        using var context = new PrimaryContext();
        for (int cycle = 0; cycle < 50; cycle++)
        {
            var begun = new TaskCompletionSource();
            var x = new CudaDeviceVariable<float>(context, 5000);
            x.CopyToDevice(new float[5000]);
            var copier = OtherThread.Start(() =>
            {
                float[] copy = new float[5000];
                try
                {
                    while (true)
                    {
                        x.CopyToHost(copy);
                        begun.TrySetResult();
                    }
                }
                catch (ObjectDisposedException)
                {
                    Assert.That(copy, Is.All.Zero);
                }
            });
            OtherThread.Wait(begun);
            x.Dispose();
            OtherThread.End(copier);
        }
    }

    [Test]
    public void OutOfMemorySaysNeedAndHaveAndLeavesTheDeviceUsable()
    {
        HostCuda.Require();
        HostCuda.SetMemory(1 << 20);
        using var context = new PrimaryContext();
        using var kept = new CudaDeviceVariable<byte>(context, 1 << 19);
        var e = Assert.Throws<CudaOutOfMemoryException>(() => new CudaDeviceVariable<byte>(context, (1 << 19) + 1, "model.layers.3"))!;
        Assert.That(e.Fault, Is.EqualTo(
            new CudaFault("cuMemAlloc_v2", 2, "CUDA_ERROR_OUT_OF_MEMORY", "model.layers.3", (1 << 19) + 1, 1 << 19, 1 << 20)));
        Assert.That(e.Message, Does.Contain("model.layers.3"));
        using var smaller = new CudaDeviceVariable<byte>(context, 1 << 19);
        Assert.That(context.GetMemoryInfo(), Is.EqualTo((0L, 1L << 20)));
    }

    [Test]
    public void PinnedMemoryThatIsRefusedBecomesPageable()
    {
        HostCuda.Require();
        using var context = new PrimaryContext();
        HostCuda.FailAt(2, 2);
        using var memory = new CudaPinnedHostMemory<byte>(context, 100);
        Assert.That(memory.IsPinned, Is.False);
        using var stream = new CudaStream(context);
        using var device = new CudaDeviceVariable<byte>(context, 100);
        memory.Span().Fill(3);
        stream.CopyToDevice(device.DevicePointer, memory, 0, 100);
        stream.Synchronize();
        byte[] values = new byte[100];
        device.CopyToHost(values);
        Assert.That(values, Is.All.EqualTo(3));
    }
}
