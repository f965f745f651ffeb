using Tiller.Control;

namespace Tiller.Tensors;

/// <summary>
/// A <see cref="FeedbackLaw"/> at work in one sequence: the law, α of every sensor as last read, and what was done at each layer in
/// the last step. One per sequence; not shared.
/// </summary>
public abstract class SteeringState : IDisposable
{
    /// <summary>Binds the law.</summary>
    protected SteeringState(FeedbackLaw law) => Law = law;

    /// <summary>The law applied.</summary>
    public FeedbackLaw Law { get; private set; }

    /// <summary>
    /// Exchanges the law for another, such as the same controller at another λ. α carries over when the sensors are as many, and
    /// is zero otherwise.
    /// </summary>
    public virtual void Use(FeedbackLaw law) => Law = law;

    /// <summary>Steered rows of the last step: one while decoding, the prompt's steered tokens in a prefill.</summary>
    public abstract int Slots { get; }

    /// <summary>α of every sensor as last read at a steered row, in the order of <see cref="FeedbackLaw.Sensors"/>.</summary>
    /// <param name="slot">0 .. <see cref="Slots"/> − 1, oldest token first.</param>
    /// <param name="errors">Result // (sensors).</param>
    public abstract void ReadErrors(int slot, Span<float> errors);

    /// <summary>Sets α of every sensor at the last steered row: undoes what a step that was given up has read.</summary>
    /// <param name="errors">What <see cref="ReadErrors"/> gave for the last slot before that step // (sensors).</param>
    public abstract void WriteErrors(ReadOnlySpan<float> errors);

    /// <summary>|u_k| and |x_k| at a steered row of the last step; 0 where the law has no term.</summary>
    /// <param name="slot">0 .. <see cref="Slots"/> − 1, oldest token first.</param>
    /// <param name="inputNorms">|u_k| // (L).</param>
    /// <param name="stateNorms">|x_k| // (L).</param>
    public abstract void ReadEffort(int slot, Span<float> inputNorms, Span<float> stateNorms);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Frees what the device holds.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }
}
