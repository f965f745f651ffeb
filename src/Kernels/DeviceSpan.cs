using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace Tiller.Kernels;

/// <summary>View of consecutive values on the device. A view does not own its memory. <c>default</c> is an absent view of length 0.</summary>
/// <typeparam name="T">Type of a value, with its layout in memory.</typeparam>
/// <param name="Address">Address of the first value, on the device; 0 if absent.</param>
/// <param name="Length">Number of values.</param>
internal readonly record struct DeviceSpan<T>(nint Address, long Length)
    where T : unmanaged
{
    /// <summary>Whether the view is absent, without memory.</summary>
    public bool IsAbsent => Address == 0;

    /// <summary>Size of all values in bytes.</summary>
    public long SizeInBytes => Unsafe.SizeOf<T>() * Length;

    /// <summary>A view of the values [begin, begin + count).</summary>
    public DeviceSpan<T> Slice(long begin, long count)
    {
        Debug.Assert(begin >= 0 && count >= 0 && begin + count <= Length, "slice outside the view");
        return new(Address + (nint)(Unsafe.SizeOf<T>() * begin), count);
    }
}
