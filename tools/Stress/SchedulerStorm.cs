using System.Diagnostics;
using Tiller.Bench;
using Tiller.Decode;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Scheduling;

namespace Tiller.Stress;

/// <summary>The results of a stress run on the scheduler.</summary>
/// <param name="Texts">Number of texts that were read to their end.</param>
/// <param name="Moved">Number of these texts whose λ changed on the way.</param>
/// <param name="Cancelled">Number of texts that were cancelled on the way.</param>
/// <param name="Dropped">Number of texts that were ended because nobody read them.</param>
/// <param name="Refused">Number of submissions that a full queue refused.</param>
/// <param name="PrefixHits">Number of texts that reused the prefix of another prompt.</param>
/// <param name="HeldInBytes">Size of the buffers held after the run, minus those before it.</param>
/// <param name="Failures">Descriptions of failures; empty if there were none.</param>
internal sealed record StormReport(
    long Texts, long Moved, long Cancelled, long Dropped, long Refused, long PrefixHits, long HeldInBytes, IReadOnlyList<string> Failures);

/// <summary>
/// Many readers use one scheduler at once: some leave on the way, some never read, some change λ. In steps of at most eight rows, every token must be
/// the one that a session alone drew; every text must end and report how.
/// </summary>
internal sealed class SchedulerStorm
{
    private const int Buffer = 4;

    private readonly LanguageModel _model;
    private readonly IReadOnlyList<StressText> _texts;
    private readonly int[][][] _alone; // ids of sessions alone, by text and by the token before which λ changes; the last entry is without a change
    private readonly List<string> _failures = [];
    private long _read;
    private long _changed;
    private long _cancelled;
    private long _dropped;
    private long _refused;

    private SchedulerStorm(LanguageModel model, IReadOnlyList<StressText> texts)
    {
        (_model, _texts) = (model, texts);
        _alone = [.. texts.Select(text => text.Later == text.Law ? [text.Ids] : Moved(text))];
    }

    /// <summary>Creates a random model and runs the readers on it.</summary>
    /// <param name="request">Shape, readers and minutes.</param>
    /// <param name="cancellationToken">Ends the run.</param>
    public static async Task<StormReport> Run(StressRequest request, CancellationToken cancellationToken)
    {
        using var machine = Machine.Open(request.OnMachine);
        request = request with { Device = machine.Device };
        double caches = 8 * 2.0 * new Counts(request.Shape.Config, request.Type).CacheBytes(400);
        using var model = RandomParts.Model(request.OnMachine, machine, caches);
        var texts = StressTexts.Build(model, out _, cancellationToken);
        var clock = Stopwatch.StartNew();
        return await Run(model, texts, request.Sessions, _ => clock.Elapsed < TimeSpan.FromMinutes(request.Minutes), cancellationToken);
    }

    /// <summary>Runs the readers on given texts.</summary>
    /// <param name="model">The model.</param>
    /// <param name="texts">Texts with their results from sessions alone.</param>
    /// <param name="readers">Number of readers at once.</param>
    /// <param name="goesOn">Decides from the counts so far whether a reader begins another text.</param>
    /// <param name="cancellationToken">Ends the run.</param>
    public static async Task<StormReport> Run(
        LanguageModel model, IReadOnlyList<StressText> texts, int readers, Func<StormReport, bool> goesOn, CancellationToken cancellationToken)
    {
        var storm = new SchedulerStorm(model, texts);
        long held = HostBuffer.LiveInBytes, hits = 0;
        var options = new SchedulerOptions
        {
            MaxSequences = 8,
            MaxQueued = Math.Max(1, readers / 2),
            ReaderBuffer = Buffer,
            ReaderPatience = TimeSpan.FromMilliseconds(200)
        };
        using (var scheduler = new Scheduler(model, options))
        {
            await Task.WhenAll(Enumerable.Range(0, readers).Select(i => Task.Run(() => storm.Read(scheduler, new Random(i), goesOn,
                cancellationToken), cancellationToken)));
            await scheduler.DrainAsync(TimeSpan.FromMinutes(5));
            var status = scheduler.Status;
            hits = status.PrefixHits;
            storm.Check(status is { Running: 0, Queued: 0, KvBytes: 0 }, $"after the last text the scheduler holds {status}");
        }

        held = HostBuffer.LiveInBytes - held;
        storm.Check(held <= StressRun.MaxHeldInBytes, $"{held} bytes of buffers are still held after the scheduler was disposed of");
        return storm.Report(hits, held);
    }

