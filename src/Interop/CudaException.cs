using System.Globalization;

namespace Tiller.Interop;

/// <summary>
/// A CUDA call failed. The message names the call, the error, the purpose of the call, the requested bytes, and the device's free and total memory.
/// </summary>
public class CudaException : TillerException
{
    internal CudaException(string message, CudaFault? fault = null, Exception? cause = null)
        : base(message, cause)
    {
        Fault = fault;
    }

    /// <summary>The failed call; null if no call was made, because a library is missing.</summary>
    public CudaFault? Fault { get; }

    /// <summary>The library's number of the error; 0 if no call was made.</summary>
    public int Code => Fault?.Code ?? 0;
}

/// <summary>One failed call.</summary>
/// <param name="Call">NVIDIA's name of the entry point.</param>
/// <param name="Code">The result: CUresult, nvrtcResult, cublasStatus_t or cusolverStatus_t, depending on the call.</param>
/// <param name="Name">Name of the result, such as CUDA_ERROR_OUT_OF_MEMORY.</param>
/// <param name="What">The purpose of the call, such as the name of a kernel or a tensor; null if none was given.</param>
/// <param name="SizeInBytes">Number of bytes to allocate or copy; null if it does not apply.</param>
/// <param name="FreeInBytes">Free device memory after the failure; null if unknown.</param>
/// <param name="TotalInBytes">Total device memory; null if unknown.</param>
public sealed record CudaFault(string Call, int Code, string Name, string? What, long? SizeInBytes, long? FreeInBytes, long? TotalInBytes)
{
    /// <summary>Describes the fault in one sentence.</summary>
    public override string ToString()
    {
        string text = $"{Call} failed with {Name} ({Code.ToString(CultureInfo.InvariantCulture)})";
        text += What is null ? "" : $" for {What}";
        text += SizeInBytes is { } size ? $", {Megabytes(size)}" : "";
        return text + (FreeInBytes is { } free && TotalInBytes is { } total
            ? $"; the device has {Megabytes(free)} free of {Megabytes(total)}."
            : ".");
    }

    private static string Megabytes(long bytes) => bytes < 1 << 20
        ? string.Create(CultureInfo.InvariantCulture, $"{bytes} bytes")
        : string.Create(CultureInfo.InvariantCulture, $"{bytes / 1048576.0:N1} MiB");
}

/// <summary>A CUDA library is not on this machine. Only the feature that needs it fails.</summary>
public sealed class CudaLibraryMissingException : CudaException
{
    internal CudaLibraryMissingException(string library, IReadOnlyList<string> lookedIn)
        : base(Describe(library, lookedIn))
    {
        Library = library;
        LookedIn = lookedIn;
    }

    /// <summary>Name of the library, such as libcuda.</summary>
    public string Library { get; }

    /// <summary>Every place that was searched, and what was found there.</summary>
    public IReadOnlyList<string> LookedIn { get; }

    private static string Describe(string library, IReadOnlyList<string> lookedIn) =>
        (library == CudaLibraryResolver.Driver
            ? "No NVIDIA driver: libcuda.so.1 cannot be loaded. Install the driver, or run on the CPU."
            : $"{library} cannot be loaded, and what was asked for needs it. Install it (CUDA toolkit, or pip's nvidia wheels), or name its "
              + $"folder in {CudaLibraryResolver.FolderVariable}.")
        + " Looked in:\n  " + string.Join("\n  ", lookedIn);
}

/// <summary>There is a driver but no usable GPU (100), or the driver is a toolkit's stub (34).</summary>
public sealed class CudaNoDeviceException : CudaException
{
    internal CudaNoDeviceException(CudaFault fault)
        : base($"No CUDA device: {fault} Check nvidia-smi and CUDA_VISIBLE_DEVICES, or run on the CPU.", fault)
    {
    }
}

/// <summary>The GPU exists but is not available now: it is busy, in exclusive use, or hidden (46, 101). Another try may succeed.</summary>
public sealed class CudaDeviceUnavailableException : CudaException
{
    internal CudaDeviceUnavailableException(CudaFault fault)
        : base($"The CUDA device is not available: {fault} It may be in another process's exclusive use, or hidden by CUDA_VISIBLE_DEVICES; "
            + "try again later or name another device.", fault)
    {
    }
}

/// <summary>The driver is too old for Tiller or for the libraries on this machine (35, 36, 803, 804).</summary>
public sealed class CudaDriverTooOldException : CudaException
{
    internal CudaDriverTooOldException(int driverVersion, CudaFault? fault)
        : base($"The NVIDIA driver supports CUDA {Version(driverVersion)}; Tiller needs {Version(Minimum)} or later."
            + (fault is null ? "" : " " + fault) + " Update the driver (https://www.nvidia.com/drivers), or run on the CPU.", fault)
    {
        DriverVersion = driverVersion;
    }

    /// <summary>CUDA version of the oldest supported driver: 12.0.</summary>
    public const int Minimum = 12000;

    /// <summary>The CUDA version that the driver supports, 1000 × major + 10 × minor; 0 if unknown.</summary>
    public int DriverVersion { get; }

    internal static string Version(int version) => string.Create(CultureInfo.InvariantCulture, $"{version / 1000}.{version % 1000 / 10}");
}

/// <summary>The device's memory is used up (2).</summary>
public sealed class CudaOutOfMemoryException : CudaException
{
    internal CudaOutOfMemoryException(CudaFault fault)
        : base($"Out of device memory: {fault} Use a smaller model, a shorter context or fewer rows, or free the GPU.", fault)
    {
    }
}

/// <summary>The kernels' image does not fit this GPU or driver (200, 209, 218, 221, 222).</summary>
public sealed class CudaKernelImageException : CudaException
{
    internal CudaKernelImageException(CudaFault fault, string architecture)
        : this(architecture, fault.ToString(), fault)
    {
    }

    /// <summary>Creates the error for a GPU without a kernel image.</summary>
    /// <param name="architecture">The GPU's architecture, such as sm_90.</param>
    /// <param name="problem">One or more sentences that say which images exist.</param>
    /// <param name="fault">The call that failed; null if none was made.</param>
    public CudaKernelImageException(string architecture, string problem, CudaFault? fault = null)
        : base($"No kernel image for this GPU, which is {architecture}: {problem} Build the kernels for {architecture} (cmake), install NVRTC, "
            + "or update the driver.", fault)
    {
        Architecture = architecture;
    }

    /// <summary>The GPU's architecture, such as sm_90.</summary>
    public string Architecture { get; }
}

/// <summary>
/// A sticky error: this process has lost the state of the device. Every later call on the context throws this exception, and only a new process can
/// use the GPU again.
/// </summary>
public sealed class CudaDeviceLostException : CudaException
{
    internal CudaDeviceLostException(CudaFault fault)
        : base($"The CUDA device is lost to this process: {fault} The error may stem from an earlier asynchronous call. Start the process "
            + "again.", fault)
    {
    }
}

/// <summary>NVRTC could not compile a source.</summary>
public sealed class CudaCompilationException : CudaException
{
    internal CudaCompilationException(CudaFault fault, string log)
        : base($"{fault}\n{log}", fault)
    {
        Log = log;
    }

    /// <summary>The compiler's messages.</summary>
    public string Log { get; }
}
