using Tiller.Interop;

namespace Tiller.Tests.Interop;

/// <summary>
/// A test of CUDA. It runs on the GPU that TILLER_DEVICE names, otherwise on the host CUDA, which is reset before each test; after the test nothing
/// may be left allocated there. A test of what only the host CUDA can show (a call that fails on request, a fault that ends the device, memory
/// that was never written) calls <see cref="HostCuda.Require"/> and is skipped on a GPU.
/// </summary>
[NonParallelizable]
[Category(Category)]
public abstract class CudaTest
{
    /// <summary>Marks tests that run on CUDA.</summary>
    public const string Category = "CUDA";

    /// <summary>Marks a test that takes all memory of the device: on a GPU nothing else may run at the same time.</summary>
    public const string TakesAllMemory = "TakesAllMemory";

    /// <summary>Marks a test after which its process can no longer use the device: on a GPU it runs in its own process.</summary>
    public const string EndsTheDevice = "EndsTheDevice";

    // Each test opens the primary context; as long as it is kept alive here, that costs nothing.
    private static readonly Lazy<PrimaryContext> s_kept = new(() => new PrimaryContext());

    /// <summary>Whether TILLER_DEVICE names a CUDA device; if so, the host CUDA is not loaded into the process.</summary>
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
/// The tests' own kernels, which NVRTC compiles for the current device; on a GPU each source is compiled once. The engine's kernels come from a
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
