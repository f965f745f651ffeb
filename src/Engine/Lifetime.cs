namespace Tiller;

/// <summary>
/// Counts the uses of an object that many threads use and any thread may dispose of. After <see cref="Close"/>, the end of the last use frees the
/// object. No use can begin after <see cref="Close"/>; a SafeHandle, by contrast, grants new uses for as long as others last.
/// </summary>
/// <param name="type">Name of the object's type, for exceptions.</param>
/// <param name="gone">Message of the exception that a use gets after the close.</param>
/// <param name="free">Called once: at the end of the last use, or by <see cref="Close"/> if no use is under way.</param>
internal sealed class Lifetime(string type, string gone, Action free)
{
    private const int Closed = 1;
    private const int One = 2;

    private int _state; // One for each use, plus Closed

    /// <summary>Begins a use.</summary>
    /// <exception cref="ObjectDisposedException">The object is closed.</exception>
    public Use Enter() => TryTake() ? new Use(this) : throw Gone();

    /// <summary>Begins a use that <see cref="Leave"/> ends.</summary>
    /// <returns>False if the object is closed.</returns>
    public bool TryTake()
    {
        int state = Volatile.Read(ref _state);
        while ((state & Closed) == 0)
        {
            int before = Interlocked.CompareExchange(ref _state, state + One, state);
            if (before == state)
            {
                return true;
            }

            state = before;
        }

        return false;
    }

    /// <summary>Ends a use.</summary>
    public void Leave()
    {
        if (Interlocked.Add(ref _state, -One) == Closed)
        {
            free();
        }
    }

    /// <summary>Refuses new uses from now on. Uses under way continue; a second call does nothing.</summary>
    public void Close()
    {
        if (Interlocked.Or(ref _state, Closed) == 0)
        {
            free();
        }
    }

    /// <summary>The exception for a use after the close.</summary>
    public ObjectDisposedException Gone() => new(type, gone);

    /// <summary>One use; disposing of it ends the use.</summary>
    public readonly ref struct Use(Lifetime of) : IDisposable
    {
        /// <inheritdoc/>
        public void Dispose() => of.Leave();
    }
}
