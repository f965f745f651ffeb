using Tiller.Interop;

namespace Tiller.Tests.Interop;

/// <summary>
/// A test of CUDA, on the GPU that TILLER_DEVICE names, else on the host CUDA: that one it starts afresh, and leaves nothing alive on it. What only
/// the host CUDA can show (a call that fails when it is told to, a fault that ends the device, memory that was never written) calls
/// <see cref="HostCuda.Require"/> and is skipped on a GPU.
/// </summary>
[NonParallelizable]
[Category(Category)]
public abstract class CudaTest
{
    /// <summary>Marks what runs on CUDA.</summary>
    public const string Category = "CUDA";

    /// <summary>Marks a test that takes all memory of a device: on a GPU nothing else may run beside it.</summary>
    public const string TakesAllMemory = "TakesAllMemory";

    /// <summary>Marks a test after which its process has no device: on a GPU it runs in a process of its own.</summary>
    public const string EndsTheDevice = "EndsTheDevice";

    // A context is made anew for each test; while one is kept, that costs nothing.
    private static readonly Lazy<PrimaryContext> s_kept = new(() => new PrimaryContext());

    /// <summary>Whether TILLER_DEVICE names a CUDA device, and so the host CUDA stays out of the process.</summary>
    public static bool OnGpu => Environment.GetEnvironmentVariable("TILLER_DEVICE")?.StartsWith("cuda", StringComparison.Ordinal) == true;

    [SetUp]
    public void Start()
    {
        if (OnGpu)
        {
            _ = s_kept.Value;
        }
        else
        {
            HostCuda.Require();
        }
    }

    [TearDown]
    public void NothingIsLeftAlive()
    {
        HostCuda.Explain();
        if (!OnGpu && TestContext.CurrentContext.Result.Outcome.Status != NUnit.Framework.Interfaces.TestStatus.Skipped)
        {
            Assert.That(HostCuda.LiveAllocations, Is.Zero, "memory, streams, graphs, modules or contexts that nobody released");
        }
    }
}

/// <summary>A test of what only the host CUDA can show, or of the host CUDA itself.</summary>
public abstract class HostCudaTest : CudaTest
{
    [SetUp]
    public void OnHostCudaAlone() => HostCuda.Require();
}

/// <summary>
/// Kernels of the tests' own, compiled by NVRTC for the device at hand; on a GPU each source once. The engine's come from a
/// <see cref="Tiller.Kernels.KernelLibrary"/>.
/// </summary>
internal static class TestKernels
{
    private static readonly Dictionary<string, byte[]> s_images = new(StringComparer.Ordinal);

    /// <summary>Compiles and loads one of the tests' own sources.</summary>
    public static CudaModule Load(PrimaryContext context, string name)
    {
        if (!s_images.TryGetValue(name, out byte[]? image))
        {
            var headers = new Dictionary<string, string> { ["platform.cuh"] = File.ReadAllText(Repository.Path("src", "Kernels", "platform.cuh")) };
            string source = File.ReadAllText(Repository.Path("tests", "HostCuda", "kernels", name));
            var gpu = new Tiller.Kernels.KernelArchitecture(context.Device.ComputeCapabilityMajor, context.Device.ComputeCapabilityMinor);
            image = CudaRuntimeCompiler.Compile(name, source, headers, gpu.Native.ToString()).Image;
            if (CudaTest.OnGpu)
            {
                s_images.Add(name, image);
            }
        }

        return new CudaModule(context, image, name);
    }
}
