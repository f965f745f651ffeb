using Tiller.Interop;

namespace Tiller.Tests.Interop;

public class CudaDevicesTests : HostCudaTest
{
    [Test]
    public void TheHostCudaSaysThatItIsNoGpu()
    {
        CudaDeviceList list = CudaDevices.List();
        Assert.That(list.Reason, Is.Null);
        Assert.That(list.DriverVersion, Is.EqualTo(13000));
        Assert.That(list.Devices, Has.Count.EqualTo(1));
        Assert.That(list.Devices[0].Name, Is.EqualTo("Tiller host CUDA (not a GPU)"));
        Assert.That(list.Devices[0].ComputeCapabilityMajor, Is.EqualTo(9));
        Assert.That(list.Devices[0].TotalInBytes, Is.EqualTo(8L << 30));
    }

    [Test]
    public void NoDeviceIsSaidAndThrown()
    {
        HostCuda.SetDeviceCount(0);
        Assert.That(CudaDevices.List(), Has.Property(nameof(CudaDeviceList.Devices)).Empty
            .And.Property(nameof(CudaDeviceList.Reason)).TypeOf<CudaNoDeviceException>());
        Assert.That(() => new PrimaryContext(), Throws.TypeOf<CudaNoDeviceException>().With.Message.Contains("CUDA_VISIBLE_DEVICES"));
    }

    [Test]
    public void AnOldDriverSaysWhatItHasAndWhatIsNeeded()
    {
        HostCuda.SetDriverVersion(11080);
        Assert.That(CudaDevices.List().DriverVersion, Is.EqualTo(11080));
        Assert.That(() => new PrimaryContext(), Throws.TypeOf<CudaDriverTooOldException>()
            .With.Message.Contains("11.8").And.Message.Contains("12.0").And.Message.Contains("https://"));
    }

    [Test]
    public void ADeviceThatIsNotThereIsUnavailable() => Assert.That(() => new PrimaryContext(7), Throws.TypeOf<CudaDeviceUnavailableException>());

    [TestCase(2, typeof(CudaOutOfMemoryException))]
    [TestCase(34, typeof(CudaNoDeviceException))]
    [TestCase(35, typeof(CudaDriverTooOldException))]
    [TestCase(36, typeof(CudaDriverTooOldException))]
    [TestCase(46, typeof(CudaDeviceUnavailableException))]
    [TestCase(100, typeof(CudaNoDeviceException))]
    [TestCase(209, typeof(CudaKernelImageException))]
    [TestCase(221, typeof(CudaKernelImageException))]
    [TestCase(222, typeof(CudaKernelImageException))]
    [TestCase(214, typeof(CudaDeviceLostException))]
    [TestCase(220, typeof(CudaDeviceLostException))]
    [TestCase(700, typeof(CudaDeviceLostException))]
    [TestCase(702, typeof(CudaDeviceLostException))]
    [TestCase(710, typeof(CudaDeviceLostException))]
    [TestCase(716, typeof(CudaDeviceLostException))]
    [TestCase(719, typeof(CudaDeviceLostException))]
    [TestCase(803, typeof(CudaDriverTooOldException))]
    [TestCase(1, typeof(CudaException))]
    public void EveryCodeHasItsType(int code, Type type)
    {
        using var context = new PrimaryContext();
        HostCuda.FailAt(2, code); // the call after cuCtxSetCurrent
        var e = Assert.Throws(type, context.Synchronize) as CudaException;
        Assert.That(e!.Code, Is.EqualTo(code));
        Assert.That(e.Fault!.Call, Is.EqualTo("cuCtxSynchronize"));
    }

    [Test]
    public void TheKernelImageErrorNamesTheArchitecture()
    {
        using var context = new PrimaryContext();
        Assert.That(() => new CudaModule(context, "garbage"u8, "broken.cubin"),
            Throws.TypeOf<CudaKernelImageException>().With.Message.Contains("sm_90").And.Message.Contains("broken.cubin"));
    }

    [Test]
    public void AfterAStickyErrorEveryCallThrowsWithoutReachingTheDriver()
    {
        using var context = new PrimaryContext();
        using var values = new CudaDeviceVariable<float>(context, 4);
        using var stream = new CudaStream(context);
        HostCuda.FailAt(2, 719);
        Assert.That(context.Synchronize, Throws.TypeOf<CudaDeviceLostException>());
        Assert.That(context.Lost, Is.Not.Null);
        long calls = HostCuda.Calls;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(() => values.CopyToHost(new float[4]), Throws.TypeOf<CudaDeviceLostException>());
            Assert.That(stream.Synchronize, Throws.TypeOf<CudaDeviceLostException>());
            Assert.That(() => new CudaDeviceVariable<float>(context, 1), Throws.TypeOf<CudaDeviceLostException>());
            Assert.That(() => new CudaStream(context), Throws.TypeOf<CudaDeviceLostException>().With.Property("Code").EqualTo(719));
            Assert.That(HostCuda.Calls, Is.EqualTo(calls));
        }
    }

    [Test]
    public void TheContextOutlivesWhatLivesInIt()
    {
        var context = new PrimaryContext();
        using var values = new CudaDeviceVariable<int>(context, 3);
        context.Dispose();
        Assert.That(HostCuda.LiveAllocations, Is.EqualTo(2));
        Assert.That(() => values.CopyToHost(new int[3]), Throws.TypeOf<ObjectDisposedException>());
        values.Dispose(); // and once more by the using
    }
}
