using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace Tiller.Kernels;

/// <summary>View of values one after another on the device. Views do not own their memory. <c>default</c> is "not there", and of length 0.</summary>
/// <typeparam name="T">A value, as it lies in memory.</typeparam>
/// <param name="Address">First value, on the device; 0 when absent.</param>
/// <param name="Length">How many there are.</param>
internal readonly record struct DeviceSpan<T>(nint Address, long Length)
    where T : unmanaged
{
    /// <summary>Whether there is no memory behind the view.</summary>
    public bool IsAbsent => Address == 0;

    /// <summary>Bytes in all.</summary>
    public long SizeInBytes => Unsafe.SizeOf<T>() * Length;

    /// <summary>The same memory seen as values [begin, begin + count).</summary>
    public DeviceSpan<T> Slice(long begin, long count)
    {
        Debug.Assert(begin >= 0 && count >= 0 && begin + count <= Length, "slice outside the view");
        return new(Address + (nint)(Unsafe.SizeOf<T>() * begin), count);
    }
}
