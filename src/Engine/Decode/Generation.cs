using System.Runtime.CompilerServices;
using Tiller.Chat;
using Tiller.Model;
using Tiller.Tokens;

namespace Tiller.Decode;

/// <summary>
/// One continuation of one prompt, plain or steered: prefill, draw, step, until a stop. The prompt is run by the first
/// <see cref="MoveNext"/>. One thread at a time may move it on; it may be disposed of on any, and a token under way is then drawn first.
/// </summary>
public sealed class Generation : IDisposable
{
    private readonly GenerationOptions _options;
    private readonly Session _session;
    private readonly Sampler _sampler;
    private readonly TokenStream _text;
    private readonly StopFilter _stop;
    private readonly int[] _stopIds;
    private readonly int[] _history;
    private int _length;

    /// <summary>Readies a continuation of <paramref name="prompt"/>.</summary>
    /// <param name="model">Once it is disposed of, the generation cannot go on.</param>
    /// <param name="prompt">Token ids, at least one.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <exception cref="TillerException">The prompt does not fit the context, the law is for another model, or an option is out of range.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public Generation(LanguageModel model, ReadOnlySpan<int> prompt, GenerationOptions? options = null)
    {
        _options = options ?? new GenerationOptions();
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(_options.MaxNewTokens);
        if (prompt.IsEmpty)
        {
            throw new ArgumentException("A prompt needs at least one token: give it some text.", nameof(prompt));
        }

        if (prompt.Length > model.Config.MaxPositions)
        {
            throw new ContextLengthException(prompt.Length, model.Config.MaxPositions);
        }

        if (_options.Trace is not null && _options.Law is null)
        {
            throw new ArgumentException("A trace needs a feedback law: there is nothing to record of the plain model.", nameof(options));
        }

        _stopIds = [.. _options.StopIds ?? model.EndIds];
        _sampler = new Sampler(_options.Sampling, model.Config.V);
        _text = model.Tokenizer.NewStream();
        _stop = new StopFilter(_options.StopStrings);
        _history = new int[(int)Math.Min((long)prompt.Length + _options.MaxNewTokens, model.Config.MaxPositions + 1L)];
        prompt.CopyTo(_history);
        _length = prompt.Length;
        PromptLength = prompt.Length;
        _session = new Session(model, _options.Law, _options.SteeredTokens);
        Steering = _options.Law is null ? null : new SteeringSummary(_options.Law);
    }

    /// <summary>Tokens of the prompt.</summary>
    public int PromptLength { get; }

    /// <summary>
    /// Seed of the draws: <see cref="SamplingOptions.Seed"/> or, without one, the seed drawn for this generation. Options with it give the same text
    /// again. 0 if nothing is drawn, the temperature being 0, and the options have none.
    /// </summary>
    public ulong Seed => _sampler.Seed;

    /// <summary>Ids drawn so far, an end-of-text id included.</summary>
    public ReadOnlySpan<int> NewIds => _history.AsSpan(PromptLength, _length - PromptLength);

    /// <summary>The step <see cref="MoveNext"/> made.</summary>
    public GeneratedToken Current { get; private set; }

    /// <summary>How well the law tracked, and at what effort; null when plain.</summary>
    public SteeringSummary? Steering { get; }

    /// <summary>FNV-1a over the bits of the last logits: equal runs print equal hashes.</summary>
    public ulong LogitsHash { get; private set; }

    /// <summary>Called after every pass over the prompt, with the position after its last row: tests cancel there. Null for nobody.</summary>
    internal Action<int>? AfterPass { get; init; }

    /// <summary>Draws the next token.</summary>
    /// <param name="cancellationToken">Looked at between blocks.</param>
    /// <returns>False once the text has ended.</returns>
    /// <exception cref="NonFiniteStateException">
    /// The state is NaN or infinite: λ is too large, or the weights are not finite. Says where first.
    /// </exception>
    /// <exception cref="NonFiniteLogitsException">The states are finite, the logits are not.</exception>
    /// <exception cref="InvalidOperationException">Another thread is in this call.</exception>
    /// <exception cref="ObjectDisposedException">The generation or its model has been disposed of.</exception>
    public bool MoveNext(CancellationToken cancellationToken = default)
    {
        using var call = _session.Enter();
        if (Current.StopReason is not null)
        {
            return false;
        }

        if (_length == PromptLength)
        {
            Prefill(cancellationToken);
        }
        else
        {
            _session.Append(_history[_length - 1], cancellationToken);
        }

        int id = Draw(cancellationToken);
        _history[_length++] = id;
        Current = Classify(id);
        if (Current.StopReason is not null)
        {
            LogitsHash = Hash(_session.Logits);
        }

        return true;
    }

    /// <inheritdoc/>
    public void Dispose() => _session.Dispose();

    private int Draw(CancellationToken cancellationToken)
    {
        bool goesOn = _length + 1 - PromptLength < _options.MaxNewTokens;
        try
        {
            int id = _session.Draw(_sampler, goesOn);
            ObserveStep();
            return id;
        }
        catch (NonFiniteLogitsException e)
        {
            ObserveStep();
            int last = _length == PromptLength ? PromptLength : 1;
            if (_session.FindNonFinite(_history.AsSpan(_length - last, last), e, cancellationToken) is { } found)
            {
                throw found;
            }

            throw;
        }
    }

