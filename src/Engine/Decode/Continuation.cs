using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Tokens;

namespace Tiller.Decode;

/// <summary>
/// One text from its prompt to its stop: a session, its sampler and the decoded text. The caller, alone or in a batch, appends the prompt; then it
/// repeatedly draws a token, passes it to <see cref="Take"/> and appends it, until a token has a stop reason.
/// </summary>
internal sealed class Continuation : IDisposable
{
    private readonly GenerationOptions _options;
    private readonly TokenStream? _text; // null for a model without a tokenizer, whose texts are ids only
    private readonly StopFilter _stop;
    private readonly int[] _stopIds;
    private readonly int[] _history;
    private int _length;
    private bool _isObserved; // what the law did in the last step has been recorded
    private TokenSteering? _shown; // belongs to the next token

    /// <summary>Prepares a continuation.</summary>
    /// <param name="model">The model.</param>
    /// <param name="prompt">Token ids, at least one.</param>
    /// <param name="options">How the text is continued.</param>
    /// <exception cref="TillerException">The prompt does not fit the context, the law is for another model, or an option is out of range.</exception>
    public Continuation(LanguageModel model, ReadOnlySpan<int> prompt, GenerationOptions options)
    {
        Check(model, prompt, options);
        _options = options;
        _stopIds = [.. options.StopIds ?? model.EndIds];
        Sampler = new Sampler(options.Sampling, model.Config.V);
        _text = model.HasTokenizer ? model.Tokenizer.NewStream() : null;
        _stop = new StopFilter(options.StopStrings);
        _history = new int[Positions(prompt.Length, options, model) + 1];
        prompt.CopyTo(_history);
        _length = prompt.Length;
        PromptLength = prompt.Length;
        Session = new Session(model, options.Law, options.SteeredTokens);
        Steering = options.Law is null ? null : new SteeringSummary(options.Law);
    }

    /// <summary>The sequence.</summary>
    public Session Session { get; }

    /// <summary>The sampler of the sequence.</summary>
    public Sampler Sampler { get; }

    /// <summary>The row that the text is in a batch.</summary>
    public BatchRow Row => new(Session, Sampler);

    /// <summary>Number of tokens in the prompt.</summary>
    public int PromptLength { get; }

    /// <summary>The prompt.</summary>
    public ReadOnlySpan<int> Prompt => _history.AsSpan(0, PromptLength);

    /// <summary>The ids drawn so far.</summary>
    public ReadOnlySpan<int> NewIds => _history.AsSpan(PromptLength, _length - PromptLength);

    /// <summary>The id of the last token taken.</summary>
    public int LastId => _history[_length - 1];

    /// <summary>The last token taken, with its text.</summary>
    public GeneratedToken Current { get; private set; }

    /// <summary>Whether another token may follow the next one.</summary>
    public bool GoesOn => _length + 1 - PromptLength < _options.MaxNewTokens;

    /// <summary>The tracking error and the effort of the law; null for the plain model.</summary>
    public SteeringSummary? Steering { get; private set; }

    /// <summary>
    /// Positions to make room for before the prompt is read, so that its keys and values need not be copied into a larger cache afterwards: those of
    /// the whole text, but no more than that larger cache would have.
    /// </summary>
    public int PositionsAhead => Math.Min(_history.Length - 1, KvCache.CapacityFor(PromptLength + 1, int.MaxValue, PromptLength));

    /// <summary>The most positions that a text can take, for which its KV cache needs room.</summary>
    public static int Positions(int promptLength, GenerationOptions options, LanguageModel model) =>
        (int)Math.Min((long)promptLength + options.MaxNewTokens - 1, model.Config.MaxPositions);

    /// <summary>Checks that the prompt and the options allow a continuation.</summary>
    /// <exception cref="TillerException">The prompt does not fit the context, the law is for another model, or an option is out of range.</exception>
    public static void Check(LanguageModel model, ReadOnlySpan<int> prompt, GenerationOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.MaxNewTokens);
        if (prompt.IsEmpty)
        {
            throw new ArgumentException("A prompt needs at least one token: give it some text.", nameof(prompt));
        }

        if (prompt.Length > model.Config.MaxPositions)
        {
            throw new ContextLengthException(prompt.Length, model.Config.MaxPositions);
        }

        if (options.Trace is not null && options.Law is null)
        {
            throw new ArgumentException("A trace needs a feedback law: there is nothing to record of the plain model.", nameof(options));
        }

