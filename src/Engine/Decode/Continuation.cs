using Tiller.Law;
using Tiller.Model;
using Tiller.Tokens;

namespace Tiller.Decode;

/// <summary>
/// One text on its way from a prompt to its stop: a session, what draws its tokens, and what they have become. Whoever runs it, alone or in a batch,
/// appends the prompt, draws, has the token taken, and appends it, until a token has a stop reason.
/// </summary>
internal sealed class Continuation : IDisposable
{
    private readonly GenerationOptions _options;
    private readonly TokenStream? _text; // null of a model without a vocabulary, whose texts are ids alone
    private readonly StopFilter _stop;
    private readonly int[] _stopIds;
    private readonly int[] _history;
    private int _length;
    private bool _isObserved; // what the law did in the last step has been taken down
    private TokenSteering? _shown; // what goes with the next token

    /// <summary>Readies a continuation.</summary>
    /// <param name="model">The model.</param>
    /// <param name="prompt">Token ids, at least one.</param>
    /// <param name="options">How it goes on.</param>
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

    /// <summary>What draws its tokens.</summary>
    public Sampler Sampler { get; }

    /// <summary>Its row of a batch.</summary>
    public BatchRow Row => new(Session, Sampler);

    /// <summary>Tokens of the prompt.</summary>
    public int PromptLength { get; }

    /// <summary>The prompt.</summary>
    public ReadOnlySpan<int> Prompt => _history.AsSpan(0, PromptLength);

    /// <summary>Ids drawn so far.</summary>
    public ReadOnlySpan<int> NewIds => _history.AsSpan(PromptLength, _length - PromptLength);

    /// <summary>The token taken last.</summary>
    public int LastId => _history[_length - 1];

    /// <summary>The token taken last, and what it has become.</summary>
    public GeneratedToken Current { get; private set; }

    /// <summary>Whether a token may come after the next one.</summary>
    public bool GoesOn => _length + 1 - PromptLength < _options.MaxNewTokens;

    /// <summary>How well the law tracked, and at what effort; null when plain.</summary>
    public SteeringSummary? Steering { get; private set; }

    /// <summary>Positions that a text has at most: what its keys and values need room for.</summary>
    public static int Positions(int promptLength, GenerationOptions options, LanguageModel model) =>
        (int)Math.Min((long)promptLength + options.MaxNewTokens - 1, model.Config.MaxPositions);

    /// <summary>Refuses what no continuation can be made of.</summary>
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

        options.Sampling.Validate(model.Config.V);
        if (options.Law is not null)
        {
            model.CheckLaw(options.Law);
        }
    }

    /// <summary>Steers with another law from the next token on.</summary>
    public void Use(FeedbackLaw? law)
    {
        ObserveStep(); // what it did goes with it
        _isObserved = true;
        Session.Use(law);
        Steering ??= law is null ? null : new SteeringSummary(law);
    }

    /// <summary>Takes down what the law did to the steered rows of the prompt's last pass.</summary>
    public void ObservePass() => Observe();

    /// <summary>Takes a drawn token, and down what the law did in the step before, which a device hands out with it: nobody waits for it.</summary>
    public GeneratedToken Take(int id)
    {
        ObserveStep();
        _isObserved = false;
        _history[_length++] = id;
        var token = Classify(id) with { Probabilities = DrawnProbabilities.Of(Sampler, _options.Sampling), Steering = _shown };
        _shown = null;
        return Current = token;
    }

    /// <summary>After logits that no token can be drawn from: where their states first were not finite.</summary>
    /// <param name="error">What the draw said.</param>
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

    // What the law did to the last pass's steered rows, if there are any.
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
