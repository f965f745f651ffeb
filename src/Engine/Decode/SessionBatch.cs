using Tiller.Model;
using Tiller.Tensors;

namespace Tiller.Decode;

/// <summary>
/// Steps several sessions of one model together, so that the weights are read once for all, and draws their tokens together. Each keeps its own
/// keys, values, feedback law and sampler. A session's result does not depend on the others. Sessions may come and go between any two calls; one
/// that is left out is as if it had never been in a batch. Not thread-safe, but sessions that were left out may be used on other threads.
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
    private readonly Activations _activations;
    private readonly RowBatch _rows = new();

    // Logits of the last step, and where those of the next go: a call that fails leaves the last ones alone.
    private LogitRows _logits;
    private LogitRows _nextLogits;

    /// <summary>Prepares scratch for <paramref name="model"/>.</summary>
    public SessionBatch(LanguageModel model)
    {
        _model = model;
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
    public void Step(IReadOnlyList<Session> sessions, ReadOnlySpan<int> ids, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(ids.Length, sessions.Count);
        Check(sessions);
        if (ids.IsEmpty || KeepBegun(sessions, ids, cancellationToken))
        {
            return;
        }

        _begun = 0;
        _rows.Clear();
        for (int i = 0; i < sessions.Count; i++)
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
            for (int i = 0; i < sessions.Count; i++)
            {
                sessions[i].GiveUp();
            }

            throw;
        }

        for (int i = 0; i < sessions.Count; i++)
        {
            sessions[i].Advance(1);
            _nextLogits.Take(sessions[i], i);
        }

        (_logits, _nextLogits) = (_nextLogits, _logits);
    }

    /// <inheritdoc/>
    public void Dispose()
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

    private void Check(IReadOnlyList<Session> sessions)
    {
        for (int i = 0; i < sessions.Count; i++)
        {
            if (sessions[i].Model != _model)
            {
                throw new ModelMismatchException($"Session {i} belongs to another model than its batch.");
            }

            sessions[i].PlaceInBatch = i;
        }

        for (int i = 0; i < sessions.Count; i++)
        {
            if (sessions[i].PlaceInBatch != i)
            {
                throw new ArgumentException($"Sessions {i} and {sessions[i].PlaceInBatch} are the same; a batch has each session once.", nameof(sessions));
            }
        }
    }
}
