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
    /// <summary>Families that the host CUDA runs; none leaves the whole fixture to a GPU.</summary>
    protected virtual IReadOnlyList<string> OnHostCuda => [];

    protected bool IsCuda => device == "cuda";

    [OneTimeSetUp]
    public void Open()
    {
        if (IsCuda && !CudaTest.OnGpu)
        {
            HostCuda.Require();
        }

        TestModels.Use(device);
    }

    /// <summary>The host CUDA is some hundred times slower than the CPU: it runs few families, and leaves long texts to a GPU.</summary>
    [SetUp]
    public void LeaveToTheGpu()
    {
        var test = TestContext.CurrentContext.Test;
        bool left = OnHostCuda.Count == 0 || test.Properties["Category"].Contains(OnGpuOnlyAttribute.Category)
            || test.Arguments.OfType<string>().Any(argument => TestModels.Families.Contains(argument) && !OnHostCuda.Contains(argument, StringComparer.Ordinal));
        if (IsCuda && !CudaTest.OnGpu && left)
        {
            Assert.Ignore("Too long for the host CUDA: set TILLER_DEVICE=cuda on a machine with a GPU.");
        }
    }

    [OneTimeTearDown]
    public void Close()
    {
        TestModels.Use(null);
        if (IsCuda)
        {
            TestModels.Unload(device);
            if (!CudaTest.OnGpu && HostCuda.IsLoaded)
            {
                Assert.That(HostCuda.LiveAllocations, Is.Zero, "memory, streams, graphs, modules or contexts that nobody released");
            }
        }
    }
}

/// <summary>Marks a test that is too long for the host CUDA; it runs on the CPU and on a GPU.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class OnGpuOnlyAttribute() : CategoryAttribute(Category)
{
    /// <summary>The category's name.</summary>
    public const string Category = "not on the host CUDA";
}
