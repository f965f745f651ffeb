namespace Tiller.Tensors;

// Running ahead: a device that draws a token by itself begins the step that takes it at once, so that it never waits for the host. One
// step ahead, in this order: PlaceNext, DrawNext, the stages of the step, TakeNext; then KeepNext if the step counts. A step that does not
// count is forgotten: whatever comes next overwrites its keys and values, and the last step's state was not touched.
public abstract partial class Ops
{
    /// <summary>Whether the device can run ahead of the host; default false.</summary>
    internal bool RunsAhead { get; set; }

    /// <summary>Tells the device which row comes once its token is drawn, as <see cref="Place"/>. What a step needs is allocated here.</summary>
    /// <param name="rows">One value row whose id is not known.</param>
    /// <param name="a">Its activations.</param>
    /// <returns>False if the device cannot run ahead of this step: nothing has changed.</returns>
    public virtual bool PlaceNext(RowBatch rows, Activations a) => false;

    /// <summary>Draws the row's token, as <see cref="Draw"/>, and leaves it on the device; waits for nothing.</summary>
    /// <param name="logits">(1, V), of the last step; may be overwritten.</param>
    /// <param name="settings">How.</param>
    /// <param name="a">The activations of <see cref="PlaceNext"/>.</param>
    public virtual void DrawNext(Floats logits, in DrawSettings settings, Activations a) => throw new NotSupportedException();

    /// <summary>Waits for the token, not for the step that takes it. What a law read and did in the last step is then on the host too.</summary>
    /// <param name="a">The activations of <see cref="PlaceNext"/>.</param>
    /// <returns>Null if a logit is not finite: the step does not count.</returns>
    public virtual int? TakeNext(Activations a) => throw new NotSupportedException();

    /// <summary>The step counts: what its law read and did is the last step's from now on.</summary>
    /// <param name="a">The activations of <see cref="PlaceNext"/>.</param>
    public virtual void KeepNext(Activations a) => throw new NotSupportedException();
}
