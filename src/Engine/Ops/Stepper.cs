using Tiller.Checkpoint;
using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>Runs the stages of a step: <see cref="DeviceOps.Begin"/> with the embedding, all blocks, and the head for every value row.</summary>
/// <param name="rows">The batch.</param>
/// <param name="a">Its activations.</param>
/// <param name="logits">Gets the logits // (<see cref="RowBatch.Filled"/>, V).</param>
/// <param name="cancellationToken">Checked between blocks.</param>
internal delegate void StepStages(RowBatch rows, Activations a, Floats logits, CancellationToken cancellationToken);

/// <summary>
/// Runs the steps of one batch on a device, one after another with new tokens. It owns the batch's rows and activations, and tracks whether the
/// device has already begun the next step. The operations that are allowed at any time are the members of the current <see cref="State"/>; an object
/// of an earlier state throws.
/// </summary>
/// <remarks>
/// <see cref="Idle"/> → <see cref="Idle.GetReady"/> → <see cref="Ready"/> → <see cref="Ready.Begin"/> → <see cref="Begun"/>; from each state
/// <see cref="StepState.Drop"/> leads back to <see cref="Idle"/>.
/// </remarks>
internal abstract class Stepper : IDisposable
{
    private readonly Idle _idle;
    private readonly Ready _ready;
    private readonly Begun _begun;

    /// <summary>Creates a stepper whose batch is empty.</summary>
    /// <param name="ops">The device.</param>
    /// <param name="c">The model's shape.</param>
    /// <param name="stages">Runs the stages of a step.</param>
    protected Stepper(DeviceOps ops, ModelConfig c, StepStages stages)
    {
        (Config, Stages, A) = (c, stages, new Activations(ops, c));
        (_idle, _ready, _begun) = (new Idle(this), new Ready(this), new Begun(this));
        State = _idle;
    }

    /// <summary>How far the device is with the next step.</summary>
    public StepState State { get; private set; }

    /// <summary>The rows of the step. The caller clears and adds them.</summary>
    public RowBatch Rows { get; } = new();

    /// <summary>The activations of the rows. A prompt may use them between two steps.</summary>
    public Activations A { get; }

    /// <summary>Whether the device draws tokens from the model's logits. If not, the host must draw them.</summary>
    public virtual bool Draws => false;

    /// <summary>The model's shape.</summary>
    protected ModelConfig Config { get; }

    /// <summary>Runs the stages of a step.</summary>
    protected StepStages Stages { get; }

    /// <summary>Makes room for the rows and for the padding rows that the device adds.</summary>
    /// <returns>The number of rows of logits that the step writes.</returns>
    /// <exception cref="DeviceMemoryException">There is no room.</exception>
    public int Reserve()
    {
        Rows.Filled = FillUp(Rows.Values);
        A.Reserve(Math.Max(Rows.Filled, Rows.Total));
        return Rows.Filled;
    }

    /// <inheritdoc/>
    public void Dispose() => A.Dispose();

    /// <summary>
    /// The number of value rows that this device runs for a step of <paramref name="values"/> rows: at least as many. Each value row belongs to
    /// another sequence; the rest is padding.
    /// </summary>
    protected virtual int FillUp(int values) => values;

    /// <summary>Runs the step of <see cref="Rows"/>.</summary>
    protected virtual void Run(Floats logits, CancellationToken cancellationToken) => Stages(Rows, A, logits, cancellationToken);

    /// <summary>
    /// Draws a token from each row of logits on the device, and waits for the tokens. The id is negative if a logit of the row is not finite.
    /// </summary>
    protected virtual void Draw(Floats logits, ReadOnlySpan<DrawSettings> settings, Span<int> ids) => throw new NotSupportedException();

    /// <summary>
    /// Tells the device the rows of the next step, whose tokens are not drawn yet, and allocates what that step needs. False if the device cannot run
    /// ahead of the host.
    /// </summary>
    protected virtual bool PlaceNext(ReadOnlySpan<DrawSettings> settings) => false;

    /// <summary>
    /// Draws the tokens of the rows, begins the step that appends them, and waits for the tokens but not for the step. <see cref="PlaceNext"/> must
    /// come first.
    /// </summary>
    protected virtual void RunNext(Floats logits, ReadOnlySpan<DrawSettings> settings, Floats next, Span<int> ids)
        => throw new NotSupportedException();

    /// <summary>Accepts the begun step for a row: what its law read and did in that step becomes the state of its last step.</summary>
    protected virtual void KeepNext(int row) => throw new NotSupportedException();

