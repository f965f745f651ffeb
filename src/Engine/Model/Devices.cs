using System.Globalization;
using Tiller.Cpu;
using Tiller.Cuda;
using Tiller.Interop;
using Tiller.Ops;

namespace Tiller.Model;

/// <summary>The device asked for is not on this machine, or cannot be used now.</summary>
public sealed class DeviceUnavailableException : TillerException
{
    internal DeviceUnavailableException(string device, Exception cause)
        : base($"Device {device} is not available. {cause.Message}", cause)
    {
        Device = device;
    }

    /// <summary>What was asked for.</summary>
    public string Device { get; }
}

/// <summary>A device's name is not one that Tiller knows.</summary>
public sealed class DeviceNameException : TillerException
{
    internal DeviceNameException(string name)
        : base($"A device is auto, cpu, cuda or cuda:N with N from 0 on; \"{name}\" is none of them.")
    {
    }
}

/// <summary>Opens devices by name.</summary>
internal static class Devices
{
    /// <summary>The environment variable that names the device where a caller does not.</summary>
    public const string Variable = "TILLER_DEVICE";

    /// <summary>Opens a device.</summary>
    /// <param name="name">auto, cpu, cuda or cuda:N; null takes <see cref="Variable"/>, else auto.</param>
    /// <param name="threads">Threads of the CPU; 0 takes one per processor.</param>
    /// <exception cref="DeviceNameException">The name is none of these.</exception>
    /// <exception cref="DeviceUnavailableException">A CUDA device was asked for, or found by auto, and cannot be opened.</exception>
    public static DeviceOps Open(string? name, int threads)
    {
        name ??= Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } chosen ? chosen : "auto";
        return Ordinal(name) switch
        {
            null => new CpuOps(threads),
            -1 when CudaDevices.List().Devices.Count == 0 => new CpuOps(threads),
            -1 => OpenCuda(0, name),
            { } ordinal => OpenCuda(ordinal, name),
        };
    }

    /// <summary>Number of a CUDA device, -1 for auto, null for the CPU.</summary>
    /// <exception cref="DeviceNameException">The name is none of these.</exception>
    public static int? Ordinal(string name) => name switch
    {
        "cpu" => null,
        "auto" => -1,
        "cuda" => 0,
        _ when name.StartsWith("cuda:", StringComparison.Ordinal)
            && int.TryParse(name.AsSpan(5), NumberStyles.None, CultureInfo.InvariantCulture, out int ordinal) => ordinal,
        _ => throw new DeviceNameException(name),
    };

    private static CudaOps OpenCuda(int ordinal, string name)
    {
        try
        {
            return new CudaOps(ordinal);
        }
        catch (CudaException e) when (e is CudaLibraryMissingException or CudaNoDeviceException or CudaDeviceUnavailableException
            or CudaDriverTooOldException or CudaKernelImageException)
        {
            throw new DeviceUnavailableException(name, e);
        }
    }
}
