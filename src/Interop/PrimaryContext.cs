using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>
/// Retains a device's primary context. Every other owner holds a reference to it, so that it is released last. Any thread may call any member;
/// streams determine the order of work.
/// </summary>
public sealed unsafe class PrimaryContext : SafeHandle
{
    private volatile CudaDeviceLostException? lost;
    private volatile bool disposed;

    /// <summary>Retains the primary context of a device.</summary>
    /// <param name="ordinal">The device's number among those that CUDA shows.</param>
    /// <exception cref="CudaLibraryMissingException">There is no driver.</exception>
    /// <exception cref="CudaNoDeviceException">There is no GPU.</exception>
    /// <exception cref="CudaDriverTooOldException">The driver is older than CUDA 12.0.</exception>
    /// <exception cref="CudaDeviceUnavailableException">The device is busy, or there is none of this number.</exception>
    public PrimaryContext(int ordinal = 0)
        : base(0, ownsHandle: true)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(ordinal);
        DriverVersion = CudaDevices.StartDriver();
        int device;
        CudaDevices.Check(DriverApi.cuDeviceGet(&device, ordinal), nameof(DriverApi.cuDeviceGet), $"device {ordinal}");
        Device = CudaDevices.Describe(device);
        nint context;
        CudaDevices.Check(DriverApi.cuDevicePrimaryCtxRetain(&context, device), nameof(DriverApi.cuDevicePrimaryCtxRetain), Device.Name);
        SetHandle(context);
    }

    /// <summary>The device.</summary>
    public CudaDeviceInfo Device { get; }

    /// <summary>The CUDA version that the driver supports, 1000 × major + 10 × minor.</summary>
    public int DriverVersion { get; }

    /// <summary>
    /// Whether to wait after every launch outside a capture, so that an error names the kernel that caused it. Slow; default false.
    /// </summary>
    public bool SynchronizeAfterLaunch { get; set; }

    /// <summary>The sticky error that ended this context, or null if there was none.</summary>
    public CudaDeviceLostException? Lost => lost;

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Waits for all work of the context.</summary>
    /// <exception cref="CudaException">This call or an earlier asynchronous one failed.</exception>
    public void Synchronize()
    {
        Enter();
        Check(DriverApi.cuCtxSynchronize(), nameof(DriverApi.cuCtxSynchronize));
    }

    /// <summary>Free and total device memory in bytes.</summary>
    public (long FreeInBytes, long TotalInBytes) GetMemoryInfo()
    {
        Enter();
        nuint free, total;
        Check(DriverApi.cuMemGetInfo_v2(&free, &total), nameof(DriverApi.cuMemGetInfo_v2));
        return ((long)free, (long)total);
    }

    /// <summary>Must come before every call on the context: checks that the context is alive, and makes it current on this thread.</summary>
    internal void Enter()
    {
        if (lost is { } gone)
        {
            throw new CudaDeviceLostException(gone.Fault!);
        }

        ObjectDisposedException.ThrowIf(disposed, this);
        Check(DriverApi.cuCtxSetCurrent(handle), nameof(DriverApi.cuCtxSetCurrent));
    }

    internal void Check(CUresult result, string call, string? what = null, long? sizeInBytes = null)
    {
        if (result != CUresult.CUDA_SUCCESS)
        {
            throw Fail(result, call, what, sizeInBytes);
        }
    }

    /// <summary>Creates the typed exception of a failed driver call. A sticky error ends the context.</summary>
    internal CudaException Fail(CUresult result, string call, string? what, long? sizeInBytes)
    {
        CUresult memoryResult = AskMemory(out long? free, out long? total);
        if (!CudaDevices.IsSticky(result) && CudaDevices.IsSticky(memoryResult))
        {
            result = memoryResult;
        }

        var fault = new CudaFault(call, (int)result, CudaDevices.NameOf(result), what, sizeInBytes, free, total);
        CudaException exception = CudaDevices.ExceptionFor(fault, $"sm_{Device.ComputeCapabilityMajor}{Device.ComputeCapabilityMinor}");
        if (exception is CudaDeviceLostException deviceLost)
        {
            lost ??= deviceLost;
        }

        return exception;
    }

    /// <summary>
    /// Creates the typed exception of a failed cuBLAS or cuSOLVER call: that of the device's sticky error if there is one, otherwise the library's
    /// own.
    /// </summary>
    internal CudaException FailLibrary(int status, string name, bool outOfMemory, string call, string? what)
    {
        CUresult memoryResult = AskMemory(out long? free, out long? total);
        if (CudaDevices.IsSticky(memoryResult))
        {
            return Fail(memoryResult, call, what, null);
        }

        var fault = new CudaFault(call, status, name, what, null, free, total);
        return outOfMemory ? new CudaOutOfMemoryException(fault) : new CudaException(fault.ToString(), fault);
    }

    /// <summary>Checks the result of a release, which cannot throw. A sticky error still ends the context.</summary>
    internal bool Released(CUresult result, string call)
    {
        if (CudaDevices.IsSticky(result))
        {
            lost ??= new CudaDeviceLostException(new CudaFault(call, (int)result, CudaDevices.NameOf(result), null, null, null, null));
        }

        return result == CUresult.CUDA_SUCCESS;
    }

    /// <summary>Makes the context current for a release, which may run on any thread.</summary>
    internal void EnterForRelease() => DriverApi.cuCtxSetCurrent(handle);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        // SafeHandle.IsClosed stays false as long as owners in the context hold references.
        disposed = true;
        base.Dispose(disposing);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => DriverApi.cuDevicePrimaryCtxRelease_v2(Device.Ordinal) == CUresult.CUDA_SUCCESS;

    private static CUresult AskMemory(out long? free, out long? total)
    {
        nuint freeBytes, totalBytes;
        CUresult result = DriverApi.cuMemGetInfo_v2(&freeBytes, &totalBytes);
        free = result == CUresult.CUDA_SUCCESS ? (long)freeBytes : null;
        total = result == CUresult.CUDA_SUCCESS ? (long)totalBytes : null;
        return result;
    }
}

