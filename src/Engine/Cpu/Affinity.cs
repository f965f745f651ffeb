using System.Numerics;
using System.Runtime.InteropServices;

namespace Tiller.Cpu;

/// <summary>The processors on which the calling thread may run, as a set of bits. Linux only.</summary>
internal static unsafe partial class Affinity
{
    /// <summary>Number of words of a set.</summary>
    public const int Words = 16;

    private const int Bits = 64;

    /// <summary>Number of processors that a set can name.</summary>
    public const int Processors = Words * Bits;

    /// <summary>Reads the set. Returns whether it could be read.</summary>
    public static bool Get(ulong* set)
    {
        new Span<ulong>(set, Words).Clear();
        return GetAffinity(0, Words * sizeof(ulong), set) >= 0;
    }

    /// <summary>Changes the set. Returns whether it could be changed.</summary>
    public static bool Set(ulong* set) => SetAffinity(0, Words * sizeof(ulong), set) == 0;

    /// <summary>Changes the set to one processor. Returns whether it could be changed.</summary>
    public static bool Set(int processor)
    {
        ulong* one = stackalloc ulong[Words];
        new Span<ulong>(one, Words).Clear();
        one[processor / Bits] = 1ul << (processor % Bits);
        return Set(one);
    }

    /// <summary>Whether a processor is in a set.</summary>
    public static bool Has(ulong* set, int processor) =>
        processor is >= 0 and < Processors && (set[processor / Bits] & (1ul << (processor % Bits))) != 0;

    /// <summary>Number of processors in a set.</summary>
    public static int Count(ulong* set)
    {
        int count = 0;
        for (int i = 0; i < Words; i++)
        {
            count += BitOperations.PopCount(set[i]);
        }

        return count;
    }

    [LibraryImport("libc", EntryPoint = "sched_getaffinity")]
    private static partial int GetAffinity(int thread, nint size, ulong* set);

    [LibraryImport("libc", EntryPoint = "sched_setaffinity")]
    private static partial int SetAffinity(int thread, nint size, ulong* set);
}
