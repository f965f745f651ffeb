using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Peers;

/// <summary>Measures tiller and llama.cpp in turn, on the same weights.</summary>
internal sealed class PeerRows : IDisposable
{
    // OpenMP's threads spin for a while after a loop. The pause keeps that out of the other engine's samples.
    private const int PauseMs = 15;
    private const int CheckTokens = 16;

    private readonly LanguageModel _model;
    private readonly LlamaCpp _peer;
    private readonly Counts _counts;
    private readonly Meter _meter;
    private readonly int _context;

    /// <summary>Takes ownership of both engines.</summary>
    /// <param name="model">The model in tiller.</param>
    /// <param name="type">Stored type of the model's weights.</param>
    /// <param name="peer">The same model in llama.cpp.</param>
    /// <param name="meter">Measures the rows.</param>
    /// <param name="context">Number of tokens before a step.</param>
    public PeerRows(LanguageModel model, TensorType type, LlamaCpp peer, Meter meter, int context) =>
        (_model, _peer, _meter, _context, _counts) = (model, peer, meter, context, new Counts(model.Config, type));

    /// <summary>
    /// Compares the logits of both engines after a few tokens. llama.cpp rounds activations to the type of the weights, so the logits agree only to
    /// the precision of that type.
    /// </summary>
    /// <returns>The correlation of the logits of the last token.</returns>
    /// <exception cref="BenchException">The engines do not compute the same function.</exception>
    public double Check()
    {
        int[] ids = RandomParts.Tokens(_model.Config.V, CheckTokens, seed: 7);
        using var session = new Session(_model);
        var ours = session.Prefill(ids);
        using var sequences = _peer.Open(1, CheckTokens);
        sequences.Prefill(ids);
        var theirs = sequences.Logits();
        double xx = 0, yy = 0, xy = 0;
        for (int i = 0; i < ours.Length; i++)
        {
            xx += (double)ours[i] * ours[i];
            yy += (double)theirs[i] * theirs[i];
            xy += (double)ours[i] * theirs[i];
        }

        double correlation = xy / Math.Sqrt(xx * yy);
        return correlation > 0.99 ? correlation : throw new BenchException(
            $"The logits of the two engines have a correlation of {correlation:0.000}, so they do not run the same model. Report this as a defect.");
    }

    /// <summary>Measures steps of several sequences: first with tiller, then with llama.cpp.</summary>
    public IReadOnlyList<BenchRow> Batch(int rows)
    {
        using var loop = new DecodeLoop(_model, _context, new FeedbackLaw?[rows]);
        using var sequences = _peer.Open(rows, DecodeLoop.LastLength(_context));
        int first = Math.Max(1, _context - DecodeLoop.Margin), id = RandomParts.Tokens(_model.Config.V, 1, seed: 3)[0];
        var work = loop.AsWork($"batch {rows}, context {_context}, tiller", _counts);
        work = work with
        {
            Prepare = steps =>
            {
                loop.Prepare(steps + 1);
                Awake(work.Run);
            },
        };
        return _meter.Measure(
        [
            work,
            work with
            {
                Name = $"batch {rows}, context {_context}, llama.cpp",
                Comparison = Comparison.Time,
                Prepare = steps =>
                {
                    if (sequences.Length == 0)
                    {
                        sequences.Prefill(new int[first]);
                    }
                    else if (sequences.Length + steps + 1 >= DecodeLoop.LastLength(_context))
                    {
                        sequences.Shorten(first);
                    }

                    Awake(() => sequences.Step(id));
                },
                Run = () => sequences.Step(id),
            },
        ]);
    }

    /// <summary>Measures a prompt: first with tiller, then with llama.cpp.</summary>
    public IReadOnlyList<BenchRow> Prefill(int tokens)
    {
        using var sequences = _peer.Open(1, tokens);
        int[] ids = RandomParts.Tokens(_model.Config.V, tokens, seed: 4);
        Session? session = null;
        var work = new Work
        {
            Name = $"prefill {tokens}, tiller",
            Bytes = _counts.DecodeBytes,
            Flops = (tokens * _counts.RowFlops((tokens + 1) / 2.0)) + _counts.HeadFlops,
            WorkingSet = _counts.DecodeBytes,
            Rows = tokens,
            Amount = tokens,
            RateUnit = "tok/s",
            Prepare = _ => Paused(() =>
            {
                session?.Dispose();
                session = new Session(_model);
            }),
            MaxRuns = 1,
            Run = () => session!.Prefill(ids),
        };
        try
        {
            return _meter.Measure(
            [
                work,
                work with
                {
                    Name = $"prefill {tokens}, llama.cpp",
                    Comparison = Comparison.Time,
                    Prepare = _ => Paused(sequences.Clear),
                    Run = () => sequences.Prefill(ids),
                },
            ]);
        }
        finally
        {
            session?.Dispose();
        }
    }

    public void Dispose()
    {
        _peer.Dispose();
        _model.Dispose();
    }

    private static void Paused(Action prepare)
    {
        prepare();
        Thread.Sleep(PauseMs);
    }

    // Decoded tokens follow each other: the first one after the pause, which wakes the threads, is not timed.
    private static void Awake(Action step)
    {
        Thread.Sleep(PauseMs);
        step();
    }
}
