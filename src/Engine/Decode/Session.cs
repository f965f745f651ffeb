using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

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
public sealed class Session : IDisposable
{
    // Where a prompt ends of which there is more to come.
    private const int Unended = int.MaxValue;

    private readonly LanguageModel _model;
    private readonly Turn _turn;
    private readonly KvCache _cache;
    private readonly Decoder _decoder;
    private readonly PromptPass _pass;
    private readonly float[] _logits; // (V), a copy on the host
    private readonly SteeredTokens _steered;
    private readonly SteeringHistory _history = new();
    private SteeringState? _steering;
    private TokenTally? _tally;
    private float[] _errorsBefore = [];
    private int[] _ids = []; // (cache's capacity)
    private int[] _steeredPositions = []; // (cache's capacity)
    private int _steeredCount;
    private int _promptEnd = -1;
    private bool _lastIsSteered;
    private bool _logitsAreHere = true;
    private bool _isHalfRead; // reading again was given up: keys and values mean nothing
    private volatile LogitRows? _logitsIn;

    /// <summary>Starts an empty sequence.</summary>
    /// <param name="model">Once it is disposed of, the session cannot go on.</param>
    /// <param name="law">Steers from the first token on; null for the plain model.</param>
    /// <param name="steered">Which tokens the law moves; null for <see cref="SteeredTokens.Last"/>.</param>
    /// <exception cref="ArgumentException">The choice of tokens contradicts itself.</exception>
    /// <exception cref="ModelMismatchException">The law is for another shape of model.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public Session(LanguageModel model, FeedbackLaw? law = null, SteeredTokens? steered = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        steered ??= SteeredTokens.Last;
        steered.Check();
        using var use = model.Enter();
        _model = model;
        _steered = steered;
        _turn = new Turn(
            nameof(Session), "session", "Give each thread a session of its own, or step several on one thread with a SessionBatch.",
            model.Lifetime, Free);
        _cache = model.NewCache();
        _logits = new float[model.Config.V];
        _decoder = new Decoder(model);
        _pass = new PromptPass(model, _decoder.Activations);
        try
        {
            _decoder.Logits.Clear(1); // logits come home without asking for memory
            _steering = law is null ? null : NewSteering(law);
        }
        catch
        {
            _decoder.Dispose();
            throw;
        }
    }

    /// <summary>Tokens held.</summary>
    public int Length { get; private set; }

    /// <summary>The model being run.</summary>
    public LanguageModel Model => _model;

    /// <summary>What the law last read and did; null when plain. It is read in turn with the session's calls.</summary>
    public SteeringState? Steering => _steering;

    /// <summary>Tokens held, oldest first // (<see cref="Length"/>); what penalties are about. Valid until the next call.</summary>
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
                while (_logitsIn is { } rows && !rows.TryDownload(this, _logits))
                {
                    // They have moved.
                }

                _logitsAreHere = true;
            }

            return _logits;
        }
    }

    internal KvCache Cache => _cache;

    /// <summary>
    /// Positions that the law moved in the last pass of a prompt or the last step, oldest first, one for each slot of <see cref="Steering"/>.
    /// Valid until the next call.
    /// </summary>
    public ReadOnlySpan<int> SteeredPositions => _steeredPositions.AsSpan(0, _steeredCount);

    /// <summary>Where the logits are; null before the first token. Written under the rows' lock.</summary>
    internal LogitRows? LogitsIn
    {
        get => _logitsIn;
        set => _logitsIn = value;
    }

    /// <summary>Which row of <see cref="LogitsIn"/>.</summary>
    internal int LogitRow { get; set; }

    /// <summary>Rows of its own, where the logits go when a batch needs theirs for something else.</summary>
    internal LogitRows OwnLogits => _decoder.Logits;

    /// <summary>
    /// The row of a step that a device has begun, which appends a token to this session. Every call but the one that appends it forgets it.
    /// </summary>
    internal BegunRow Begun { get; set; }

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
    /// <param name="cancellationToken">Checked between blocks; a cancelled call appends nothing.</param>
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
    /// <param name="cancellationToken">Checked between blocks; a cancelled call appends nothing.</param>
    /// <exception cref="ContextLengthException">They do not fit.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void Append(ReadOnlySpan<int> ids, CancellationToken cancellationToken = default) => Prefill(ids, null, cancellationToken);

    /// <summary>Appends several tokens, tells how far it is, and leaves the logits where they are.</summary>
    /// <param name="ids">At least one.</param>
    /// <param name="afterPass">
    /// Called after every pass, with the position after its last row; <see cref="Steering"/> then holds its <see cref="SteeredPositions"/>.
    /// </param>
    /// <param name="cancellationToken">Checked between blocks; a cancelled call appends nothing.</param>
    /// <param name="toCome">
    /// Tokens of the prompt that will follow. With none the prompt ends here: its last token is steered, and its logits are wanted.
    /// </param>
    internal void Prefill(ReadOnlySpan<int> ids, Action<int>? afterPass, CancellationToken cancellationToken, int toCome = 0)
    {
        if (ids.IsEmpty)
        {
            throw new ArgumentException("A prompt needs at least one token: add a beginning-of-text token or some text.", nameof(ids));
        }

        using var call = Enter();
        Prepare(ids, toCome, cancellationToken);
        int before = _promptEnd;
        _promptEnd = toCome == 0 ? Length + ids.Length - 1 : Unended;
        try
        {
            for (int begin = 0; begin < ids.Length; begin += _pass.Rows.Values)
            {
                Fill(ids, begin, Length);
                _pass.Run(visit: null, cancellationToken);
                TakeDown();
                afterPass?.Invoke(Length + begin + _pass.Rows.Values);
            }
        }
        catch (OperationCanceledException)
        {
            _promptEnd = before;
            GiveUp();
            throw;
        }

        if (toCome == 0)
        {
            _decoder.TakePrompt(this, _pass.Rows.Values - 1);
        }

        Advance(ids.Length);
    }

    /// <summary>
    /// After logits that are not finite: runs the call that gave them again and says where its states first are not. The session is then
    /// of no further use.
    /// </summary>
    /// <param name="ids">The tokens of that call, the last ones of the sequence.</param>
    /// <param name="cause">Inner exception of the result.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <returns>Null if all states are finite, so that the final norm or the head is not.</returns>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public NonFiniteStateException? FindNonFinite(ReadOnlySpan<int> ids, Exception? cause = null, CancellationToken cancellationToken = default)
    {
        using var call = Enter();
        ArgumentOutOfRangeException.ThrowIfGreaterThan(ids.Length, Length);
        Forget();
        GiveUp();
        for (int begin = 0; begin < ids.Length; begin += _pass.Rows.Values)
        {
            Fill(ids, begin, Length - ids.Length);
            if (NonFiniteSearch.Run(_model, _pass, prompt: null, cause, cancellationToken) is { } found)
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
    /// <param name="cancellationToken">Checked between blocks; a cancelled call appends nothing.</param>
    /// <exception cref="ContextLengthException">The context is full.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void Append(int id, CancellationToken cancellationToken = default)
    {
        using var call = Enter();
        _decoder.Step([new BatchRow(this)], [id], cancellationToken);
    }

    /// <summary>
    /// Draws the next token where the logits are. The token is not appended: that is
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
    /// <exception cref="NonFiniteLogitsException">
    /// A logit is NaN or +∞, or all are -∞; the sampler has not moved. <see cref="FindNonFinite"/> says where.
    /// </exception>
    public int Draw(Sampler sampler, bool goesOn = true)
    {
        ArgumentNullException.ThrowIfNull(sampler);
        using var call = Enter();
        using var drawing = sampler.Turn.Enter();
        int id = -1;
        var error = _decoder.Draw([new BatchRow(this, sampler)], new Span<int>(ref id), goesOn);
        return error is null ? id : throw error;
    }

    /// <inheritdoc/>
    public void Dispose() => _turn.Close();

    /// <summary>Begins a call, or a part of one.</summary>
    internal Turn.Call Enter() => _turn.Enter();

    /// <summary>Makes room, so that tokens up to so many positions ask for no more.</summary>
    /// <exception cref="DeviceMemoryException">There is none.</exception>
    internal void ReservePositions(int positions)
    {
        using var call = Enter();
        Reserve(positions);
    }

    /// <summary>Begins the empty sequence with tokens that have been run in another, steered as they would be here. There is room for them.</summary>
    /// <param name="ids">The tokens.</param>
    /// <param name="keys">Their keys and values.</param>
    internal void TakeOver(ReadOnlySpan<int> ids, KvCache keys)
    {
        using var call = Enter();
        _cache.CopyFrom(keys, ids.Length);
        ids.CopyTo(_ids);
        _promptEnd = Unended;
        Advance(ids.Length);
    }

    /// <summary>Checks the next tokens and makes room for them; reads the sequence again where with them its tokens are turned otherwise.</summary>
    /// <param name="ids">The tokens.</param>
    /// <param name="toCome">Tokens known to come after them, so that all are turned as those of the whole.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    internal void Prepare(ReadOnlySpan<int> ids, int toCome = 0, CancellationToken cancellationToken = default)
    {
        Forget();
        int bad = ids.IndexOfAnyExceptInRange(0, _model.Config.V - 1);
        if (bad >= 0)
        {
            throw new ArgumentOutOfRangeException(nameof(ids), ids[bad], $"A token id must be in 0..{_model.Config.V - 1}.");
        }

        long needed = (long)Length + ids.Length + toCome;
        if (needed > _model.Config.MaxPositions)
        {
            throw new ContextLengthException(needed, _model.Config.MaxPositions);
        }

        bool readAgain = Length > 0 && (_isHalfRead || _cache.TurnsOtherwise((int)needed));
        Reserve((int)needed);
        if (readAgain)
        {
            ReadAgain(cancellationToken);
        }

        CleanLast(cancellationToken);
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
    /// <param name="tokens">How many.</param>
    internal void Advance(int tokens)
    {
        _logitsAreHere = false;
        Length += tokens;
        _lastIsSteered = Steered.At(Length - 1, _ids[Length - 1]) is not null;
        if (_cache.TurnsNoMore(Length))
        {
            _history.Clear();
            return;
        }

        // Read again, a clean prefix is the plain model's.
        for (int position = Length - tokens; position < Length; position++)
        {
            _history.Add(1, _steered.Clean ? null : Steered.At(position, _ids[position])?.Law);
        }
    }

    /// <summary>Counts the token of a step.</summary>
    internal void AdvanceOne()
    {
        Advance(1);
        _steeredCount = 0;
        if (_lastIsSteered)
        {
            _steeredPositions[_steeredCount++] = Length - 1;
        }
    }

    /// <summary>What moves the next token; null where it is left alone.</summary>
    internal SteeringState? SteeringOf(int id) => Steered.At(Length, id);

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

    /// <summary>How a device draws the next token; it is told of the tokens so far if they count.</summary>
    /// <exception cref="DeviceMemoryException">There is no room for what it has to know of them.</exception>
    internal DrawSettings Settings(Sampler sampler)
    {
        if (!sampler.Adjusts)
        {
            return sampler.OnDevice(tally: null);
        }

        if (_tally is null || _tally.Owner != sampler)
        {
            _tally?.Dispose();
            _tally = null;
            _tally = new TokenTally(_model.Ops, _model.Config.V, sampler.Bias, sampler);
        }

        _tally.Count(Ids, sampler.BeginText(Length));
        return sampler.OnDevice(_tally);
    }

    /// <summary>Copies the logits to an address of the device.</summary>
    internal void CopyLogits(nint destination)
    {
        while (_logitsIn is { } rows && !rows.TryCopy(this, destination))
        {
            // They have moved.
        }
    }

    /// <summary>The logits are no longer asked for.</summary>
    internal void DropLogits()
    {
        while (_logitsIn is { } rows && !rows.TryDrop(this))
        {
            // They have moved.
        }
    }

    /// <summary>Makes room for a token that is yet to be drawn, and adds its row.</summary>
    /// <returns>
    /// False if the context is full, the sequence has to be read again first, or the row depends on the token, or on a pass that comes before it.
    /// </returns>
    /// <exception cref="DeviceMemoryException">There is no room for its keys and values.</exception>
    internal bool AddNext(RowBatch rows)
    {
        Forget();
        if (Length == _model.Config.MaxPositions || _isHalfRead || _cache.TurnsOtherwise(Length + 1)
            || (_steering is not null && (_steered.DependsOnIds || _steered.Clean)))
        {
            return false;
        }

        Reserve(Length + 1);
        rows.Add(id: 0, Length, _cache, SteeringOf(id: 0));
        return true;
    }

    /// <summary>The begun step counts for this session.</summary>
    internal void KeepBegun(Stepper.Begun begun)
    {
        RememberErrors();
        begun.Keep(Begun.Row);
        _ids[Length] = Begun.Id;
        Forget();
        AdvanceOne();
    }

    /// <summary>No begun step counts for this session.</summary>
    internal void Forget() => Begun = default;

    private SteeredSequence Steered => new(_steering, _steered, _promptEnd);

    private SteeringState NewSteering(FeedbackLaw law)
    {
        var steering = _model.NewSteering(law);
        steering.Owner = _turn;
        _history.Begin();
        return steering;
    }

    // As transformers does where a sequence outgrows the short factors of LongRoPE; each position is steered as it was.
    private void ReadAgain(CancellationToken cancellationToken)
    {
        _isHalfRead = true;
        SteeringState? steering = null;
        try
        {
            int end = 0;
            foreach (var (positions, law, begins) in _history.Runs)
            {
                int begin = end;
                end += positions;
                if (law is not null && (begins || steering is null))
                {
                    steering?.Release();
                    steering = _model.NewSteering(law);
                }
                else if (law is not null)
                {
                    steering!.Use(law);
                }

                for (; begin < end; begin += _pass.Rows.Values)
                {
                    var again = law is null ? default : new SteeredSequence(steering, SteeredTokens.All, end - 1);
                    _pass.Fill(_ids.AsSpan(0, end), begin, position: 0, _cache, again);
                    _pass.Run(visit: null, cancellationToken);
                }
            }

            TakeErrors(steering);
            _isHalfRead = false;
        }
        finally
        {
            steering?.Release();
        }
    }

    // What the law looks back at is what was read the second time; a law that has just begun, or has other sensors, looks back at nothing.
    private void TakeErrors(SteeringState? again)
    {
        if (again is not null && _steering is { Law.LooksBack: true } steering && !_history.Begins
            && steering.Law.Sensors.Count == again.Law.Sensors.Count)
        {
            float[] errors = new float[steering.Law.Sensors.Count];
            again.ReadErrors(again.Slots - 1, errors);
            steering.WriteErrors(errors);
        }
    }

    private void Free()
    {
        DropLogits();       // first: until then a batch may copy them to this session's own
        _decoder.Dispose(); // waits for what has been queued, which no call adds to any more
        _steering?.Release();
        _tally?.Dispose();
        _cache.Dispose();
    }

    private void Reserve(int positions)
    {
        _cache.Reserve(positions, Length);
        if (_ids.Length < positions)
        {
            Array.Resize(ref _ids, _cache.Capacity);
            Array.Resize(ref _steeredPositions, _cache.Capacity);
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

    /// <summary>
    /// The next pass: <paramref name="ids"/> from <paramref name="begin"/> on, the first of them all standing at <paramref name="position"/>.
    /// </summary>
    private void Fill(ReadOnlySpan<int> ids, int begin, int position) =>
        _pass.Fill(ids, begin, position, _cache, Steered);

    // Which rows of the pass were steered.
    private void TakeDown()
    {
        _steeredCount = 0;
        for (int i = 0; i < _pass.Rows.Values; i++)
        {
            if (_pass.Rows[i].Steering is not null)
            {
                _steeredPositions[_steeredCount++] = _pass.Rows[i].Position;
            }
        }
    }

    // Keys and values of the last token by the plain model, where a clean prefix is asked for; again if that is cancelled.
    private void CleanLast(CancellationToken cancellationToken)
    {
        if (_steered.Clean && _lastIsSteered)
        {
            _pass.Fill(_ids.AsSpan(0, Length), Length - 1, position: 0, _cache);
            _pass.Run(visit: null, cancellationToken);
            _lastIsSteered = false;
        }
    }
}
