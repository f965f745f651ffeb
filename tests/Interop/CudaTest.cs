using Tiller.Interop;

namespace Tiller.Tests.Interop;

/// <summary>
/// A test of CUDA, on the GPU that TILLER_DEVICE names, else on the host CUDA: that one it starts afresh, and leaves nothing alive on it. What only the host CUDA
/// can show (a call that fails when it is told to, a fault that ends the device, memory that was never written) calls <see cref="HostCuda.Require"/> and is
/// skipped on a GPU.
/// </summary>
[NonParallelizable]
[Category(Category)]
public abstract class CudaTest
{
    /// <summary>Marks what runs on CUDA.</summary>
    public const string Category = "CUDA";

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

/// <summary>Kernels for tests, compiled by NVRTC for the device at hand; on a GPU each source once.</summary>
internal static class TestKernels
{
    private static readonly Dictionary<string, byte[]> s_images = new(StringComparer.Ordinal);

    /// <summary>Compiles and loads one of the tests' own sources.</summary>
    public static CudaModule Load(PrimaryContext context, string name) =>
        Load(context, name, Repository.Path("tests", "HostCuda", "kernels", name), ["platform.cuh"]);

    /// <summary>Compiles and loads one of the engine's sources.</summary>
    public static CudaModule LoadEngines(PrimaryContext context, string name) => Load(
        context, name, Repository.Path("src", "Kernels", name), Directory.EnumerateFiles(Repository.Path("src", "Kernels"), "*.cuh").Select(file => Path.GetFileName(file)));

    private static CudaModule Load(PrimaryContext context, string name, string file, IEnumerable<string> headers)
    {
        if (!s_images.TryGetValue(file, out byte[]? image))
        {
            var texts = headers.ToDictionary(header => header, header => File.ReadAllText(Repository.Path("src", "Kernels", header)), StringComparer.Ordinal);
            var gpu = new Tiller.Kernels.KernelArchitecture(context.Device.ComputeCapabilityMajor, context.Device.ComputeCapabilityMinor);
            image = CudaRuntimeCompiler.Compile(name, File.ReadAllText(file), texts, gpu.Native.ToString()).Image;
            if (CudaTest.OnGpu)
            {
                s_images.Add(file, image);
            }
        }

        return new CudaModule(context, image, name);
    }
}
