using System.Runtime.CompilerServices;
using Tiller.Chat;
using Tiller.Model;

namespace Tiller.Decode;

/// <summary>
/// One continuation of one prompt, plain or steered: prefill, draw, step, until a stop. The prompt is run by the first
/// <see cref="MoveNext"/>. One thread at a time may move it on; it may be disposed of on any, and a token under way is then drawn first.
/// </summary>
public sealed class Generation : IDisposable
{
    private readonly Continuation _text;
    private readonly SteeringTrace? _trace;

    /// <summary>Readies a continuation of <paramref name="prompt"/>.</summary>
    /// <param name="model">Once it is disposed of, the generation cannot go on.</param>
    /// <param name="prompt">Token ids, at least one.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <exception cref="TillerException">The prompt does not fit the context, the law is for another model, or an option is out of range.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public Generation(LanguageModel model, ReadOnlySpan<int> prompt, GenerationOptions? options = null)
    {
        options ??= new GenerationOptions();
        _text = new Continuation(model, prompt, options);
        _trace = options.Trace;
    }

    /// <summary>Tokens of the prompt.</summary>
    public int PromptLength => _text.PromptLength;

    /// <summary>
    /// Seed of the draws: <see cref="SamplingOptions.Seed"/> or, without one, the seed drawn for this generation. Options with it give the same text
    /// again. 0 if nothing is drawn, the temperature being 0, and the options have none.
    /// </summary>
    public ulong Seed => _text.Sampler.Seed;

    /// <summary>Ids drawn so far, an end-of-text id included.</summary>
    public ReadOnlySpan<int> NewIds => _text.NewIds;

    /// <summary>The step <see cref="MoveNext"/> made.</summary>
    public GeneratedToken Current => _text.Current;

    /// <summary>How well the law tracked, and at what effort; null when plain.</summary>
    public SteeringSummary? Steering => _text.Steering;

    /// <summary>FNV-1a over the bits of the last logits: equal runs print equal hashes.</summary>
    public ulong LogitsHash { get; private set; }

    /// <summary>Called after every pass over the prompt, with the position after its last row: tests cancel there. Null for nobody.</summary>
    internal Action<int>? AfterPass { get; init; }

    /// <summary>Draws the next token.</summary>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <returns>False once the text has ended.</returns>
    /// <exception cref="NonFiniteStateException">
    /// The state is NaN or infinite: λ is too large, or the weights are not finite. Says where first.
    /// </exception>
    /// <exception cref="NonFiniteLogitsException">The states are finite, the logits are not.</exception>
    /// <exception cref="InvalidOperationException">Another thread is in this call.</exception>
    /// <exception cref="ObjectDisposedException">The generation or its model has been disposed of.</exception>
    public bool MoveNext(CancellationToken cancellationToken = default)
    {
        using var call = _text.Session.Enter();
        if (Current.StopReason is not null)
        {
            return false;
        }

        if (NewIds.IsEmpty)
        {
            Prefill(cancellationToken);
        }
        else
        {
            _text.Session.Append(_text.LastId, cancellationToken);
        }

        try
        {
            _text.Take(_text.Session.Draw(_text.Sampler, _text.GoesOn));
        }
        catch (NonFiniteLogitsException e)
        {
            var found = _text.Explain(e, cancellationToken);
            if (found != e)
            {
                throw found;
            }

            throw;
        }

        if (Current.StopReason is not null)
        {
            LogitsHash = Hash(_text.Session.Logits);
        }

        return true;
    }

    /// <inheritdoc/>
    public void Dispose() => _text.Dispose();

    private void Prefill(CancellationToken cancellationToken)
    {
        int traced = _trace?.Count ?? 0;
        try
        {
            _text.Session.Prefill(_text.Prompt, end =>
            {
                _text.ObservePass();
                AfterPass?.Invoke(end);
            }, cancellationToken);
        }
        catch (OperationCanceledException)
        {
            _trace?.Truncate(traced);
            Steering?.Clear();
            throw;
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
