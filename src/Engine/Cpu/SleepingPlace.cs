using System.Runtime.InteropServices;

namespace Tiller.Cpu;

/// <summary>
/// The processor of a thread that goes to sleep. A thread that another one wakes is often put on the processor of the one that wakes it, though
/// others are idle: Linux takes the idle processors of a virtual machine for taken. There it waits for its turn, up to some milliseconds. So a thread
/// is tied to its own processor while it sleeps. Where the system cannot do that or refuses, the thread stays free.
/// </summary>
internal unsafe ref struct SleepingPlace
{
    private fixed ulong _before[Affinity.Words];
    private int _processor;
    private bool _isTied;

    /// <summary>Ties the calling thread to a processor, if it may run there.</summary>
    public void Tie(int processor)
    {
        (_processor, _isTied) = (processor, false);
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        fixed (ulong* before = _before)
        {
            ulong* one = stackalloc ulong[Affinity.Words];
            new Span<ulong>(one, Affinity.Words).Clear();
            if (processor < 0 || processor >= Affinity.Words * Affinity.Bits || !Affinity.Get(before))
            {
                return;
            }

            one[processor / Affinity.Bits] = 1ul << (processor % Affinity.Bits);
            _isTied = (before[processor / Affinity.Bits] & one[processor / Affinity.Bits]) != 0 && Affinity.Set(one);
        }
    }

    /// <summary>Unties the thread, unless somebody else has moved it meanwhile.</summary>
    public void Untie()
    {
        ulong* now = stackalloc ulong[Affinity.Words];
        if (!_isTied || !Affinity.Get(now))
        {
            return;
        }

        now[_processor / Affinity.Bits] ^= 1ul << (_processor % Affinity.Bits);
        if (new ReadOnlySpan<ulong>(now, Affinity.Words).IndexOfAnyExcept(0ul) < 0)
        {
            fixed (ulong* before = _before)
            {
                Affinity.Set(before);
            }
        }
    }
}

/// <summary>The processors on which the calling thread may run, as a set of bits. Linux only.</summary>
internal static unsafe partial class Affinity
{
    /// <summary>Number of words of a set.</summary>
    public const int Words = 16;

    /// <summary>Number of bits in a word.</summary>
    public const int Bits = 64;

    /// <summary>Reads the set. Returns whether it could be read.</summary>
    public static bool Get(ulong* set)
    {
        new Span<ulong>(set, Words).Clear();
        return GetAffinity(0, Words * sizeof(ulong), set) >= 0;
    }

    /// <summary>Changes the set. Returns whether it could be changed.</summary>
    public static bool Set(ulong* set) => SetAffinity(0, Words * sizeof(ulong), set) == 0;

    [LibraryImport("libc", EntryPoint = "sched_getaffinity")]
    private static partial int GetAffinity(int thread, nint size, ulong* set);

    [LibraryImport("libc", EntryPoint = "sched_setaffinity")]
    private static partial int SetAffinity(int thread, nint size, ulong* set);
}