/// <summary>A handle of an object in a context. It has one owner, and is released at most once and before the context.</summary>
public abstract class CudaHandle : SafeHandle
{
    private protected CudaHandle(PrimaryContext context)
        : base(0, ownsHandle: true)
    {
        ArgumentNullException.ThrowIfNull(context);
        Context = context;
    }

    /// <summary>The context of the object.</summary>
    public PrimaryContext Context { get; }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>The native handle; valid as long as this object is not disposed of.</summary>
    internal nint Native
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsClosed || IsInvalid, this);
            return handle;
        }
    }

    /// <summary>
    /// Begins a call: makes the context current on this thread, and keeps the native object until the call ends, even if it is disposed of meanwhile.
    /// </summary>
    internal Held Hold()
    {
        Context.Enter();
        ObjectDisposedException.ThrowIf(IsClosed || IsInvalid, this);
        bool added = false;
        DangerousAddRef(ref added);
        return new Held(this);
    }

    private protected void Own(nint created)
    {
        bool added = false;
        try
        {
            Context.DangerousAddRef(ref added);
            SetHandle(created);
        }
        catch (ObjectDisposedException)
        {
            Release(created);
            throw;
        }
    }

    /// <summary>Releases the native object. It may run on any thread.</summary>
    private protected abstract bool Release(nint native);

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        try
        {
            Context.EnterForRelease();
            return Release(handle);
        }
        finally
        {
            Context.DangerousRelease();
        }
    }

    /// <summary>A call on a native object.</summary>
    internal readonly ref struct Held(CudaHandle of) : IDisposable
    {
        public void Dispose() => of.DangerousRelease();
    }
}
