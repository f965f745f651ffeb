using Tiller.Control;
using Tiller.Model;
using Tiller.Tensors;

namespace Tiller.Decode;

/// <summary>Which tokens a feedback law moves.</summary>
public enum SteeredTokens
{
    /// <summary>The prompt's last token and every generated one, as the paper does with cached decoding.</summary>
    Last,

    /// <summary>Every prompt token too (A-LQR+).</summary>
    All,
}

/// <summary>
/// One sequence being decoded: keys and values, scratch, and what a feedback law remembers. Not thread-safe; many sessions of one
/// model run side by side. Stepping allocates nothing on the managed heap.
/// </summary>
public sealed class Session : IDisposable
{
    // Bounds the scratch of a long prompt; a row's result does not depend on the chunk it is in beyond rounding.
    private const int PrefillChunk = 256;

    private readonly LanguageModel _model;
    private readonly KvCache _cache;
    private readonly Activations _activations;
    private readonly RowBatch _rows = new();
    private readonly float[] _logits;
    private readonly SteeredTokens _steered;
    private SteeringState? _steering;
    private float[] _errorsBefore = [];
    private DeviceBuffer _logitsOnDevice;
    private bool _logitsAreHere = true;

    // The token of a step that the device has begun by itself (Ops.Ahead.cs), and where that step's logits go. Every call but Append of
    // this token forgets it.
    private int? _begun;
    private DeviceBuffer? _nextLogits;

    /// <summary>Starts an empty sequence.</summary>
    /// <param name="model">Stays alive longer than the session.</param>
    /// <param name="law">Steers from the first token on; null for the plain model.</param>
    /// <param name="steered">Which tokens the law moves.</param>
    /// <exception cref="ModelMismatchException">The law is for another shape of model.</exception>
    public Session(LanguageModel model, FeedbackLaw? law = null, SteeredTokens steered = SteeredTokens.Last)
    {
        _model = model;
        _steered = steered;
        _steering = law is null ? null : model.NewSteering(law);
        _cache = model.NewCache();
        _activations = model.NewActivations();
        _logits = new float[model.Config.V];
        _logitsOnDevice = model.Ops.Allocate(4L * model.Config.V);
    }

    /// <summary>Tokens held.</summary>
    public int Length { get; private set; }

    /// <summary>The model being run.</summary>
    public LanguageModel Model => _model;

    /// <summary>What the law last read and did; null when plain.</summary>
    public SteeringState? Steering => _steering;

    /// <summary>Logits after the last token // (V).</summary>
    public ReadOnlySpan<float> Logits
    {
        get
        {
            if (!_logitsAreHere)
            {
                _model.Ops.DownloadRow(LogitsOnDevice, 0, _logits);
                _logitsAreHere = true;
            }

            return _logits;
        }
    }

    private Floats LogitsOnDevice => new(_logitsOnDevice.Address, 1, _model.Config.V);

    internal KvCache Cache => _cache;

    /// <summary>Steers with <paramref name="law"/> from the next token on; null stops steering. Changing λ is this call.</summary>
    /// <exception cref="ModelMismatchException">The law is for another shape of model.</exception>
    public void Use(FeedbackLaw? law)
    {
        _begun = null;
        if (law is null)
        {
            _steering?.Dispose();
            _steering = null;
        }
        else if (_steering is null)
        {
            _steering = _model.NewSteering(law);
        }
        else
        {
            _model.CheckLaw(law);
            _steering.Use(law);
        }
    }

    /// <summary>Appends several tokens.</summary>
    /// <param name="ids">At least one.</param>
    /// <param name="cancellationToken">Looked at between blocks; a cancelled call appends nothing.</param>
    /// <returns>Logits after the last of them // (V), valid until the next call.</returns>
    /// <exception cref="ContextLengthException">They do not fit.</exception>
    public ReadOnlySpan<float> Prefill(ReadOnlySpan<int> ids, CancellationToken cancellationToken = default)
    {
        Prefill(ids, null, cancellationToken);
        return Logits;
    }

