namespace Tiller;

/// <summary>
/// The use of something by one thread at a time that any thread may dispose of. All of it is one word, taken at the start of a call and
/// given back at its end. A second thread is refused; once it is closed every new call is, and what it holds is freed when the call under
/// way has ended.
/// </summary>
/// <param name="type">Name of the type, for errors.</param>
/// <param name="what">The thing as errors call it, such as "session".</param>
/// <param name="instead">What to do instead of using it on two threads.</param>
/// <param name="within">What it lives in, which every call uses too; null for nothing.</param>
/// <param name="free">Called once, by whoever ends the last call or, where there is none, by whoever closes; null for nothing.</param>
internal sealed class Turn(string type, string what, string instead, Lifetime? within = null, Action? free = null)
{
    private const int Closed = int.MinValue;

    private int _word; // managed id of the thread whose turn it is, 0 for none; and Closed

    /// <summary>Begins a call. Within a call of this thread it is a part of that one.</summary>
    /// <exception cref="InvalidOperationException">Another thread is in a call.</exception>
    /// <exception cref="ObjectDisposedException">It, or what it lives in, is closed.</exception>
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

    /// <summary>Takes the turn for a caller that uses what it lives in already; <see cref="Leave"/> gives it back.</summary>
    /// <param name="place">Its place among the things of its kind that the caller takes, for errors; -1 if it is the only one.</param>
    /// <returns>False if this thread has it already.</returns>
    /// <exception cref="InvalidOperationException">Another thread has it.</exception>
    /// <exception cref="ObjectDisposedException">It is closed.</exception>
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

    /// <summary>Gives back what <see cref="Take"/> has taken.</summary>
    public void Leave()
    {
        if (Interlocked.CompareExchange(ref _word, 0, Environment.CurrentManagedThreadId) < 0)
        {
            Volatile.Write(ref _word, Closed);
            free?.Invoke();
        }
    }

    /// <summary>Ends the time of new calls. One under way goes on; a second call of this does nothing.</summary>
    public void Close()
    {
        if (Interlocked.Or(ref _word, Closed) == 0)
        {
            free?.Invoke();
        }
    }

    private string Name(int place) => place < 0 ? $"The {what}" : $"{char.ToUpperInvariant(what[0])}{what[1..]} {place}";

    /// <summary>One call, which ends with it; default is a part of another.</summary>
    public readonly ref struct Call(Turn of, Lifetime? within) : IDisposable
    {
        /// <summary>Whether it is a part of another call of the same thread.</summary>
        public bool IsPart => of is null;

        /// <inheritdoc/>
        public void Dispose()
        {
            of?.Leave(); // first, for what it frees may need what it lives in
            within?.Leave();
        }
    }
}
