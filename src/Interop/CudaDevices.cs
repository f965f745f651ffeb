using System.Text;

namespace Tiller.Interop;

/// <summary>A CUDA device as the driver describes it.</summary>
/// <param name="Ordinal">Number of the device among the visible ones.</param>
/// <param name="Name">Name of the device. The name of the tests' host CUDA says that it is not a GPU.</param>
/// <param name="ComputeCapabilityMajor">X of sm_XY.</param>
/// <param name="ComputeCapabilityMinor">Y of sm_XY.</param>
/// <param name="MultiprocessorCount">Number of streaming multiprocessors.</param>
/// <param name="TotalInBytes">Size of the device memory.</param>
/// <param name="L2CacheInBytes">Size of the L2 cache.</param>
/// <param name="SharedMemoryPerBlockInBytes">Shared memory that one block may request.</param>
public sealed record CudaDeviceInfo(int Ordinal, string Name, int ComputeCapabilityMajor, int ComputeCapabilityMinor, int MultiprocessorCount,
    long TotalInBytes, int L2CacheInBytes, int SharedMemoryPerBlockInBytes);

/// <summary>The result of <see cref="CudaDevices.List"/>.</summary>
/// <param name="Devices">The usable devices. If there are none, <paramref name="Reason"/> says why.</param>
/// <param name="DriverVersion">CUDA version of the driver, 1000 × major + 10 × minor; 0 without a driver.</param>
/// <param name="Reason">The exception that opening a device would throw; null if there is a device.</param>
public sealed record CudaDeviceList(IReadOnlyList<CudaDeviceInfo> Devices, int DriverVersion, CudaException? Reason);

/// <summary>The CUDA devices of this machine.</summary>
public static unsafe class CudaDevices
{
    /// <summary>Lists the devices. If there are none, it does not throw but returns the reason.</summary>
    public static CudaDeviceList List()
    {
        if (CudaLibraryResolver.TryLoad(CudaLibraryResolver.Driver, out _) is { } missing)
        {
            return new CudaDeviceList([], 0, missing);
        }

        int version = 0;
        try
        {
            version = StartDriver();
            int count;
            Check(DriverApi.cuDeviceGetCount(&count), nameof(DriverApi.cuDeviceGetCount));
            var devices = new List<CudaDeviceInfo>(count);
            for (int i = 0; i < count; i++)
            {
                int device;
                Check(DriverApi.cuDeviceGet(&device, i), nameof(DriverApi.cuDeviceGet));
                devices.Add(Describe(device));
            }

            return devices.Count > 0
                ? new CudaDeviceList(devices, version, null)
                : new CudaDeviceList([], version, ExceptionFor(Fault(CUresult.CUDA_ERROR_NO_DEVICE, nameof(DriverApi.cuDeviceGetCount), null)));
        }
        catch (CudaException e)
        {
            return new CudaDeviceList([], e is CudaDriverTooOldException old ? old.DriverVersion : version, e);
        }
    }

    /// <summary>Loads and starts the driver, and returns its version.</summary>
    internal static int StartDriver()
    {
        CudaLibraryResolver.Load(CudaLibraryResolver.Driver);
        int version = 0;
        CUresult result = DriverApi.cuDriverGetVersion(&version);
        if (result == CUresult.CUDA_SUCCESS && version < CudaDriverTooOldException.Minimum)
        {
            throw new CudaDriverTooOldException(version, null);
        }

        Check(result, nameof(DriverApi.cuDriverGetVersion));
        Check(DriverApi.cuInit(0), nameof(DriverApi.cuInit));
        return version;
    }

    internal static CudaDeviceInfo Describe(int device)
    {
        Span<byte> name = stackalloc byte[256];
        fixed (byte* p = name)
        {
            Check(DriverApi.cuDeviceGetName(p, name.Length, device), nameof(DriverApi.cuDeviceGetName));
        }

        nuint total;
        Check(DriverApi.cuDeviceTotalMem_v2(&total, device), nameof(DriverApi.cuDeviceTotalMem_v2));
        return new CudaDeviceInfo(device, Encoding.UTF8.GetString(name[..name.IndexOf((byte)0)]),
            Attribute(CUdevice_attribute.ComputeCapabilityMajor, device), Attribute(CUdevice_attribute.ComputeCapabilityMinor, device),
            Attribute(CUdevice_attribute.MultiprocessorCount, device), (long)total, Attribute(CUdevice_attribute.L2CacheSize, device),
            Attribute(CUdevice_attribute.MaxSharedMemoryPerBlockOptin, device));
    }

