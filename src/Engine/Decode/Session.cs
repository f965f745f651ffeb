using Tiller.Kernels;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;

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
/// One sequence being decoded: tokens, keys and values, scratch, and what a feedback law remembers. Many sessions of one model run side
/// by side, and <see cref="SessionBatch"/> steps several at once; one session is used by one thread at a time, and a second thread gets
/// an <see cref="InvalidOperationException"/>. It may be disposed of on any thread: a call under way ends first, and the next one throws
/// <see cref="ObjectDisposedException"/>, as it does once the model has been disposed of; its <see cref="Ids"/> stay. Drawing and
/// stepping allocate nothing on the managed heap.
/// </summary>
/// <example>
/// One text, without its logits ever leaving the device that made them:
/// <code>
/// session.Append(prompt);
/// while (session.Length &lt; most &amp;&amp; session.Draw(sampler) is var id &amp;&amp; id != end)
/// {
///     session.Append(id);
/// }
/// </code>
/// </example>
public sealed partial class Session : IDisposable
{
    // Bounds the scratch of a long prompt; a row's result does not depend on the chunk it is in beyond rounding.
    private const int PrefillChunk = 256;

    private readonly LanguageModel _model;
    private readonly Turn _turn;
    private readonly KvCache _cache;
    private readonly Activations _activations;
    private readonly RowBatch _rows = new();
    private readonly float[] _logits;
    private readonly SteeredTokens _steered;
    private SteeringState? _steering;
    private float[] _errorsBefore = [];
    private int[] _ids = []; // (cache's capacity)
    private DeviceBuffer _logitsOnDevice;
    private bool _logitsAreHere = true;
    private volatile LogitRows? _sharedLogits;

