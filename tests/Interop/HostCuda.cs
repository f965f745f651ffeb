using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;
using Tiller.Kernels;

namespace Tiller.Tests.Interop;

/// <summary>
/// The host CUDA, built by cmake on first use and put before every other CUDA library of the process, with the switches that it has for tests.
/// </summary>
internal static unsafe class HostCuda
{
    private static readonly Lazy<string> Build = new(() => BuildWith(Checks));

    private static readonly Lazy<nint> Library = new(() => NativeLibrary.Load(Path.Combine(Build.Value, "lib", "libtillerhostcuda.so")));

    /// <summary>
    /// What looks at every access of the kernels, as CMakeLists.txt names it: "addresses", AddressSanitizer, whose library must be in the process
    /// from its start; "races"; or empty. .ci/run runs tests of CUDA once more with each.
    /// </summary>
    public static string Checks => Environment.GetEnvironmentVariable("TILLER_HOST_CUDA_CHECKS") ?? "";

    /// <summary>The folder with libcuda.so.1 and the others.</summary>
    public static string Folder => Path.Combine(Build.Value, "lib");

    /// <summary>Whether <see cref="Require"/> has succeeded.</summary>
    public static bool IsLoaded => Library.IsValueCreated;

    public static long LiveAllocations => ((delegate* unmanaged<long>)Export("tillerHostCudaLiveAllocations"))();

    public static long Calls => ((delegate* unmanaged<long>)Export("tillerHostCudaCalls"))();

    /// <summary>Releases of memory and graphs while work was queued that nobody had waited for: on a GPU it may be using them.</summary>
    public static long EagerFrees => ((delegate* unmanaged<long>)Export("tillerHostCudaEagerFrees"))();

    /// <summary>What ended the last launch that ended with a fault, in words; empty if none has since the reset.</summary>
    public static string LastFault => Marshal.PtrToStringUTF8(((delegate* unmanaged<nint>)Export("tillerHostCudaLastFault"))())!;

    /// <summary>Calls of one entry point, by its name.</summary>
    public static long CallsOf(string function)
    {
        nint name = Marshal.StringToCoTaskMemUTF8(function);
        long calls = ((delegate* unmanaged<nint, long>)Export("tillerHostCudaCallsOf"))(name);
        Marshal.FreeCoTaskMem(name);
        return calls;
    }

    /// <summary>Builds the library, or skips the test with the reason; points the resolver at it.</summary>
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

    /// <summary>Builds it with these <see cref="Checks"/>; gives back the folder.</summary>
    public static string BuildWith(string checks)
        => BuildInto(checks.Length == 0 ? "hostcuda" : $"hostcuda-{checks}", $"-DTILLER_HOST_CUDA_CHECKS={checks}");

    /// <summary>Configures and builds into artifacts/<paramref name="name"/>; gives back that folder.</summary>
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

        // AddressSanitizer is for this process: cmake packing an archive under it never ends.
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
