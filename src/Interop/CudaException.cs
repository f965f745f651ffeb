using System.Globalization;

namespace Tiller.Interop;

/// <summary>
/// A CUDA call failed. The message names the call, the error, what the call was for, the bytes asked for, and the device's free and total
/// memory.
/// </summary>
public class CudaException : TillerException
{
    internal CudaException(string message, CudaFault? fault = null, Exception? cause = null)
        : base(message, cause)
    {
        Fault = fault;
    }

    /// <summary>What failed; null where no call was made (a missing library).</summary>
    public CudaFault? Fault { get; }

    /// <summary>The error's number in its library, 0 where no call was made.</summary>
    public int Code => Fault?.Code ?? 0;
}

/// <summary>One failed call.</summary>
/// <param name="Call">The entry point, NVIDIA's name.</param>
/// <param name="Code">The result: CUresult, nvrtcResult, cublasStatus_t or cusolverStatus_t, by the call.</param>
/// <param name="Name">The result's name, as CUDA_ERROR_OUT_OF_MEMORY.</param>
/// <param name="What">What the call was for, as a kernel's or a tensor's name; null if nothing was said.</param>
/// <param name="SizeInBytes">Bytes asked for or moved; null where it does not apply.</param>
/// <param name="FreeInBytes">Free device memory after the failure; null where it could not be asked.</param>
/// <param name="TotalInBytes">Total device memory; null where it could not be asked.</param>
public sealed record CudaFault(string Call, int Code, string Name, string? What, long? SizeInBytes, long? FreeInBytes, long? TotalInBytes)
{
    /// <summary>One sentence.</summary>
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

    /// <summary>The library, as libcuda.</summary>
    public string Library { get; }

    /// <summary>Every place where it was looked for, and what was there.</summary>
    public IReadOnlyList<string> LookedIn { get; }

    private static string Describe(string library, IReadOnlyList<string> lookedIn) =>
        (library == CudaLibraryResolver.Driver
            ? "No NVIDIA driver: libcuda.so.1 cannot be loaded. Install the driver, or run on the CPU."
            : $"{library} cannot be loaded, and what was asked for needs it. Install it (CUDA toolkit, or pip's nvidia wheels), or name its "
              + $"folder in {CudaLibraryResolver.FolderVariable}.")
        + " Looked in:\n  " + string.Join("\n  ", lookedIn);
}

/// <summary>There is a driver, but no GPU that it can use (100), or the driver is a toolkit's stub (34).</summary>
public sealed class CudaNoDeviceException : CudaException
{
    internal CudaNoDeviceException(CudaFault fault)
        : base($"No CUDA device: {fault} Check nvidia-smi and CUDA_VISIBLE_DEVICES, or run on the CPU.", fault)
    {
    }
}

/// <summary>The GPU exists but cannot be had now: busy, in exclusive use, or hidden (46, 101). Another try may succeed.</summary>
public sealed class CudaDeviceUnavailableException : CudaException
{
    internal CudaDeviceUnavailableException(CudaFault fault)
        : base($"The CUDA device is not available: {fault} It may be in another process's exclusive use, or hidden by CUDA_VISIBLE_DEVICES; "
            + "try again later or name another device.", fault)
    {
    }
}

/// <summary>The driver is older than Tiller, or than the libraries on this machine, need (35, 36, 803, 804).</summary>
public sealed class CudaDriverTooOldException : CudaException
{
    internal CudaDriverTooOldException(int driverVersion, CudaFault? fault)
        : base($"The NVIDIA driver supports CUDA {Version(driverVersion)}; Tiller needs {Version(Minimum)} or later."
            + (fault is null ? "" : " " + fault) + " Update the driver (https://www.nvidia.com/drivers), or run on the CPU.", fault)
    {
        DriverVersion = driverVersion;
    }

    /// <summary>The oldest driver that Tiller is written for and tested against: CUDA 12.0.</summary>
    public const int Minimum = 12000;

    /// <summary>The CUDA version the driver supports, 1000 × major + 10 × minor; 0 if it could not be asked.</summary>
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

    /// <summary>Tells that no image was found for a GPU.</summary>
    /// <param name="architecture">The GPU's architecture, as sm_90.</param>
    /// <param name="problem">What there is instead: one or more sentences.</param>
    /// <param name="fault">The call that failed; null if none was made.</param>
    public CudaKernelImageException(string architecture, string problem, CudaFault? fault = null)
        : base($"No kernel image for this GPU, which is {architecture}: {problem} Build the kernels for {architecture} (cmake), install NVRTC, "
            + "or update the driver.", fault)
    {
        Architecture = architecture;
    }

    /// <summary>The GPU's architecture, as sm_90.</summary>
    public string Architecture { get; }
}

/// <summary>
/// A sticky error: the device's state is lost to this process. Every later call on the context throws this at once, and only a new process
/// can use the GPU again.
/// </summary>
public sealed class CudaDeviceLostException : CudaException
{
    internal CudaDeviceLostException(CudaFault fault)
        : base($"The CUDA device is lost to this process: {fault} The error may stem from an earlier asynchronous call. Start the process "
            + "again.", fault)
    {
    }
}

/// <summary>NVRTC did not compile a source.</summary>
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
