using Tiller.Model;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Model;

/// <summary>
/// A fixture that runs on the CPU and on CUDA: on a GPU if TILLER_DEVICE names one, otherwise on the host CUDA. Its models are disposed of when the
/// fixture ends, and then nothing of theirs may be left on the device.
/// </summary>
[TestFixture("cpu")]
[TestFixture("cuda", Category = CudaTest.Category)]
[NonParallelizable]
public abstract class OnEveryDevice(string device)
{
    /// <summary>The families that the host CUDA runs: two that together have most of the features in which families differ.</summary>
    protected virtual IReadOnlyList<string> OnHostCuda => ["gemma2-bf16", "qwen2-bf16"];

    /// <summary>The families that the host CUDA runs with <see cref="HostCuda.Checks"/>, which make it slower still.</summary>
    protected virtual IReadOnlyList<string> Checked => ["qwen2-bf16"];

    protected bool IsCuda => device == "cuda";

    /// <summary>Whether the test runs on the host CUDA, where it should decode few tokens: it is some hundred times slower than the CPU.</summary>
    protected bool IsHostCuda => IsCuda && !CudaTest.OnGpu;

    /// <summary>The family for tests that need no particular one: the demo model, or a smaller one on the host CUDA.</summary>
    protected string AnyFamily => IsHostCuda ? "qwen2-bf16" : "demo";

    protected LanguageModel AnyModel => TestModels.Load(AnyFamily);

    [OneTimeSetUp]
    public void Open()
    {
        if (IsHostCuda)
        {
            HostCuda.Require();
        }

        TestModels.Use(Device.Parse(device));
    }

    /// <summary>Skips tests with long texts and with the other families on the host CUDA; a GPU runs them.</summary>
    [SetUp]
    public void LeaveToTheGpu()
    {
        if (!IsHostCuda)
        {
            return;
        }

        var test = TestContext.CurrentContext.Test;
        var families = HostCuda.Checks.Length > 0 ? Checked : OnHostCuda;
        bool left = test.Properties["Category"].Contains(OnGpuOnlyAttribute.Category)
            || test.Arguments.OfType<string>().Any(argument => TestModels.Families.Contains(argument)
                && !families.Contains(argument, StringComparer.Ordinal));
        if (left)
        {
            Assert.Ignore("Too long for the host CUDA: set TILLER_DEVICE=cuda on a machine with a GPU.");
        }
    }

    [TearDown]
    public void Explain()
    {
        if (IsHostCuda)
        {
            HostCuda.Explain();
        }
    }

    [OneTimeTearDown]
    public void Close()
    {
        TestModels.Use(null);
        if (IsCuda)
        {
            TestModels.Unload(Device.Parse(device));
            if (IsHostCuda && HostCuda.IsLoaded)
            {
                Assert.That(HostCuda.LiveAllocations, Is.Zero, "memory, streams, graphs, modules or contexts that nobody released");
            }
        }
    }
}

/// <summary>Marks a test that would take too long on the host CUDA; it runs on the CPU and on a GPU.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class OnGpuOnlyAttribute() : CategoryAttribute(Category)
{
    /// <summary>The category's name.</summary>
    public const string Category = "not on the host CUDA";
}
