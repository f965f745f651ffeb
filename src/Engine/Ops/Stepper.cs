using Tiller.Checkpoint;
using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>The stages of a step: <see cref="DeviceOps.Begin"/> with the embedding, all blocks, and the head of every value row.</summary>
/// <param name="rows">The batch.</param>
/// <param name="a">Its activations.</param>
/// <param name="logits">Gets the logits // (<see cref="RowBatch.Filled"/>, V).</param>
/// <param name="cancellationToken">Checked between blocks.</param>
internal delegate void StepStages(RowBatch rows, Activations a, Floats logits, CancellationToken cancellationToken);

/// <summary>
/// Runs the steps of one batch on a device: what comes again and again with other tokens. It owns the batch's rows and activations, and knows what
/// the device has begun of the next step by itself; what may be done then is a member of the <see cref="State"/>, and a state that has
/// passed refuses.
/// </summary>
/// <remarks>
/// <see cref="Idle"/> → <see cref="Idle.GetReady"/> → <see cref="Ready"/> → <see cref="Ready.Begin"/> → <see cref="Begun"/>; from each
/// <see cref="StepState.Drop"/> leads back to <see cref="Idle"/>.
/// </remarks>
internal abstract class Stepper : IDisposable
{
    private readonly Idle _idle;
    private readonly Ready _ready;
    private readonly Begun _begun;

    /// <summary>Prepares a batch without rows.</summary>
    /// <param name="ops">The device.</param>
    /// <param name="c">Shape of the model.</param>
    /// <param name="stages">What a step runs.</param>
    protected Stepper(DeviceOps ops, ModelConfig c, StepStages stages)
    {
        (Config, Stages, A) = (c, stages, new Activations(ops, c));
        (_idle, _ready, _begun) = (new Idle(this), new Ready(this), new Begun(this));
        State = _idle;
    }

    /// <summary>What the device is doing of the next step.</summary>
    public StepState State { get; private set; }

    /// <summary>The rows to be stepped; the caller clears and adds them.</summary>
    public RowBatch Rows { get; } = new();

    /// <summary>Activations of the rows. A prompt may use them between two steps.</summary>
    public Activations A { get; }

    /// <summary>Whether the device draws tokens from the model's logits; else the host has to.</summary>
    public virtual bool Draws => false;

    /// <summary>Shape of the model.</summary>
    protected ModelConfig Config { get; }

    /// <summary>What a step runs.</summary>
    protected StepStages Stages { get; }

    /// <summary>Makes room for the rows, and for those that the device fills them up with.</summary>
    /// <returns>Rows of logits that the step writes.</returns>
    /// <exception cref="DeviceMemoryException">There is no room.</exception>
    public int Reserve()
    {
        Rows.Filled = FillUp(Rows.Values);
        A.Reserve(Math.Max(Rows.Filled, Rows.Total));
        return Rows.Filled;
    }

    /// <inheritdoc/>
    public void Dispose() => A.Dispose();

    /// <summary>Value rows that a step of so many, each of another sequence, is run as on this device.</summary>
    protected virtual int FillUp(int values) => values;

    /// <summary>Runs the rows' step.</summary>
    protected virtual void Run(Floats logits, CancellationToken cancellationToken) => Stages(Rows, A, logits, cancellationToken);

    /// <summary>
    /// Draws a token from each row of logits without taking them to the host, and waits for the tokens; negative where a logit is not finite.
    /// </summary>
    protected virtual void Draw(Floats logits, ReadOnlySpan<DrawSettings> settings, Span<int> ids) => throw new NotSupportedException();

    /// <summary>
    /// Tells the device which rows come once their tokens are drawn, and allocates what that step needs. False if it cannot run ahead.
    /// </summary>
    protected virtual bool PlaceNext(ReadOnlySpan<DrawSettings> settings) => false;

    /// <summary>
    /// Draws the rows' tokens, begins the step that takes them, and waits for the tokens alone. Comes after <see cref="PlaceNext"/>.
    /// </summary>
    protected virtual void RunNext(Floats logits, ReadOnlySpan<DrawSettings> settings, Floats next, Span<int> ids)
        => throw new NotSupportedException();

    /// <summary>The begun step counts for a row: what its law read and did is the last step's from now on.</summary>
    protected virtual void KeepNext(int row) => throw new NotSupportedException();

