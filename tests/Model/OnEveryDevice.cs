using Tiller.Tests.Interop;

namespace Tiller.Tests.Model;

/// <summary>
/// A fixture that runs on the CPU and on CUDA. CUDA is a GPU if TILLER_DEVICE names one, else the host CUDA; its models live as long as the
/// fixture, and nothing of theirs may be left on the device after it.
/// </summary>
[TestFixture("cpu")]
[TestFixture("cuda")]
[NonParallelizable]
public abstract class OnEveryDevice(string device)
{
    private static bool OnGpu => Environment.GetEnvironmentVariable("TILLER_DEVICE")!.StartsWith("cuda", StringComparison.Ordinal);

    protected bool IsCuda => device == "cuda";

    [OneTimeSetUp]
    public void Open()
    {
        if (IsCuda && !OnGpu)
        {
            HostCuda.Require();
        }

        TestModels.Use(device);
    }

    [OneTimeTearDown]
    public void Close()
    {
        TestModels.Use(null);
        if (IsCuda)
        {
            TestModels.Unload(device);
            if (!OnGpu && HostCuda.IsLoaded)
            {
                Assert.That(HostCuda.LiveAllocations, Is.Zero, "memory, streams, graphs, modules or contexts that nobody released");
            }
        }
    }
}
