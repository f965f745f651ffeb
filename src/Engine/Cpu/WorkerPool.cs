using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tiller.Cpu;

/// <summary>
/// A fixed set of threads that share the parts of a loop. The size of the problem determines the parts, never the number of threads, and each part
/// writes its own outputs, so that results do not depend on the number of threads. A caller works on its own loop. Idle threads take parts from all
/// open loops in turn, and sleep if there are none, each on its own processor (<see cref="SleepingPlace"/>). A thread that finds itself on the
/// processor of a loop's caller goes aside: the two could only take turns there, and the one that is put aside within a part holds up the loop. A
/// loop allocates nothing.
/// <para>
/// Each thread has a share of a loop's parts, one after another, and takes the last parts of other shares when its own is empty. So the same thread
/// mostly works on the same memory in every loop of a kind, and reads it in order: processors that have no cache in common need not pass lines
/// to each other.
/// </para>
/// <para>
/// A part may run a loop of its own. While all threads are in parts, such a loop stays on its thread and costs no more than a plain one; else idle
/// threads take parts of it, and so does the caller that waits for the part.
/// </para>
/// </summary>
internal sealed unsafe partial class WorkerPool : IDisposable
{
    private const int OpenLoops = 64;

    // A caller waits by spinning while the last parts may still be running, which takes about as long as parts of its own. If they take much longer,
    // their thread has been put aside, and the caller sleeps too. It keeps its share of the processor for the time when both can run; spinning or
    // yielding would use the share up.
    private const int PartsBeforeSleep = 4;

    private static readonly long s_shortestWait = Ticks(microseconds: 20);
    private static readonly long s_longestWait = Ticks(microseconds: 1000);

    // Longer than the gap between two stages of a token, and little of a share that is lost if the caller has been put aside.
    private static readonly long s_idleWait = Ticks(microseconds: 100);

    // A thread goes aside for 50 µs, which is enough if a processor is idle: a thread that a timer wakes is put there. Where it finds itself beside
    // the caller again, no processor is idle, and it goes aside for twice as long, up to 1.6 ms.
    private const uint ShortestAside = 50;
    private const int LongestAside = 5;

    // A caller may sleep within a part until another one has begun, and its processor is then the best one for the thread that begins that part. So a
    // thread that has gone aside from open loops so often helps the next one wherever it is.
    private const int TimesAside = 16;

    private readonly Loop[] _loops;
    private readonly Thread[] _threads;
    private readonly Lock _gate = new();
    private readonly ManualResetEventSlim _work = new(initialState: false, spinCount: 0);
    private int _openCount;
    private int _asleep;
    private int _callersAsleep;
    private long _wentAside;

    // The pool of a worker's own thread; null in other threads.
    [ThreadStatic]
    private static WorkerPool? t_worksFor;

    // The worker's share of a loop. Callers that are not workers have share 0.
    [ThreadStatic]
    private static int t_share;

    // The loop of which this thread runs a part.
    [ThreadStatic]
    private static Loop? t_within;

    // The processors to which sleeping workers are tied.
    private readonly List<int> _sleepersProcessors = [];

    // Whether each worker is in a loop; the entry of share 0 is not used.
    private readonly Flag[] _busy;

    // Number of loops opened so far by other threads than workers, and the processor of the last one's caller. A worker that has opened a loop within
    // a part looks for work itself, and would be in its own way.
    private long _opened;
    private int _callersProcessor;
    private volatile bool _stopping;

    /// <summary>Starts <paramref name="threads"/> − 1 workers; the caller of a loop is its last thread.</summary>
    /// <param name="threads">Threads for each loop, at least 1; 0 for one for each processor.</param>
    public WorkerPool(int threads = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(threads);
        Threads = threads == 0 ? Environment.ProcessorCount : threads;
        _loops = new Loop[OpenLoops];
        for (int i = 0; i < _loops.Length; i++)
        {
            _loops[i] = new Loop(this);
        }

        _busy = new Flag[Threads];

        _threads = new Thread[Threads - 1];
        for (int i = 0; i < _threads.Length; i++)
        {
            int share = i + 1;
            _threads[i] = new Thread(() => Work(share)) { IsBackground = true, Name = $"tiller-{share}" };
            _threads[i].Start();
        }
    }

    /// <summary>Number of threads that share a loop, including the caller.</summary>
    public int Threads { get; }

    /// <summary>
    /// Called before each part, on the thread that will run it. Tests count parts with it, and cancel at a part of their choice. Null for no call.
    /// Set it only while no loop is open.
    /// </summary>
    internal Action? PartBegins { get; set; }

    /// <summary>Number of workers that found no work for a while and sleep until they are woken.</summary>
    internal int Asleep => Volatile.Read(ref _asleep);

