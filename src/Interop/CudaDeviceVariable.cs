using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>An array in device memory.</summary>
/// <typeparam name="T">Its element.</typeparam>
public sealed unsafe class CudaDeviceVariable<T> : CudaHandle
    where T : unmanaged
{
    /// <summary>Allocates; the elements hold anything.</summary>
    /// <param name="context">Its context.</param>
    /// <param name="length">Elements, at least one.</param>
    /// <param name="name">What errors call it, as a tensor's name.</param>
    /// <exception cref="CudaOutOfMemoryException">There is not so much memory; carries need, free and total.</exception>
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

    /// <summary>Elements.</summary>
    public long Length { get; }

    /// <summary>What errors call it.</summary>
    public string? Name { get; }

    /// <summary>Bytes.</summary>
    public long SizeInBytes => checked(Length * Unsafe.SizeOf<T>());

    /// <summary>CUdeviceptr of the first element.</summary>
    public nint DevicePointer => Native;

    /// <summary>CUdeviceptr of an element; <see cref="Length"/> gives the end.</summary>
    public nint PointerTo(long index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(index, Length);
        return Native + (nint)(index * Unsafe.SizeOf<T>());
    }

    /// <summary>Copies host to device, from <paramref name="at"/> on, and waits.</summary>
    public void CopyToDevice(ReadOnlySpan<T> source, long at = 0)
    {
        using var held = Hold();
        nint to = Range(at, source.Length);
        fixed (T* p = source)
        {
            Context.Check(DriverApi.cuMemcpyHtoD_v2(to, p, Bytes(source.Length)),
            nameof(DriverApi.cuMemcpyHtoD_v2), Name, (long)Bytes(source.Length));
        }

        // From pageable memory it returns once the source has been read, and our streams do not wait for the default one (CUDA driver API, "API
        // synchronization behavior").
        Context.Check(DriverApi.cuStreamSynchronize(0), nameof(DriverApi.cuStreamSynchronize), Name);
    }

    /// <summary>Copies device to host, from <paramref name="at"/> on, and waits.</summary>
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
/// Page-locked host memory, from and to which copies run beside kernels. If the system refuses to lock so much, the memory is pageable
/// (<see cref="IsPinned"/> says so): copies work as before, but slower.
/// </summary>
/// <typeparam name="T">Its element.</typeparam>
public sealed unsafe class CudaPinnedHostMemory<T> : CudaHandle
    where T : unmanaged
{
    private const nuint PageInBytes = 4096;

    /// <summary>Allocates; the elements hold anything.</summary>
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

    /// <summary>Elements.</summary>
    public long Length { get; }

    /// <summary>Whether the memory is page-locked.</summary>
    public bool IsPinned { get; }

    /// <summary>
    /// CUdeviceptr of the first element, for kernels: pinned memory has one address for host and device (driver API, "Unified Addressing").
    /// </summary>
    /// <exception cref="InvalidOperationException">The memory is pageable.</exception>
    public nint DevicePointer => IsPinned
        ? Native
        : throw new InvalidOperationException("Kernels reach pinned memory only; the system refused to lock this.");

    /// <summary>A view; valid until this is disposed.</summary>
    public Span<T> Span(long at, int count) => new(PointerTo(at, count), count);

    /// <summary>A view of all of it, if it has at most 2³¹ - 1 elements.</summary>
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