    /// <summary>Whether a row's bits are the same in a step of so many rows as in one of so many others.</summary>
    protected virtual bool AreAlike(int rows, int others) => rows == others;

    private T Become<T>(T state)
        where T : StepState
    {
        State = state;
        return state;
    }

    /// <summary>What the device is doing of a batch's next step.</summary>
    internal abstract class StepState(Stepper stepper)
    {
        /// <summary>The stepper, if this is its state.</summary>
        /// <exception cref="InvalidOperationException">It is not.</exception>
        protected Stepper Stepper => stepper.State == this
            ? stepper
            : throw new InvalidOperationException($"The stepper is {stepper.State.GetType().Name}, no longer {GetType().Name}: "
                + "take its State again.");

        /// <summary>Whatever has been begun is for nothing, and leaves no trace.</summary>
        public Idle Drop() => Stepper.Become(Stepper._idle);
    }

    /// <summary>Nothing has been begun.</summary>
    internal sealed class Idle(Stepper stepper) : StepState(stepper)
    {
        /// <summary>Runs the rows' step.</summary>
        /// <param name="logits">Gets the logits // (what <see cref="Stepper.Reserve"/> gave back, V).</param>
        /// <param name="cancellationToken">Checked between blocks; the logits of a cancelled step mean nothing.</param>
        public void Run(Floats logits, CancellationToken cancellationToken)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Stepper.Run(logits, cancellationToken);
        }

        /// <summary>
        /// Draws a token from each row of logits where they are, and waits for the tokens. Only where the device <see cref="Draws"/>.
        /// </summary>
        /// <param name="logits">(rows, V); stay as they are.</param>
        /// <param name="settings">How // (rows).</param>
        /// <param name="ids">Result // (rows); negative where a logit is not finite.</param>
        public void Draw(Floats logits, ReadOnlySpan<DrawSettings> settings, Span<int> ids) => Stepper.Draw(logits, settings, ids);

        /// <summary>Readies a step that the device begins by itself; what it needs is allocated here.</summary>
        /// <param name="settings">How the tokens of the rows, whose ids are not known, will be drawn.</param>
        /// <returns>Null if the device cannot run ahead of the host in this step.</returns>
        /// <exception cref="DeviceMemoryException">There is no room.</exception>
        public Ready? GetReady(ReadOnlySpan<DrawSettings> settings) => Stepper.PlaceNext(settings) ? Stepper.Become(Stepper._ready) : null;
    }

    /// <summary>The device knows the next step's rows but not their tokens.</summary>
    internal sealed class Ready(Stepper stepper) : StepState(stepper)
    {
        /// <summary>Draws the tokens and begins the step that takes them; waits for the tokens, not for the step.</summary>
        /// <param name="logits">(rows, V), of the last steps; stay as they are.</param>
        /// <param name="settings">How, as in <see cref="Idle.GetReady"/>.</param>
        /// <param name="next">Gets the logits of the begun step.</param>
        /// <param name="ids">Result // (rows); negative where a logit is not finite: the step does not count for that row.</param>
        public Begun Begin(Floats logits, ReadOnlySpan<DrawSettings> settings, Floats next, Span<int> ids)
        {
            var its = Stepper;
            its.Become(its._idle); // should it fail
            its.RunNext(logits, settings, next, ids);
            return its.Become(its._begun.With(settings.Length));
        }
    }

    /// <summary>
    /// The device has begun the step that takes the tokens it has drawn. A row for which it does not count is forgotten: whatever comes next
    /// overwrites its keys and values, and its last step's state was not touched.
    /// </summary>
    internal sealed class Begun(Stepper stepper) : StepState(stepper)
    {
        private int _rows;

        /// <summary>Which of the steps that have been begun.</summary>
        public int Number { get; private set; }

        /// <summary>Whether the rows of a step of so many would have the same bits.</summary>
        public bool Serves(int rows) => Stepper.AreAlike(rows, _rows);

        /// <summary>It counts for a row.</summary>
        public void Keep(int row) => Stepper.KeepNext(row);

        internal Begun With(int rows)
        {
            (_rows, Number) = (rows, Number + 1);
            return this;
        }
    }
}
