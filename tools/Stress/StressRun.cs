using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Bench;
using Tiller.Decode;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Stress;

/// <summary>The counts of a stress run so far.</summary>
/// <param name="Texts">Number of texts decoded to their end.</param>
/// <param name="Calls">Number of calls whose logits were compared: prompts and steps, alone or in batches.</param>
/// <param name="BatchedCalls">Number of these that were steps in a batch.</param>
/// <param name="Cancelled">Number of calls that were cancelled before their end.</param>
/// <param name="Resumed">Number of cancelled calls that were repeated; the sessions of the others were abandoned.</param>
/// <param name="Failures">Descriptions of failures; empty if there were none.</param>
internal sealed record StressCounts(long Texts, long Calls, long BatchedCalls, long Cancelled, long Resumed, IReadOnlyList<string> Failures);

/// <summary>The results of a stress run.</summary>
internal sealed record StressReport
{
    public required int Sessions { get; init; }

    public required double Seconds { get; init; }

    /// <summary>The counts and the failures, including failures of the checks below.</summary>
    public required StressCounts Counts { get; init; }

    /// <summary>
    /// The minimum of the memory in use during the second quarter of the run: resident memory outside the runtime's heap plus live objects in it. It
    /// is the minimum, because several long sessions at once take more memory than a leak would.
    /// </summary>
    public required long UsedEarlyInBytes { get; init; }

    /// <summary>The same minimum in the last quarter.</summary>
    public required long UsedLateInBytes { get; init; }

    /// <summary>Size of the engine's buffers held after the run, minus those before it.</summary>
    public required long HeldInBytes { get; init; }

    /// <summary>Whether a call never returned.</summary>
    public required bool Hung { get; init; }
}

/// <summary>
/// Runs many sessions at once on one model, cancelled and restarted at random. Every logit must equal that of a session alone, bit for bit; nothing
/// may leak or hang.
/// </summary>
internal sealed unsafe class StressRun
{
    /// <summary>Tolerance in bytes for buffers held after a run, because scratch memory of the pool's threads may have grown.</summary>
    internal const long MaxHeldInBytes = 32L << 20;
    // The memory that malloc keeps varies by some 60 MiB in a run of seconds, whereas a leak grows with the texts.
    private const long MaxGrowthInBytes = 128L << 20;

    private const int MaxFailures = 20;

    // One worker in this number steps several sessions as a batch. Up to the given number of rows, a batch's bits are those of its sessions alone.
    private const int BatchEvery = 8;
    private const int MaxInBatch = 8;

    private static readonly TimeSpan s_betweenMeasurements = TimeSpan.FromMilliseconds(200);

    private readonly LanguageModel _model;
    private readonly IReadOnlyList<StressText> _texts;
    private readonly double _textMs;
    private readonly Worker[] _workers;
    private readonly List<string> _failures = [];
    private volatile bool _stop;

    private StressRun(LanguageModel model, IReadOnlyList<StressText> texts, double textMs, int sessions)
    {
        (_model, _texts, _textMs) = (model, texts, textMs);
        _workers = [.. Enumerable.Range(0, sessions).Select(i => new Worker(i))];
    }

    /// <summary>Creates a random model and runs sessions on it.</summary>
    /// <param name="request">Shape, sessions and minutes.</param>
    /// <param name="cancellationToken">Ends the run.</param>
    /// <param name="progress">As in the other overload.</param>
    /// <exception cref="DeviceMemoryException">There is not enough memory.</exception>
    public static StressReport Run(StressRequest request, CancellationToken cancellationToken, Func<StressCounts, double>? progress = null)
    {
        var c = request.Shape.Config;
        using var machine = Machine.Open(request.OnMachine);
        request = request with { Device = machine.Device };
        double cachesAndScratch = request.Sessions * ((2.0 * new Counts(c, request.Type).CacheBytes(400)) + (300.0 * Activations.RowSizeInBytes(c)));
        var model = RandomParts.Model(request.OnMachine, machine, cachesAndScratch);
        var texts = StressTexts.Build(model, out double textMs, cancellationToken);
        var report = Run(model, texts, textMs * request.Sessions / request.OnMachine.ThreadCount, request, cancellationToken, progress);
        if (!report.Hung)
        {
            // A hanging thread still reads the weights, so they are not freed.
            model.Dispose();
        }

        return report;
    }

