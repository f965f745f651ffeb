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
    /// <summary>The text is complete. Its last token says why (<see cref="GeneratedToken.StopReason"/>).</summary>
    Stopped,

    /// <summary>The text was cancelled.</summary>
    Cancelled,

    /// <summary>The reader left the buffer full for longer than <see cref="SchedulerOptions.ReaderPatience"/>.</summary>
    SlowReader,

    /// <summary>The scheduler was drained or disposed of.</summary>
    Drained,

    /// <summary>The text could not be continued. The error says why.</summary>
    Failed,
}

/// <summary>The result of a text.</summary>
/// <param name="End">How the text ended.</param>
/// <param name="Error">The error of a text that failed; otherwise null.</param>
public sealed record ScheduledResult(TextEnd End, Exception? Error)
{
    /// <summary>Number of tokens in the prompt.</summary>
    public required int PromptTokens { get; init; }

    /// <summary>Number of tokens of the prompt whose keys and values were taken from a kept prefix, or from a text with the same prompt.</summary>
    public required int ReusedTokens { get; init; }

    /// <summary>Number of tokens drawn.</summary>
    public required int NewTokens { get; init; }

    /// <summary>The reason why a text that came to its own end did so; otherwise null.</summary>
    public required StopReason? StopReason { get; init; }

    /// <summary>Seed of the draws; null for a text that was never started.</summary>
    public required ulong? Seed { get; init; }

    /// <summary>The tracking error and the effort of the law; null for the plain model.</summary>
    public required SteeringSummary? Steering { get; init; }

    /// <summary>Time that the text waited to be admitted.</summary>
    public required TimeSpan Queued { get; init; }

    /// <summary>Time from the admission to the first token.</summary>
    public required TimeSpan Prefill { get; init; }

    /// <summary>Time from the first token to the end.</summary>
    public required TimeSpan Decode { get; init; }
}

/// <summary>
/// A text that a <see cref="Scheduler"/> has accepted. One reader, on any thread, reads its tokens. Any thread may call the other members at any
/// time.
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

    /// <summary>Number of tokens in the prompt.</summary>
    public int PromptTokens => Prompt.Length;

    /// <summary>Time of submission, as a timestamp of <see cref="SchedulerOptions.Clock"/>.</summary>
    public long SubmittedAt { get; }

    /// <summary>
    /// The result of the text. The task completes when the text has ended, whether or not its tokens have been read. It never faults.
    /// </summary>
    public Task<ScheduledResult> Completion => _completion.Task;

    /// <summary>The prompt.</summary>
    internal int[] Prompt { get; }

    /// <summary>How the text is continued.</summary>
    internal GenerationOptions Options { get; }

    /// <summary>How the prompt is steered.</summary>
    internal SteeringKey Steering { get; }

    /// <summary>The most positions that the text's KV cache can need.</summary>
    internal int Positions { get; }

    /// <summary>Whether the text was cancelled.</summary>
    internal bool IsCancelled => _isCancelled;

    /// <summary>Whether the reader's patience has run out during the present pause. Read by the scheduler's thread.</summary>
    internal bool HasExpired => _waiting != 0 && _expiredPause == _pause;

    /// <summary>Reads a token if one is available.</summary>
    /// <param name="token">The next token.</param>
    /// <returns>False if no token is available now, or if the text has ended.</returns>
    public bool TryRead(out GeneratedToken token)
    {
        bool read = _tokens.Reader.TryRead(out token);
        if (read && Volatile.Read(ref _waiting) != 0)
        {
            _scheduler.Wake();
        }

        return read;
    }

    /// <summary>Reads the tokens as they come. Leaving the loop before the end cancels the text.</summary>
    /// <param name="cancellationToken">Ends the wait for a token and cancels the text.</param>
    /// <returns>One item per token. If the last one has no stop reason, <see cref="Completion"/> says why the text ended.</returns>
    /// <exception cref="OperationCanceledException">The cancellation token ended the wait.</exception>
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
    /// Steers with another law from the next step on; null stops steering. To change λ, call this with a law of the new λ. The old law still steers
    /// the rest of the prompt. A law whose conditions on the prompt do not fit <see cref="SchedulerOptions.MaxKvBytes"/>, the memory for keys and
    /// values, ends the text as <see cref="TextEnd.Failed"/>, with a <see cref="RefusedException"/> as its error.
    /// </summary>
    /// <param name="law">The law.</param>
    /// <returns>False if the text has ended.</returns>
    /// <exception cref="ModelMismatchException">The law is for a model of another shape.</exception>
    /// <exception cref="ArgumentException">The text is traced, and the law has another number of sensors.</exception>
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

    /// <summary>Ends the text before its next token. Has no effect on a text that has ended. Tokens in the buffer can still be read.</summary>
    public void Cancel()
    {
        if (!_isCancelled && !_completion.Task.IsCompleted)
        {
            _isCancelled = true;
            _scheduler.Wake();
        }
    }

    /// <summary>Does the same as <see cref="Cancel"/>.</summary>
    public void Dispose() => Cancel();

    /// <summary>Gets the law of the last <see cref="Use"/>; false if there was none since the last call of this method.</summary>
    internal bool TryTakeLaw([MaybeNullWhen(true)] out FeedbackLaw? law)
    {
        lock (_lock)
        {
            (law, bool has, _hasNextLaw) = (_nextLaw, _hasNextLaw, false);
            return has;
        }
    }

    /// <summary>
    /// Whether the buffer has room for a token. If not, the scheduler is woken when it has room or when the reader's patience ends.
    /// </summary>
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
            if (_tokens.Reader.Count < _scheduler.Options.ReaderBuffer) // the reader may have read before it saw _waiting
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

    /// <summary>Puts a token into the buffer, which must have room.</summary>
    internal void Write(in GeneratedToken token) => _tokens.Writer.TryWrite(token);

    /// <summary>Completes the text with its result.</summary>
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
