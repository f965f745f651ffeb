using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>An array in device memory.</summary>
/// <typeparam name="T">Type of the elements.</typeparam>
public sealed unsafe class CudaDeviceVariable<T> : CudaHandle
    where T : unmanaged
{
    /// <summary>Allocates the elements without initialising them.</summary>
    /// <param name="context">The context that owns the memory.</param>
    /// <param name="length">Number of elements, at least one.</param>
    /// <param name="name">Name for error messages, such as a tensor's name.</param>
    /// <exception cref="CudaOutOfMemoryException">There is not enough memory. The exception has the requested, free and total bytes.</exception>
    public CudaDeviceVariable(PrimaryContext context, long length, string? name = null)
        : base(context)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(length, 1);
        Length = length;
        Name = name;
        context.Enter();
        nint pointer;
        context.Check(DriverApi.cuMemAlloc_v2(&pointer, (nuint)SizeInBytes), nameof(DriverApi.cuMemAlloc_v2), name, SizeInBytes);
        Own(pointer);
    }

    /// <summary>Number of elements.</summary>
    public long Length { get; }

    /// <summary>Name for error messages.</summary>
    public string? Name { get; }

    /// <summary>Size of the array in bytes.</summary>
    public long SizeInBytes => checked(Length * Unsafe.SizeOf<T>());

    /// <summary>CUdeviceptr of the first element.</summary>
    public nint DevicePointer => Native;

    /// <summary>CUdeviceptr of an element; for the index <see cref="Length"/>, that of the end.</summary>
    public nint PointerTo(long index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(index, Length);
        return Native + (nint)(index * Unsafe.SizeOf<T>());
    }

    /// <summary>Copies from the host to the elements from <paramref name="at"/> on, and waits.</summary>
    public void CopyToDevice(ReadOnlySpan<T> source, long at = 0)
    {
        using var held = Hold();
        nint to = Range(at, source.Length);
        fixed (T* p = source)
        {
            Context.Check(DriverApi.cuMemcpyHtoD_v2(to, p, Bytes(source.Length)),
            nameof(DriverApi.cuMemcpyHtoD_v2), Name, (long)Bytes(source.Length));
        }

        // A copy from pageable memory returns once the source has been read, perhaps before the copy has finished, and our streams do not wait for
        // the default stream (CUDA driver API, "API synchronization behavior").
        Context.Check(DriverApi.cuStreamSynchronize(0), nameof(DriverApi.cuStreamSynchronize), Name);
    }

    /// <summary>Copies the elements from <paramref name="at"/> on to the host, and waits.</summary>
    public void CopyToHost(Span<T> destination, long at = 0)
    {
        using var held = Hold();
        nint from = Range(at, destination.Length);
        fixed (T* p = destination)
        {
            Context.Check(DriverApi.cuMemcpyDtoH_v2(p, from, Bytes(destination.Length)), nameof(DriverApi.cuMemcpyDtoH_v2), Name,
                (long)Bytes(destination.Length));
        }
    }

    /// <summary>Sets every byte to zero in a stream.</summary>
    public void ClearAsync(CudaStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        using Held held = Hold(), on = stream.Hold();
        nint to = Range(0, Length);
        Context.Check(DriverApi.cuMemsetD8Async(to, 0, (nuint)SizeInBytes, stream.Native), nameof(DriverApi.cuMemsetD8Async), Name,
            SizeInBytes);
    }

    private protected override bool Release(nint native) => Context.Released(DriverApi.cuMemFree_v2(native), nameof(DriverApi.cuMemFree_v2));

    private static nuint Bytes(long count) => (nuint)(count * Unsafe.SizeOf<T>());

    private nint Range(long at, long count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(at);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, Length - at);
        return Native + (nint)(at * Unsafe.SizeOf<T>());
    }
}

/// <summary>
/// Page-locked host memory, so that copies run concurrently with kernels. If the system refuses to lock the memory, it is pageable (see
/// <see cref="IsPinned"/>): copies still work, but are slower.
/// </summary>
/// <typeparam name="T">Type of the elements.</typeparam>
public sealed unsafe class CudaPinnedHostMemory<T> : CudaHandle
    where T : unmanaged
{
    private const nuint PageInBytes = 4096;

    /// <summary>Allocates the elements without initialising them.</summary>
    public CudaPinnedHostMemory(PrimaryContext context, long length)
        : base(context)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(length, 1);
        Length = length;
        context.Enter();
        nint pointer;
        var bytes = (nuint)checked(length * Unsafe.SizeOf<T>());
        CUresult result = DriverApi.cuMemHostAlloc(&pointer, bytes, 0);
        if (result == CUresult.CUDA_ERROR_OUT_OF_MEMORY)
        {
            pointer = (nint)NativeMemory.AlignedAlloc(bytes, PageInBytes);
        }
        else
        {
            context.Check(result, nameof(DriverApi.cuMemHostAlloc), "pinned host memory", (long)bytes);
            IsPinned = true;
        }

        Own(pointer);
    }

    /// <summary>Number of elements.</summary>
    public long Length { get; }

    /// <summary>Whether the memory is page-locked.</summary>
    public bool IsPinned { get; }

    /// <summary>
    /// CUdeviceptr of the first element, for kernels. Pinned memory has the same address on host and device (driver API, "Unified Addressing").
    /// </summary>
    /// <exception cref="InvalidOperationException">The memory is pageable.</exception>
    public nint DevicePointer => IsPinned
        ? Native
        : throw new InvalidOperationException("Kernels reach pinned memory only; the system refused to lock this.");

    /// <summary>A view of some elements, valid until this object is disposed of.</summary>
    public Span<T> Span(long at, int count) => new(PointerTo(at, count), count);

    /// <summary>A view of all elements, of which there must be at most 2³¹ - 1.</summary>
    public Span<T> Span() => Span(0, checked((int)Length));

    internal T* PointerTo(long at, long count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(at);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, Length - at);
        return (T*)Native + at;
    }

    private protected override bool Release(nint native)
    {
        if (IsPinned)
        {
            return Context.Released(DriverApi.cuMemFreeHost(native), nameof(DriverApi.cuMemFreeHost));
        }

        NativeMemory.AlignedFree((void*)native);
        return true;
    }
}