    /// <summary>Runs sessions on given texts.</summary>
    /// <param name="model">The model.</param>
    /// <param name="texts">Texts with their results from sessions alone.</param>
    /// <param name="textMs">Approximate time of a text among the others, from which random moments of cancellation are drawn.</param>
    /// <param name="request">Sessions and minutes.</param>
    /// <param name="cancellationToken">Ends the run.</param>
    /// <param name="progress">
    /// Returns the progress of the run from 0 to 1, at which it ends; called repeatedly. Null for the elapsed share of the minutes, but at least
    /// until a call was compared.
    /// </param>
    public static StressReport Run(
        LanguageModel model, IReadOnlyList<StressText> texts, double textMs, StressRequest request, CancellationToken cancellationToken,
        Func<StressCounts, double>? progress = null)
    {
        var bench = new StressRun(model, texts, textMs, request.Sessions);
        long held = Held();
        var clock = Stopwatch.StartNew();
        progress ??= counts => counts.Calls > 0 ? clock.Elapsed / TimeSpan.FromMinutes(request.Minutes) : 0;
        var (early, late) = bench.Storm(() => progress(bench.Counts()), cancellationToken);
        double seconds = clock.Elapsed.TotalSeconds;
        held = Held() - held;
        bool hung = bench._workers.Any(w => w.Thread!.IsAlive);
        foreach (var worker in bench._workers.Where(w => !w.Thread!.IsAlive))
        {
            worker.Dispose();
        }

        bench.CheckMemory(late - early, held);
        return new StressReport
        {
            Sessions = request.Sessions,
            Seconds = seconds,
            Counts = bench.Counts(),
            UsedEarlyInBytes = early,
            UsedLateInBytes = late,
            HeldInBytes = held,
            Hung = hung,
        };
    }

    private StressCounts Counts()
    {
        long Total(Func<Worker, long> count) => _workers.Sum(count);
        lock (_failures)
        {
            return new StressCounts(
                Total(w => w.Texts), Total(w => w.Calls), Total(w => w.BatchedCalls), Total(w => w.Cancelled), Total(w => w.Resumed), [.. _failures]);
        }
    }

    private void CheckMemory(long growth, long held)
    {
        if (growth > MaxGrowthInBytes)
        {
            Fail($"the memory in use grew by {growth >> 20} MiB between the second and the last quarter of the run");
        }

        if (held > MaxHeldInBytes)
        {
            Fail($"{held >> 20} MiB of buffers are still held after all sessions were disposed");
        }
    }

