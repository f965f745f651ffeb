using Tiller.Kernels;

namespace Tiller.Ops;

// Running ahead: a device that draws tokens by itself begins the step that takes them at once, so that it never waits for the host. One
// step ahead, in this order: PlaceNext, DrawNext, the stages of the step, TakeNext; then KeepNext of the rows for which the step counts. A row
// for which it does not is forgotten: whatever comes next overwrites its keys and values, and its last step's state was not touched.
public abstract partial class DeviceOps
{
    /// <summary>Whether the device can run ahead of the host; default false.</summary>
    internal bool RunsAhead { get; set; }

    /// <summary>Tells the device which rows come once their tokens are drawn, as <see cref="Place"/>. What a step needs is allocated here.</summary>
    /// <param name="rows">Value rows whose ids are not known, each of another sequence.</param>
    /// <param name="settings">How their tokens will be drawn.</param>
    /// <param name="a">Their activations.</param>
    /// <returns>False if the device cannot run ahead of this step: nothing has changed.</returns>
    public virtual bool PlaceNext(RowBatch rows, ReadOnlySpan<DrawSettings> settings, Activations a) => false;

    /// <summary>Draws the rows' tokens, as <see cref="Draw"/>, and leaves them on the device; waits for nothing.</summary>
    /// <param name="logits">(rows, V), of the last steps; stay as they are.</param>
    /// <param name="settings">How, as in <see cref="PlaceNext"/>.</param>
    /// <param name="a">The activations of <see cref="PlaceNext"/>.</param>
    public virtual void DrawNext(Floats logits, ReadOnlySpan<DrawSettings> settings, Activations a) => throw new NotSupportedException();

    /// <summary>Waits for the tokens, not for the step that takes them. What laws read and did in the last step is then on the host too.</summary>
    /// <param name="a">The activations of <see cref="PlaceNext"/>.</param>
    /// <param name="ids">Result // (rows); negative where a logit is not finite: the step does not count for that row.</param>
    public virtual void TakeNext(Activations a, Span<int> ids) => throw new NotSupportedException();

    /// <summary>The step counts for a row: what its law read and did is the last step's from now on.</summary>
    /// <param name="a">The activations of <see cref="PlaceNext"/>.</param>
    /// <param name="row">Which.</param>
    public virtual void KeepNext(Activations a, int row) => throw new NotSupportedException();

    /// <summary>Whether a row's bits are the same in a step of so many rows as in one of so many others.</summary>
    public virtual bool AreAlike(int rows, int others) => rows == others;
}
