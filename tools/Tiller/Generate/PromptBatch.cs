using System.Text;
using Tiller.Decode;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>A prompt's continuation.</summary>
/// <param name="Text">The text.</param>
/// <param name="Tokens">New tokens, an end-of-text token included.</param>
/// <param name="Stop">Why it ended.</param>
/// <param name="Seed">Seed of its draws; null where each token was the likeliest.</param>
internal sealed record ContinuedText(string Text, int Tokens, StopReason Stop, ulong? Seed);

/// <summary>Continues many prompts, several at a time: when one ends, the next takes its place. A text is that of a generation alone.</summary>
internal sealed class PromptBatch(LanguageModel model, GenerationOptions options, int size)
{
    private readonly List<RunningText> _texts = [];
    private readonly List<BatchRow> _rows = [];
    private readonly int[] _ids = new int[size];

    /// <summary>Continues prompts until all are done.</summary>
    /// <param name="prompts">Of each its number and ids, read one after the other.</param>
    /// <param name="seedOf">Seed of a prompt by its number; null for one that is not told.</param>
    /// <param name="done">Told each continuation as it ends.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <exception cref="TillerException">A prompt's state or logits are not finite; the message names the prompt.</exception>
    public void Run(
        IEnumerable<(int Number, int[] Ids)> prompts, Func<int, ulong?> seedOf, Action<int, ContinuedText> done, CancellationToken cancellationToken)
    {
        using var batch = new SessionBatch(model);
        using IEnumerator<(int Number, int[] Ids)> next = prompts.GetEnumerator();
        try
        {
            bool more = true;
            while (true)
            {
                while (more && _texts.Count < size && (more = next.MoveNext()))
                {
                    Begin(next.Current.Number, next.Current.Ids, seedOf(next.Current.Number), cancellationToken);
                }

                if (_texts.Count == 0)
                {
                    return;
                }

                Draw(batch, cancellationToken);
                int left = 0;
                for (int i = 0; i < _texts.Count; i++)
                {
                    var text = _texts[i];
                    if (text.Take(_ids[i]) is { } ended)
                    {
                        text.Dispose();
                        done(text.Number, ended);
                    }
                    else
                    {
                        (_texts[left], _ids[left++]) = (text, _ids[i]);
                    }
                }

                _texts.RemoveRange(left, _texts.Count - left);
                FillRows();
                batch.Step(_rows, _ids.AsSpan(0, left), cancellationToken);
            }
        }
        finally
        {
            _texts.ForEach(static x => x.Dispose());
            _texts.Clear();
        }
    }

    private void Begin(int number, int[] ids, ulong? seed, CancellationToken cancellationToken)
    {
        var sampling = options.Sampling with { Seed = seed ?? options.Sampling.Seed };
        var text = new RunningText(number, new Continuation(model, ids, options with { Sampling = sampling }), sampling.Temperature > 0);
        _texts.Add(text);
        text.Continuation.Session.Append(ids, cancellationToken);
    }

    private void Draw(SessionBatch batch, CancellationToken cancellationToken)
    {
        FillRows();
        try
        {
            batch.Draw(_rows, _ids.AsSpan(0, _rows.Count), _texts.Exists(static x => x.Continuation.GoesOn));
        }
        catch (BatchLogitsException e)
        {
            var text = _texts[e.Places[0]];
            throw new UnfinishedTextException(
                text.Number, text.Continuation.Explain((NonFiniteLogitsException)e.InnerException!, cancellationToken));
        }
    }

    private void FillRows()
    {
        _rows.Clear();
        foreach (var text in _texts)
        {
            _rows.Add(text.Continuation.Row);
        }
    }

    private sealed class RunningText(int number, Continuation continuation, bool draws) : IDisposable
    {
        private readonly StringBuilder _text = new();

        public int Number => number;

        public Continuation Continuation => continuation;

        /// <summary>Takes the token that was drawn.</summary>
        /// <returns>The whole if the text ends with it; null if it goes on.</returns>
        public ContinuedText? Take(int id)
        {
            var token = continuation.Take(id);
            _text.Append(token.Text);
            return token.StopReason is { } reason
                ? new ContinuedText(_text.ToString(), continuation.NewIds.Length, reason, draws ? continuation.Sampler.Seed : null)
                : null;
        }

        public void Dispose() => continuation.Dispose();
    }
}

/// <summary>One of many texts cannot go on.</summary>
internal sealed class UnfinishedTextException(int number, Exception cause)
    : TillerException($"Prompt {number + 1}: {cause.Message}", cause);