    private StormReport Report(long hits, long held)
    {
        lock (_failures)
        {
            return new StormReport(
                Volatile.Read(ref _read), Volatile.Read(ref _changed), Volatile.Read(ref _cancelled), Volatile.Read(ref _dropped),
                    Volatile.Read(ref _refused), hits, held,
                [.. _failures]);
        }
    }

    private int[][] Moved(StressText text) =>
    [
        .. Enumerable.Range(0, text.Ids.Length).Select(k =>
        {
            var moved = new StressText
            {
                Prompt = text.Prompt,
                Law = text.Law,
                Later = text.Later,
                SwitchAt = k + 1,
                Tokens = text.Tokens,
                Sampling = text.Sampling,
            };
            moved.RunAlone(_model, text.Ids.Length);
            return moved.Ids;
        }),
    ];

    private async Task Read(Scheduler scheduler, Random random, Func<StormReport, bool> goesOn, CancellationToken cancellationToken)
    {
        while (goesOn(Report(0, 0)))
        {
            cancellationToken.ThrowIfCancellationRequested();
            int number = random.Next(_texts.Count);
            var text = _texts[number];
            bool moves = text.Later != text.Law;
            var options = new GenerationOptions
            {
                MaxNewTokens = text.Ids.Length,
                Law = text.Law,
                SteeredTokens = text.Tokens,
                Sampling = text.Sampling,
                StopIds = [],
            };
            ScheduledText scheduled;
            try
            {
                scheduled = scheduler.Submit(text.Prompt, options);
            }
            catch (RefusedException e) when (e.Reason == RefusalReason.QueueFull)
            {
                Interlocked.Increment(ref _refused);
                await Task.Delay(1, cancellationToken);
                continue;
            }

            int leavesAt = random.Next(3) == 0 ? random.Next(text.Ids.Length) : int.MaxValue;
            bool reads = random.Next(6) > 0;
            int movesAt = moves ? random.Next(text.Ids.Length) : -1;
            await Follow(scheduled, number, reads, leavesAt, movesAt, cancellationToken);
        }
    }

    private async Task Follow(ScheduledText scheduled, int number, bool reads, int leavesAt, int movesAt, CancellationToken cancellationToken)
    {
        var text = _texts[number];
        var ids = new List<int>();
        if (!reads)
        {
            await scheduled.Completion.WaitAsync(cancellationToken);
        }

        if (movesAt == 0)
        {
            scheduled.Use(text.Later);
        }

        await foreach (var token in scheduled.ReadAllAsync(cancellationToken))
        {
            ids.Add(token.Id);
            if (ids.Count == leavesAt)
            {
                break;
            }

            if (ids.Count == movesAt)
            {
                scheduled.Use(text.Later);
            }
        }

        var result = await scheduled.Completion.WaitAsync(cancellationToken);
        bool whole = result.End == TextEnd.Stopped, left = leavesAt <= ids.Count;
        Check(
            whole || (left && result.End == TextEnd.Cancelled) || (!reads && result.End == TextEnd.SlowReader) || (result.End == TextEnd.SlowReader
                && ids.Count < text.Ids.Length),
            $"text {number} ended as {result.End}: {result.Error?.Message}");
        var alone = reads && movesAt >= 0 ? _alone[number] : _alone[number][^1..];
        Check(Array.Exists(alone, its => ids.SequenceEqual(its.Take(ids.Count))), $"text {number}: its tokens are not those of a session alone");
        Check(!whole || left || ids.Count == text.Ids.Length, $"text {number}: {text.Ids.Length - ids.Count} tokens were lost");
        Interlocked.Increment(ref result.End == TextEnd.Cancelled ? ref _cancelled : ref result.End == TextEnd.SlowReader ? ref _dropped : ref _read);
        if (movesAt >= 0 && whole && !left)
        {
            Interlocked.Increment(ref _changed);
        }
    }

    private void Check(bool holds, string what)
    {
        lock (_failures)
        {
            if (!holds && _failures.Count < 20 && !_failures.Contains(what))
            {
                _failures.Add(what);
            }
        }
    }
}
