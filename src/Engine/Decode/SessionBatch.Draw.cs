using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

/// <summary>Some sessions of a batch have logits that no token can be drawn from. The tokens of the others were drawn and count.</summary>
public sealed class BatchLogitsException : TillerException
{
    internal BatchLogitsException(int[] places, int count, NonFiniteLogitsException first)
        : base($"Of {count} sessions, {places.Length} cannot go on: those at {string.Join(", ", places)}. Leave them out; the others' ids count. Of the first: {first.Message}", first)
    {
        Places = places;
    }

    /// <summary>Places of these sessions in the batch, rising; their ids are -1.</summary>
    public IReadOnlyList<int> Places { get; }
}

// The next tokens of a batch, by one set of launches and one wait; and the step that takes them, begun before the host knows them
// (DeviceOps.Ahead.cs). That step counts for the sessions that take its tokens, if they are of one kind of batch (DeviceOps.AreAlike) with all of it.
public sealed partial class SessionBatch
{
    private DrawSettings[] _settings = [];
    private Session?[] _begunSessions = [];
    private int _begun; // rows of a step that the device has begun by itself
    private float[]? _scores;

    /// <summary>
    /// Draws the next token of each session, as <see cref="Session.Draw"/> would alone: on a device all of them at once, but for those that the host has
    /// to draw (a repetition penalty). No token is appended: that is <see cref="Step"/>, with these ids or others, of these sessions or others.
    /// </summary>
    /// <param name="rows">Distinct sessions of the model, each with a token at least and a sampler. Of samplers made without a seed each has one of its own.</param>
    /// <param name="ids">Result: a token, 0..V-1, for each.</param>
    /// <param name="goesOn">
    /// Whether most are likely to be appended (default). A device that draws all of them then begins the step that takes them before the host knows them,
    /// unless a session is full. <see cref="Step"/> of some of these sessions with their ids finds its work done; any other call for a session makes the begun
    /// step one for nothing, of which no trace is left.
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
    /// Sessions that it names have logits that are not finite. Their ids are -1 and their samplers have not moved; the others' ids were drawn and count.
    /// </exception>
    public void Draw(IReadOnlyList<BatchRow> rows, Span<int> ids, bool goesOn = true)
    {
        ArgumentNullException.ThrowIfNull(rows);
        using var call = new Call(this, rows, draws: true);
        ArgumentOutOfRangeException.ThrowIfNotEqual(ids.Length, call.Rows.Length);
        DrawAll(call.Rows, ids, goesOn);
    }

    private void DrawAll(ReadOnlySpan<BatchRow> rows, Span<int> ids, bool goesOn)
    {
        for (int i = 0; i < rows.Length; i++)
        {
            rows[i].Session.CheckDraw(rows[i].Sampler!);
        }

        _begun = 0;
        if (ids.IsEmpty)
        {
            return;
        }

        // What can fail comes before the first sampler moves.
        int onHost = Prepare(rows);
        if (onHost < ids.Length)
        {
            DrawOnDevice(rows, ids, goesOn && onHost == 0);
        }

        DrawOnHost(rows, ids);
    }

    // How each is drawn on the device; fetches the logits of those that the host draws, and counts them.
    private int Prepare(ReadOnlySpan<BatchRow> rows)
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

        _model.Ops.DrawNext(logits, settings, _activations);
        _model.StepPlaced(_rows, _activations, _nextLogits.First(_rows.Filled), CancellationToken.None);
        _model.Ops.TakeNext(_activations, ids);
        _begunSessions.AsSpan().Clear();
        if (_begunSessions.Length < rows.Length)
        {
            _begunSessions = new Session?[_settings.Length];
        }

        for (int i = 0; i < rows.Length; i++)
        {
            if (ids[i] >= 0)
            {
                rows[i].Session.HasBegun(ids[i], this, i);
                _begunSessions[i] = rows[i].Session;
            }
        }

        _begun = rows.Length;
    }

    private void DrawOnHost(ReadOnlySpan<BatchRow> rows, Span<int> ids)
    {
        bool onDevice = _model.Ops.Draws(_model.Config.V);
        List<int>? places = null;
        NonFiniteLogitsException? first = null;
        for (int i = 0; i < rows.Length; i++)
        {
            try
            {
                if (!onDevice || rows[i].Sampler!.OnDevice is null)
                {
                    rows[i].Session.Logits.CopyTo(_scores ??= new float[_model.Config.V]);
                    ids[i] = rows[i].Sampler!.Next(_scores, rows[i].Session.Ids);
                }
                else if (ids[i] >= 0)
                {
                    rows[i].Sampler!.HasDrawn();
                }
                else
                {
                    throw NonFiniteLogitsException.Of(rows[i].Session.Logits);
                }
            }
            catch (NonFiniteLogitsException e)
            {
                ids[i] = -1;
                first ??= e;
                (places ??= []).Add(i);
            }
        }

        if (first is not null)
        {
            throw new BatchLogitsException([.. places!], rows.Length, first);
        }
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

        (_logits, _nextLogits) = (_nextLogits, _logits);
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
            for (int i = 0; i < rows.Length; i++)
            {
                if (!rows[i].Session.AddNext(_rows))
                {
                    return false;
                }
            }

            Reserve();
            return _model.Ops.PlaceNext(_rows, settings, _activations);
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
            int row = rows[i].Session.BegunRow(ids[i], this);
            if (row < 0 || row >= _begun || _begunSessions[row] != rows[i].Session)
            {
                return false;
            }
        }

        cancellationToken.ThrowIfCancellationRequested();
        for (int i = 0; i < rows.Length; i++)
        {
            int row = rows[i].Session.BegunRow(ids[i], this);
            rows[i].Session.KeepBegun(_activations, row);
            _nextLogits.Take(rows[i].Session, row);
        }

        (_logits, _nextLogits, _begun) = (_nextLogits, _logits, 0);
        return true;
    }
}
