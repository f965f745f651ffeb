namespace Tiller.Cpu;

/// <summary>
/// The processor of a thread that goes to sleep. A thread that another one wakes may be put on the processor of the one that wakes it, though others
/// are idle, and waits there for its turn, up to some milliseconds. So a thread is tied to its own processor while it sleeps. Where the system cannot
/// do that or refuses, the thread stays free.
/// </summary>
internal unsafe ref struct SleepingPlace
{
    private fixed ulong _before[Affinity.Words];
    private int _processor;
    private bool _isTied;

    /// <summary>Ties the calling thread to a processor, if it may run there.</summary>
    public void Tie(int processor)
    {
        fixed (ulong* before = _before)
        {
            _processor = processor;
            _isTied = OperatingSystem.IsLinux() && Affinity.Get(before) && Affinity.Has(before, processor) && Affinity.Set(processor);
        }
    }

    /// <summary>Unties the thread, unless somebody else has moved it meanwhile.</summary>
    public void Untie()
    {
        ulong* now = stackalloc ulong[Affinity.Words];
        if (_isTied && Affinity.Get(now) && Affinity.Has(now, _processor) && Affinity.Count(now) == 1)
        {
            fixed (ulong* before = _before)
            {
                Affinity.Set(before);
            }
        }
    }
}