    /// <summary>Starts an empty sequence.</summary>
    /// <param name="model">Once it is disposed of, the session cannot go on.</param>
    /// <param name="law">Steers from the first token on; null for the plain model.</param>
    /// <param name="steered">Which tokens the law moves.</param>
    /// <exception cref="ModelMismatchException">The law is for another shape of model.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public Session(LanguageModel model, FeedbackLaw? law = null, SteeredTokens steered = SteeredTokens.Last)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var use = model.Enter();
        _model = model;
        _steered = steered;
        _turn = new Turn(
            nameof(Session), "session", "Give each thread a session of its own, or step several on one thread with a SessionBatch.", model.Lifetime, Free);
        _cache = model.NewCache();
        _activations = model.NewActivations();
        _logits = new float[model.Config.V];
        _logitsOnDevice = model.Ops.Allocate(4L * model.Config.V);
        try
        {
            _steering = law is null ? null : NewSteering(law);
        }
        catch
        {
            _logitsOnDevice.Dispose();
            throw;
        }
    }

    /// <summary>Tokens held.</summary>
    public int Length { get; private set; }

    /// <summary>The model being run.</summary>
    public LanguageModel Model => _model;

    /// <summary>What the law last read and did; null when plain. It is read in turn with the session's calls.</summary>
    public SteeringState? Steering => _steering;

    /// <summary>Tokens held, oldest first // (<see cref="Length"/>); what a repetition penalty is about. Valid until the next call.</summary>
    public ReadOnlySpan<int> Ids => _ids.AsSpan(0, Length);

    /// <summary>Logits after the last token // (V). A device hands them over when they are first asked for.</summary>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public ReadOnlySpan<float> Logits
    {
        get
        {
            using var call = Enter();
            if (!_logitsAreHere)
            {
                if (_sharedLogits?.TryDownload(this, _logits) != true)
                {
                    _model.Ops.DownloadRow(LogitsOnDevice, 0, _logits);
                }

                _logitsAreHere = true;
            }

            return _logits;
        }
    }

    // Where they are unless a batch holds them.
    private Floats LogitsOnDevice => new(_logitsOnDevice.Address, 1, _model.Config.V);

    internal KvCache Cache => _cache;

    /// <summary>Whether the last pass of a prompt had steered rows.</summary>
    internal bool PassWasSteered => _rows.AnySteered;

    /// <summary>Whose call it is; a batch takes the turn of each of its sessions.</summary>
    internal Turn Turn => _turn;

    /// <summary>Steers with <paramref name="law"/> from the next token on; null stops steering. Changing λ is this call.</summary>
    /// <exception cref="ModelMismatchException">The law is for another shape of model.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void Use(FeedbackLaw? law)
    {
        using var call = Enter();
        Forget();
        if (law is null)
        {
            _steering?.Release();
            _steering = null;
        }
        else if (_steering is null)
        {
            _steering = NewSteering(law);
        }
        else
        {
            _model.CheckLaw(law);
            _steering.Use(law);
        }
    }

    /// <summary>Appends several tokens and takes the logits from the device.</summary>
    /// <param name="ids">At least one.</param>
    /// <param name="cancellationToken">Looked at between blocks; a cancelled call appends nothing.</param>
    /// <returns>Logits after the last of them // (V), valid until the next call.</returns>
    /// <exception cref="ContextLengthException">They do not fit.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public ReadOnlySpan<float> Prefill(ReadOnlySpan<int> ids, CancellationToken cancellationToken = default)
    {
        using var call = Enter();
        Prefill(ids, null, cancellationToken);
        return Logits;
    }

    /// <summary>Appends several tokens and leaves the logits where they are, for <see cref="Draw"/> or <see cref="Logits"/>.</summary>
    /// <param name="ids">At least one.</param>
    /// <param name="cancellationToken">Looked at between blocks; a cancelled call appends nothing.</param>
    /// <exception cref="ContextLengthException">They do not fit.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void Append(ReadOnlySpan<int> ids, CancellationToken cancellationToken = default) => Prefill(ids, null, cancellationToken);

    /// <summary>Appends several tokens, tells how far it is, and leaves the logits where they are.</summary>
    /// <param name="ids">At least one.</param>
    /// <param name="afterPass">
    /// Called after every pass, with the position after its last row; <see cref="Steering"/> then holds these rows if <see cref="PassWasSteered"/>.
    /// </param>
    /// <param name="cancellationToken">Looked at between blocks; a cancelled call appends nothing.</param>
    internal void Prefill(ReadOnlySpan<int> ids, Action<int>? afterPass, CancellationToken cancellationToken)
    {
        if (ids.IsEmpty)
        {
            throw new ArgumentException("A prompt needs at least one token: add a beginning-of-text token or some text.", nameof(ids));
        }

        using var call = Enter();
        Prepare(ids);
        BringLogitsHome();
        for (int begin = 0; begin < ids.Length; begin += _rows.Values)
        {
            Place(ids, begin, Length);
            Run(cancellationToken);
            afterPass?.Invoke(Length + begin + _rows.Values);
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
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public NonFiniteStateException? FindNonFinite(ReadOnlySpan<int> ids, Exception? cause = null, CancellationToken cancellationToken = default)
    {
        using var call = Enter();
        ArgumentOutOfRangeException.ThrowIfGreaterThan(ids.Length, Length);
        Forget();
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

    /// <summary>Appends one token and takes the logits from the device.</summary>
    /// <returns>Logits after it // (V), valid until the next call.</returns>
    /// <exception cref="ContextLengthException">The context is full.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public ReadOnlySpan<float> Step(int id, CancellationToken cancellationToken = default)
    {
        using var call = Enter();
        Append(id, cancellationToken);
        return Logits;
    }

    /// <summary>
    /// Appends one token and leaves its logits where they are, for <see cref="Draw"/> or <see cref="Logits"/>. Of the token just drawn a device may
    /// have run the step already.
    /// </summary>
    /// <param name="id">The token.</param>
    /// <param name="cancellationToken">Looked at between blocks; a cancelled call appends nothing.</param>
    /// <exception cref="ContextLengthException">The context is full.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void Append(int id, CancellationToken cancellationToken = default)
    {
        using var call = Enter();
        if (_begun == id && _begunIn is null)
        {
            cancellationToken.ThrowIfCancellationRequested();
            KeepBegun(_activations, 0);
            (_logitsOnDevice, _nextLogits) = (_nextLogits!, _logitsOnDevice);
            return;
        }

        Prepare([id]);
        BringLogitsHome();
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

        Advance(1);
    }

    /// <inheritdoc/>
    public void Dispose() => _turn.Close();

    /// <summary>Begins a call, or a part of one.</summary>
    internal Turn.Call Enter() => _turn.Enter();

    /// <summary>Checks the next tokens and makes room for them.</summary>
    internal void Prepare(ReadOnlySpan<int> ids)
    {
        Forget();
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

        Reserve((int)needed);
        ids.CopyTo(_ids.AsSpan(Length));
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

    /// <summary>Counts tokens that have been run after <see cref="Prepare"/>; their logits are new.</summary>
    internal void Advance(int tokens)
    {
        _logitsAreHere = false;
        Length += tokens;
    }

    private SteeringState NewSteering(FeedbackLaw law)
    {
        var steering = _model.NewSteering(law);
        steering.Owner = _turn;
        return steering;
    }

    private void Free()
    {
        _sharedLogits?.Drop(this); // first: until then a batch may copy them here
        _activations.Dispose();    // waits for what has been queued, which no call adds to any more
        _steering?.Release();
        _cache.Dispose();
        _logitsOnDevice.Dispose();
        _nextLogits?.Dispose();
    }

    private void Reserve(int positions)
    {
        _cache.Reserve(positions, Length);
        if (_ids.Length < positions)
        {
            Array.Resize(ref _ids, _cache.Capacity);
        }
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
