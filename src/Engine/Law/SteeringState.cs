
namespace Tiller.Law;

/// <summary>
/// A <see cref="FeedbackLaw"/> at work in one sequence: the law, α of every sensor as last read, and what was done at each layer in
/// the last step. One per sequence; not shared. A session's belongs to whichever thread is using the session, and goes with it.
/// </summary>
public abstract class SteeringState : IDisposable
{
    /// <summary>Binds the law.</summary>
    protected SteeringState(FeedbackLaw law) => Law = law;

    /// <summary>The law applied.</summary>
    public FeedbackLaw Law { get; private set; }

    /// <summary>Steered rows of the last step: one while decoding, the prompt's steered tokens in a prefill.</summary>
    public abstract int Slots { get; }

    /// <summary>The turn of the session that it belongs to; null if it belongs to none.</summary>
    internal Turn? Owner { get; set; }

    /// <summary>α of every sensor as last read at a steered row, in the order of <see cref="FeedbackLaw.Sensors"/>.</summary>
    /// <param name="slot">0 .. <see cref="Slots"/> − 1, oldest token first.</param>
    /// <param name="errors">Result // (sensors).</param>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void ReadErrors(int slot, Span<float> errors)
    {
        using var call = Enter();
        GetErrors(slot, errors);
    }

    /// <summary>Sets α of every sensor at the last steered row: undoes what a step that was given up has read.</summary>
    /// <param name="errors">What <see cref="ReadErrors"/> gave for the last slot before that step // (sensors).</param>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void WriteErrors(ReadOnlySpan<float> errors)
    {
        using var call = Enter();
        SetErrors(errors);
    }

    /// <summary>|u_k| and |x_k| at a steered row of the last step; 0 where the law has no term.</summary>
    /// <param name="slot">0 .. <see cref="Slots"/> − 1, oldest token first.</param>
    /// <param name="inputNorms">|u_k| // (L).</param>
    /// <param name="stateNorms">|x_k| // (L).</param>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void ReadEffort(int slot, Span<float> inputNorms, Span<float> stateNorms)
    {
        using var call = Enter();
        GetEffort(slot, inputNorms, stateNorms);
    }

    /// <summary>Frees what the device holds. A session's state goes with the session, and this does nothing to it.</summary>
    public void Dispose()
    {
        if (Owner is null)
        {
            Release();
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>
    /// Exchanges the law for another of the same model, such as the same controller at another λ. α carries over when the sensors are as many, and
    /// is zero otherwise.
    /// </summary>
    internal virtual void Use(FeedbackLaw law) => Law = law;

    /// <summary>Frees what the device holds, whomever it belongs to.</summary>
    internal void Release() => Dispose(disposing: true);

    /// <summary><see cref="ReadErrors"/> in a call that may.</summary>
    protected abstract void GetErrors(int slot, Span<float> errors);

    /// <summary><see cref="WriteErrors"/> in a call that may.</summary>
    protected abstract void SetErrors(ReadOnlySpan<float> errors);

    /// <summary><see cref="ReadEffort"/> in a call that may.</summary>
    protected abstract void GetEffort(int slot, Span<float> inputNorms, Span<float> stateNorms);

    /// <summary>Frees what the device holds.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }

    private Turn.Call Enter() => Owner is null ? default : Owner.Enter();
}
