using System.Runtime.CompilerServices;
using Tiller.Chat;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Decode;

/// <summary>
/// One continuation of one prompt, plain or steered: prefill, then draw and step until a stop. The first <see cref="MoveNext"/> runs the prompt. One
/// thread at a time may call <see cref="MoveNext"/>. Any thread may dispose of the generation; a call under way ends first.
/// </summary>
public sealed class Generation : IDisposable
{
    private readonly Continuation _text;
    private readonly SteeringTrace? _trace;
    private readonly Func<Session, int, CancellationToken, FeedbackLaw>? _refit;
    private readonly int _refitEvery;

    /// <summary>Prepares a continuation of <paramref name="prompt"/>.</summary>
    /// <param name="model">The model. A generation cannot continue after its model has been disposed of.</param>
    /// <param name="prompt">Token ids, at least one.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <exception cref="TillerException">The prompt does not fit the context, the law is for another model, or an option is out of range.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public Generation(LanguageModel model, ReadOnlySpan<int> prompt, GenerationOptions? options = null)
    {
        options ??= new GenerationOptions();
        (_refit, _refitEvery) = (options.Refit, options.RefitEvery);
        _text = new Continuation(model, prompt, options);
        _trace = options.Trace;
    }

    /// <summary>Number of tokens in the prompt.</summary>
    public int PromptLength => _text.PromptLength;

    /// <summary>
    /// Seed of the draws: <see cref="SamplingOptions.Seed"/> or, if that is not set, a random seed chosen for this generation. The same options with
    /// this seed give the same text. 0 if the options have no seed and the temperature is 0, which needs no random numbers.
    /// </summary>
    public ulong Seed => _text.Sampler.Seed;

    /// <summary>The ids drawn so far, including an end-of-text id.</summary>
    public ReadOnlySpan<int> NewIds => _text.NewIds;

    /// <summary>The token drawn by the last <see cref="MoveNext"/>.</summary>
    public GeneratedToken Current => _text.Current;

    /// <summary>The tracking error and the effort of the law; null for the plain model.</summary>
    public SteeringSummary? Steering => _text.Steering;

    /// <summary>FNV-1a hash of the bits of the last logits. Equal runs have equal hashes.</summary>
    public ulong LogitsHash { get; private set; }

    /// <summary>Called after every pass over the prompt, with the position after its last row; tests cancel there. May be null.</summary>
    internal Action<int>? AfterPass { get; init; }

    /// <summary>Draws the next token.</summary>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <returns>False once the text has ended.</returns>
    /// <exception cref="NonFiniteStateException">
    /// A state is NaN or infinite, because λ is too large or the weights are not finite. The exception names the first such place.
    /// </exception>
    /// <exception cref="NonFiniteLogitsException">The states are finite, but the logits are not.</exception>
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
            if (RefitsBehind(NewIds.Length))
            {
                Refit(_text.LastId, cancellationToken);
            }

            _text.Session.Append(_text.LastId, cancellationToken);
        }

        try
        {
            // A step that a device begins by itself would be lost to the gains that are fitted before it.
            _text.Take(_text.Session.Draw(_text.Sampler, _text.GoesOn && !RefitsBehind(NewIds.Length + 1)));
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
            var rest = _text.Prompt;
            if (_text.Session.Length == 0)
            {
                _text.Session.ReservePositions(_text.PositionsAhead);
            }

            if (_refit is not null)
            {
                // What a cancelled call has read already stays.
                int last = rest.Length - 1;
                if (_text.Session.Length < last)
                {
                    _text.Session.Prefill(rest[..last], ObservePass, cancellationToken, toCome: 1);
                }

                Refit(rest[last], cancellationToken);
                rest = rest[last..];
            }

            _text.Session.Prefill(rest, ObservePass, cancellationToken);
        }
        catch (OperationCanceledException)
        {
            _trace?.Truncate(traced);
            Steering?.Clear();
            throw;
        }
    }

    private void ObservePass(int end)
    {
        _text.ObservePass();
        AfterPass?.Invoke(end);
    }

    // Whether the law is made anew behind so many new tokens, before the last of them is run.
    private bool RefitsBehind(int tokens) => _refit is not null && _refitEvery > 0 && tokens % _refitEvery == 0;

    private void Refit(int next, CancellationToken cancellationToken) =>
        _text.Session.Use(_refit!(_text.Session, next, cancellationToken));

    /// <summary>FNV-1a hash of the bits of the logits.</summary>
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
    /// <param name="prompt">The text. Special tokens in it are read as plain text. The tokenizer's template is applied.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="cancellationToken">Ends the stream; checked between blocks.</param>
    /// <returns>One item per token; the last has a <see cref="StopReason"/>. The computation runs on the thread pool.</returns>
    /// <exception cref="TillerException">The prompt does not fit the context, or the law is for another model.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before the call or between two tokens.</exception>
    public static IAsyncEnumerable<GeneratedToken> GenerateAsync(
        this LanguageModel model, string prompt, GenerationOptions? options = null, CancellationToken cancellationToken = default) =>
        model.GenerateAsync(model.Tokenizer.Encode(prompt, cancellationToken: cancellationToken), options, cancellationToken);

    /// <summary>Answers a chat.</summary>
    /// <param name="model">The model; its checkpoint must have a chat template.</param>
    /// <param name="messages">The conversation so far. Text in the messages never becomes a special token.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="cancellationToken">Ends the stream; checked between blocks.</param>
    /// <returns>One item per token; the last has a <see cref="StopReason"/>.</returns>
    /// <exception cref="TillerException">There is no chat template, it refuses the messages, or the chat does not fit the context.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before the call or between two tokens.</exception>
    public static IAsyncEnumerable<GeneratedToken> GenerateAsync(
        this LanguageModel model, IReadOnlyList<ChatMessage> messages, GenerationOptions? options = null,
        CancellationToken cancellationToken = default) =>
        model.GenerateAsync(messages, new ChatOptions(), options, cancellationToken);

    /// <summary>Answers a chat, with tools, documents and whatever else the template reads.</summary>
    /// <param name="model">The model; its checkpoint must have a chat template.</param>
    /// <param name="messages">The conversation so far.</param>
    /// <param name="chat">Variables of the template and other options.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="cancellationToken">Ends the stream; checked between blocks.</param>
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
    /// <param name="cancellationToken">Ends the stream; checked between blocks.</param>
    /// <returns>One item per token; the last has a <see cref="StopReason"/>.</returns>
    /// <exception cref="TillerException">The prompt does not fit the context, or the law is for another model.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before the call or between two tokens.</exception>
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
