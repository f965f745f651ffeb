using Tiller.Model;
using Tiller.Tests.Interop;

namespace Tiller.Tests.Model;

/// <summary>
/// A fixture that runs on the CPU and on CUDA. CUDA is a GPU if TILLER_DEVICE names one, else the host CUDA; its models live as long as the
/// fixture, and nothing of theirs may be left on the device after it.
/// </summary>
[TestFixture("cpu")]
[TestFixture("cuda", Category = CudaTest.Category)]
[NonParallelizable]
public abstract class OnEveryDevice(string device)
{
    /// <summary>Families that the host CUDA runs: two that between them have most of what families differ in.</summary>
    protected virtual IReadOnlyList<string> OnHostCuda => ["gemma2-bf16", "qwen2-bf16"];

    /// <summary>Families that it runs with <see cref="HostCuda.Checks"/>, which make it slower still.</summary>
    protected virtual IReadOnlyList<string> Checked => ["qwen2-bf16"];

    protected bool IsCuda => device == "cuda";

    /// <summary>Whether every token counts: the host CUDA is some hundred times slower than the CPU.</summary>
    protected bool IsHostCuda => IsCuda && !CudaTest.OnGpu;

    /// <summary>The family of a test that is about none: the demo model, and a smaller one where every token counts.</summary>
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

    /// <summary>The host CUDA leaves long texts to a GPU, and the other families.</summary>
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

/// <summary>Marks a test that is too long for the host CUDA; it runs on the CPU and on a GPU.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class OnGpuOnlyAttribute() : CategoryAttribute(Category)
{
    /// <summary>The category's name.</summary>
    public const string Category = "not on the host CUDA";
}