    /// <summary>Number of callers that sleep until the last parts of their loops, which other threads took, have ended.</summary>
    internal int CallersAsleep => Volatile.Read(ref _callersAsleep);

    /// <summary>Number of loops opened by threads that are not workers of this pool.</summary>
    internal long OpenedByCallers => Volatile.Read(ref _opened);

    /// <summary>How often a worker went aside because it was on the processor of a loop's caller.</summary>
    internal long WentAside => Volatile.Read(ref _wentAside);

    /// <summary>
    /// Calls <paramref name="body"/>(context, i) once for every i in [0, parts), on several threads, and waits until all calls have returned.
    /// </summary>
    /// <param name="parts">Number of parts; 1 runs on the caller alone.</param>
    /// <param name="context">A local variable of the caller, which every part reads.</param>
    /// <param name="body">The function; it must not throw.</param>
    /// <param name="cancellation">After cancellation no further part begins, and the call returns without an error.</param>
    internal void Run<T>(int parts, ref T context, delegate*<ref T, int, void> body, CancellationToken cancellation = default)
        where T : struct
    {
        // The context is on the stack of this caller, so that it neither moves nor disappears before the loop ends.
        var within = t_within?.Pool == this ? t_within : null;
        var loop = parts <= 1 || _threads.Length == 0 || (within is not null && !MayBeHelped(within))
            ? null
            : Open(parts, Unsafe.AsPointer(ref context), (delegate*<void*, int, void>)body, cancellation);
        if (loop is null)
        {
            for (int i = 0; i < parts && !cancellation.IsCancellationRequested; i++)
            {
                PartBegins?.Invoke();
                body(ref context, i);
            }

            return;
        }

        long begin = Stopwatch.GetTimestamp();
        int taken = loop.TakeParts(t_worksFor == this ? t_share : 0);
        long wait = PartsBeforeSleep * (Stopwatch.GetTimestamp() - begin) / Math.Max(1, taken);
        Close(loop, Math.Clamp(wait, s_shortestWait, s_longestWait));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // Under the lock: a loop that closes at the same time would reset the event, and the threads would sleep forever.
        lock (_gate)
        {
            if (_stopping)
            {
                return;
            }

            _stopping = true;
            _work.Set();
        }

        foreach (var thread in _threads)
        {
            thread.Join();
        }

        _work.Dispose();
    }

    private static long Ticks(long microseconds) => microseconds * Stopwatch.Frequency / 1_000_000;

    private Loop? Open(int parts, void* context, delegate*<void*, int, void> body, CancellationToken cancellation)
    {
        lock (_gate)
        {
            foreach (var loop in _loops)
            {
                if (loop.TryOpen(parts, context, body, PartBegins, cancellation))
                {
                    if (t_worksFor != this)
                    {
                        _opened++;
                        _callersProcessor = loop.Processor;
                    }

                    if (_openCount++ == 0)
                    {
                        _work.Set();
                    }

                    return loop;
                }
            }
        }

        return null;
    }

    private void Close(Loop loop, long wait)
    {
        lock (_gate)
        {
            loop.StopJoining();
            if (--_openCount == 0 && !_stopping)
            {
                _work.Reset();
            }
        }

        if (!loop.WaitForHelpers(wait))
        {
            Interlocked.Increment(ref _callersAsleep);
            loop.SleepUntilHelpersLeave();
            Interlocked.Decrement(ref _callersAsleep);
        }

        loop.Free();
    }

    // Whether a loop within a part may have helpers: an idle worker, or the caller of the outer loop if it has no part left.
    private bool MayBeHelped(Loop within)
    {
        for (int i = 1; i < _busy.Length; i++)
        {
            if (!Volatile.Read(ref _busy[i].Value))
            {
                return true;
            }
        }

        return within.CallerWaits;
    }

    private void Work(int share)
    {
        (t_worksFor, t_share) = (this, share);
        int next = 0, timesAside = 0, aside = 0;
        long idleSince = 0, seen = 0;
        while (!_stopping)
        {
            var help = Help.NotNeeded;
            for (int i = 0; i < OpenLoops && help == Help.NotNeeded; i++)
            {
                int at = (next + i) % OpenLoops;
                help = _loops[at].TryHelp(share, anywhere: timesAside == TimesAside);
                if (help == Help.Given)
                {
                    next = at + 1;
                }
            }

            // Where the last caller prepares its next loop, a thread is in the way too, as long as loops are opened at all.
            long opened = Volatile.Read(ref _opened);
            bool isBeside = help == Help.NotNeeded && Volatile.Read(ref _callersProcessor) == Thread.GetCurrentProcessorId();
            if (help == Help.Given)
            {
                timesAside = 0;
                aside = Math.Max(0, aside - 1);
                idleSince = 0;
            }
            else if (help == Help.InTheWay || (isBeside && opened != seen))
            {
                timesAside += help == Help.InTheWay ? 1 : 0;
                seen = opened;
                idleSince = 0;
                Interlocked.Increment(ref _wentAside);
                GoAside(ShortestAside << aside);
                aside = Math.Min(aside + 1, LongestAside);
            }
            else if (idleSince == 0)
            {
                idleSince = Stopwatch.GetTimestamp();
            }
            else if (!isBeside && Stopwatch.GetTimestamp() - idleSince < s_idleWait)
            {
                Thread.SpinWait(8);
            }
            else
            {
                SleepUntilWork();
                idleSince = 0;
            }
        }
    }

