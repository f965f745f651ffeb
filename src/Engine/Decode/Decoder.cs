using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

/// <summary>
/// Draws and steps the tokens of rows together: of a <see cref="SessionBatch"/>'s, or of one session alone. A device that draws tokens by itself
/// begins the step that takes them before the host knows them; that step counts for the sessions that take its tokens, if they are of one kind of
/// batch with all of it (<see cref="Stepper.Begun"/>). Whoever calls has the turns of the rows' sessions and samplers.
/// </summary>
internal sealed class Decoder : IDisposable
{
    private readonly LanguageModel _model;
    private readonly Stepper _stepper;
    private DrawSettings[] _settings = [];
    private float[]? _scores;

    // Logits of the last step, and where those of the next go: a call that fails leaves the last ones alone.
    private LogitRows _logits;
    private LogitRows _nextLogits;

    /// <summary>Prepares scratch for <paramref name="model"/>.</summary>
    public Decoder(LanguageModel model)
    {
        _model = model;
        _stepper = model.NewStepper();
        (_logits, _nextLogits) = (new LogitRows(model), new LogitRows(model));
    }

    /// <summary>Scratch of its steps, which a prompt of its session may use between two of them.</summary>
    public Activations Activations => _stepper.A;

    /// <summary>Rows of the last step's logits.</summary>
    public LogitRows Logits => _logits;

    /// <summary>Appends one token to each session; their logits stay where the step wrote them.</summary>
    /// <param name="rows">The sessions.</param>
    /// <param name="ids">One token for each.</param>
    /// <param name="cancellationToken">Checked between blocks; a cancelled call appends nothing.</param>
    public void Step(ReadOnlySpan<BatchRow> rows, ReadOnlySpan<int> ids, CancellationToken cancellationToken)
    {
        if (ids.IsEmpty || KeepBegun(rows, ids, cancellationToken))
        {
            return;
        }

        var idle = _stepper.State.Drop();
        _stepper.Rows.Clear();
        for (int i = 0; i < rows.Length; i++)
        {
            var session = rows[i].Session;
            session.Prepare(ids.Slice(i, 1), cancellationToken: cancellationToken);
            _stepper.Rows.Add(ids[i], session.Length, session.Cache, session.SteeringOf(ids[i]));
        }

        var next = Reserve();
        try
        {
            idle.Run(next, cancellationToken);
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
            rows[i].Session.AdvanceOne();
            _nextLogits.Take(rows[i].Session, i);
        }

        Swap();
    }

    /// <summary>The logits of a prompt that has been run on <see cref="Activations"/>.</summary>
    /// <param name="session">Its session.</param>
    /// <param name="last">Row of the prompt's last token.</param>
    public void TakePrompt(Session session, int last)
    {
        _nextLogits.Clear(1);
        _model.Head(Activations, last, 1, _nextLogits.First(1));
        _nextLogits.Take(session, 0);
        Swap();
    }

    /// <summary>Draws the next token of each session: on a device all of them at once.</summary>
    /// <param name="rows">The sessions and what draws their tokens.</param>
    /// <param name="ids">Result: a token for each; -1 where the logits are not finite, and the sampler has not moved.</param>
    /// <param name="goesOn">Whether to begin the step that takes these tokens, where it can be.</param>
    /// <returns>The error of the first row whose logits are not finite; null if all are.</returns>
    public NonFiniteLogitsException? Draw(ReadOnlySpan<BatchRow> rows, Span<int> ids, bool goesOn)
    {
        foreach (var row in rows)
        {
            row.Session.CheckDraw(row.Sampler!);
        }

        var idle = _stepper.State.Drop();
        if (ids.IsEmpty)
        {
            return null;
        }

        // What can fail comes before the first sampler moves.
        PrepareDraw(rows);
        if (_stepper.Draws)
        {
            DrawOnDevice(idle, rows, ids, goesOn && _model.RunsAhead);
        }

        return EndDraw(rows, ids);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _stepper.Dispose(); // first: it waits for a step that may be running
        _logits.Dispose();
        _nextLogits.Dispose();
    }

    // Room for the rows' step; gives back where its logits go.
    private Floats Reserve()
    {
        int count = _stepper.Reserve();
        _nextLogits.Clear(count);
        return _nextLogits.First(count);
    }

    private void Swap() => (_logits, _nextLogits) = (_nextLogits, _logits);

