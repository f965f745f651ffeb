using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;
using Tiller.Kernels;

namespace Tiller.Tests.Interop;

/// <summary>
/// The host CUDA, which is built by cmake on first use and loaded in place of any other CUDA library of the process; and its switches for tests.
/// </summary>
internal static unsafe class HostCuda
{
    private static readonly Lazy<string> Build = new(() => BuildWith(Checks));

    private static readonly Lazy<nint> Library = new(() => NativeLibrary.Load(Path.Combine(Build.Value, "lib", "libtillerhostcuda.so")));

    /// <summary>
    /// What checks every memory access of the kernels, by its name in CMakeLists.txt: "addresses" for AddressSanitizer, whose library must be in the
    /// process from its start; "races"; or empty for nothing. .ci/run runs tests of CUDA once more with each.
    /// </summary>
    public static string Checks => Environment.GetEnvironmentVariable("TILLER_HOST_CUDA_CHECKS") ?? "";

    /// <summary>The folder with libcuda.so.1 and the other libraries.</summary>
    public static string Folder => Path.Combine(Build.Value, "lib");

    /// <summary>Whether <see cref="Require"/> has succeeded.</summary>
    public static bool IsLoaded => Library.IsValueCreated;

    public static long LiveAllocations => ((delegate* unmanaged<long>)Export("tillerHostCudaLiveAllocations"))();

    public static long Calls => ((delegate* unmanaged<long>)Export("tillerHostCudaCalls"))();

    /// <summary>How often memory or a graph was released while queued work had not been waited for; on a GPU that work might still use it.</summary>
    public static long EagerFrees => ((delegate* unmanaged<long>)Export("tillerHostCudaEagerFrees"))();

    /// <summary>A description of the last fault that ended a launch; empty if there was none since the reset.</summary>
    public static string LastFault => Marshal.PtrToStringUTF8(((delegate* unmanaged<nint>)Export("tillerHostCudaLastFault"))())!;

    /// <summary>The number of calls of one entry point, given by its name.</summary>
    public static long CallsOf(string function)
    {
        nint name = Marshal.StringToCoTaskMemUTF8(function);
        long calls = ((delegate* unmanaged<nint, long>)Export("tillerHostCudaCallsOf"))(name);
        Marshal.FreeCoTaskMem(name);
        return calls;
    }

    /// <summary>Builds the library and makes the resolver use it; if it cannot be built, skips the test and says why.</summary>
    public static void Require()
    {
        if (CudaTest.OnGpu)
        {
            Assert.Ignore("The host CUDA alone shows this, and TILLER_DEVICE names a GPU.");
        }

        _ = Library.Value;
        Environment.SetEnvironmentVariable(CudaLibraryResolver.FolderVariable, Folder);
        Environment.SetEnvironmentVariable(KernelLibrary.ImageFolderVariable, "off"); // it cannot run images from nvcc
        Environment.SetEnvironmentVariable("TILLER_KERNEL_CACHE", "off");
        Reset();
    }

    /// <summary>Writes <see cref="LastFault"/> to the output of a test that has failed.</summary>
    public static void Explain()
    {
        if (IsLoaded && TestContext.CurrentContext.Result.Outcome.Status == NUnit.Framework.Interfaces.TestStatus.Failed)
        {
            TestContext.Out.WriteLine($"Last fault of the host CUDA: {LastFault}");
        }
    }

    public static void FailAt(long n, int code) => ((delegate* unmanaged<long, int, void>)Export("tillerHostCudaFailAt"))(n, code);

    public static void SetDriverVersion(int version) => ((delegate* unmanaged<int, void>)Export("tillerHostCudaSetDriverVersion"))(version);

    public static void SetDeviceCount(int count) => ((delegate* unmanaged<int, void>)Export("tillerHostCudaSetDeviceCount"))(count);

    public static void SetMemory(long bytes) => ((delegate* unmanaged<long, void>)Export("tillerHostCudaSetMemory"))(bytes);

    public static void Reset() => ((delegate* unmanaged<void>)Export("tillerHostCudaReset"))();

    /// <summary>Builds the library with these <see cref="Checks"/> and returns the folder of the build.</summary>
    public static string BuildWith(string checks)
        => BuildInto(checks.Length == 0 ? "hostcuda" : $"hostcuda-{checks}", $"-DTILLER_HOST_CUDA_CHECKS={checks}");

    /// <summary>Configures and builds into artifacts/<paramref name="name"/>, and returns that folder.</summary>
    public static string BuildInto(string name, params string[] definitions)
    {
        if (!OperatingSystem.IsLinux())
        {
            Assert.Ignore("The host CUDA is built on Linux only.");
        }

        foreach (string tool in (string[])["cmake", "g++"])
        {
            if (Run(tool, ["--version"]).ExitCode != 0)
            {
                Assert.Ignore($"The host CUDA needs {tool}, which is not installed: run tools/setup.sh.");
            }
        }

        string folder = Repository.Path("artifacts", name);
        Directory.CreateDirectory(folder);
        using FileStream gate = Lock(folder + ".lock");
        (int exitCode, string output) = Run("cmake", ["-S", Repository.Root, "-B", folder, "-DTILLER_KERNEL_IMAGES=OFF", .. definitions]);
        if (exitCode != 0 && output.Contains("OPENBLAS", StringComparison.Ordinal))
        {
            Assert.Ignore("The host CUDA needs OpenBLAS, which is not installed: run tools/setup.sh.");
        }

        Assert.That(exitCode, Is.Zero, output);
        (exitCode, output) = Run("cmake", ["--build", folder, "-j2"]);
        Assert.That(exitCode, Is.Zero, output);
        return folder;
    }

    public static (int ExitCode, string Output) Run(string program, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true };

        // AddressSanitizer is meant for this process only: under it, cmake never finishes packing an archive.
        start.Environment.Remove("LD_PRELOAD");
        try
        {
            using Process process = Process.Start(start)!;
            Task<string> errors = process.StandardError.ReadToEndAsync();
            string output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            return (process.ExitCode, output + errors.GetAwaiter().GetResult());
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return (-1, e.Message);
        }
    }

    private static nint Export(string name) => CudaTest.OnGpu
        ? throw new InvalidOperationException($"{name}: a GPU tells nothing of this; call Require first, or leave it out where CudaTest.OnGpu.")
        : NativeLibrary.GetExport(Library.Value, name);

    private static FileStream Lock(string file)
    {
        for (var waited = Stopwatch.StartNew(); ;)
        {
            try
            {
                return new FileStream(file, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (waited.Elapsed < TimeSpan.FromMinutes(10))
            {
                Thread.Sleep(200);
            }
        }
    }
}
