using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

/// <summary>
/// Draws and steps the tokens of rows together: of a <see cref="SessionBatch"/>'s, or of one session alone. A device that draws tokens by itself
/// begins the step that takes them before the host knows them; that step counts for the sessions that take its tokens, if they are of one kind of
/// batch (<see cref="DeviceOps.AreAlike"/>) with all of it. Whoever calls has the turns of the rows' sessions and samplers.
/// </summary>
internal sealed class Decoder : IDisposable
{
    private readonly LanguageModel _model;
    private readonly RowBatch _rows = new();
    private DrawSettings[] _settings = [];
    private float[]? _scores;
    private int _begun;   // rows of a step that the device has begun by itself
    private int _beginnings;

    // Logits of the last step, and where those of the next go: a call that fails leaves the last ones alone.
    private LogitRows _logits;
    private LogitRows _nextLogits;

    /// <summary>Prepares scratch for <paramref name="model"/>.</summary>
    public Decoder(LanguageModel model)
    {
        _model = model;
        Activations = model.NewActivations();
        (_logits, _nextLogits) = (new LogitRows(model), new LogitRows(model));
    }

    /// <summary>Scratch of its steps, which a prompt of its session may use between two of them.</summary>
    public Activations Activations { get; }

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
            _model.Step(_rows, Activations, _nextLogits.First(_rows.Filled), cancellationToken);
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

    /// <summary>
    /// Draws the next token of each session: on a device all of them at once, but for those that the host has to draw (a repetition penalty).
    /// </summary>
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

        _begun = 0;
        if (ids.IsEmpty)
        {
            return null;
        }

        // What can fail comes before the first sampler moves.
        int onHost = PrepareDraw(rows);
        if (onHost < ids.Length)
        {
            DrawOnDevice(rows, ids, goesOn && onHost == 0);
        }

        return EndDraw(rows, ids);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Activations.Dispose(); // first: it waits for a step that may be running
        _logits.Dispose();
        _nextLogits.Dispose();
    }

    // Room for the rows' step, and for what the device fills it up with.
    private void Reserve()
    {
        _rows.Filled = _model.Ops.FillUp(_rows.Values);
        _nextLogits.Clear(_rows.Filled);
        Activations.Reserve(_rows.Filled);
    }

    private void Swap() => (_logits, _nextLogits) = (_nextLogits, _logits);

    // How each is drawn on the device; fetches the logits of those that the host draws, and counts them.
    private int PrepareDraw(ReadOnlySpan<BatchRow> rows)
    {
        if (_settings.Length < rows.Length)
        {
            _settings = new DrawSettings[Math.Max(rows.Length, 2 * _settings.Length)];
        }

        bool onDevice = _model.Ops.Draws(_model.Config.V);
        int onHost = 0;
        for (int i = 0; i < rows.Length; i++)
        {
            rows[i].Session.Forget();
            var settings = onDevice ? rows[i].Sampler!.OnDevice : null;
            _settings[i] = settings ?? default;
            if (settings is null)
            {
                _ = rows[i].Session.Logits;
                onHost++;
            }
        }

        return onHost;
    }

    // Rows that the host draws are drawn too, greedily, to no use.
    private void DrawOnDevice(ReadOnlySpan<BatchRow> rows, Span<int> ids, bool goesOn)
    {
        var settings = _settings.AsSpan(0, rows.Length);
        Gather(rows);
        var logits = _logits.First(rows.Length);
        if (!goesOn || !PlaceNext(rows, settings))
        {
            _model.Ops.Draw(logits, settings, ids);
            return;
        }

        _model.Ops.DrawNext(logits, settings, Activations);
        _model.StepPlaced(_rows, Activations, _nextLogits.First(_rows.Filled), CancellationToken.None);
        _model.Ops.TakeNext(Activations, ids);
        (_begun, _beginnings) = (rows.Length, _beginnings + 1);
        for (int i = 0; i < rows.Length; i++)
        {
            if (ids[i] >= 0)
            {
                rows[i].Session.Begun = new BegunRow(this, _beginnings, i, ids[i]);
            }
        }
    }

    // What the host draws; and of what the device has drawn, which count.
    private NonFiniteLogitsException? EndDraw(ReadOnlySpan<BatchRow> rows, Span<int> ids)
    {
        bool onDevice = _model.Ops.Draws(_model.Config.V);
        NonFiniteLogitsException? first = null;
        for (int i = 0; i < rows.Length; i++)
        {
            var (session, sampler) = rows[i];
            try
            {
                if (!onDevice || sampler!.OnDevice is null)
                {
                    session.Logits.CopyTo(_scores ??= new float[_model.Config.V]);
                    ids[i] = sampler!.Next(_scores, session.Ids);
                }
                else if (ids[i] >= 0)
                {
                    sampler.HasDrawn();
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
    private bool PlaceNext(ReadOnlySpan<BatchRow> rows, ReadOnlySpan<DrawSettings> settings)
    {
        if (!_model.Ops.RunsAhead)
        {
            return false;
        }

        try
        {
            _rows.Clear();
            foreach (var row in rows)
            {
                if (!row.Session.AddNext(_rows))
                {
                    return false;
                }
            }

            Reserve();
            return _model.Ops.PlaceNext(_rows, settings, Activations);
        }
        catch (DeviceMemoryException)
        {
            // The tokens can be drawn all the same; appending them says what there is no room for.
            return false;
        }
    }

    // The begun step is this one, or this one and rows of sessions that are left out.
    private bool KeepBegun(ReadOnlySpan<BatchRow> rows, ReadOnlySpan<int> ids, CancellationToken cancellationToken)
    {
        if (_begun == 0 || !_model.Ops.AreAlike(ids.Length, _begun))
        {
            return false;
        }

        for (int i = 0; i < rows.Length; i++)
        {
            var begun = rows[i].Session.Begun;
            if (begun != new BegunRow(this, _beginnings, begun.Row, ids[i]))
            {
                return false;
            }
        }

        cancellationToken.ThrowIfCancellationRequested();
        foreach (var (session, _) in rows)
        {
            int row = session.Begun.Row;
            session.KeepBegun(Activations);
            _nextLogits.Take(session, row);
        }

        Swap();
        _begun = 0;
        return true;
    }
}

/// <summary>A row of a step that a device has begun by itself: it appends a token to a session.</summary>
/// <param name="By">Whose step.</param>
/// <param name="Beginning">Which of those that it has begun.</param>
/// <param name="Row">Row of the step.</param>
/// <param name="Id">The token.</param>
internal readonly record struct BegunRow(Decoder? By, int Beginning, int Row, int Id);
