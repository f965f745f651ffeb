namespace Tiller.Interop;

/// <summary>A stream, whose work runs in order. It is not synchronised with the default stream.</summary>
public sealed unsafe class CudaStream : CudaHandle
{
    private const uint NonBlocking = 1;
    private const int CaptureModeThreadLocal = 1;

    /// <summary>Creates a stream.</summary>
    public CudaStream(PrimaryContext context)
        : base(context)
    {
        context.Enter();
        nint stream;
        context.Check(DriverApi.cuStreamCreate(&stream, NonBlocking), nameof(DriverApi.cuStreamCreate));
        Own(stream);
    }

    /// <summary>Waits until all work has finished. Errors of that work are thrown here.</summary>
    public void Synchronize()
    {
        Context.Enter();
        Context.Check(DriverApi.cuStreamSynchronize(Native), nameof(DriverApi.cuStreamSynchronize));
    }

    /// <summary>Whether all work has finished.</summary>
    public bool Query()
    {
        Context.Enter();
        CUresult result = DriverApi.cuStreamQuery(Native);
        if (result == CUresult.CUDA_ERROR_NOT_READY)
        {
            return false;
        }

        Context.Check(result, nameof(DriverApi.cuStreamQuery));
        return true;
    }

    /// <summary>Copies host memory to an address of the device. The source may change as soon as this returns.</summary>
    public void CopyToDevice(nint destination, ReadOnlySpan<byte> source)
    {
        Context.Enter();
        fixed (byte* from = source)
        {
            // The driver copies pageable memory to a staging buffer before it returns (CUDA driver API, "API synchronization behavior").
            Context.Check(DriverApi.cuMemcpyHtoDAsync_v2(destination, from, (nuint)source.Length, Native), nameof(DriverApi.cuMemcpyHtoDAsync_v2),
                null, source.Length);
        }
    }

    /// <summary>Copies pinned host memory to an address of the device. The source must not change until the copy has finished.</summary>
    public void CopyToDevice(nint destination, CudaPinnedHostMemory<byte> source, long at, int count)
    {
        ArgumentNullException.ThrowIfNull(source);
        byte* from = source.PointerTo(at, count);
        Context.Enter();
        Context.Check(DriverApi.cuMemcpyHtoDAsync_v2(destination, from, (nuint)count, Native), nameof(DriverApi.cuMemcpyHtoDAsync_v2), null, count);
    }

    /// <summary>Copies from an address of the device to host memory after all earlier work, and waits.</summary>
    public void CopyToHost(nint source, Span<byte> destination)
    {
        Context.Enter();
        fixed (byte* to = destination)
        {
            Context.Check(DriverApi.cuMemcpyDtoHAsync_v2(to, source, (nuint)destination.Length, Native), nameof(DriverApi.cuMemcpyDtoHAsync_v2), null,
                destination.Length);
            Synchronize();
        }
    }

    /// <summary>Copies within the device.</summary>
    public void CopyWithinDevice(nint source, nint destination, long sizeInBytes)
    {
        Context.Enter();
        Context.Check(DriverApi.cuMemcpyDtoDAsync_v2(destination, source, (nuint)sizeInBytes, Native), nameof(DriverApi.cuMemcpyDtoDAsync_v2), null,
            sizeInBytes);
    }

    /// <summary>Sets bytes at an address of the device to zero.</summary>
    public void Clear(nint destination, long sizeInBytes)
    {
        Context.Enter();
        Context.Check(DriverApi.cuMemsetD8Async(destination, 0, (nuint)sizeInBytes, Native), nameof(DriverApi.cuMemsetD8Async), null, sizeInBytes);
    }

    /// <summary>Whether the stream is being captured.</summary>
    public bool IsCapturing
    {
        get
        {
            Context.Enter();
            int status;
            Context.Check(DriverApi.cuStreamIsCapturing(Native, &status), nameof(DriverApi.cuStreamIsCapturing));
            return status != 0;
        }
    }

    /// <summary>
    /// Starts to record the stream's work instead of running it. Until <see cref="EndCapture"/>, this thread must neither allocate device memory nor
    /// wait.
    /// </summary>
    public void BeginCapture()
    {
        Context.Enter();
        Context.Check(DriverApi.cuStreamBeginCapture_v2(Native, CaptureModeThreadLocal), nameof(DriverApi.cuStreamBeginCapture_v2));
    }

    /// <summary>Ends the capture and returns the recorded work.</summary>
    /// <exception cref="CudaException">A forbidden call broke the capture, which has ended.</exception>
    public CudaGraph EndCapture()
    {
        Context.Enter();
        nint graph = 0;
        Context.Check(DriverApi.cuStreamEndCapture(Native, &graph), nameof(DriverApi.cuStreamEndCapture));
        return new CudaGraph(Context, graph);
    }

    /// <summary>Records the work of <paramref name="work"/>. If that throws, the capture is ended and discarded.</summary>
    public CudaGraph Capture(Action work)
    {
        ArgumentNullException.ThrowIfNull(work);
        BeginCapture();
        try
        {
            work();
        }
        catch
        {
            nint graph = 0;
            if (DriverApi.cuStreamEndCapture(Native, &graph) == CUresult.CUDA_SUCCESS && graph != 0)
            {
                DriverApi.cuGraphDestroy(graph);
            }

            throw;
        }

        return EndCapture();
    }

    private protected override bool Release(nint native) =>
        Context.Released(DriverApi.cuStreamDestroy_v2(native), nameof(DriverApi.cuStreamDestroy_v2));
}

/// <summary>An event in a stream. Work can wait for it, and two events measure time.</summary>
public sealed unsafe class CudaEvent : CudaHandle
{
    private const uint DisableTiming = 2;

    /// <summary>Creates an event.</summary>
    /// <param name="context">The context that owns the event.</param>
    /// <param name="timing">Whether the event can measure time. An event that cannot is cheaper.</param>
    public CudaEvent(PrimaryContext context, bool timing = true)
        : base(context)
    {
        context.Enter();
        nint created;
        context.Check(DriverApi.cuEventCreate(&created, timing ? 0 : DisableTiming), nameof(DriverApi.cuEventCreate));
        Own(created);
    }

    /// <summary>Marks the present end of a stream's work.</summary>
    public void Record(CudaStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        Context.Enter();
        Context.Check(DriverApi.cuEventRecord(Native, stream.Native), nameof(DriverApi.cuEventRecord));
    }

    /// <summary>Waits until the work before the event has finished.</summary>
    public void Synchronize()
    {
        Context.Enter();
        Context.Check(DriverApi.cuEventSynchronize(Native), nameof(DriverApi.cuEventSynchronize));
    }

    /// <summary>Milliseconds on the device between two recorded and finished events.</summary>
    public static float ElapsedMs(CudaEvent start, CudaEvent end)
    {
        ArgumentNullException.ThrowIfNull(start);
        ArgumentNullException.ThrowIfNull(end);
        start.Context.Enter();
        float elapsedMs;
        start.Context.Check(DriverApi.cuEventElapsedTime(&elapsedMs, start.Native, end.Native), nameof(DriverApi.cuEventElapsedTime));
        return elapsedMs;
    }

    private protected override bool Release(nint native) =>
        Context.Released(DriverApi.cuEventDestroy_v2(native), nameof(DriverApi.cuEventDestroy_v2));
}
