using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Scheduling;

/// <summary>How a text ended.</summary>
public enum TextEnd
{
    /// <summary>Its last token says why (<see cref="GeneratedToken.StopReason"/>).</summary>
    Stopped,

    /// <summary>Nobody wants it any more.</summary>
    Cancelled,

    /// <summary>Its reader left the buffer full for longer than <see cref="SchedulerOptions.ReaderPatience"/>.</summary>
    SlowReader,

    /// <summary>The scheduler was drained or disposed of.</summary>
    Drained,

    /// <summary>It could not go on; the error says why.</summary>
    Failed,
}

/// <summary>What came of a text.</summary>
/// <param name="End">How it ended.</param>
/// <param name="Error">Of a text that failed.</param>
public sealed record ScheduledResult(TextEnd End, Exception? Error)
{
    /// <summary>Tokens of the prompt.</summary>
    public required int PromptTokens { get; init; }

    /// <summary>Tokens of the prompt whose keys and values were taken over from another.</summary>
    public required int ReusedTokens { get; init; }

    /// <summary>Tokens drawn.</summary>
    public required int NewTokens { get; init; }

    /// <summary>Why it ended, of a text that did so by itself; null for the others.</summary>
    public required StopReason? StopReason { get; init; }

    /// <summary>Seed of the draws; null of a text that was never begun.</summary>
    public required ulong? Seed { get; init; }

    /// <summary>How well the law tracked, and at what effort; null when plain.</summary>
    public required SteeringSummary? Steering { get; init; }

    /// <summary>How long it waited to be admitted.</summary>
    public required TimeSpan Queued { get; init; }

    /// <summary>From its admission to its first token.</summary>
    public required TimeSpan Prefill { get; init; }

    /// <summary>From its first token to its end.</summary>
    public required TimeSpan Decode { get; init; }
}

/// <summary>
/// A text that a <see cref="Scheduler"/> has taken. Its tokens are read by one reader, on any thread; everything else may be called by any thread
/// at any time.
/// </summary>
public sealed class ScheduledText : IDisposable
{
    private readonly Scheduler _scheduler;
    private readonly Channel<GeneratedToken> _tokens;
    private readonly TaskCompletionSource<ScheduledResult> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _lock = new();
    private FeedbackLaw? _nextLaw;
    private bool _hasNextLaw;
    private ITimer? _patience;
    private int _waiting;
    private int _pause;
    private volatile int _expiredPause;
    private volatile bool _isCancelled;

    internal ScheduledText(Scheduler scheduler, int[] prompt, GenerationOptions options)
    {
        (_scheduler, Prompt, Options, Positions) = (scheduler, prompt, options, Continuation.Positions(prompt.Length, options, scheduler.Model));
        Steering = new SteeringKey(options.Law, options.SteeredTokens);
        SubmittedAt = scheduler.Options.Clock.GetTimestamp();
        var buffer = new BoundedChannelOptions(scheduler.Options.ReaderBuffer) { SingleReader = true, SingleWriter = true };
        _tokens = Channel.CreateBounded<GeneratedToken>(buffer);
    }

    /// <summary>Tokens of the prompt.</summary>
    public int PromptTokens => Prompt.Length;

    /// <summary>What came of it; completed once it has ended, whether its tokens have been read or not. Never faulted.</summary>
    public Task<ScheduledResult> Completion => _completion.Task;

    /// <summary>The prompt.</summary>
    internal int[] Prompt { get; }

    /// <summary>How it is continued.</summary>
    internal GenerationOptions Options { get; }

    /// <summary>How its prompt is steered.</summary>
    internal SteeringKey Steering { get; }

    /// <summary>Positions that its keys and values may come to need.</summary>
    internal int Positions { get; }

    /// <summary>When it came, by the clock's timestamps.</summary>
    internal long SubmittedAt { get; }

    /// <summary>Whether nobody wants it any more.</summary>
    internal bool IsCancelled => _isCancelled;

    /// <summary>Whether its reader has let the last pause pass. The scheduler's thread asks.</summary>
    internal bool HasExpired => _waiting != 0 && _expiredPause == _pause;

