using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

/// <summary>
/// Steps several sessions of one model together, so that the weights are read once for all, and draws their tokens together. Each keeps its own
/// keys, values, feedback law and sampler. A session's result does not depend on the others. Sessions may come and go between any two calls; one
/// that is left out is as if it had never been in a batch, and may be used on another thread. During a call the batch and all its
/// sessions are in use by the calling thread: as of a <see cref="Session"/>, a second one is refused, and a disposal waits its turn.
/// </summary>
/// <example>
/// A service: before <see cref="Draw"/> new sessions join, prompts appended; after it, those that have ended leave.
/// <code>
/// batch.Draw(sessions, samplers, ids);
/// // hand out the ids; remove sessions whose id is one of model.EndIds from the three lists
/// batch.Step(sessions, ids);
/// </code>
/// </example>
public sealed partial class SessionBatch : IDisposable
{
    private readonly LanguageModel _model;
    private readonly Turn _turn;
    private readonly Activations _activations;
    private readonly RowBatch _rows = new();

    // Of the call under way: its sessions and samplers, read once from the caller's lists, which may change meanwhile; and the turns it has.
    private readonly List<Turn> _taken = [];
    private Session[] _sessions = [];
    private Sampler[] _samplers = [];

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
    /// <param name="sessions">Distinct sessions of the model.</param>
    /// <param name="ids">One token for each.</param>
    /// <param name="cancellationToken">Looked at between blocks.</param>
    /// <exception cref="ArgumentException">A session is there twice, the ids are not as many, or one is outside the vocabulary.</exception>
    /// <exception cref="ContextLengthException">One of them is full; none was stepped.</exception>
    /// <exception cref="ModelMismatchException">A session belongs to another model.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the batch or a session, which is named; none was stepped.</exception>
    /// <exception cref="ObjectDisposedException">The batch, a session or the model has been disposed of; none was stepped.</exception>
    public void Step(IReadOnlyList<Session> sessions, ReadOnlySpan<int> ids, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(sessions);
        using var call = new Call(this, sessions, samplers: []);
        ArgumentOutOfRangeException.ThrowIfNotEqual(ids.Length, call.Sessions.Length);
        StepAll(call.Sessions, ids, cancellationToken);
    }

    /// <inheritdoc/>
    public void Dispose() => _turn.Close();

    private void StepAll(ReadOnlySpan<Session> sessions, ReadOnlySpan<int> ids, CancellationToken cancellationToken)
    {
        if (ids.IsEmpty || KeepBegun(sessions, ids, cancellationToken))
        {
            return;
        }

        _begun = 0;
        _rows.Clear();
        for (int i = 0; i < sessions.Length; i++)
        {
            sessions[i].Prepare(ids.Slice(i, 1));
            _rows.Add(ids[i], sessions[i].Length, sessions[i].Cache, sessions[i].Steering);
        }

        Reserve();
        try
        {
            _model.Step(_rows, _activations, _nextLogits.First(_rows.Filled), cancellationToken);
        }
        catch (OperationCanceledException)
        {
            for (int i = 0; i < sessions.Length; i++)
            {
                sessions[i].GiveUp();
            }

            throw;
        }

        for (int i = 0; i < sessions.Length; i++)
        {
            sessions[i].Advance(1);
            _nextLogits.Take(sessions[i], i);
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

    private ReadOnlySpan<Session> Take(IReadOnlyList<Session> sessions)
    {
        int count = sessions.Count;
        MakeRoom(ref _sessions, count);
        for (int i = 0; i < count; i++)
        {
            var session = sessions[i] ?? throw new ArgumentException($"Session {i} is null.", nameof(sessions));
            if (session.Model != _model)
            {
                throw new ModelMismatchException($"Session {i} belongs to another model than its batch.");
            }

            _sessions[i] = session;
            if (!session.Turn.Take(i))
            {
                int first = Array.IndexOf(_sessions, session);
                throw new ArgumentException($"Sessions {first} and {i} are the same; a batch has each session once.", nameof(sessions));
            }

            _taken.Add(session.Turn);
        }

        return _sessions.AsSpan(0, count);
    }

    private ReadOnlySpan<Sampler> Take(IReadOnlyList<Sampler> samplers)
    {
        int count = samplers.Count;
        MakeRoom(ref _samplers, count);
        for (int i = 0; i < count; i++)
        {
            var sampler = samplers[i] ?? throw new ArgumentException($"Sampler {i} is null.", nameof(samplers));
            _samplers[i] = sampler;
            if (!sampler.Turn.Take(i))
            {
                int first = Array.IndexOf(_samplers, sampler);
                throw new ArgumentException($"Samplers {first} and {i} are the same; each session has its own.", nameof(samplers));
            }

            _taken.Add(sampler.Turn);
        }

        return _samplers.AsSpan(0, count);
    }

    private void GiveBack()
    {
        foreach (var turn in _taken)
        {
            turn.Leave();
        }

        _taken.Clear();
        Array.Clear(_sessions);
        Array.Clear(_samplers);
    }

    private static void MakeRoom<T>(ref T[] array, int count)
    {
        if (array.Length < count)
        {
            array = new T[Math.Max(count, 2 * array.Length)];
        }
    }

    /// <summary>A call of the batch, which has the turn of its sessions and samplers too until it ends.</summary>
    private readonly ref struct Call : IDisposable
    {
        private readonly SessionBatch _batch;
        private readonly Turn.Call _call;

        public Call(SessionBatch batch, IReadOnlyList<Session> sessions, IReadOnlyList<Sampler> samplers)
        {
            _batch = batch;
            _call = batch._turn.Enter();
            if (_call.IsPart)
            {
                throw new InvalidOperationException("A list that a batch was reading has called the batch.");
            }

            try
            {
                Sessions = batch.Take(sessions);
                Samplers = batch.Take(samplers);
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public ReadOnlySpan<Session> Sessions { get; }

        public ReadOnlySpan<Sampler> Samplers { get; }

        public void Dispose()
        {
            _batch.GiveBack();
            _call.Dispose();
        }
    }
}