    // Two that are tied to one processor, or one that is tied to the caller's, could only take turns there.
    private void SleepUntilWork()
    {
        int processor = Thread.GetCurrentProcessorId();
        bool isAlone;
        lock (_gate)
        {
            isAlone = processor != _callersProcessor && !_sleepersProcessors.Contains(processor);
            if (isAlone)
            {
                _sleepersProcessors.Add(processor);
            }
        }

        var place = default(SleepingPlace);
        if (isAlone)
        {
            place.Tie(processor);
        }

        Interlocked.Increment(ref _asleep);
        _work.Wait();
        Interlocked.Decrement(ref _asleep);
        if (isAlone)
        {
            place.Untie();
            lock (_gate)
            {
                _sleepersProcessors.Remove(processor);
            }
        }
    }

    private static void GoAside(uint microseconds)
    {
        if (OperatingSystem.IsWindows())
        {
            Thread.Sleep(1);
        }
        else
        {
            _ = Sleep(microseconds);
        }
    }

    [LibraryImport("libc", EntryPoint = "usleep")]
    private static partial int Sleep(uint microseconds);

    private enum Help
    {
        /// <summary>The loop is not open, or all its parts are taken.</summary>
        NotNeeded,

        /// <summary>The thread took parts of the loop.</summary>
        Given,

        /// <summary>The loop has parts left, but the thread is on its caller's processor.</summary>
        InTheWay,
    }

    private sealed class Loop
    {
        private const int ClosedBit = 1 << 30;
        private const int SleepingBit = 1 << 29;

        private readonly object _left = new();
        private readonly Share[] _shares;

        private delegate*<void*, int, void> _body;
        private void* _context;
        private Action? _partBegins;
        private CancellationToken _cancellation;
        private bool _inUse;
        private bool _callerWaits;

        // Number of helpers in the loop, plus ClosedBit while none may join, plus SleepingBit while the caller sleeps until the last one leaves.
        private int _helpers = ClosedBit;

        public Loop(WorkerPool pool)
        {
            Pool = pool;
            _shares = new Share[pool.Threads];
        }

        public WorkerPool Pool { get; }

        /// <summary>The loop in a part of which this one was opened.</summary>
        public Loop? Within { get; private set; }

        /// <summary>Whether the caller has no part left, and spins until its helpers leave.</summary>
        public bool CallerWaits => Volatile.Read(ref _callerWaits);

        /// <summary>The processor on which the caller opened the loop.</summary>
        public int Processor { get; private set; }

        public bool TryOpen(int parts, void* context, delegate*<void*, int, void> body, Action? partBegins, CancellationToken cancellation)
        {
            if (_inUse)
            {
                return false;
            }

            _inUse = true;
            _body = body;
            _context = context;
            _partBegins = partBegins;
            _cancellation = cancellation;
            Processor = Thread.GetCurrentProcessorId();
            Within = t_within;
            int begin = 0;
            for (int i = 0; i < _shares.Length; i++)
            {
                int end = (int)((i + 1L) * parts / _shares.Length);
                _shares[i].Set(begin, end);
                begin = end;
            }

            Interlocked.And(ref _helpers, ~ClosedBit);
            return true;
        }

        /// <summary>
        /// Takes parts of the thread's own share in order, then the last ones of other shares, until none is left. Returns how many it took.
        /// </summary>
        public int TakeParts(int share)
        {
            int taken = 0;
            var within = t_within;
            t_within = this;
            while (!_cancellation.IsCancellationRequested && TryTake(share, out int part))
            {
                _partBegins?.Invoke();
                _body(_context, part);
                taken++;
            }

            t_within = within;
            return taken;
        }

