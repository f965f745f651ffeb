using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

// The next token, drawn where the logits are; and the step that takes it, begun before the host knows the token (DeviceOps.Ahead.cs).
public sealed partial class Session
{
    // The token of a step that the device has begun by itself, for this session alone or as a row of a batch. Every call but the one that
    // appends this token forgets it.
    private int? _begun;
    private SessionBatch? _begunIn;
    private int _begunRow;
    private DeviceBuffer? _nextLogits;
    private float[]? _scores;

    /// <summary>
    /// Draws the next token where the logits are, or on the host where a device cannot (a repetition penalty). The token is not appended: that is
    /// <see cref="Append(int, CancellationToken)"/>, or another token in its place, or nothing.
    /// </summary>
    /// <param name="sampler">Draws; belongs to this session, whose <see cref="Ids"/> are its history.</param>
    /// <param name="goesOn">
    /// Whether the token is likely to be appended (default). A device then begins the step that takes it before the host knows the token; if another
    /// call follows, that step was for nothing and leaves no trace.
    /// </param>
    /// <returns>Id of the token, 0..V-1.</returns>
    /// <exception cref="ArgumentException">The sampler is for another vocabulary.</exception>
    /// <exception cref="InvalidOperationException">The session has no token yet, or another thread is using it or the sampler.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    /// <exception cref="NonFiniteLogitsException">A logit is NaN or +∞, or all are -∞; the sampler has not moved. <see cref="FindNonFinite"/> says where.</exception>
    public int Draw(Sampler sampler, bool goesOn = true)
    {
        ArgumentNullException.ThrowIfNull(sampler);
        using var call = Enter();
        using var drawing = sampler.Turn.Enter();
        CheckDraw(sampler);
        Forget();
        if (sampler.OnDevice is { } settings && _model.Ops.Draws(_logits.Length) && DrawOnDevice(settings, goesOn) is >= 0 and var id)
        {
            sampler.HasDrawn();
            return id;
        }

        Logits.CopyTo(_scores ??= new float[_logits.Length]);
        return sampler.Next(_scores, Ids);
    }

    /// <summary>Whether a draw is possible.</summary>
    internal void CheckDraw(Sampler sampler)
    {
        if (sampler.Vocabulary != _logits.Length)
        {
            throw new ArgumentException($"The sampler is for {sampler.Vocabulary} tokens, the model has {_logits.Length}.", nameof(sampler));
        }

        if (Length == 0)
        {
            throw new InvalidOperationException("A session without tokens has no logits to draw from: append a prompt first.");
        }
    }

    /// <summary>The batch's rows that hold the logits; null where they are in a buffer of the session's own. Written under the rows' lock.</summary>
    internal LogitRows? SharedLogits
    {
        get => _sharedLogits;
        set => _sharedLogits = value;
    }

    /// <summary>Which of <see cref="SharedLogits"/>.</summary>
    internal int LogitRow { get; set; }

    /// <summary>The buffer of its own // (V).</summary>
    internal nint OwnLogits => _logitsOnDevice.Address;

    /// <summary>Copies the logits to an address of the device.</summary>
    internal void CopyLogits(nint destination)
    {
        if (_sharedLogits?.TryCopy(this, destination) != true)
        {
            _model.Ops.Copy(OwnLogits, destination, 4L * _logits.Length);
        }
    }

    /// <summary>Makes room for a token that is yet to be drawn, and adds its row.</summary>
    /// <returns>False if the context is full.</returns>
    /// <exception cref="DeviceMemoryException">There is no room for its keys and values.</exception>
    internal bool AddNext(RowBatch rows)
    {
        Forget();
        if (Length == _model.Config.MaxPositions)
        {
            return false;
        }

        Reserve(Length + 1);
        rows.Add(id: 0, Length, _cache, _steering);
        return true;
    }

    /// <summary>The device has begun to append a token.</summary>
    internal void HasBegun(int id, SessionBatch? batch, int row) => (_begun, _begunIn, _begunRow) = (id, batch, row);

    /// <summary>The batch's row that appends a token by itself, or -1.</summary>
    internal int BegunRow(int id, SessionBatch batch) => _begun == id && _begunIn == batch ? _begunRow : -1;

    /// <summary>The begun step counts for this session.</summary>
    internal void KeepBegun(Activations a, int row)
    {
        RememberErrors();
        _model.Ops.KeepNext(a, row);
        _ids[Length] = _begun!.Value;
        Forget();
        Advance(1);
    }

    /// <summary>No begun step counts for this session.</summary>
    internal void Forget() => (_begun, _begunIn) = (null, null);

    private int DrawOnDevice(in DrawSettings settings, bool goesOn)
    {
        int id = -1;
        ReadOnlySpan<DrawSettings> one = [settings];
        Span<int> ids = new(ref id);
        BringLogitsHome();
        if (goesOn && PlaceNext(one))
        {
            _model.Ops.DrawNext(LogitsOnDevice, one, _activations);
            _model.StepPlaced(_rows, _activations, new Floats(_nextLogits!.Address, 1, _logits.Length), CancellationToken.None);
            _model.Ops.TakeNext(_activations, ids);
            if (id >= 0)
            {
                HasBegun(id, null, 0);
            }
        }
        else if (!_logitsAreHere)
        {
            _model.Ops.Draw(LogitsOnDevice, one, ids);
        }

        return id;
    }

    // Makes room for a step ahead, if it can be.
    private bool PlaceNext(ReadOnlySpan<DrawSettings> settings)
    {
        if (!_model.Ops.RunsAhead)
        {
            return false;
        }

        try
        {
            _rows.Clear();
            if (!AddNext(_rows))
            {
                return false;
            }

            _nextLogits ??= _model.Ops.Allocate(_logitsOnDevice.SizeInBytes);
            _activations.Reserve(1);
            return _model.Ops.PlaceNext(_rows, settings, _activations);
        }
        catch (DeviceMemoryException)
        {
            // The token can be drawn all the same; appending it says what there is no room for.
            return false;
        }
    }

    // Out of the rows of a batch, which go their own way.
    private void BringLogitsHome()
    {
        if (_sharedLogits is { } shared && shared.TryCopy(this, OwnLogits))
        {
            shared.Drop(this);
        }
    }
}