    // How each is drawn on the device; or the logits, for the host.
    private void PrepareDraw(ReadOnlySpan<BatchRow> rows)
    {
        if (_settings.Length < rows.Length)
        {
            _settings = new DrawSettings[Math.Max(rows.Length, 2 * _settings.Length)];
        }

        for (int i = 0; i < rows.Length; i++)
        {
            var (session, sampler) = rows[i];
            session.Forget();
            if (_stepper.Draws)
            {
                _settings[i] = session.Settings(sampler!);
            }
            else
            {
                _ = session.Logits;
            }
        }
    }

    private void DrawOnDevice(Stepper.Idle idle, ReadOnlySpan<BatchRow> rows, Span<int> ids, bool goesOn)
    {
        var settings = _settings.AsSpan(0, rows.Length);
        Gather(rows);
        var logits = _logits.First(rows.Length);
        if ((goesOn ? GetReady(idle, rows, settings) : null) is not { } ready)
        {
            idle.Draw(logits, settings, ids);
            return;
        }

        var begun = ready.Begin(logits, settings, _nextLogits.First(_stepper.Rows.Filled), ids);
        for (int i = 0; i < rows.Length; i++)
        {
            if (ids[i] >= 0)
            {
                rows[i].Session.Begun = new BegunRow(begun, begun.Number, i, ids[i]);
            }
        }
    }

    // What the host draws; and of what the device has drawn, which count.
    private NonFiniteLogitsException? EndDraw(ReadOnlySpan<BatchRow> rows, Span<int> ids)
    {
        NonFiniteLogitsException? first = null;
        for (int i = 0; i < rows.Length; i++)
        {
            var (session, sampler) = rows[i];
            try
            {
                if (!_stepper.Draws)
                {
                    session.Logits.CopyTo(_scores ??= new float[_model.Config.V]);
                    ids[i] = sampler!.Next(_scores, session.Ids);
                }
                else if (ids[i] >= 0)
                {
                    sampler!.HasDrawn();
                }
                else
                {
                    throw NonFiniteLogitsException.Of(session.Logits);
                }
            }
            catch (NonFiniteLogitsException e)
            {
                ids[i] = -1;
                first ??= e;
            }
        }

        return first;
    }

    // Brings the sessions' logits into rows 0, 1, 2, …; they are there already where the last step was of these sessions.
    private void Gather(ReadOnlySpan<BatchRow> rows)
    {
        int there = 0;
        while (there < rows.Length && _logits.Holds(rows[there].Session, there))
        {
            there++;
        }

        if (there == rows.Length)
        {
            return;
        }

        _nextLogits.Clear(rows.Length);
        for (int i = 0; i < rows.Length; i++)
        {
            rows[i].Session.CopyLogits(_nextLogits.First(rows.Length).Slice(i, 1).Address);
            _nextLogits.Take(rows[i].Session, i);
        }

        Swap();
    }

    // Makes room for a step ahead, if it can be.
    private Stepper.Ready? GetReady(Stepper.Idle idle, ReadOnlySpan<BatchRow> rows, ReadOnlySpan<DrawSettings> settings)
    {
        try
        {
            _stepper.Rows.Clear();
            foreach (var row in rows)
            {
                if (!row.Session.AddNext(_stepper.Rows))
                {
                    return null;
                }
            }

            Reserve();
            return idle.GetReady(settings);
        }
        catch (DeviceMemoryException)
        {
            // The tokens can be drawn all the same; appending them says what there is no room for.
            return null;
        }
    }

    // The begun step is this one, or this one and rows of sessions that are left out.
    private bool KeepBegun(ReadOnlySpan<BatchRow> rows, ReadOnlySpan<int> ids, CancellationToken cancellationToken)
    {
        if (_stepper.State is not Stepper.Begun begun || !begun.Serves(ids.Length))
        {
            return false;
        }

        for (int i = 0; i < rows.Length; i++)
        {
            var its = rows[i].Session.Begun;
            if (its != new BegunRow(begun, begun.Number, its.Row, ids[i]))
            {
                return false;
            }
        }

        cancellationToken.ThrowIfCancellationRequested();
        foreach (var (session, _) in rows)
        {
            int row = session.Begun.Row;
            session.KeepBegun(begun);
            _nextLogits.Take(session, row);
        }

        Swap();
        begun.Drop();
        return true;
    }
}

/// <summary>A row of a step that a device has begun by itself: it appends a token to a session.</summary>
/// <param name="Step">The step.</param>
/// <param name="Number">Its number when it was begun: another one since is another step.</param>
/// <param name="Row">Row of the step.</param>
/// <param name="Id">The token.</param>
internal readonly record struct BegunRow(Stepper.Begun? Step, int Number, int Row, int Id);
