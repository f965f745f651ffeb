using System.Runtime.InteropServices;
using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>
/// Owns one allocation on the device of a <see cref="DeviceOps"/>: aligned host memory or GPU memory. Disposing frees it. Views
/// (<see cref="Matrix"/>, <see cref="Floats"/>) do not own memory and must not outlive it.
/// </summary>
internal abstract class DeviceBuffer : SafeHandle
{
    /// <summary>Takes ownership of <paramref name="address"/>.</summary>
    protected DeviceBuffer(nint address, long sizeInBytes)
        : base(0, ownsHandle: true)
    {
        SetHandle(address);
        SizeInBytes = sizeInBytes;
    }

    /// <summary>Address of the first byte, in the device's address space.</summary>
    /// <exception cref="ObjectDisposedException">The memory has been freed.</exception>
    public nint Address
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsClosed, this);
            return handle;
        }
    }

    /// <summary>Size of the allocation in bytes.</summary>
    public long SizeInBytes { get; }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;
}

/// <summary>Host memory aligned to a cache line, zeroed.</summary>
internal sealed unsafe class HostBuffer : DeviceBuffer
{
    private const int Alignment = 64;

    private static long s_liveInBytes;

    public HostBuffer(long sizeInBytes)
        : base(AllocateZeroed(sizeInBytes), sizeInBytes)
    {
        GC.AddMemoryPressure(Math.Max(1, sizeInBytes));
        Interlocked.Add(ref s_liveInBytes, sizeInBytes);
    }

    /// <summary>Total size of the buffers that have not been freed, for leak tests.</summary>
    public static long LiveInBytes => Interlocked.Read(ref s_liveInBytes);

    protected override bool ReleaseHandle()
    {
        if (IsMapped(SizeInBytes))
        {
            HostPages.Unmap(handle, SizeInBytes);
        }
        else
        {
            NativeMemory.AlignedFree((void*)handle);
        }

        GC.RemoveMemoryPressure(Math.Max(1, SizeInBytes));
        Interlocked.Add(ref s_liveInBytes, -SizeInBytes);
        return true;
    }

    private static bool IsMapped(long sizeInBytes) => sizeInBytes >= HostPages.WorthMapping && HostPages.IsSupported;

    private static nint AllocateZeroed(long sizeInBytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sizeInBytes);
        if (IsMapped(sizeInBytes))
        {
            nint pages = HostPages.Map(sizeInBytes);
            return pages != 0 ? pages : throw NoRoom(sizeInBytes, null);
        }

        try
        {
            void* memory = NativeMemory.AlignedAlloc((nuint)Math.Max(Alignment, sizeInBytes), Alignment);
            NativeMemory.Clear(memory, (nuint)sizeInBytes);
            return (nint)memory;
        }
        catch (OutOfMemoryException e)
        {
            throw NoRoom(sizeInBytes, e);
        }
    }

    private static DeviceMemoryException NoRoom(long sizeInBytes, Exception? cause) =>
        new("cpu", sizeInBytes, GC.GetGCMemoryInfo().TotalAvailableMemoryBytes, cause);
}

/// <summary>The device has not enough memory for an allocation.</summary>
public sealed class DeviceMemoryException : TillerException
{
    /// <summary>Creates the error.</summary>
    public DeviceMemoryException(string device, long needInBytes, long haveInBytes, Exception? cause = null)
        : base(
            $"Device {device} cannot allocate {needInBytes:N0} bytes ({haveInBytes:N0} bytes are available). " +
            "Use a smaller model or a shorter context, or free memory.",
            cause)
    {
        NeedInBytes = needInBytes;
        HaveInBytes = haveInBytes;
    }

    /// <summary>Number of bytes requested.</summary>
    public long NeedInBytes { get; }

    /// <summary>Number of bytes available on the device.</summary>
    public long HaveInBytes { get; }
}
