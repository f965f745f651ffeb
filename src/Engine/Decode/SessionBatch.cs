using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

/// <summary>One row of a batch: a session, and what draws its tokens.</summary>
/// <param name="Session">The session.</param>
/// <param name="Sampler">Belongs to the session alone. A step needs none: null is for rows whose tokens come from elsewhere.</param>
public readonly record struct BatchRow(Session Session, Sampler? Sampler = null);

/// <summary>Some sessions of a batch have logits that no token can be drawn from. The tokens of the others were drawn and count.</summary>
public sealed class BatchLogitsException : TillerException
{
    internal BatchLogitsException(int[] places, int count, NonFiniteLogitsException first)
        : base($"Of {count} sessions, {places.Length} cannot go on: those at {string.Join(", ", places)}. Leave them out; the others' ids count. "
            + $"Of the first: {first.Message}", first)
    {
        Places = places;
    }

    /// <summary>Places of these sessions in the batch, rising; their ids are -1.</summary>
    public IReadOnlyList<int> Places { get; }
}

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
public sealed class SessionBatch : IDisposable
{
    private readonly LanguageModel _model;
    private readonly Turn _turn;
    private readonly Decoder _decoder;

    // Of the call under way: its rows, read once from the caller's list, which may change meanwhile; and the turns it has.
    private readonly List<Turn> _taken = [];
    private BatchRow[] _read = [];

    /// <summary>Prepares scratch for <paramref name="model"/>.</summary>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public SessionBatch(LanguageModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var use = model.Enter();
        _model = model;
        _decoder = new Decoder(model);
        _turn = new Turn(nameof(SessionBatch), "batch", "Give each thread a batch and sessions of its own.", model.Lifetime, _decoder.Dispose);
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
        _decoder.Step(call.Rows, ids, cancellationToken);
    }

    /// <summary>
    /// Draws the next token of each session, as <see cref="Session.Draw"/> would alone: on a device all of them at once. No token is appended: that
    /// is <see cref="Step"/>, with these ids or others, of these sessions or others.
    /// </summary>
    /// <param name="rows">
    /// Distinct sessions of the model, each with a token at least and a sampler. Of samplers made without a seed each has one of its own.
    /// </param>
    /// <param name="ids">Result: a token, 0..V-1, for each.</param>
    /// <param name="goesOn">
    /// Whether most are likely to be appended (default). A device that draws all of them then begins the step that takes them before the host knows
    /// them, unless a session is full. <see cref="Step"/> of some of these sessions with their ids finds its work done; any other call for a session
    /// makes the begun step one for nothing, of which no trace is left.
    /// </param>
    /// <exception cref="ArgumentException">
    /// A session or a sampler is there twice or missing, the ids are not as many, or a sampler is for another vocabulary.
    /// </exception>
    /// <exception cref="ModelMismatchException">A session belongs to another model.</exception>
    /// <exception cref="InvalidOperationException">
    /// A session has no token yet; or another thread is using the batch, a session or a sampler. Nothing was drawn.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The batch, a session or the model has been disposed of; nothing was drawn.</exception>
    /// <exception cref="DeviceMemoryException">There is no room to draw in; nothing was drawn.</exception>
    /// <exception cref="BatchLogitsException">
    /// Sessions that it names have logits that are not finite. Their ids are -1 and their samplers have not moved; the others' ids were drawn and
    /// count.
    /// </exception>
    public void Draw(IReadOnlyList<BatchRow> rows, Span<int> ids, bool goesOn = true)
    {
        ArgumentNullException.ThrowIfNull(rows);
        using var call = new Call(this, rows, draws: true);
        ArgumentOutOfRangeException.ThrowIfNotEqual(ids.Length, call.Rows.Length);
        if (_decoder.Draw(call.Rows, ids, goesOn) is { } first)
        {
            var places = new List<int>();
            for (int i = 0; i < ids.Length; i++)
            {
                if (ids[i] < 0)
                {
                    places.Add(i);
                }
            }

            throw new BatchLogitsException([.. places], ids.Length, first);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _turn.Close();

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
