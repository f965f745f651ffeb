using System.Diagnostics;
using Tiller.Cpu;

namespace Tiller.Bench;

/// <summary>The processors that this process may use.</summary>
internal static unsafe class Processors
{
    /// <summary>Ties the calling thread to the n-th processor. Where the system cannot do that or refuses, the thread stays free.</summary>
    public static void Tie(int processor)
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        ulong* allowed = stackalloc ulong[Affinity.Words];
        for (int i = Affinity.Get(allowed) ? 0 : Affinity.Processors; i < Affinity.Processors; i++)
        {
            if (Affinity.Has(allowed, i) && processor-- == 0)
            {
                Affinity.Set(i);
                return;
            }
        }
    }
}

/// <summary>Threads that are tied to a processor each, begin a task together, and sleep between two tasks.</summary>
internal sealed class PinnedThreads : IDisposable
{
    private readonly Thread[] _threads;
    private readonly Barrier _together;
    private readonly long[] _begins;
    private readonly long[] _ends;
    private Action<int>? _body;
    private int _arrived;

    /// <summary>Starts the threads.</summary>
    public PinnedThreads(int count)
    {
        _begins = new long[count];
        _ends = new long[count];
        _together = new Barrier(count + 1);
        _threads = new Thread[count];
        for (int i = 0; i < count; i++)
        {
            int index = i;
            _threads[i] = new Thread(() => Work(index)) { IsBackground = true, Name = FormattableString.Invariant($"ceiling-{i}") };
            _threads[i].Start();
        }
    }

    /// <summary>Number of threads.</summary>
    public int Count => _threads.Length;

    /// <summary>Calls <paramref name="body"/> with the number of each thread, on all threads at once.</summary>
    /// <returns>The seconds from the first begin to the last end.</returns>
    public double Run(Action<int> body)
    {
        _body = body;
        _arrived = 0;
        _together.SignalAndWait();
        _together.SignalAndWait();
        return Stopwatch.GetElapsedTime(_begins.Min(), _ends.Max()).TotalSeconds;
    }

    public void Dispose()
    {
        _body = null;
        _together.SignalAndWait();
        foreach (var thread in _threads)
        {
            thread.Join();
        }

        _together.Dispose();
    }

    private void Work(int index)
    {
        Processors.Tie(index);
        while (true)
        {
            _together.SignalAndWait();
            if (_body is not { } body)
            {
                return;
            }

            // The barrier wakes its threads one after another.
            Interlocked.Increment(ref _arrived);
            SpinWait.SpinUntil(() => Volatile.Read(ref _arrived) == Count);
            _begins[index] = Stopwatch.GetTimestamp();
            body(index);
            _ends[index] = Stopwatch.GetTimestamp();
            _together.SignalAndWait();
        }
    }
}
