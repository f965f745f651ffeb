namespace Tiller.Tokens;

/// <summary>
/// Steps of one call of the tokenizer: characters normalised, pieces of text copied, words, symbols and merges of long words. Their number is what a
/// call costs, whatever the machine, and at each of them the call may be cancelled.
/// </summary>
internal sealed class EncodeSteps
{
    private CancellationToken _cancellation;
    private Action<long>? _watch;

    /// <summary>Steps so far.</summary>
    public long Count { get; private set; }

    /// <summary>Begins to count anew.</summary>
    /// <param name="watcher">Told the count before every look at the token; null for nobody.</param>
    /// <param name="cancellationToken">Ends the call.</param>
    public void Begin(Action<long>? watcher, CancellationToken cancellationToken) => (Count, _watch, _cancellation) = (0, watcher, cancellationToken);

    /// <summary>Counts steps, and ends a call that is cancelled.</summary>
    /// <param name="steps">How many are about to be made.</param>
    /// <exception cref="OperationCanceledException">The call is cancelled.</exception>
    public void Take(int steps = 1)
    {
        Count += steps;
        _watch?.Invoke(Count);
        _cancellation.ThrowIfCancellationRequested();
    }
}
