namespace Tiller;

/// <summary>
/// Lets one thread at a time call an object that any thread may dispose of. The state is one word, taken at the start of a call and given back at its
/// end. A second thread is refused. After <see cref="Close"/> every new call is refused, and the object's resources are freed at the end of the call
/// under way.
/// </summary>
/// <param name="type">Name of the object's type, for exceptions.</param>
/// <param name="what">The name of the object in messages, such as "session".</param>
/// <param name="instead">Advice in the message to a second thread: what to do instead.</param>
/// <param name="within">Lifetime of the object that this one depends on; every call uses it too. Null for none.</param>
/// <param name="free">Called once: at the end of the last call, or by <see cref="Close"/> if no call is under way. Null for none.</param>
internal sealed class Turn(string type, string what, string instead, Lifetime? within = null, Action? free = null)
{
    private const int Closed = int.MinValue;

    private int _word; // managed id of the thread whose turn it is, 0 for none; plus Closed

    /// <summary>Begins a call. Within another call of the same thread, it is a part of that call.</summary>
    /// <exception cref="InvalidOperationException">Another thread is in a call.</exception>
    /// <exception cref="ObjectDisposedException">The object, or the one that it depends on, is closed.</exception>
    public Call Enter()
    {
        if (!Take())
        {
            return default;
        }

        if (within?.TryTake() == false)
        {
            Leave();
            throw within.Gone();
        }

        return new Call(this, within);
    }

    /// <summary>Takes the turn for a caller that already uses the object that this one depends on. <see cref="Leave"/> gives it back.</summary>
    /// <param name="place">Index of the object among those that the caller takes, for messages; -1 if it is the only one.</param>
    /// <returns>False if this thread has the turn already.</returns>
    /// <exception cref="InvalidOperationException">Another thread has the turn.</exception>
    /// <exception cref="ObjectDisposedException">The object is closed.</exception>
    public bool Take(int place = -1)
    {
        int me = Environment.CurrentManagedThreadId;
        int before = Interlocked.CompareExchange(ref _word, me, 0);
        if (before == 0)
        {
            return true;
        }

        if ((before & ~Closed) == me)
        {
            return false;
        }

        throw before < 0
            ? new ObjectDisposedException(type, $"{Name(place)} has been disposed of: make a new one.")
            : new InvalidOperationException($"{Name(place)} is in use by another thread, and one thread at a time may use it. {instead}");
    }

    /// <summary>Gives back the turn that <see cref="Take"/> has taken.</summary>
    public void Leave()
    {
        if (Interlocked.CompareExchange(ref _word, 0, Environment.CurrentManagedThreadId) < 0)
        {
            Volatile.Write(ref _word, Closed);
            free?.Invoke();
        }
    }

    /// <summary>Refuses new calls from now on. A call under way continues; a second close does nothing.</summary>
    public void Close()
    {
        if (Interlocked.Or(ref _word, Closed) == 0)
        {
            free?.Invoke();
        }
    }

    private string Name(int place) => place < 0 ? $"The {what}" : $"{char.ToUpperInvariant(what[0])}{what[1..]} {place}";

    /// <summary>One call; disposing of it ends the call. The default value stands for a part of another call.</summary>
    public readonly ref struct Call(Turn of, Lifetime? within) : IDisposable
    {
        /// <summary>Whether this is a part of another call of the same thread.</summary>
        public bool IsPart => of is null;

        /// <inheritdoc/>
        public void Dispose()
        {
            of?.Leave(); // first, because what it frees may need the outer object
            within?.Leave();
        }
    }
}
