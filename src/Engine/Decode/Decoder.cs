using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

/// <summary>
/// Draws and appends tokens for several rows together: those of a <see cref="SessionBatch"/>, or the one row of a session. A device that draws tokens
/// itself begins the step that appends them before the host knows them. That step is kept for the sessions that append the drawn tokens, if a batch
/// of these sessions alone would give the same bits (<see cref="Stepper.Begun.Serves"/>). The caller holds the turns of the rows' sessions and
/// samplers.
/// </summary>
internal sealed class Decoder : IDisposable
{
    private readonly LanguageModel _model;
    private readonly Stepper _stepper;
    private DrawSettings[] _settings = [];
    private float[]? _scores;

    // Logits of the last step, and the rows for those of the next step. A call that fails leaves the former unchanged.
    private LogitRows _logits;
    private LogitRows _nextLogits;

    /// <summary>Prepares scratch memory for <paramref name="model"/>.</summary>
    public Decoder(LanguageModel model)
    {
        _model = model;
        _stepper = model.NewStepper();
        (_logits, _nextLogits) = (new LogitRows(model), new LogitRows(model));
    }

    /// <summary>Scratch memory of the steps. A prompt of the session may use it between two steps.</summary>
    public Activations Activations => _stepper.A;

    /// <summary>Rows of the last step's logits.</summary>
    public LogitRows Logits => _logits;

    /// <summary>Appends one token to each session. The logits stay where the step wrote them.</summary>
    /// <param name="rows">The sessions.</param>
    /// <param name="ids">One token for each session.</param>
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

    /// <summary>Computes the logits of a prompt that has been run on <see cref="Activations"/>.</summary>
    /// <param name="session">The prompt's session.</param>
    /// <param name="last">The row of the prompt's last token.</param>
    public void TakePrompt(Session session, int last)
    {
        _nextLogits.Clear(1);
        _model.Head(Activations, last, 1, _nextLogits.First(1));
        _nextLogits.Take(session, 0);
        Swap();
    }

    /// <summary>Takes over the logits of a session with the same tokens.</summary>
    /// <param name="session">Gets them.</param>
    /// <param name="from">Has them.</param>
    public void TakeLogits(Session session, Session from)
    {
        _nextLogits.Clear(1);
        from.CopyLogits(_nextLogits.First(1).Address);
        _nextLogits.Take(session, 0);
        Swap();
    }

    /// <summary>Draws the next token of each session; a device draws all of them at once.</summary>
    /// <param name="rows">The sessions and their samplers.</param>
    /// <param name="ids">
    /// Result: one token for each session, or -1 if its logits are not finite. In that case its sampler's random sequence has not advanced.
    /// </param>
    /// <param name="goesOn">Whether to begin the step that appends these tokens, if the device can.</param>
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

        // Everything that can fail comes before the first sampler advances.
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

    // Makes room for the step of the rows, and returns the rows for its logits.
    private Floats Reserve()
    {
        int count = _stepper.Reserve();
        _nextLogits.Clear(count);
        return _nextLogits.First(count);
    }

    private void Swap() => (_logits, _nextLogits) = (_nextLogits, _logits);

    // Collects how the device draws each token; if the host draws, downloads the logits.
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

    // Draws on the host, or checks what the device has drawn.
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

    // Copies the sessions' logits to rows 0, 1, 2, …. They are already there if the last step was a step of these sessions.
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

    // Makes room for the next step, if the device can begin it before the host knows its tokens.
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
            // The tokens can still be drawn. Appending them will report the lack of memory.
            return null;
        }
    }

    // Accepts the begun step if it is this one, possibly with further rows of sessions that have left.
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

/// <summary>A row of a step that a device has already begun. The row appends a token to a session.</summary>
/// <param name="Step">The step.</param>
/// <param name="Number">The step's number when it began. A different number later means a different step.</param>
/// <param name="Row">Index of the row in the step.</param>
/// <param name="Id">The token.</param>
internal readonly record struct BegunRow(Stepper.Begun? Step, int Number, int Row, int Id);
