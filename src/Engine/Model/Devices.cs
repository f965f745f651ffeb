using Tiller.Cpu;
using Tiller.Cuda;
using Tiller.Interop;
using Tiller.Ops;

namespace Tiller.Model;

/// <summary>The requested device is not on this machine, or cannot be used now.</summary>
public sealed class DeviceUnavailableException : TillerException
{
    internal DeviceUnavailableException(Device device, Exception cause)
        : base($"Device {device} is not available. {cause.Message}", cause)
    {
        Device = device;
    }

    /// <summary>The requested device.</summary>
    public Device Device { get; }
}

/// <summary>A device's name is not one that Tiller knows.</summary>
public sealed class DeviceNameException : TillerException
{
    internal DeviceNameException(string name)
        : base($"A device is auto, cpu, cuda or cuda:N with N from 0 on; \"{name}\" is none of them.")
    {
    }
}

/// <summary>Opens devices.</summary>
internal static class Devices
{
    /// <summary>The environment variable that names the device if a caller names none.</summary>
    public const string Variable = "TILLER_DEVICE";

    /// <summary>The device if a caller names none: the one in <see cref="Variable"/>, or auto if that is not set.</summary>
    /// <exception cref="DeviceNameException">The variable names no device.</exception>
    public static Device Default => Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } name ? Device.Parse(name) : Device.Auto;

    /// <summary>Opens a device.</summary>
    /// <param name="device">The device; null means <see cref="Default"/>.</param>
    /// <param name="threads">Number of CPU threads; 0 means one per processor.</param>
    /// <exception cref="DeviceNameException">The device is null, and the environment variable names no device.</exception>
    /// <exception cref="DeviceUnavailableException">A CUDA device was requested, or found by auto, but cannot be opened.</exception>
    public static DeviceOps Open(Device? device, int threads)
    {
        var chosen = device ?? Default;
        return chosen.CudaOrdinal is { } ordinal ? OpenCuda(ordinal, chosen)
            : chosen.IsAuto && CudaDevices.List().Devices.Count > 0 ? OpenCuda(0, chosen)
            : new CpuOps(threads);
    }

    private static CudaOps OpenCuda(int ordinal, Device device)
    {
        try
        {
            return new CudaOps(ordinal);
        }
        catch (CudaException e) when (e is CudaLibraryMissingException or CudaNoDeviceException or CudaDeviceUnavailableException
            or CudaDriverTooOldException or CudaKernelImageException)
        {
            throw new DeviceUnavailableException(device, e);
        }
    }
}