    /// <summary>Takes a token if one is there.</summary>
    /// <param name="token">The next token.</param>
    /// <returns>False if none is there now, or none comes any more.</returns>
    public bool TryRead(out GeneratedToken token)
    {
        bool read = _tokens.Reader.TryRead(out token);
        if (read && Volatile.Read(ref _waiting) != 0)
        {
            _scheduler.Wake();
        }

        return read;
    }

    /// <summary>Reads the tokens as they come. A reader who leaves before the end cancels the text.</summary>
    /// <param name="cancellationToken">Ends the wait for a token, and the text.</param>
    /// <returns>One item per token. Where the last has no stop reason, <see cref="Completion"/> says why there are no more.</returns>
    /// <exception cref="OperationCanceledException">The wait was ended.</exception>
    public async IAsyncEnumerable<GeneratedToken> ReadAllAsync([EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        try
        {
            while (await _tokens.Reader.WaitToReadAsync(cancellationToken).ConfigureAwait(false))
            {
                while (TryRead(out var token))
                {
                    yield return token;
                }
            }
        }
        finally
        {
            Cancel();
        }
    }

    /// <summary>
    /// Steers with another law from the next token that is run on; null stops steering. Changing λ is this call. While the prompt is run the old
    /// law holds.
    /// </summary>
    /// <param name="law">The law.</param>
    /// <returns>False if the text has ended.</returns>
    /// <exception cref="ModelMismatchException">The law is for another shape of model.</exception>
    /// <exception cref="ArgumentException">The text is traced, and the law has not as many sensors.</exception>
    public bool Use(FeedbackLaw? law)
    {
        if (law is not null)
        {
            _scheduler.Model.CheckLaw(law);
        }

        if (Options.Trace is not null && law?.Sensors.Count != Options.Law!.Sensors.Count)
        {
            throw new ArgumentException(
                $"The text is traced with a law of {Options.Law!.Sensors.Count} sensors, the new one has {law?.Sensors.Count ?? 0}: "
                + "trace texts whose law stays, or changes λ alone.",
                nameof(law));
        }

        lock (_lock)
        {
            (_nextLaw, _hasNextLaw) = (law, true);
        }

        return !_completion.Task.IsCompleted;
    }

    /// <summary>Ends the text before its next token; of one that has ended nothing changes. Tokens that are there can still be read.</summary>
    public void Cancel()
    {
        if (!_isCancelled && !_completion.Task.IsCompleted)
        {
            _isCancelled = true;
            _scheduler.Wake();
        }
    }

    /// <summary>As <see cref="Cancel"/>.</summary>
    public void Dispose() => Cancel();

    /// <summary>The law that <see cref="Use"/> was last called with since this was asked.</summary>
    internal bool TryTakeLaw([MaybeNullWhen(true)] out FeedbackLaw? law)
    {
        lock (_lock)
        {
            (law, bool has, _hasNextLaw) = (_nextLaw, _hasNextLaw, false);
            return has;
        }
    }

    /// <summary>Whether there is room for a token. Where there is none, the scheduler is woken when there is, or when patience ends.</summary>
    internal bool HasRoom()
    {
        if (_tokens.Reader.Count < _scheduler.Options.ReaderBuffer)
        {
            EndPause();
            return true;
        }

        if (_waiting == 0)
        {
            int pause = ++_pause;
            Interlocked.Exchange(ref _waiting, 1);
            if (_tokens.Reader.Count < _scheduler.Options.ReaderBuffer) // read before the reader could know
            {
                EndPause();
                return true;
            }

            _patience = _scheduler.Options.Clock.CreateTimer(
                _ =>
                {
                    _expiredPause = pause;
                    _scheduler.Wake();
                },
                null, _scheduler.Options.ReaderPatience, Timeout.InfiniteTimeSpan);
        }

        return false;
    }

    /// <summary>Hands out a token; there is room.</summary>
    internal void Write(in GeneratedToken token) => _tokens.Writer.TryWrite(token);

    /// <summary>Says how it ended.</summary>
    internal void Complete(ScheduledResult result)
    {
        EndPause();
        _tokens.Writer.TryComplete();
        _completion.TrySetResult(result);
    }

    private void EndPause()
    {
        if (_waiting != 0)
        {
            Interlocked.Exchange(ref _waiting, 0);
            _patience?.Dispose();
            _patience = null;
        }
    }
}
