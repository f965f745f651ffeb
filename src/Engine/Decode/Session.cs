using System.Diagnostics;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Decode;

/// <summary>
/// One sequence being decoded: its tokens, KV cache, scratch memory and the state of its feedback law. Many sessions of one model run side by side,
/// and <see cref="SessionBatch"/> steps several at once. One thread at a time uses a session; a second thread gets an
/// <see cref="InvalidOperationException"/>. Any thread may dispose of a session: the call under way ends first, and the next call throws
/// <see cref="ObjectDisposedException"/>. Calls throw the same exception once the model has been disposed of; <see cref="Ids"/> stay readable.
/// Drawing and stepping allocate nothing on the managed heap.
/// </summary>
/// <example>
/// Decodes one text. The logits stay on the device that computed them:
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
    // The end of a prompt whose remaining tokens have not arrived yet.
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
    private FeedbackLaw? _law; // as it was given, before its conditions are decided
    private bool _isDecided; // for a prompt that is read in parts, of which some are still to come
    private PromptConditions? _conditions; // of a prompt that is asked in parts
    private TokenTally? _tally;
    private float[] _errorsBefore = [];
    private int[] _ids = []; // (cache's capacity)
    private int[] _steeredPositions = []; // (cache's capacity)
    private int _steeredCount;
    private int _promptEnd = -1;
    private bool _lastIsSteered;
    private bool _logitsAreHere = true;
    private bool _isHalfRead; // a second reading was cancelled: the KV cache is invalid
    private volatile LogitRows? _logitsIn;

    /// <summary>Starts an empty sequence.</summary>
    /// <param name="model">The model. A session cannot continue after its model has been disposed of.</param>
    /// <param name="law">The law that steers from the first token on; null for the plain model.</param>
    /// <param name="steered">Which tokens the law moves; null for <see cref="SteeredTokens.Last"/>.</param>
    /// <exception cref="ArgumentException">The settings in <paramref name="steered"/> contradict each other.</exception>
    /// <exception cref="ModelMismatchException">The law is for a model of another shape.</exception>
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
            _decoder.Logits.Clear(1); // allocates the row that receives the session's logits when a batch needs its rows
            _law = law;
            _steering = law is null ? null : NewSteering(Closed(law));
        }
        catch
        {
            _decoder.Dispose();
            throw;
        }
    }

    /// <summary>Number of tokens in the sequence.</summary>
    public int Length { get; private set; }

    /// <summary>The model being run.</summary>
    public LanguageModel Model => _model;

    /// <summary>What the law read and did in the last step; null for the plain model. Read it between the session's calls.</summary>
    public SteeringState? Steering => _steering;

    /// <summary>
    /// The tokens of the sequence, oldest first // (<see cref="Length"/>). Penalties apply to these tokens. Valid until the next call.
    /// </summary>
    public ReadOnlySpan<int> Ids => _ids.AsSpan(0, Length);

    /// <summary>Logits after the last token // (V). The first read copies them from the device.</summary>
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
                    // A batch has moved them to another row: try again there.
                }

                _logitsAreHere = true;
            }

            return _logits;
        }
    }

    internal KvCache Cache => _cache;

    /// <summary>
    /// Positions that the law steered in the last pass of a prompt or in the last step, oldest first; one for each slot of <see cref="Steering"/>.
    /// Valid until the next call.
    /// </summary>
    public ReadOnlySpan<int> SteeredPositions => _steeredPositions.AsSpan(0, _steeredCount);

    /// <summary>The rows that hold the logits; null before the first token. Written under the lock of these rows.</summary>
    internal LogitRows? LogitsIn
    {
        get => _logitsIn;
        set => _logitsIn = value;
    }

    /// <summary>Index of the session's row in <see cref="LogitsIn"/>.</summary>
    internal int LogitRow { get; set; }

    /// <summary>The session's own rows. A batch moves the logits here before it overwrites its rows.</summary>
    internal LogitRows OwnLogits => _decoder.Logits;

    /// <summary>
    /// The row that appends a token to this session in a step that the device has already begun. Every call except the one that appends this token
    /// discards it.
    /// </summary>
    internal BegunRow Begun { get; set; }

    /// <summary>Lets one thread at a time call the session. A batch takes the turn of each of its sessions.</summary>
    internal Turn Turn => _turn;

    /// <summary>
    /// Steers with <paramref name="law"/> from the next token on; null stops steering. To change λ, call this with a law of the new λ. Conditions on
    /// the prompt that the law before had too stay as they were decided; others are decided by the tokens so far.
    /// </summary>
    /// <exception cref="ModelMismatchException">The law is for a model of another shape.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void Use(FeedbackLaw? law)
    {
        using var call = Enter();
        Forget();
        if (law is null)
        {
            EndConditions();
            _steering?.Release();
            (_steering, _law) = (null, null);
            return;
        }

        _model.CheckLaw(law);
        bool asksAnew = AsksAnew(law);
        var decided = !asksAnew ? law.Decide(_steering!.Law.Decisions)
            : Length == 0 ? Closed(law)
            : _conditions is { Left: 0 } asked && asked.Of(law) && asked.Read == Length ? asked.Decided()
            : PromptConditions.Decide(_model, _pass, law, Ids, CancellationToken.None);
        if (asksAnew)
        {
            EndConditions();
        }

        if (_steering is null)
        {
            _steering = NewSteering(decided);
        }
        else
        {
            _steering.Use(decided);
        }

        _law = law;
    }

    /// <summary>Appends several tokens and copies the logits from the device.</summary>
    /// <param name="ids">Token ids, at least one.</param>
    /// <param name="cancellationToken">Checked between blocks; a cancelled call appends nothing.</param>
    /// <returns>Logits after the last token // (V), valid until the next call.</returns>
    /// <exception cref="ContextLengthException">The tokens do not fit the context.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public ReadOnlySpan<float> Prefill(ReadOnlySpan<int> ids, CancellationToken cancellationToken = default)
    {
        using var call = Enter();
        Prefill(ids, null, cancellationToken);
        return Logits;
    }

    /// <summary>Appends several tokens and leaves the logits on the device, for <see cref="Draw"/> or <see cref="Logits"/>.</summary>
    /// <param name="ids">Token ids, at least one.</param>
    /// <param name="cancellationToken">Checked between blocks; a cancelled call appends nothing.</param>
    /// <exception cref="ContextLengthException">The tokens do not fit the context.</exception>
    /// <exception cref="InvalidOperationException">Another thread is using the session.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public void Append(ReadOnlySpan<int> ids, CancellationToken cancellationToken = default) => Prefill(ids, null, cancellationToken);

    /// <summary>Appends several tokens, reports progress after every pass, and leaves the logits on the device.</summary>
    /// <param name="ids">Token ids, at least one.</param>
    /// <param name="afterPass">
    /// Called after every pass with the position after its last row. <see cref="Steering"/> then describes the <see cref="SteeredPositions"/> of that
    /// pass.
    /// </param>
    /// <param name="cancellationToken">Checked between blocks; a cancelled call appends nothing.</param>
    /// <param name="toCome">
    /// How many more tokens of the prompt will follow. If 0, the prompt ends here: its last token is steered and its logits are computed.
    /// </param>
    internal void Prefill(ReadOnlySpan<int> ids, Action<int>? afterPass, CancellationToken cancellationToken, int toCome = 0)
    {
        if (ids.IsEmpty)
        {
            throw new ArgumentException("A prompt needs at least one token: add a beginning-of-text token or some text.", nameof(ids));
        }

        using var call = Enter();
        Prepare(ids, toCome, cancellationToken);
        var undecided = Decide(_ids.AsSpan(0, Length + ids.Length), isWhole: toCome == 0, cancellationToken);
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
            if (undecided is not null)
            {
                _steering!.Use(undecided); // what was decided is of a prompt that has not been read
            }

            GiveUp();
            throw;
        }

        if (toCome == 0)
        {
            _isDecided = false;
            _decoder.TakePrompt(this, _pass.Rows.Values - 1);
        }

        Advance(ids.Length);
    }

    /// <summary>Number of tokens of a prompt that <see cref="DecideAhead"/> has still to read before the prompt can be read in parts.</summary>
    /// <param name="length">Length of the sequence up to the prompt's end.</param>
    internal int LeftToDecide(int length) => _law is not { Conditions.Count: > 0 } || _isDecided ? 0 : _conditions?.Left ?? length;

    /// <summary>Number of tokens that <see cref="AskAhead"/> has still to read before <see cref="Use"/> has nothing to ask.</summary>
    /// <param name="law">The law that will be used; null for none.</param>
    internal int LeftToAsk(FeedbackLaw? law) =>
        law is not { Conditions.Count: > 0 } || Length == 0 || !AsksAnew(law) ? 0 : _conditions?.Of(law) == true ? _conditions.Left : Length;

    /// <summary>Reads tokens of the sequence, to decide the conditions of a law that will be used next.</summary>
    /// <param name="law">The law.</param>
    /// <param name="count">Number of tokens to be read.</param>
    internal void AskAhead(FeedbackLaw law, int count)
    {
        using var call = Enter();
        Forget();
        if (_conditions?.Of(law) != true)
        {
            EndConditions();
            _conditions = new PromptConditions(_model, law, Length);
        }

        _conditions.Continue(_pass, Ids, count, CancellationToken.None);
    }

    /// <summary>
    /// Reads tokens of a prompt that will be read in parts, to decide the law's conditions. They are decided when <see cref="LeftToDecide"/> is 0.
    /// </summary>
    /// <param name="prompt">The whole sequence up to the prompt's end, the same in every call.</param>
    /// <param name="count">Number of tokens to be read.</param>
    internal void DecideAhead(ReadOnlySpan<int> prompt, int count)
    {
        using var call = Enter();
        CheckIds(prompt);
        _conditions ??= new PromptConditions(_model, _law!, prompt.Length);
        _conditions.Continue(_pass, prompt, count, CancellationToken.None);
        if (_conditions.Left == 0)
        {
            _steering!.Use(_conditions.Decided());
            _isDecided = true;
            EndConditions();
        }
    }

    /// <summary>
    /// Locates the cause of logits that are not finite: runs the call that computed them again and finds its first state that is not finite. The
    /// session cannot be used afterwards.
    /// </summary>
    /// <param name="ids">The tokens of that call, which are the last ones of the sequence.</param>
    /// <param name="cause">The inner exception of the result.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <returns>Null if all states are finite; the fault is then in the final norm or the head.</returns>
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

    /// <summary>Appends one token and copies the logits from the device.</summary>
    /// <returns>Logits after the token // (V), valid until the next call.</returns>
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
    /// Appends one token and leaves its logits on the device, for <see cref="Draw"/> or <see cref="Logits"/>. For the token just drawn, the device
    /// may already have run this step.
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
    /// Draws the next token from the logits on the device. It does not append the token: call <see cref="Append(int, CancellationToken)"/> with this
    /// token or with another.
    /// </summary>
    /// <param name="sampler">The sampler. It belongs to this session alone, whose <see cref="Ids"/> are its history.</param>
    /// <param name="goesOn">
    /// Whether the token is likely to be appended (default). If so, a device begins the step that appends it before the host knows the token. If a
    /// different call follows, that step is discarded and leaves no trace.
    /// </param>
    /// <returns>Id of the token, 0..V-1.</returns>
    /// <exception cref="ArgumentException">The sampler is for another vocabulary.</exception>
    /// <exception cref="InvalidOperationException">The session has no token yet, or another thread is using it or the sampler.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    /// <exception cref="NonFiniteLogitsException">
    /// A logit is NaN or +∞, or all are -∞. The sampler's random sequence has not advanced. <see cref="FindNonFinite"/> locates the cause.
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

    /// <summary>Begins a call; within another call of the same thread, a part of that call.</summary>
    internal Turn.Call Enter() => _turn.Enter();

    /// <summary>
    /// Allocates room for a sequence of <paramref name="positions"/> tokens, so that appending up to that length allocates nothing.
    /// </summary>
    /// <exception cref="DeviceMemoryException">There is not enough memory.</exception>
    internal void ReservePositions(int positions)
    {
        using var call = Enter();
        Reserve(positions);
    }

    /// <summary>
    /// Whether keys and values are the whole state of a prompt's beginning and depend on nothing behind it, so that another sequence can take them
    /// over. Of laws that move every prompt token, one that looks back has further state, one with conditions depends on the whole prompt, and one
    /// that scales tokens back together depends on the pass.
    /// </summary>
    /// <param name="law">Null for the plain model.</param>
    /// <param name="tokens">Which tokens the law moves.</param>
    internal static bool CanHandOver(FeedbackLaw? law, SteeredTokens tokens) =>
        law is null or { LooksBack: false, JoinsRows: false, Conditions.Count: 0 } || tokens.Prompt != PromptTokens.All;

    /// <summary>
    /// Starts an empty sequence with tokens that were already run in another sequence under the same steering. The cache must have room for them.
    /// </summary>
    /// <param name="ids">The tokens.</param>
    /// <param name="keys">The KV cache that holds them.</param>
    internal void TakeOver(ReadOnlySpan<int> ids, KvCache keys)
    {
        using var call = Enter();
        _cache.CopyFrom(keys, ids.Length);
        ids.CopyTo(_ids);
        _promptEnd = Unended;
        Advance(ids.Length);
    }

    /// <summary>
    /// Takes over the whole prompt of another session that has just run it under an equal law. This session has run nothing, or the beginning of the
    /// same prompt. The cache must have room for the prompt.
    /// </summary>
    /// <param name="other">The other session, whose tokens are those of the prompt.</param>
    internal void Follow(Session other)
    {
        using var call = Enter();
        using var its = other.Enter();
        _cache.CopyFrom(other._cache, other.Length);
        other.Ids.CopyTo(_ids);
        _promptEnd = other._promptEnd;
        if (_law is { Conditions.Count: > 0 })
        {
            _steering!.Use(other._steering!.Law);
        }

        if (_steering is { Law.LooksBack: true } steering)
        {
            float[] errors = new float[steering.Law.Sensors.Count];
            other._steering!.ReadErrors(other._steering.Slots - 1, errors);
            steering.WriteErrors(errors);
        }

        _isDecided = false;
        EndConditions();
        _decoder.TakeLogits(this, other);
        Advance(other.Length - Length);
    }

    /// <summary>
    /// Checks the next tokens and makes room for them. If the longer sequence needs other rotary frequencies, it runs the earlier tokens again.
    /// </summary>
    /// <param name="ids">The tokens.</param>
    /// <param name="toCome">How many more tokens are known to follow. The rotary frequencies are those for the whole length.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    internal void Prepare(ReadOnlySpan<int> ids, int toCome = 0, CancellationToken cancellationToken = default)
    {
        Forget();
        CheckIds(ids);
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

    /// <summary>Undoes the changes of a step that was cancelled after <see cref="Prepare"/>.</summary>
    internal void GiveUp()
    {
        if (_law is { LooksBack: true } && _steering is { } steering)
        {
            steering.WriteErrors(_errorsBefore);
        }
    }

    /// <summary>Adds tokens that were run after <see cref="Prepare"/> to the sequence. The host's copy of the logits becomes out of date.</summary>
    /// <param name="tokens">Number of tokens.</param>
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

        // A clean prefix is computed by the plain model, also when it is read again.
        for (int position = Length - tokens; position < Length; position++)
        {
            _history.Add(1, _steered.Clean ? null : Steered.At(position, _ids[position])?.Law);
        }
    }

    /// <summary>Adds the token of a step to the sequence.</summary>
    internal void AdvanceOne()
    {
        Advance(1);
        _steeredCount = 0;
        if (_lastIsSteered)
        {
            _steeredPositions[_steeredCount++] = Length - 1;
        }
    }

    /// <summary>The steering of the next token; null if that token is not steered.</summary>
    internal SteeringState? SteeringOf(int id) => Steered.At(Length, id);

    /// <summary>Throws if a draw is not possible.</summary>
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

    /// <summary>How a device draws the next token. If penalties or a bias apply, the tokens so far are counted for the device.</summary>
    /// <exception cref="DeviceMemoryException">There is no room for the token counts.</exception>
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
            // A batch has moved them to another row: try again there.
        }
    }

    /// <summary>Releases the row that holds the session's logits.</summary>
    internal void DropLogits()
    {
        while (_logitsIn is { } rows && !rows.TryDrop(this))
        {
            // A batch has moved them to another row: try again there.
        }
    }

    /// <summary>Makes room for a token that has not been drawn yet, and adds its row.</summary>
    /// <returns>
    /// False if the context is full, if the sequence must be read again first, or if the row depends on the token or on a pass that must run before
    /// it.
    /// </returns>
    /// <exception cref="DeviceMemoryException">There is no room for the token's keys and values.</exception>
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

    /// <summary>Accepts the begun step for this session.</summary>
    internal void KeepBegun(Stepper.Begun begun)
    {
        RememberErrors();
        begun.Keep(Begun.Row);
        _ids[Length] = Begun.Id;
        Forget();
        AdvanceOne();
    }

    /// <summary>Discards any begun step for this session.</summary>
    internal void Forget() => Begun = default;

    private SteeredSequence Steered => new(_steering, _steered, _promptEnd);

    private void CheckIds(ReadOnlySpan<int> ids)
    {
        int bad = ids.IndexOfAnyExceptInRange(0, _model.Config.V - 1);
        if (bad >= 0)
        {
            throw new ArgumentOutOfRangeException(nameof(ids), ids[bad], $"A token id must be in 0..{_model.Config.V - 1}.");
        }
    }

    // Before a prompt has been read its conditions are not met.
    private static FeedbackLaw Closed(FeedbackLaw law) => law.Decide(new bool[law.Conditions.Count]);

    private bool AsksAnew(FeedbackLaw law) => _law is null || _steering is null || !law.Conditions.SequenceEqual(_law.Conditions);

    // Decides the conditions of a prompt that is read at once. Gives back the law that steered before; null if nothing had to be decided.
    private FeedbackLaw? Decide(ReadOnlySpan<int> sequence, bool isWhole, CancellationToken cancellationToken)
    {
        if (_law is not { Conditions.Count: > 0 } law || _isDecided)
        {
            return null;
        }

        Debug.Assert(isWhole, "a prompt in parts is decided ahead");
        var before = _steering!.Law;
        _steering.Use(PromptConditions.Decide(_model, _pass, law, sequence, cancellationToken));
        return before;
    }

    private void EndConditions()
    {
        _conditions?.Dispose();
        _conditions = null;
    }

    private SteeringState NewSteering(FeedbackLaw law)
    {
        var steering = _model.NewSteering(law);
        steering.Owner = _turn;
        _history.Begin();
        return steering;
    }

    // As transformers does when a sequence outgrows the short factors of LongRoPE. Each position is steered as it was the first time.
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

    // A law that looks back continues from the errors of the second reading. A law that has just begun, or one with other sensors, has no past
    // errors.
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
        DropLogits();       // first: until then a batch may copy logits to this session's own rows
        _decoder.Dispose(); // waits for the queued work; no call can add to it any more
        _steering?.Release();
        _tally?.Dispose();
        EndConditions();
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
        // The law as it was given: its condition may not have been met before this prompt, and be met by it.
        if (_law is { LooksBack: true } && _steering is { } steering)
        {
            if (_errorsBefore.Length != steering.Law.Sensors.Count)
            {
                _errorsBefore = new float[steering.Law.Sensors.Count];
            }

            steering.ReadErrors(steering.Slots - 1, _errorsBefore);
        }
    }

    /// <summary>
    /// Fills the next pass with <paramref name="ids"/> from index <paramref name="begin"/> on. The first of all ids stands at
    /// <paramref name="position"/>.
    /// </summary>
    private void Fill(ReadOnlySpan<int> ids, int begin, int position) =>
        _pass.Fill(ids, begin, position, _cache, Steered);

    // Notes the positions of the pass that were steered.
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

    // With a clean prefix, computes the last token's keys and values again by the plain model. A cancelled call does this again next time.
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
