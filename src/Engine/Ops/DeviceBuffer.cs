using System.Diagnostics;
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

    /// <summary>
    /// Tells that the bytes before <paramref name="end"/> are not needed any more. Where the system takes parts of an allocation back, it gets them.
    /// </summary>
    public virtual void Discard(long end)
    {
    }
}

/// <summary>Host memory aligned to a cache line, zeroed.</summary>
internal sealed unsafe class HostBuffer : DeviceBuffer
{
    private const int Alignment = 64;
    private const long LeastGrowth = 64 << 20;
    private const long MostGrowth = 512 << 20;

    private static long s_liveInBytes;

    // The collector does not see this memory, and what nobody has disposed of is freed only after a collection. One is asked for whenever the buffers
    // have grown by half. GC.AddMemoryPressure would ask for one every few megabytes: at the start of every short program, and for every few texts of
    // a server, whose buffers are all disposed of.
    private static long s_collectAtBytes = LeastGrowth;

    public HostBuffer(long sizeInBytes)
        : base(AllocateZeroed(sizeInBytes), sizeInBytes)
    {
        long live = Interlocked.Add(ref s_liveInBytes, sizeInBytes), at = Volatile.Read(ref s_collectAtBytes);
        if (live > at && Interlocked.CompareExchange(ref s_collectAtBytes, NextAfter(live), at) == at)
        {
            // Blocking: one in the background could be under way, and miss the latest.
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Forced, blocking: true);
        }
    }

    /// <summary>Total size of the buffers that have not been freed, for leak tests.</summary>
    public static long LiveInBytes => Interlocked.Read(ref s_liveInBytes);

    /// <inheritdoc/>
    public override void Discard(long end)
    {
        Debug.Assert(end >= 0 && end <= SizeInBytes, "a part of the buffer");
        if (IsMapped(SizeInBytes))
        {
            HostPages.Discard(Address, SizeInBytes, end);
        }
    }

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

        long next = NextAfter(Interlocked.Add(ref s_liveInBytes, -SizeInBytes));
        if (Volatile.Read(ref s_collectAtBytes) is var at && next < at - MostGrowth)
        {
            Interlocked.CompareExchange(ref s_collectAtBytes, next, at);
        }

        return true;
    }

    private static long NextAfter(long live) => live + Math.Clamp(live / 2, LeastGrowth, MostGrowth);

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
