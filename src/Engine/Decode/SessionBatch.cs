using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

/// <summary>One row of a batch: a session, and what draws its tokens.</summary>
/// <param name="Session">The session.</param>
/// <param name="Sampler">Belongs to the session alone. A step needs none: null is for rows whose tokens come from elsewhere.</param>
public readonly record struct BatchRow(Session Session, Sampler? Sampler = null);

/// <summary>
/// Steps several sessions of one model together, so that the weights are read once for all, and draws their tokens together. Each keeps its own
/// keys, values, feedback law and sampler. A session's result does not depend on the others. Sessions may come and go between any two calls; one
/// that is left out is as if it had never been in a batch, and may be used on another thread. During a call the batch and all its
/// sessions are in use by the calling thread: as of a <see cref="Session"/>, a second one is refused, and a disposal waits its turn.
/// </summary>
/// <example>
/// A service: before <see cref="Draw"/> new sessions join, prompts appended; after it, those that have ended leave.
/// <code>
/// batch.Draw(rows, ids);
/// // hand out the ids; remove rows whose id is one of model.EndIds, and these ids
/// batch.Step(rows, ids);
/// </code>
/// </example>
public sealed partial class SessionBatch : IDisposable
{
    private readonly LanguageModel _model;
    private readonly Turn _turn;
    private readonly Activations _activations;
    private readonly RowBatch _rows = new();

    // Of the call under way: its rows, read once from the caller's list, which may change meanwhile; and the turns it has.
    private readonly List<Turn> _taken = [];
    private BatchRow[] _read = [];

    // Logits of the last step, and where those of the next go: a call that fails leaves the last ones alone.
    private LogitRows _logits;
    private LogitRows _nextLogits;

    /// <summary>Prepares scratch for <paramref name="model"/>.</summary>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public SessionBatch(LanguageModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var use = model.Enter();
        _model = model;
        _turn = new Turn(nameof(SessionBatch), "batch", "Give each thread a batch and sessions of its own.", model.Lifetime, Free);
        _activations = model.NewActivations();
        (_logits, _nextLogits) = (new LogitRows(model), new LogitRows(model));
    }

    /// <summary>
    /// Appends one token to each session and leaves the logits where they are, for <see cref="Draw"/> or <see cref="Session.Logits"/>. Of the tokens
    /// just drawn a device may have run the step already: all of them, or those of the sessions that are left.
    /// </summary>
    /// <param name="rows">Distinct sessions of the model; their samplers are not used.</param>
    /// <param name="ids">One token for each.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <exception cref="ArgumentException">A session is there twice, the ids are not as many, or one is outside the vocabulary.</exception>
    /// <exception cref="ContextLengthException">One of them is full; none was stepped.</exception>
    /// <exception cref="ModelMismatchException">A session belongs to another model.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the batch or a session, which is named; none was stepped.</exception>
    /// <exception cref="ObjectDisposedException">The batch, a session or the model has been disposed of; none was stepped.</exception>
    public void Step(IReadOnlyList<BatchRow> rows, ReadOnlySpan<int> ids, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(rows);
        using var call = new Call(this, rows, draws: false);
        ArgumentOutOfRangeException.ThrowIfNotEqual(ids.Length, call.Rows.Length);
        StepAll(call.Rows, ids, cancellationToken);
    }

    /// <inheritdoc/>
    public void Dispose() => _turn.Close();

    private void StepAll(ReadOnlySpan<BatchRow> rows, ReadOnlySpan<int> ids, CancellationToken cancellationToken)
    {
        if (ids.IsEmpty || KeepBegun(rows, ids, cancellationToken))
        {
            return;
        }

        _begun = 0;
        _rows.Clear();
        for (int i = 0; i < rows.Length; i++)
        {
            var session = rows[i].Session;
            session.Prepare(ids.Slice(i, 1));
            _rows.Add(ids[i], session.Length, session.Cache, session.Steering);
        }

        Reserve();
        try
        {
            _model.Step(_rows, _activations, _nextLogits.First(_rows.Filled), cancellationToken);
        }
        catch (OperationCanceledException)
        {
            for (int i = 0; i < rows.Length; i++)
            {
                rows[i].Session.GiveUp();
            }

            throw;
        }

        for (int i = 0; i < rows.Length; i++)
        {
            rows[i].Session.Advance(1);
            _nextLogits.Take(rows[i].Session, i);
        }

        (_logits, _nextLogits) = (_nextLogits, _logits);
    }

    private void Free()
    {
        _activations.Dispose(); // first: it waits for a step that may be running
        _logits.Dispose();
        _nextLogits.Dispose();
    }

    // Room for the rows' step, and for what the device fills it up with.
    private void Reserve()
    {
        _rows.Filled = _model.Ops.FillUp(_rows.Values);
        _nextLogits.Clear(_rows.Filled);
        _activations.Reserve(_rows.Filled);
    }

    private ReadOnlySpan<BatchRow> Take(IReadOnlyList<BatchRow> rows, bool draws)
    {
        int count = rows.Count;
        if (_read.Length < count)
        {
            _read = new BatchRow[Math.Max(count, 2 * _read.Length)];
        }

        for (int i = 0; i < count; i++)
        {
            var (session, sampler) = _read[i] = rows[i];
            if (session is null)
            {
                throw new ArgumentException($"Session {i} is null.", nameof(rows));
            }

            if (session.Model != _model)
            {
                throw new ModelMismatchException($"Session {i} belongs to another model than its batch.");
            }

            if (!session.Turn.Take(i))
            {
                throw new ArgumentException($"Sessions {First(session.Turn)} and {i} are the same; a batch has each session once.", nameof(rows));
            }

            _taken.Add(session.Turn);
            if (draws)
            {
                var turn = sampler?.Turn ?? throw new ArgumentException($"Sampler {i} is null; a draw needs one for each session.", nameof(rows));
                if (!turn.Take(i))
                {
                    throw new ArgumentException($"Samplers {First(turn)} and {i} are the same; each session has its own.", nameof(rows));
                }

                _taken.Add(turn);
            }
        }

        return _read.AsSpan(0, count);
    }

    private int First(Turn turn) => Array.FindIndex(_read, row => row.Session.Turn == turn || row.Sampler?.Turn == turn);

    private void GiveBack()
    {
        foreach (var turn in _taken)
        {
            turn.Leave();
        }

        _taken.Clear();
        Array.Clear(_read);
    }

    /// <summary>A call of the batch, which has the turns of its sessions, and of the samplers it draws with, until it ends.</summary>
    private readonly ref struct Call : IDisposable
    {
        private readonly SessionBatch _batch;
        private readonly Turn.Call _call;

        public Call(SessionBatch batch, IReadOnlyList<BatchRow> rows, bool draws)
        {
            _batch = batch;
            _call = batch._turn.Enter();
            if (_call.IsPart)
            {
                throw new InvalidOperationException("A list that a batch was reading has called the batch.");
            }

            try
            {
                Rows = batch.Take(rows, draws);
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public ReadOnlySpan<BatchRow> Rows { get; }

        public void Dispose()
        {
            _batch.GiveBack();
            _call.Dispose();
        }
    }
}
