using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace Tiller.Cpu;

/// <summary>
/// A fixed set of threads that share the parts of a loop. The size of the problem determines the parts, never the number of threads, and each part
/// writes its own outputs, so that results do not depend on the number of threads. A caller works on its own loop. Idle threads take parts from all
/// open loops in turn, and sleep if there are none. A loop allocates nothing.
/// </summary>
internal sealed unsafe class WorkerPool : IDisposable
{
    private const int OpenLoops = 64;

    // Long enough for the gap between two stages of a token, short enough to cost little when idle.
    private const int SpinsBeforeSleep = 2000;

    private readonly Loop[] _loops = new Loop[OpenLoops];
    private readonly Thread[] _threads;
    private readonly Lock _gate = new();
    private readonly ManualResetEventSlim _work = new(initialState: false, spinCount: 0);
    private int _openCount;
    private int _asleep;
    private volatile bool _stopping;

    /// <summary>Starts <paramref name="threads"/> − 1 workers; the caller of a loop is its last thread.</summary>
    /// <param name="threads">Threads for each loop, at least 1; 0 for one for each processor.</param>
    public WorkerPool(int threads = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(threads);
        Threads = threads == 0 ? Environment.ProcessorCount : threads;
        for (int i = 0; i < _loops.Length; i++)
        {
            _loops[i] = new Loop();
        }

        _threads = new Thread[Threads - 1];
        for (int i = 0; i < _threads.Length; i++)
        {
            _threads[i] = new Thread(Work) { IsBackground = true, Name = $"tiller-{i + 1}" };
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
        var loop = parts <= 1 || _threads.Length == 0
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

        loop.TakeParts();
        Close(loop);
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

    private Loop? Open(int parts, void* context, delegate*<void*, int, void> body, CancellationToken cancellation)
    {
        lock (_gate)
        {
            foreach (var loop in _loops)
            {
                if (loop.TryOpen(parts, context, body, PartBegins, cancellation))
                {
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

    private void Close(Loop loop)
    {
        lock (_gate)
        {
            loop.StopJoining();
            if (--_openCount == 0 && !_stopping)
            {
                _work.Reset();
            }
        }

        loop.WaitForHelpers();
    }

    private void Work()
    {
        int idle = 0, next = 0;
        while (!_stopping)
        {
            bool helped = false;
            for (int i = 0; i < OpenLoops && !helped; i++)
            {
                int at = (next + i) % OpenLoops;
                if (helped = _loops[at].Help())
                {
                    next = at + 1;
                }
            }

            if (helped)
            {
                idle = 0;
            }
            else if (++idle < SpinsBeforeSleep)
            {
                Thread.SpinWait(8);
            }
            else
            {
                Interlocked.Increment(ref _asleep);
                _work.Wait();
                Interlocked.Decrement(ref _asleep);
                idle = 0;
            }
        }
    }

    private sealed class Loop
    {
        private const int ClosedBit = 1 << 30;

        private delegate*<void*, int, void> _body;
        private void* _context;
        private Action? _partBegins;
        private CancellationToken _cancellation;
        private int _parts;
        private int _next;
        private bool _inUse;

        // Number of helpers in the loop, plus ClosedBit while none may join.
        private int _helpers = ClosedBit;

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
            _parts = parts;
            Volatile.Write(ref _next, 0);
            Interlocked.And(ref _helpers, ~ClosedBit);
            return true;
        }

        public void TakeParts()
        {
            int part;
            while (!_cancellation.IsCancellationRequested && (part = Interlocked.Increment(ref _next) - 1) < _parts)
            {
                _partBegins?.Invoke();
                _body(_context, part);
            }
        }

        public bool Help()
        {
            if ((Volatile.Read(ref _helpers) & ClosedBit) != 0 || Volatile.Read(ref _next) >= _parts)
            {
                return false;
            }

            bool joined = (Interlocked.Increment(ref _helpers) & ClosedBit) == 0;
            if (joined)
            {
                TakeParts();
            }

            Interlocked.Decrement(ref _helpers);
            return joined;
        }

        public void StopJoining()
        {
            int before = Interlocked.Or(ref _helpers, ClosedBit);
            Debug.Assert((before & ClosedBit) == 0, "a loop is closed once");
        }

        public void WaitForHelpers()
        {
            var spinner = default(SpinWait);
            while (Volatile.Read(ref _helpers) != ClosedBit)
            {
                spinner.SpinOnce(sleep1Threshold: -1);
            }

            _cancellation = default;
            _inUse = false;
        }
    }
}