    /// <summary>Appends several tokens, reports what the law did to each, and leaves the logits where they are.</summary>
    /// <param name="ids">At least one.</param>
    /// <param name="afterPass">
    /// Called after every pass with steered rows, with the position after its last row: <see cref="Steering"/> then holds these rows.
    /// </param>
    /// <param name="cancellationToken">Looked at between blocks; a cancelled call appends nothing.</param>
    internal void Prefill(ReadOnlySpan<int> ids, Action<int>? afterPass, CancellationToken cancellationToken)
    {
        if (ids.IsEmpty)
        {
            throw new ArgumentException("A prompt needs at least one token: add a beginning-of-text token or some text.", nameof(ids));
        }

        Prepare(ids);
        for (int begin = 0; begin < ids.Length; begin += _rows.Values)
        {
            Place(ids, begin, Length);
            Run(cancellationToken);
            if (_rows.AnySteered)
            {
                afterPass?.Invoke(Length + begin + _rows.Values);
            }
        }

        _model.Head(_activations, _rows.Values - 1, 1, LogitsOnDevice);
        _logitsAreHere = false;
        Length += ids.Length;
    }

    /// <summary>
    /// After logits that are not finite: runs the call that gave them again and says where its states first are not. The session is then
    /// of no further use.
    /// </summary>
    /// <param name="ids">The tokens of that call, the last ones of the sequence.</param>
    /// <param name="cause">Inner exception of the result.</param>
    /// <param name="cancellationToken">Looked at between blocks.</param>
    /// <returns>Null if all states are finite, so that the final norm or the head is not.</returns>
    public NonFiniteStateException? FindNonFinite(ReadOnlySpan<int> ids, Exception? cause = null, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(ids.Length, Length);
        _begun = null;
        GiveUp();
        for (int begin = 0; begin < ids.Length; begin += _rows.Values)
        {
            Place(ids, begin, Length - ids.Length);
            if (NonFiniteSearch.Run(_model, _rows, _activations, prompt: null, cause, cancellationToken) is { } found)
            {
                return found;
            }
        }

        return null;
    }

    /// <summary>Appends one token.</summary>
    /// <returns>Logits after it // (V), valid until the next call.</returns>
    /// <exception cref="ContextLengthException">The context is full.</exception>
    public ReadOnlySpan<float> Step(int id, CancellationToken cancellationToken = default)
    {
        Append(id, cancellationToken);
        return Logits;
    }

    /// <summary>Appends one token and leaves its logits where they are.</summary>
    /// <exception cref="ContextLengthException">The context is full.</exception>
    internal void Append(int id, CancellationToken cancellationToken)
    {
        if (_begun == id)
        {
            cancellationToken.ThrowIfCancellationRequested();
            RememberErrors();
            _begun = null;
            _model.Ops.KeepNext(_activations);
            (_logitsOnDevice, _nextLogits) = (_nextLogits!, _logitsOnDevice);
            _logitsAreHere = false;
            Length++;
            return;
        }

        Prepare([id]);
        _rows.Clear();
        _rows.Add(id, Length, _cache, _steering);
        _activations.Reserve(1);
        try
        {
            _model.Step(_rows, _activations, LogitsOnDevice, cancellationToken);
        }
        catch (OperationCanceledException)
        {
            GiveUp();
            throw;
        }

        _logitsAreHere = false;
        Length++;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _activations.Dispose(); // first: it waits for a step that may be running
        _steering?.Dispose();
        _cache.Dispose();
        _logitsOnDevice.Dispose();
        _nextLogits?.Dispose();
    }

    /// <summary>Checks the next tokens and makes room for them.</summary>
    internal void Prepare(ReadOnlySpan<int> ids)
    {
        _begun = null;
        int bad = ids.IndexOfAnyExceptInRange(0, _model.Config.V - 1);
        if (bad >= 0)
        {
            throw new ArgumentOutOfRangeException(nameof(ids), ids[bad], $"A token id must be in 0..{_model.Config.V - 1}.");
        }

        long needed = (long)Length + ids.Length;
        if (needed > _model.Config.MaxPositions)
        {
            throw new ContextLengthException(needed, _model.Config.MaxPositions);
        }

        _cache.Reserve((int)needed, Length);
        RememberErrors();
    }

