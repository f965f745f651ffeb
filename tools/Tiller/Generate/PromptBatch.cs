using Tiller.Decode;
using Tiller.Model;
using Tiller.Tokens;

namespace Tiller.Tool;

/// <summary>A prompt's continuation.</summary>
/// <param name="Text">The text.</param>
/// <param name="Tokens">New tokens, an end-of-text token included.</param>
/// <param name="Stop">Why it ended.</param>
/// <param name="Seed">Seed of its draws; null where each token was the likeliest.</param>
internal sealed record Continuation(string Text, int Tokens, StopReason Stop, ulong? Seed);

/// <summary>Continues many prompts, several at a time: when one ends, the next takes its place. A text is that of a generation alone.</summary>
internal sealed class PromptBatch(LanguageModel model, GenerationOptions options, int size)
{
    private readonly int[] _stopIds = [.. options.StopIds ?? model.EndIds];

    private GenerationOptions Options => options;

    private LanguageModel Model => model;

    /// <summary>Continues prompts until all are done.</summary>
    /// <param name="prompts">Of each its number and ids, read one after the other.</param>
    /// <param name="seedOf">Seed of a prompt by its number; null for one that is not told.</param>
    /// <param name="done">Told each continuation as it ends.</param>
    /// <param name="cancellationToken">Looked at between blocks.</param>
    /// <exception cref="TillerException">A prompt's state or logits are not finite; the message names the prompt.</exception>
    public void Run(IEnumerable<(int Number, int[] Ids)> prompts, Func<int, ulong?> seedOf, Action<int, Continuation> done,
        CancellationToken cancellationToken)
    {
        using var batch = new SessionBatch(model);
        using IEnumerator<(int Number, int[] Ids)> next = prompts.GetEnumerator();
        var texts = new List<RunningText>();
        try
        {
            bool more = true;
            while (true)
            {
                while (more && texts.Count < size && (more = next.MoveNext()))
                {
                    texts.Add(new RunningText(this, next.Current.Number, seedOf(next.Current.Number)));
                    texts[^1].Session.Append(next.Current.Ids, cancellationToken);
                }

                if (texts.Count == 0)
                {
                    return;
                }

                Draw(batch, texts, cancellationToken);
                for (int i = texts.Count - 1; i >= 0; i--)
                {
                    RunningText text = texts[i];
                    if (text.Take() is { } stop)
                    {
                        done(text.Number, text.End(stop));
                        text.Dispose();
                        texts.RemoveAt(i);
                    }
                }

                if (texts.Count > 0)
                {
                    batch.Step([.. texts.Select(static x => x.Row)], [.. texts.Select(static x => x.Id)], cancellationToken);
                }
            }
        }
        finally
        {
            texts.ForEach(static x => x.Dispose());
        }
    }

    private static void Draw(SessionBatch batch, List<RunningText> texts, CancellationToken cancellationToken)
    {
        int[] ids = new int[texts.Count];
        try
        {
            batch.Draw([.. texts.Select(static x => x.Row)], ids);
        }
        catch (BatchLogitsException e)
        {
            RunningText text = texts[e.Places[0]];
            var found = text.Session.FindNonFinite(text.Session.Ids.ToArray(), e, cancellationToken);
            throw found is null ? e : new UnfinishedTextException(text.Number, found);
        }

        for (int i = 0; i < ids.Length; i++)
        {
            texts[i].Id = ids[i];
        }
    }

    // A text under way.
    private sealed class RunningText : IDisposable
    {
        private readonly PromptBatch _owner;
        private readonly Sampler _sampler;
        private readonly TokenStream _stream;
        private readonly StopFilter _stop;
        private readonly System.Text.StringBuilder _text = new();
        private readonly bool _drawn;
        private int _tokens;

        public RunningText(PromptBatch owner, int number, ulong? seed)
        {
            (GenerationOptions options, LanguageModel model) = (owner.Options, owner.Model);
            _owner = owner;
            Number = number;
            _sampler = new Sampler(options.Sampling with { Seed = seed ?? options.Sampling.Seed }, model.Config.V);
            _drawn = options.Sampling.Temperature > 0;
            _stream = model.Tokenizer.NewStream();
            _stop = new StopFilter(options.StopStrings);
            Session = new Session(model, options.Law, options.SteeredTokens);
        }

        public int Number { get; }

        public Session Session { get; }

        public BatchRow Row => new(Session, _sampler);

        /// <summary>The last token drawn.</summary>
        public int Id { get; set; }

        /// <summary>Takes the token that was drawn.</summary>
        /// <returns>Why the text ends with it; null if it goes on.</returns>
        public StopReason? Take()
        {
            _tokens++;
            if (Array.IndexOf(_owner._stopIds, Id) >= 0)
            {
                return StopReason.EndToken;
            }

            _text.Append(_stop.Push(_stream.Append(Id)));
            return _stop.Found is not null ? StopReason.StopString
                : _tokens == _owner.Options.MaxNewTokens ? StopReason.MaxTokens
                : Session.Length == _owner.Model.Config.MaxPositions ? StopReason.ContextFull
                : null;
        }

        public Continuation End(StopReason reason)
        {
            _text.Append(_stop.Push(_stream.Flush())).Append(_stop.Finish());
            return new Continuation(_text.ToString(), _tokens, reason, _drawn ? _sampler.Seed : null);
        }

        public void Dispose() => Session.Dispose();
    }
}

/// <summary>One of many texts cannot go on.</summary>
internal sealed class UnfinishedTextException(int number, Exception cause)
    : TillerException($"Prompt {number + 1}: {cause.Message}", cause);