        ArgumentOutOfRangeException.ThrowIfNegative(options.RefitEvery, nameof(options));
        if (options.Refit is not null && (options.Law is not { Conditions.Count: 0 } || options.SteeredTokens.Prompt == PromptTokens.All
            || options.SteeredTokens.Clean))
        {
            throw new ArgumentException(
                "A law that is made anew at the prompt's last token takes the place of another, which is needed, and cannot steer the tokens before: "
                + "give a GenerationOptions.Law without conditions, and leave out PromptTokens.All and SteeredTokens.Clean.",
                nameof(options));
        }

        options.Sampling.Validate(model.Config.V);
        if (options.Law is not null)
        {
            model.CheckLaw(options.Law);
        }
    }

    /// <summary>Steers with another law from the next token on.</summary>
    public void Use(FeedbackLaw? law)
    {
        ObserveStep(); // the old law's errors and efforts are lost when the law changes
        _isObserved = true;
        Session.Use(law);
        Steering ??= law is null ? null : new SteeringSummary(law);
    }

    /// <summary>Records what the law did to the steered rows of the prompt's last pass.</summary>
    public void ObservePass() => Observe();

    /// <summary>
    /// Whether this continuation can take over the prompt of another: the tokens are the same, and the same law steers them. A trace records the rows
    /// of its own session, so a traced continuation runs its own prompt.
    /// </summary>
    public bool CanFollow(Continuation other) => ReferenceEquals(_options.Law, other._options.Law)
        && _options.SteeredTokens == other._options.SteeredTokens && _options.ShowsSteering == other._options.ShowsSteering
        && _options.Trace is null && Prompt.SequenceEqual(other.Prompt);

    /// <summary>Takes over the prompt of another continuation that has just run it (<see cref="CanFollow"/>).</summary>
    public void Follow(Continuation other)
    {
        Session.Follow(other.Session);
        if (other.Steering is not null)
        {
            Steering?.Take(other.Steering);
        }

        _shown = other._shown;
    }

    /// <summary>
    /// Takes a drawn token, and records what the law did in the step before. A device hands out that record together with the token, so recording
    /// does not wait.
    /// </summary>
    public GeneratedToken Take(int id)
    {
        ObserveStep();
        _isObserved = false;
        _history[_length++] = id;
        var token = Classify(id) with { Probabilities = DrawnProbabilities.Of(Sampler, _options.Sampling), Steering = _shown };
        _shown = null;
        return Current = token;
    }

    /// <summary>Finds the first state that is not finite, after a draw from logits that are not finite.</summary>
    /// <param name="error">The error of the draw.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <returns>The error to throw.</returns>
    public TillerException Explain(NonFiniteLogitsException error, CancellationToken cancellationToken)
    {
        ObserveStep();
        int last = _length == PromptLength ? PromptLength : 1;
        return Session.FindNonFinite(_history.AsSpan(_length - last, last), error, cancellationToken) ?? (TillerException)error;
    }

    /// <inheritdoc/>
    public void Dispose() => Session.Dispose();

    private GeneratedToken Classify(int id)
    {
        if (_stopIds.AsSpan().Contains(id))
        {
            return new GeneratedToken(id, _stop.Push(_text?.Flush() ?? "") + _stop.Finish(), StopReason.EndToken);
        }

        string text = _stop.Push(_text?.Append(id) ?? "");
        StopReason? reason = _stop.Found is not null ? StopReason.StopString
            : _length - PromptLength == _options.MaxNewTokens ? StopReason.MaxTokens
            : _length > Session.Model.Config.MaxPositions ? StopReason.ContextFull
            : null;
        if (reason is StopReason.MaxTokens or StopReason.ContextFull)
        {
            text += _stop.Push(_text?.Flush() ?? "") + _stop.Finish();
        }

        return new GeneratedToken(id, text, reason) { StopString = _stop.Found };
    }

    private void ObserveStep()
    {
        if (_length > PromptLength && !_isObserved)
        {
            Observe();
        }
    }

    // Records what the law did to the steered rows of the last pass, if there are any.
    private void Observe()
    {
        if (Session.Steering is { } steering && !Session.SteeredPositions.IsEmpty)
        {
            Steering?.Add(steering);
            _options.Trace?.Add(steering, _history, Session.SteeredPositions);
            _shown = _options.ShowsSteering ? TokenSteering.Last(steering) : null;
        }
    }
}