    /// <summary>Takes back what a step that was given up after <see cref="Prepare"/> has changed.</summary>
    internal void GiveUp()
    {
        if (_steering is { Law.LooksBack: true } steering)
        {
            steering.WriteErrors(_errorsBefore);
        }
    }

    /// <summary>Counts tokens that have been run and takes their logits over, on the device: the host may never ask for them.</summary>
    internal void Advance(int tokens, Floats logits, int row)
    {
        _model.Ops.Copy(logits.Slice(row, 1).Address, _logitsOnDevice.Address, 4L * _logits.Length);
        _logitsAreHere = false;
        Length += tokens;
    }

    /// <summary>
    /// Draws the next token where the logits are; takes them from the device only if it cannot. A device that can begins the step that takes the
    /// token before the host knows it.
    /// </summary>
    /// <param name="sampler">Draws.</param>
    /// <param name="history">Ids of the prompt and of the tokens so far.</param>
    /// <param name="scores">Scratch // (V).</param>
    /// <param name="goesOn">Whether the token is likely to be appended.</param>
    /// <exception cref="NonFiniteLogitsException">A logit is NaN or +∞, or all are -∞.</exception>
    internal int Draw(Sampler sampler, ReadOnlySpan<int> history, Span<float> scores, bool goesOn)
    {
        if (!_logitsAreHere && sampler.OnDevice is { } settings
            && (goesOn && PlaceNext() ? DrawAndStep(settings) : _model.Ops.Draw(LogitsOnDevice, settings)) is { } id)
        {
            sampler.HasDrawn();
            return id;
        }

        Logits.CopyTo(scores);
        return sampler.Next(scores, history);
    }

    // Makes room for a step ahead, if it can be.
    private bool PlaceNext()
    {
        _begun = null;
        if (!_model.Ops.RunsAhead || Length == _model.Config.MaxPositions)
        {
            return false;
        }

        try
        {
            _cache.Reserve(Length + 1, Length);
            _nextLogits ??= _model.Ops.Allocate(_logitsOnDevice.SizeInBytes);
            _rows.Clear();
            _rows.Add(id: 0, Length, _cache, _steering);
            _activations.Reserve(1);
            return _model.Ops.PlaceNext(_rows, _activations);
        }
        catch (DeviceMemoryException)
        {
            // The token can be drawn all the same; appending it says what there is no room for.
            return false;
        }
    }

    private int? DrawAndStep(in DrawSettings settings)
    {
        _model.Ops.DrawNext(LogitsOnDevice, settings, _activations);
        _model.StepPlaced(_rows, _activations, new Floats(_nextLogits!.Address, 1, _model.Config.V), CancellationToken.None);
        _begun = _model.Ops.TakeNext(_activations);
        return _begun;
    }

    private void RememberErrors()
    {
        if (_steering is { Law.LooksBack: true } steering)
        {
            if (_errorsBefore.Length != steering.Law.Sensors.Count)
            {
                _errorsBefore = new float[steering.Law.Sensors.Count];
            }

            steering.ReadErrors(steering.Slots - 1, _errorsBefore);
        }
    }

    /// <summary>Rows of one pass: <paramref name="ids"/> from <paramref name="begin"/> on, the first of them all standing at <paramref name="position"/>.</summary>
    private void Place(ReadOnlySpan<int> ids, int begin, int position)
    {
        int chunk = _steered == SteeredTokens.All && _steering is { Law.LooksBack: true } ? 1 : PrefillChunk;
        _rows.Clear();
        for (int i = begin; i < Math.Min(begin + chunk, ids.Length); i++)
        {
            bool steered = _steered == SteeredTokens.All || i == ids.Length - 1;
            _rows.Add(ids[i], position + i, _cache, steered ? _steering : null);
        }

        _activations.Reserve(_rows.Total);
    }

    private void Run(CancellationToken cancellationToken)
    {
        try
        {
            _model.Run(_rows, _activations, cancellationToken);
        }
        catch (OperationCanceledException)
        {
            GiveUp();
            throw;
        }
    }
}