        /// <summary>
        /// Takes parts until none is left, if the loop is open and, unless it may be <paramref name="anywhere"/>, its caller elsewhere.
        /// </summary>
        public Help TryHelp(int share, bool anywhere)
        {
            int helpers = Volatile.Read(ref _helpers);
            while ((helpers & ClosedBit) == 0 && HasParts(share))
            {
                if (!anywhere && Processor == Thread.GetCurrentProcessorId())
                {
                    return Help.InTheWay;
                }

                int before = Interlocked.CompareExchange(ref _helpers, helpers + 1, helpers);
                if (before == helpers)
                {
                    bool wasBusy = Pool._busy[share].Value;
                    Volatile.Write(ref Pool._busy[share].Value, true);
                    TakeParts(share);
                    Volatile.Write(ref Pool._busy[share].Value, wasBusy);
                    if (Interlocked.Decrement(ref _helpers) == (ClosedBit | SleepingBit))
                    {
                        lock (_left)
                        {
                            Monitor.PulseAll(_left);
                        }
                    }

                    return Help.Given;
                }

                helpers = before;
            }

            return Help.NotNeeded;
        }

        public void StopJoining()
        {
            int before = Interlocked.Or(ref _helpers, ClosedBit);
            Debug.Assert((before & ClosedBit) == 0, "a loop is closed once");
        }

        /// <summary>
        /// Spins until the helpers have left, for the given number of <see cref="Stopwatch"/>'s ticks, and takes parts of loops that they open within
        /// theirs. Returns whether they have left.
        /// </summary>
        public bool WaitForHelpers(long wait)
        {
            if (Volatile.Read(ref _helpers) == ClosedBit)
            {
                return true;
            }

            Volatile.Write(ref _callerWaits, true);
            int share = t_worksFor == Pool ? t_share : 0;
            long begin = Stopwatch.GetTimestamp();
            while (Volatile.Read(ref _helpers) != ClosedBit)
            {
                // Mostly no other loop is open.
                for (int i = 0; Volatile.Read(ref Pool._openCount) > 0 && i < OpenLoops; i++)
                {
                    var loop = Pool._loops[i];
                    if (loop.Within == this && loop.TryHelp(share, anywhere: true) == Help.Given)
                    {
                        begin = Stopwatch.GetTimestamp();
                    }
                }

                if (Stopwatch.GetTimestamp() - begin > wait)
                {
                    Volatile.Write(ref _callerWaits, false);
                    return false;
                }

                Thread.SpinWait(1);
            }

            return true;
        }

        public void SleepUntilHelpersLeave()
        {
            Interlocked.Or(ref _helpers, SleepingBit);
            lock (_left)
            {
                while (Volatile.Read(ref _helpers) != (ClosedBit | SleepingBit))
                {
                    Monitor.Wait(_left);
                }
            }

            Interlocked.And(ref _helpers, ~SleepingBit);
        }

        public void Free()
        {
            _cancellation = default;
            Within = null;
            _callerWaits = false;
            Volatile.Write(ref _inUse, false);
        }

        private bool TryTake(int share, out int part)
        {
            if (_shares[share].TryTakeFirst(out part))
            {
                return true;
            }

            for (int i = 1; i < _shares.Length; i++)
            {
                if (_shares[(share + i) % _shares.Length].TryTakeLast(out part))
                {
                    return true;
                }
            }

            return false;
        }

        private bool HasParts(int share)
        {
            for (int i = 0; i < _shares.Length; i++)
            {
                if (_shares[(share + i) % _shares.Length].HasParts)
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>A flag of a thread, on a line of the cache (and its neighbour) of its own.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 128)]
    private struct Flag
    {
        [FieldOffset(64)]
        public bool Value;
    }

    /// <summary>Parts that are not taken yet, on a line of the cache (and its neighbour) of their own.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 128)]
    private struct Share
    {
        // The first part, and in the upper half the one behind the last.
        [FieldOffset(64)]
        private long _parts;

        public readonly bool HasParts => Volatile.Read(in _parts) is var parts && (int)parts < (int)(parts >> 32);

        public void Set(int begin, int end) => Volatile.Write(ref _parts, ((long)end << 32) | (uint)begin);

        public bool TryTakeFirst(out int part)
        {
            long parts = Volatile.Read(ref _parts), before;
            while ((part = (int)parts) < (int)(parts >> 32))
            {
                if ((before = Interlocked.CompareExchange(ref _parts, parts + 1, parts)) == parts)
                {
                    return true;
                }

                parts = before;
            }

            return false;
        }

        public bool TryTakeLast(out int part)
        {
            long parts = Volatile.Read(ref _parts), before;
            while ((int)parts <= (part = (int)(parts >> 32) - 1))
            {
                if ((before = Interlocked.CompareExchange(ref _parts, parts - (1L << 32), parts)) == parts)
                {
                    return true;
                }

                parts = before;
            }

            return false;
        }
    }
}
