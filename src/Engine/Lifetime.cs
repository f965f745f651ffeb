namespace Tiller;

/// <summary>
/// How long something lives that many threads use and any thread may dispose of: its uses are counted, and once it is closed the last of
/// them frees it, as a SafeHandle does. From the close on there is no new use, which a SafeHandle grants for as long as others last.
/// </summary>
/// <param name="type">Name of the type, for errors.</param>
/// <param name="gone">What an error says of it once it is closed.</param>
/// <param name="free">Called once, by whoever ends the last use or, where there is none, by whoever closes.</param>
internal sealed class Lifetime(string type, string gone, Action free)
{
    private const int Closed = 1;
    private const int One = 2;

    private int _state; // One for each use, and Closed

    /// <summary>Begins a use.</summary>
    /// <exception cref="ObjectDisposedException">It is closed.</exception>
    public Use Enter() => TryTake() ? new Use(this) : throw Gone();

    /// <summary>Begins a use that <see cref="Leave"/> ends.</summary>
    /// <returns>False if it is closed.</returns>
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

    /// <summary>Ends the time of new uses. Those under way go on; a second call does nothing.</summary>
    public void Close()
    {
        if (Interlocked.Or(ref _state, Closed) == 0)
        {
            free();
        }
    }

    /// <summary>The error of a use that comes too late.</summary>
    public ObjectDisposedException Gone() => new(type, gone);

    /// <summary>One use, which ends with it.</summary>
    public readonly ref struct Use(Lifetime of) : IDisposable
    {
        /// <inheritdoc/>
        public void Dispose() => of.Leave();
    }
}
