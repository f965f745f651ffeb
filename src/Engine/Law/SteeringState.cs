
namespace Tiller.Law;

/// <summary>
/// The state of a <see cref="FeedbackLaw"/> in one sequence: the law, the last error of every sensor, and the effort of the last step at each layer.
/// Every sequence has its own. The state of a session may be used by the thread that uses the session, and is disposed of with the session.
/// </summary>
public abstract class SteeringState : IDisposable
{
    /// <summary>Binds the law.</summary>
    protected SteeringState(FeedbackLaw law) => Law = law;

    /// <summary>The law that steers.</summary>
    public FeedbackLaw Law { get; private set; }

    /// <summary>Number of steered rows of the last step: one while decoding, the steered tokens of a pass in a prefill.</summary>
    public abstract int Slots { get; }

    /// <summary>The turn of the session that owns the state; null if no session does.</summary>
    internal Turn? Owner { get; set; }

    /// <summary>Copies the error α of every sensor at a steered row of the last step, in the order of <see cref="FeedbackLaw.Sensors"/>.</summary>
    /// <param name="slot">0 .. <see cref="Slots"/> − 1, oldest token first.</param>
    /// <param name="errors">Result: α // (sensors).</param>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void ReadErrors(int slot, Span<float> errors)
    {
        using var call = Enter();
        GetErrors(slot, errors);
    }

    /// <summary>Sets the error α of every sensor at the last steered row. This undoes the readings of a cancelled step.</summary>
    /// <param name="errors">The result of <see cref="ReadErrors"/> for the last slot before that step // (sensors).</param>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void WriteErrors(ReadOnlySpan<float> errors)
    {
        using var call = Enter();
        SetErrors(errors);
    }

    /// <summary>Copies |u_k| and |x_k| at a steered row of the last step; both are 0 where the law has neither a term nor an edit.</summary>
    /// <param name="slot">0 .. <see cref="Slots"/> − 1, oldest token first.</param>
    /// <param name="inputNorms">Result: |u_k| // (L).</param>
    /// <param name="stateNorms">Result: |x_k| // (L).</param>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void ReadEffort(int slot, Span<float> inputNorms, Span<float> stateNorms)
    {
        using var call = Enter();
        GetEffort(slot, inputNorms, stateNorms);
    }

    /// <summary>Frees the memory on the device. The state of a session is freed with the session instead, and this call does nothing.</summary>
    public void Dispose()
    {
        if (Owner is null)
        {
            Release();
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>
    /// Exchanges the law for another law of the same model, for example the same controller at another λ. The errors α are kept if the number of
    /// sensors is the same, and set to 0 otherwise.
    /// </summary>
    internal virtual void Use(FeedbackLaw law) => Law = law;

    /// <summary>Frees the memory on the device, also if a session owns the state.</summary>
    internal void Release() => Dispose(disposing: true);

    /// <summary><see cref="ReadErrors"/>, after its check that the caller has the session's turn.</summary>
    protected abstract void GetErrors(int slot, Span<float> errors);

    /// <summary><see cref="WriteErrors"/>, after its check that the caller has the session's turn.</summary>
    protected abstract void SetErrors(ReadOnlySpan<float> errors);

    /// <summary><see cref="ReadEffort"/>, after its check that the caller has the session's turn.</summary>
    protected abstract void GetEffort(int slot, Span<float> inputNorms, Span<float> stateNorms);

    /// <summary>Frees the memory on the device.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }

    private Turn.Call Enter() => Owner is null ? default : Owner.Enter();
}
