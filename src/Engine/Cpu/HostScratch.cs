using Tiller.Ops;

namespace Tiller.Cpu;

/// <summary>Scratch memory of each thread, for one stage at a time. It grows and is kept.</summary>
internal static unsafe class HostScratch
{
    [ThreadStatic]
    private static HostBuffer? s_caller;

    [ThreadStatic]
    private static HostBuffer? s_part;

    [ThreadStatic]
    private static HostBuffer? s_parts;

    /// <summary>Returns memory for at least <paramref name="count"/> floats, for the caller of a loop and all its parts.</summary>
    public static float* ForCaller(long count) => Take(ref s_caller, count);

    /// <summary>Returns memory for at least <paramref name="count"/> floats, for one part of a loop.</summary>
    public static float* ForPart(long count) => Take(ref s_part, count);

    /// <summary>Returns memory for at least <paramref name="count"/> floats that parts of one loop leave for later ones on the same thread.</summary>
    public static float* ForParts(long count) => Take(ref s_parts, count);

    private static float* Take(ref HostBuffer? slot, long count)
    {
        if (slot is null || slot.SizeInBytes < 4 * count)
        {
            slot?.Dispose();
            slot = new HostBuffer(4 * Math.Max(count, 16 * 1024));
        }

        return (float*)slot.Address;
    }
}