    // Scratch memory of ended threads is freed by the finalizer.
    private static long Held()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        return HostBuffer.LiveInBytes;
    }

    // The runtime commits more heap than it uses, so only live objects count. Freed memory that malloc keeps is returned to the system first.
    private static long Used()
    {
        GC.Collect();
        if (NativeLibrary.TryGetExport(NativeLibrary.GetMainProgramHandle(), "malloc_trim", out nint trim))
        {
            _ = ((delegate* unmanaged<nuint, int>)trim)(0);
        }

        return Environment.WorkingSet - GC.GetGCMemoryInfo(GCKind.FullBlocking).TotalCommittedBytes + GC.GetTotalMemory(forceFullCollection: false);
    }

    private (long Early, long Late) Storm(Func<double> progress, CancellationToken cancellationToken)
    {
        foreach (var worker in _workers)
        {
            worker.Thread = new Thread(() => Work(worker)) { IsBackground = true, Name = $"stress-{worker.Number}" };
            worker.Thread.Start();
        }

        long early = long.MaxValue, late = long.MaxValue, measured = 0;
        for (double done = 0; done < 1 && !cancellationToken.IsCancellationRequested && !Stuck(); done = progress())
        {
            Thread.Sleep(20);
            if (done >= 0.25 && Stopwatch.GetElapsedTime(measured) >= s_betweenMeasurements)
            {
                early = done < 0.5 ? Math.Min(early, Used()) : early;
                late = done > 0.75 ? Math.Min(late, Used()) : late;
                measured = Stopwatch.GetTimestamp();
            }
        }

        late = Math.Min(late, Used());
        _stop = true;
        while (_workers.Any(w => w.Thread!.IsAlive) && !Stuck())
        {
            Thread.Sleep(20);
        }

        cancellationToken.ThrowIfCancellationRequested();
        return (Math.Min(early, late), late);
    }

    /// <summary>The watchdog: whether a live worker has not returned from a call for far longer than a text takes.</summary>
    private bool Stuck()
    {
        var limit = TimeSpan.FromMilliseconds(Math.Max(60_000, 20 * _textMs));
        foreach (var worker in _workers.Where(w => w.Thread!.IsAlive && Stopwatch.GetElapsedTime(Interlocked.Read(ref w.At)) > limit))
        {
            Fail($"worker {worker.Number} hangs: no call came back for {limit.TotalSeconds:F0} s");
            return true;
        }

        return false;
    }

    private void Fail(string what)
    {
        lock (_failures)
        {
            // Only the first failure of a kind is recorded.
            if (_failures.Count < MaxFailures && !_failures.Contains(what))
            {
                _failures.Add(what);
            }
        }
    }

    private void Work(Worker worker)
    {
        try
        {
            while (!_stop)
            {
                if (worker.Number % BatchEvery == BatchEvery - 1)
                {
                    DecodeTogether(worker);
                }
                else
                {
                    Decode(worker);
                }
            }
        }
        catch (Exception e)
        {
            Fail($"worker {worker.Number}: {e.GetType().Name}: {e.Message}");
        }
    }

    private void Decode(Worker worker)
    {
        worker.Plan(_textMs);
        using var text = new Running(_model, _texts, worker.Random);
        for (int i = 0; i < text.Length && !_stop; i++)
        {
            if (!worker.Call(_textMs, token => text.Expected.Advance(text.Session, i, token)))
            {
                return;
            }

            Compare(worker, text, i);
        }

        worker.Texts += _stop ? 0 : 1;
    }

    private void DecodeTogether(Worker worker)
    {
        worker.Plan(_textMs);
        var texts = new List<Running>();
        try
        {
            for (int n = 2 + worker.Random.Next(MaxInBatch - 1); n > 0; n--)
            {
                texts.Add(new Running(_model, _texts, worker.Random));
                if (_stop || !worker.Call(_textMs, token => texts[^1].Expected.Advance(texts[^1].Session, 0, token)))
                {
                    return;
                }

                Compare(worker, texts[^1], 0);
            }

            using var batch = new SessionBatch(_model);
            BatchRow[] rows = [.. texts.Select(t => new BatchRow(t.Session))];
            for (int i = 1; i < texts[0].Length && !_stop; i++)
            {
                texts.ForEach(t => t.Expected.SwitchLaw(t.Session, i));
                int[] ids = [.. texts.Select(t => t.Expected.Ids[i - 1])];
                if (!worker.Call(_textMs, token => batch.Step(rows, ids, token)))
                {
                    return;
                }

                texts.ForEach(t => Compare(worker, t, i));
                worker.BatchedCalls += texts.Count;
            }

            worker.Texts += _stop ? 0 : texts.Count;
        }
        finally
        {
            texts.ForEach(t => t.Dispose());
        }
    }

    private void Compare(Worker worker, Running text, int i)
    {
        worker.Calls++;
        if (Generation.Hash(text.Session.Logits) != text.Expected.Hashes[i])
        {
            Fail($"text {text.Number}, new token {i + 1}: the logits are not those of a session alone");
        }
        else if (text.Draw.Next(text.Session.Logits) != text.Expected.Ids[i])
        {
            Fail($"text {text.Number}, new token {i + 1}: another token was drawn than by a session alone");
        }
    }

    /// <summary>A text being decoded.</summary>
    private sealed class Running : IDisposable
    {
        public Running(LanguageModel model, IReadOnlyList<StressText> texts, Random random)
        {
            Number = random.Next(texts.Count);
            Expected = texts[Number];
            Session = new Session(model, Expected.Law, Expected.Tokens);
            Draw = new StressDraw(Expected, model.Config.V);
        }

        public int Number { get; }

        public StressText Expected { get; }

        public int Length => Expected.Ids.Length;

        public Session Session { get; }

        public StressDraw Draw { get; }

        public void Dispose() => Session.Dispose();
    }

    /// <summary>One thread with its counts.</summary>
    private sealed class Worker(int number) : IDisposable
    {
        /// <summary>Time of its last return from a call.</summary>
        public long At = Stopwatch.GetTimestamp();

        private CancellationTokenSource _source = new();

        public int Number => number;

        public Random Random { get; } = new(number);

        public Thread? Thread { get; set; }

        public long Texts { get; set; }

        public long Calls { get; set; }

        public long BatchedCalls { get; set; }

        public long Cancelled { get; set; }

        public long Resumed { get; set; }

        /// <summary>Cancels the next call at a random moment, or, one time in three, not at all.</summary>
        public void Plan(double textMs)
        {
            _source.Dispose();
            _source = new CancellationTokenSource();
            if (Random.Next(3) > 0)
            {
                _source.CancelAfter(TimeSpan.FromMilliseconds(textMs * Random.NextDouble()));
            }
        }

        /// <summary>Makes a call. A cancelled call is repeated or abandoned.</summary>
        /// <returns>False if the call was abandoned.</returns>
        public bool Call(double textMs, Action<CancellationToken> call)
        {
            bool done = false;
            while (!done)
            {
                try
                {
                    call(_source.Token);
                    done = true;
                }
                catch (OperationCanceledException)
                {
                    Cancelled++;
                    if (Random.Next(2) == 0)
                    {
                        return false;
                    }

                    Resumed++;
                    Plan(textMs);
                }

                Interlocked.Exchange(ref At, Stopwatch.GetTimestamp());
            }

            return true;
        }

        public void Dispose() => _source.Dispose();
    }
}
