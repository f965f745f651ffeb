using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Tiller.Bench;

/// <summary>A way to read memory.</summary>
/// <param name="Streams">Number of places that are read at once, 1 or 4: a linear map reads several rows of weights.</param>
/// <param name="Ahead">Distance in bytes of what is asked for ahead; 0 for nothing.</param>
/// <param name="IsWide">Whether the vectors have 512 bits instead of 256.</param>
internal readonly record struct ReadKernel(int Streams, int Ahead, bool IsWide)
{
    /// <summary>All ways that this processor has.</summary>
    public static IReadOnlyList<ReadKernel> All { get; } =
    [
        .. from streams in new[] { 1, 4 } from ahead in new[] { 0, 1024, 4096 } select new ReadKernel(streams, ahead, IsWide: false),
        .. Avx512F.IsSupported ? new[] { new ReadKernel(1, 0, IsWide: true), new ReadKernel(4, 0, IsWide: true) } : [],
    ];

    /// <summary>Reads <paramref name="count"/> bytes, a multiple of 1024, and returns a number that depends on all of them.</summary>
    public unsafe float Read(byte* p, nint count)
    {
        nint step = count / Streams;
        return IsWide ? Wide(p, step, Streams) : Narrow(p, step, Streams, Ahead);
    }

    // Four blocks of 64 bytes at a time: one in each of four streams, or neighbours in a single one.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static unsafe float Narrow(byte* p, nint count, int streams, nint ahead)
    {
        nint next = streams == 1 ? 64 : count, advance = streams == 1 ? 256 : 64;
        byte* q = p + next, r = q + next, s = r + next;
        Vector256<uint> a = default, b = default, c = default, d = default, e = default, f = default, g = default, h = default;
        bool asks = ahead > 0 && Sse.IsSupported;
        for (nint i = 0; i < count; i += advance)
        {
            if (asks)
            {
                Sse.Prefetch1(p + i + ahead);
                Sse.Prefetch1(q + i + ahead);
                Sse.Prefetch1(r + i + ahead);
                Sse.Prefetch1(s + i + ahead);
            }

            a |= Vector256.Load((uint*)(p + i));
            b |= Vector256.Load((uint*)(p + i + 32));
            c |= Vector256.Load((uint*)(q + i));
            d |= Vector256.Load((uint*)(q + i + 32));
            e |= Vector256.Load((uint*)(r + i));
            f |= Vector256.Load((uint*)(r + i + 32));
            g |= Vector256.Load((uint*)(s + i));
            h |= Vector256.Load((uint*)(s + i + 32));
        }

        return Vector256.Sum((a | b | c | d | e | f | g | h) & Vector256.Create(1u));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static unsafe float Wide(byte* p, nint count, int streams)
    {
        nint next = streams == 1 ? 64 : count, advance = streams == 1 ? 256 : 64;
        byte* q = p + next, r = q + next, s = r + next;
        Vector512<uint> a = default, b = default, c = default, d = default;
        for (nint i = 0; i < count; i += advance)
        {
            a |= Vector512.Load((uint*)(p + i));
            b |= Vector512.Load((uint*)(q + i));
            c |= Vector512.Load((uint*)(r + i));
            d |= Vector512.Load((uint*)(s + i));
        }

        return Vector512.Sum((a | b | c | d) & Vector512.Create(1u));
    }
}