    /// <summary>
    /// Whether a row's results are bit for bit the same in a step of <paramref name="rows"/> rows as in one of <paramref name="others"/> rows.
    /// </summary>
    protected virtual bool AreAlike(int rows, int others) => rows == others;

    private T Become<T>(T state)
        where T : StepState
    {
        State = state;
        return state;
    }

    /// <summary>How far the device is with the next step of a batch.</summary>
    internal abstract class StepState(Stepper stepper)
    {
        /// <summary>The stepper, if this is its current state.</summary>
        /// <exception cref="InvalidOperationException">The stepper is in another state.</exception>
        protected Stepper Stepper => stepper.State == this
            ? stepper
            : throw new InvalidOperationException($"The stepper is {stepper.State.GetType().Name}, no longer {GetType().Name}: "
                + "take its State again.");

        /// <summary>Discards whatever has been begun. It leaves no trace.</summary>
        public Idle Drop() => Stepper.Become(Stepper._idle);
    }

    /// <summary>No step has been begun.</summary>
    internal sealed class Idle(Stepper stepper) : StepState(stepper)
    {
        /// <summary>Runs the step of <see cref="Rows"/>.</summary>
        /// <param name="logits">Gets the logits // (result of <see cref="Stepper.Reserve"/>, V).</param>
        /// <param name="cancellationToken">Checked between blocks. The logits of a cancelled step are not valid.</param>
        public void Run(Floats logits, CancellationToken cancellationToken)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Stepper.Run(logits, cancellationToken);
        }

        /// <summary>Draws a token from each row of logits on the device, and waits for the tokens. Requires <see cref="Draws"/>.</summary>
        /// <param name="logits">The logits // (rows, V); they are not changed.</param>
        /// <param name="settings">How each token is drawn // (rows).</param>
        /// <param name="ids">Result // (rows); negative if a logit of the row is not finite.</param>
        public void Draw(Floats logits, ReadOnlySpan<DrawSettings> settings, Span<int> ids) => Stepper.Draw(logits, settings, ids);

        /// <summary>Prepares a step that the device begins by itself, and allocates what it needs.</summary>
        /// <param name="settings">How the tokens of the rows will be drawn; their ids are not known yet.</param>
        /// <returns>Null if the device cannot run ahead of the host in this step.</returns>
        /// <exception cref="DeviceMemoryException">There is no room.</exception>
        public Ready? GetReady(ReadOnlySpan<DrawSettings> settings) => Stepper.PlaceNext(settings) ? Stepper.Become(Stepper._ready) : null;
    }

    /// <summary>The device knows the rows of the next step but not their tokens.</summary>
    internal sealed class Ready(Stepper stepper) : StepState(stepper)
    {
        /// <summary>Draws the tokens and begins the step that appends them. It waits for the tokens but not for the step.</summary>
        /// <param name="logits">The logits of the last steps // (rows, V); they are not changed.</param>
        /// <param name="settings">How each token is drawn, as given to <see cref="Idle.GetReady"/>.</param>
        /// <param name="next">Gets the logits of the begun step.</param>
        /// <param name="ids">Result // (rows); negative if a logit of the row is not finite. The begun step must not be kept for such a row.</param>
        public Begun Begin(Floats logits, ReadOnlySpan<DrawSettings> settings, Floats next, Span<int> ids)
        {
            var its = Stepper;
            its.Become(its._idle); // in case the next line throws
            its.RunNext(logits, settings, next, ids);
            return its.Become(its._begun.With(settings.Length));
        }
    }

    /// <summary>
    /// The device has begun the step that appends the tokens it has drawn. A row that is not kept leaves no trace: the next step overwrites its keys
    /// and values, and the state of its last step was not touched.
    /// </summary>
    internal sealed class Begun(Stepper stepper) : StepState(stepper)
    {
        private int _rows;

        /// <summary>Number of the begun step, counted up with every step that the device begins.</summary>
        public int Number { get; private set; }

        /// <summary>Whether a step of <paramref name="rows"/> rows would give these rows the same bits.</summary>
        public bool Serves(int rows) => Stepper.AreAlike(rows, _rows);

        /// <summary>Accepts the step for a row.</summary>
        public void Keep(int row) => Stepper.KeepNext(row);

        internal Begun With(int rows)
        {
            (_rows, Number) = (rows, Number + 1);
            return this;
        }
    }
}
