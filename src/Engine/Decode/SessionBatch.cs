using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

/// <summary>One row of a batch: a session and its sampler.</summary>
/// <param name="Session">The session.</param>
/// <param name="Sampler">
/// The sampler, which belongs to this session alone. A step needs none: it may be null if the tokens come from elsewhere.
/// </param>
public readonly record struct BatchRow(Session Session, Sampler? Sampler = null);

/// <summary>
/// Some sessions of a batch have logits that are not finite, so no token can be drawn from them. The tokens of the other sessions were drawn and are
/// valid.
/// </summary>
public sealed class BatchLogitsException : TillerException
{
    internal BatchLogitsException(int[] places, int count, NonFiniteLogitsException first)
        : base($"{places.Length} of {count} sessions cannot continue: those at {string.Join(", ", places)}. Leave them out; the others' ids are "
            + $"valid. The first: {first.Message}", first)
    {
        Places = places;
    }

    /// <summary>Indices of these sessions in the batch, ascending. Their ids are -1.</summary>
    public IReadOnlyList<int> Places { get; }
}

/// <summary>
/// Steps several sessions of one model together, so that the weights are read once for all of them, and draws their tokens together. Each session
/// keeps its own KV cache, feedback law and sampler. A session's result does not depend on the other sessions. Sessions may join and leave between
/// any two calls; a session that has left behaves as if it had never been in a batch, and another thread may use it. During a call the calling thread
/// uses the batch and all its sessions: as with a <see cref="Session"/>, a second thread is refused, and a disposal takes effect after the call.
/// </summary>
/// <example>
/// The loop of a service. New sessions, with their prompts appended, join before <see cref="Draw"/>; sessions that have ended leave after it.
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

    // State of the call under way: the turns it holds, and its rows, copied because the caller's list may change during the call.
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
    /// Appends one token to each session and leaves the logits on the device, for <see cref="Draw"/> or <see cref="Session.Logits"/>. If these are
    /// the tokens just drawn, for all those sessions or for some of them, the device may already have run this step.
    /// </summary>
    /// <param name="rows">Distinct sessions of the model. Their samplers are not used.</param>
    /// <param name="ids">One token for each.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <exception cref="ArgumentException">
    /// A session appears twice, the number of ids differs from the number of rows, or an id is outside the vocabulary.
    /// </exception>
    /// <exception cref="ContextLengthException">The context of one session is full. No session was stepped.</exception>
    /// <exception cref="ModelMismatchException">A session belongs to another model.</exception>
    /// <exception cref="InvalidOperationException">
    /// Another thread is using the batch or a session, which the message names. No session was stepped.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The batch, a session or the model has been disposed of. No session was stepped.</exception>
    public void Step(IReadOnlyList<BatchRow> rows, ReadOnlySpan<int> ids, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(rows);
        using var call = new Call(this, rows, draws: false);
        ArgumentOutOfRangeException.ThrowIfNotEqual(ids.Length, call.Rows.Length);
        _decoder.Step(call.Rows, ids, cancellationToken);
    }

    /// <summary>
    /// Draws the next token of each session as <see cref="Session.Draw"/> would; a device draws all of them at once. It appends no token: call
    /// <see cref="Step"/> with these ids or others, for these sessions or others.
    /// </summary>
    /// <param name="rows">
    /// Distinct sessions of the model, each with at least one token and its own sampler. A sampler made without a seed has a random seed of its own.
    /// </param>
    /// <param name="ids">Result: one token, 0..V-1, for each session.</param>
    /// <param name="goesOn">
    /// Whether most of the tokens are likely to be appended (default). If so, a device begins the step that appends them before the host knows them,
    /// unless a session's context is full. A <see cref="Step"/> of all or some of these sessions with these ids then finds its work done. After any
    /// other call for a session, the begun step is discarded for it and leaves no trace.
    /// </param>
    /// <exception cref="ArgumentException">
    /// A session or a sampler appears twice or is missing, the number of ids differs from the number of rows, or a sampler is for another vocabulary.
    /// </exception>
    /// <exception cref="ModelMismatchException">A session belongs to another model.</exception>
    /// <exception cref="InvalidOperationException">
    /// A session has no token yet, or another thread is using the batch, a session or a sampler. Nothing was drawn.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The batch, a session or the model has been disposed of. Nothing was drawn.</exception>
    /// <exception cref="DeviceMemoryException">There is not enough memory for the draw. Nothing was drawn.</exception>
    /// <exception cref="BatchLogitsException">
    /// The sessions in its <see cref="BatchLogitsException.Places"/> have logits that are not finite. Their ids are -1 and their samplers' random
    /// sequences have not advanced. The ids of the other sessions were drawn and are valid.
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

    /// <summary>A call of the batch. It holds the turns of its sessions, and of the samplers it draws with, until it ends.</summary>
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
                throw new InvalidOperationException("The list of rows called the batch while the batch was reading it.");
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