    private GeneratedToken Classify(int id)
    {
        if (_stopIds.AsSpan().Contains(id))
        {
            return new GeneratedToken(id, _stop.Push(_text.Flush()) + _stop.Finish(), StopReason.EndToken);
        }

        string text = _stop.Push(_text.Append(id));
        StopReason? reason = _stop.Found is not null ? StopReason.StopString
            : _length - PromptLength == _options.MaxNewTokens ? StopReason.MaxTokens
            : _length > _session.Model.Config.MaxPositions ? StopReason.ContextFull
            : null;
        if (reason is StopReason.MaxTokens or StopReason.ContextFull)
        {
            text += _stop.Push(_text.Flush()) + _stop.Finish();
        }

        return new GeneratedToken(id, text, reason);
    }

    private void Prefill(CancellationToken cancellationToken)
    {
        int traced = _options.Trace?.Count ?? 0;
        try
        {
            _session.Prefill(_history.AsSpan(0, PromptLength), end =>
            {
                Observe();
                AfterPass?.Invoke(end);
            }, cancellationToken);
        }
        catch (OperationCanceledException)
        {
            _options.Trace?.Truncate(traced);
            Steering?.Clear();
            throw;
        }
    }

    // After the draw, with which a device hands out the step's numbers: nobody waits for them.
    private void ObserveStep()
    {
        if (_length > PromptLength)
        {
            Observe();
        }
    }

    /// <summary>Takes down what the law did to the last pass's steered rows.</summary>
    private void Observe()
    {
        if (!_session.SteeredPositions.IsEmpty)
        {
            Steering!.Add(_session.Steering!);
            _options.Trace?.Add(_session.Steering!, _history, _session.SteeredPositions);
        }
    }

    /// <summary>FNV-1a over the bits.</summary>
    internal static ulong Hash(ReadOnlySpan<float> logits)
    {
        ulong hash = 14695981039346656037;
        foreach (float logit in logits)
        {
            hash = (hash ^ BitConverter.SingleToUInt32Bits(logit)) * 1099511628211;
        }

        return hash;
    }
}

/// <summary>Decoding as a stream of tokens.</summary>
public static class Generating
{
    /// <summary>Continues a text.</summary>
    /// <param name="model">The model.</param>
    /// <param name="prompt">Text; special tokens in it are plain text. The tokenizer's template is applied.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="cancellationToken">Ends the stream between two blocks of one token.</param>
    /// <returns>One item per token; the last has a <see cref="StopReason"/>. Compute runs on the thread pool.</returns>
    /// <exception cref="TillerException">The prompt does not fit the context, or the law is for another model.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before or between two tokens.</exception>
    public static IAsyncEnumerable<GeneratedToken> GenerateAsync(
        this LanguageModel model, string prompt, GenerationOptions? options = null, CancellationToken cancellationToken = default) =>
        model.GenerateAsync(model.Tokenizer.Encode(prompt, cancellationToken: cancellationToken), options, cancellationToken);

    /// <summary>Answers a chat.</summary>
    /// <param name="model">The model; its checkpoint must have a chat template.</param>
    /// <param name="messages">The conversation so far; contents never yield special ids.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="cancellationToken">Ends the stream between two blocks of one token.</param>
    /// <returns>One item per token; the last has a <see cref="StopReason"/>.</returns>
    /// <exception cref="TillerException">There is no chat template, it refuses the messages, or the chat does not fit the context.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before or between two tokens.</exception>
    public static IAsyncEnumerable<GeneratedToken> GenerateAsync(
        this LanguageModel model, IReadOnlyList<ChatMessage> messages, GenerationOptions? options = null,
        CancellationToken cancellationToken = default) =>
        model.GenerateAsync(messages, new ChatOptions(), options, cancellationToken);

    /// <summary>Answers a chat, with tools, documents and whatever else the template reads.</summary>
    /// <param name="model">The model; its checkpoint must have a chat template.</param>
    /// <param name="messages">The conversation so far.</param>
    /// <param name="chat">Variables of the template and the rest.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="cancellationToken">Ends the stream between two blocks of one token.</param>
    /// <returns>One item per token; the last has a <see cref="StopReason"/>.</returns>
    /// <exception cref="TillerException">There is no chat template, it refuses the messages, or the chat does not fit the context.</exception>
    public static IAsyncEnumerable<GeneratedToken> GenerateAsync(
        this LanguageModel model, IReadOnlyList<ChatMessage> messages, ChatOptions chat, GenerationOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        int[] prompt = model.Chat.Encode(messages, chat, cancellationToken);
        return model.GenerateAsync(prompt, options, cancellationToken);
    }

    /// <summary>Continues token ids.</summary>
    /// <param name="model">The model.</param>
    /// <param name="prompt">At least one id.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="cancellationToken">Ends the stream between two blocks of one token.</param>
    /// <returns>One item per token; the last has a <see cref="StopReason"/>.</returns>
    /// <exception cref="TillerException">The prompt does not fit the context, or the law is for another model.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before or between two tokens.</exception>
    public static async IAsyncEnumerable<GeneratedToken> GenerateAsync(
        this LanguageModel model, int[] prompt, GenerationOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        using var generation = new Generation(model, prompt, options);
        while (await Task.Run(() => generation.MoveNext(cancellationToken), cancellationToken).ConfigureAwait(false))
        {
            yield return generation.Current;
        }
    }
}