    internal static void Check(CUresult result, string call, string? what = null)
    {
        if (result != CUresult.CUDA_SUCCESS)
        {
            throw ExceptionFor(Fault(result, call, what));
        }
    }

    internal static bool IsSticky(CUresult result) => result is CUresult.CUDA_ERROR_ECC_UNCORRECTABLE or CUresult.CUDA_ERROR_NVLINK_UNCORRECTABLE
        or CUresult.CUDA_ERROR_ILLEGAL_ADDRESS or CUresult.CUDA_ERROR_LAUNCH_TIMEOUT or CUresult.CUDA_ERROR_ASSERT
        or CUresult.CUDA_ERROR_HARDWARE_STACK_ERROR or CUresult.CUDA_ERROR_ILLEGAL_INSTRUCTION or CUresult.CUDA_ERROR_MISALIGNED_ADDRESS
        or CUresult.CUDA_ERROR_INVALID_ADDRESS_SPACE or CUresult.CUDA_ERROR_INVALID_PC or CUresult.CUDA_ERROR_LAUNCH_FAILED;

    internal static CudaException ExceptionFor(CudaFault fault, string architecture = "of unknown architecture")
    {
        var code = (CUresult)fault.Code;
        return code switch
        {
            _ when IsSticky(code) => new CudaDeviceLostException(fault),
            CUresult.CUDA_ERROR_OUT_OF_MEMORY => new CudaOutOfMemoryException(fault),
            CUresult.CUDA_ERROR_NO_DEVICE or CUresult.CUDA_ERROR_STUB_LIBRARY => new CudaNoDeviceException(fault),
            CUresult.CUDA_ERROR_DEVICE_UNAVAILABLE or CUresult.CUDA_ERROR_INVALID_DEVICE => new CudaDeviceUnavailableException(fault),
            CUresult.CUDA_ERROR_INSUFFICIENT_DRIVER or CUresult.CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER or CUresult.CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
                or CUresult.CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => new CudaDriverTooOldException(DriverVersion(), fault),
            CUresult.CUDA_ERROR_INVALID_IMAGE or CUresult.CUDA_ERROR_NO_BINARY_FOR_GPU or CUresult.CUDA_ERROR_INVALID_PTX
                or CUresult.CUDA_ERROR_JIT_COMPILER_NOT_FOUND or CUresult.CUDA_ERROR_UNSUPPORTED_PTX_VERSION =>
                new CudaKernelImageException(fault, architecture),
            _ => new CudaException(fault.ToString(), fault),
        };
    }

    internal static string NameOf(CUresult result)
    {
        byte* name = null;
        return DriverApi.cuGetErrorName(result, &name) == CUresult.CUDA_SUCCESS && name is not null ? Text(name) : $"CUDA_ERROR_{(int)result}";
    }

    internal static string Text(byte* zeroTerminated) =>
        Encoding.UTF8.GetString(System.Runtime.InteropServices.MemoryMarshal.CreateReadOnlySpanFromNullTerminated(zeroTerminated));

    private static int DriverVersion()
    {
        int version = 0;
        return DriverApi.cuDriverGetVersion(&version) == CUresult.CUDA_SUCCESS ? version : 0;
    }

    private static CudaFault Fault(CUresult result, string call, string? what) => new(call, (int)result, NameOf(result), what, null, null, null);

    private static int Attribute(CUdevice_attribute attribute, int device)
    {
        int value;
        Check(DriverApi.cuDeviceGetAttribute(&value, attribute, device), nameof(DriverApi.cuDeviceGetAttribute), attribute.ToString());
        return value;
    }
}
