namespace Tiller.Scheduling;

/// <summary>The limits and waiting times of a <see cref="Scheduler"/>.</summary>
public sealed record SchedulerOptions
{
    /// <summary>Maximum number of texts under way at once, each a row of a step; default 32.</summary>
    public int MaxSequences { get; init; } = 32;

    /// <summary>Maximum number of texts that wait to be admitted; default 128.</summary>
    public int MaxQueued { get; init; } = 128;

    /// <summary>
    /// Maximum size in bytes of all KV caches, those of texts under way and of kept prefixes together; default 1 GiB. A text is admitted when the
    /// most that it can need fits.
    /// </summary>
    public long MaxKvBytes { get; init; } = 1L << 30;

    /// <summary>Maximum number of tokens in a prompt; the default is limited only by the model's context.</summary>
    public int MaxPromptTokens { get; init; } = int.MaxValue;

    /// <summary>Maximum number of new tokens that a text may ask for; the default is limited only by the model's context.</summary>
    public int MaxNewTokens { get; init; } = int.MaxValue;

    /// <summary>
    /// Number of prompt tokens that are run between two steps; default 256. Prompts are split, and kept prefixes reused, only at multiples of it, so
    /// that a text's numbers do not depend on the other texts.
    /// </summary>
    public int PrefillChunk { get; init; } = 256;

    /// <summary>Maximum number of unread tokens of a text; default 256. A text whose buffer is full is not stepped.</summary>
    public int ReaderBuffer { get; init; } = 256;

    /// <summary>Time that a text with a full buffer waits for its reader before it is ended; default 10 seconds.</summary>
    public TimeSpan ReaderPatience { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>The clock; default the system's.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;

    /// <summary>Checks every setting.</summary>
    /// <exception cref="ArgumentOutOfRangeException">A setting is outside its range.</exception>
    internal void Validate()
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(MaxSequences);
        ArgumentOutOfRangeException.ThrowIfNegative(MaxQueued);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(MaxKvBytes);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(MaxPromptTokens);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(MaxNewTokens);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(PrefillChunk);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(ReaderBuffer);
        ArgumentOutOfRangeException.ThrowIfLessThan(ReaderPatience, TimeSpan.Zero);
        ArgumentNullException.ThrowIfNull(Clock);
    }
}

/// <summary>Why a text was refused.</summary>
public enum RefusalReason
{
    /// <summary>The maximum number of texts already wait. <see cref="RefusedException.RetryAfter"/> says when to try again.</summary>
    QueueFull,

    /// <summary>The scheduler is being drained and accepts no more texts.</summary>
    Draining,

    /// <summary>The prompt has more tokens than are allowed.</summary>
    PromptTooLong,

    /// <summary>More new tokens are asked for than are allowed.</summary>
    TooManyNewTokens,

    /// <summary>The text's KV cache would take more memory than all texts together may use.</summary>
    KvMemory,

    /// <summary>More texts are submitted together than may wait.</summary>
    TooManyTexts,
}

/// <summary>A <see cref="Scheduler"/> refuses a text. Nothing of it was run.</summary>
public sealed class RefusedException : TillerException
{
    internal RefusedException(RefusalReason reason, string message, TimeSpan? retryAfter = null)
        : base(message)
    {
        (Reason, RetryAfter) = (reason, retryAfter);
    }

    /// <summary>Why the text was refused.</summary>
    public RefusalReason Reason { get; }

    /// <summary>Approximate time after which the text may be accepted; null if waiting does not help.</summary>
    public TimeSpan? RetryAfter { get; }
}

/// <summary>The state and the counters of a <see cref="Scheduler"/>.</summary>
/// <param name="Running">Number of texts under way.</param>
/// <param name="Queued">Number of texts that wait to be admitted.</param>
/// <param name="KvBytes">Size in bytes of the KV caches of texts under way.</param>
/// <param name="KeptBytes">Size in bytes of the KV caches of kept prefixes.</param>
/// <param name="PrefixHits">Number of texts that reused a kept prefix.</param>
/// <param name="ReusedTokens">Number of prompt tokens that were reused.</param>
/// <param name="PrefillTokens">Number of prompt tokens that were run.</param>
/// <param name="NewTokens">Number of tokens drawn.</param>
/// <param name="Steps">Number of steps in which tokens were drawn.</param>
/// <param name="Ended">Number of texts that have ended, for any reason.</param>
/// <param name="Rows">Number of texts whose token was drawn in the last step; 0 while the scheduler is idle.</param>
public readonly record struct SchedulerStatus(
    int Running, int Queued, long KvBytes, long KeptBytes, long PrefixHits, long ReusedTokens, long PrefillTokens, long NewTokens, long Steps,
    long Ended, int Rows);
