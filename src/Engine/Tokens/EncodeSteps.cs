namespace Tiller.Tokens;

/// <summary>
/// Counts the steps of one call of the tokenizer: normalised characters, copied pieces of text, words, and symbols and merges of long words. The
/// number of steps measures the work of a call on any machine. A call can be cancelled at each step.
/// </summary>
internal sealed class EncodeSteps
{
    private CancellationToken _cancellation;
    private Action<long>? _watch;

    /// <summary>Number of steps so far.</summary>
    public long Count { get; private set; }

    /// <summary>Restarts the count.</summary>
    /// <param name="watcher">Receives the count before every check of the token; null for none.</param>
    /// <param name="cancellationToken">Cancels the call.</param>
    public void Begin(Action<long>? watcher, CancellationToken cancellationToken) => (Count, _watch, _cancellation) = (0, watcher, cancellationToken);

    /// <summary>Counts steps, and throws if the call is cancelled.</summary>
    /// <param name="steps">Number of steps that follow.</param>
    /// <exception cref="OperationCanceledException">The call is cancelled.</exception>
    public void Take(int steps = 1)
    {
        Count += steps;
        _watch?.Invoke(Count);
        _cancellation.ThrowIfCancellationRequested();
    }
}
