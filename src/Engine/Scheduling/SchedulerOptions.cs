namespace Tiller.Scheduling;

/// <summary>What a <see cref="Scheduler"/> admits, and for how long it waits.</summary>
public sealed record SchedulerOptions
{
    /// <summary>Most texts under way at once, each a row of a step; default 32.</summary>
    public int MaxSequences { get; init; } = 32;

    /// <summary>Most texts that wait to be admitted; default 128.</summary>
    public int MaxQueued { get; init; } = 128;

    /// <summary>
    /// Bytes that keys and values may take, those of texts under way and of kept prompts together; default 1 GiB. A text is admitted when all that it
    /// may come to need fits.
    /// </summary>
    public long MaxKvBytes { get; init; } = 1L << 30;

    /// <summary>Most tokens of a prompt; default what the model's context holds.</summary>
    public int MaxPromptTokens { get; init; } = int.MaxValue;

    /// <summary>Most new tokens that a text may ask for; default what the model's context holds.</summary>
    public int MaxNewTokens { get; init; } = int.MaxValue;

    /// <summary>
    /// Tokens of a prompt that are run between two steps; default 256. Prompts are cut, and kept prompts taken over, at its multiples alone, so
    /// that a text's numbers do not depend on what runs beside it.
    /// </summary>
    public int PrefillChunk { get; init; } = 256;

    /// <summary>Tokens of a text that wait to be read at most; default 256. A text whose reader has fallen behind so far is not stepped.</summary>
    public int ReaderBuffer { get; init; } = 256;

    /// <summary>For how long a text waits for its reader before it is dropped; default 10 seconds.</summary>
    public TimeSpan ReaderPatience { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Tells the time; default the system's.</summary>
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

/// <summary>Why a text was not taken.</summary>
public enum RefusalReason
{
    /// <summary>As many texts wait as may; <see cref="RefusedException.RetryAfter"/> says when to come again.</summary>
    QueueFull,

    /// <summary>No text is taken any more.</summary>
    Draining,

    /// <summary>The prompt has more tokens than are allowed.</summary>
    PromptTooLong,

    /// <summary>More new tokens are asked for than are allowed.</summary>
    TooManyNewTokens,

    /// <summary>The text's keys and values would take more memory than there is for all.</summary>
    KvMemory,
}

/// <summary>A <see cref="Scheduler"/> does not take a text; nothing of it was run.</summary>
public sealed class RefusedException : TillerException
{
    internal RefusedException(RefusalReason reason, string message, TimeSpan? retryAfter = null)
        : base(message)
    {
        (Reason, RetryAfter) = (reason, retryAfter);
    }

    /// <summary>Why.</summary>
    public RefusalReason Reason { get; }

    /// <summary>When it may be taken, if that is a matter of time: after about so long; null if it never will.</summary>
    public TimeSpan? RetryAfter { get; }
}

/// <summary>What a <see cref="Scheduler"/> is doing, and what it has done.</summary>
/// <param name="Running">Texts under way.</param>
/// <param name="Queued">Texts that wait to be admitted.</param>
/// <param name="KvBytes">Bytes of keys and values of texts under way.</param>
/// <param name="KeptBytes">Bytes of keys and values of kept prompts.</param>
/// <param name="PrefixHits">Texts that took over a part of their prompt from a kept one.</param>
/// <param name="ReusedTokens">Tokens of prompts that were taken over.</param>
/// <param name="PrefillTokens">Tokens of prompts that were run.</param>
/// <param name="NewTokens">Tokens drawn.</param>
/// <param name="Steps">Steps in which tokens were drawn.</param>
/// <param name="Ended">Texts that have ended, for whatever reason.</param>
/// <param name="Rows">Texts whose token was drawn in the last step; 0 while there is nothing to do.</param>
public readonly record struct SchedulerStatus(
    int Running, int Queued, long KvBytes, long KeptBytes, long PrefixHits, long ReusedTokens, long PrefillTokens, long NewTokens, long Steps,
    long Ended, int Rows);
