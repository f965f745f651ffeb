using System.Text;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Tests.Decode;

/// <summary>A text to be decoded.</summary>
/// <param name="Prompt">Token ids of its prompt.</param>
/// <param name="Law">The law that steers it; null without steering.</param>
/// <param name="Sampling">How its tokens are drawn.</param>
/// <param name="Tokens">How many tokens are drawn.</param>
/// <param name="Joins">The index of the draw before which it joins the batch.</param>
internal sealed record BatchText(int[] Prompt, FeedbackLaw? Law, SamplingOptions Sampling, int Tokens, int Joins = 0)
{
    /// <summary>Texts of every kind: steered or not, sampled or greedy, with penalties or without; they join and leave at different draws.</summary>
    public static BatchText[] Various(LanguageModel model) =>
    [
        new([3, 4, 5], null, new(), 6),
        new([6, 7, 8, 9, 10], Laws.Random(model, 1), new() { Temperature = 0.9f, Seed = 1 }, 2),
        new([11], Laws.LooksBack(model, 2), new() { Temperature = 1.1f, TopP = 0.9f, Seed = 2 }, 6),
        new([12, 13], null, new() { Temperature = 1, TopK = 20, Seed = 3 }, 3, Joins: 1),
        new([14, 15, 16, 17], Laws.Random(model, 3, maxEffort: 2), new() { Temperature = 0.8f, TopK = 50, TopP = 0.95f, MinP = 0.01f, Seed = 4 },
            3, Joins: 1),
        new([20, 21, 22, 23, 24, 25], new FeedbackLaw(model.Config.L, model.Config.D, [], []), new() { Temperature = 100, Seed = 6 }, 1, Joins: 2),
        new([18, 19], Laws.LooksBack(model, 4), new() { Temperature = 1, RepetitionPenalty = 0.7f, Seed = 5 }, 2, Joins: 3),
        new([26, 27], null, new() { RepetitionPenalty = 1.5f }, 2, Joins: 3),
        new([28, 28, 29], null, new() { PresencePenalty = 2, FrequencyPenalty = 1.5f, LogProbabilities = 3 }, 4),
        new([30, 31], Laws.Random(model, 5), new() { Temperature = 0.9f, FrequencyPenalty = -2, RepetitionPenalty = 1.3f, Seed = 7 }, 4, Joins: 1),
        new([32], null, new() { Temperature = 1, TopP = 0.9f, LogitBias = new Dictionary<int, float> { [40] = 100, [41] = 99.5f, [3] = -100 },
            Seed = 8 }, 3, Joins: 2),
    ];

    /// <summary>Decodes this text in a session by itself; tokens are drawn on the host.</summary>
    public BatchOutcome Alone(LanguageModel model)
    {
        using var running = new BatchSession(model, this);
        float[] scores = new float[model.Config.V];
        for (int i = 0; i < Tokens; i++)
        {
            if (i > 0)
            {
                running.Session.Append(running.Ids[^1]);
            }

            running.Session.Logits.CopyTo(scores);
            running.Take(running.Sampler.Next(scores, running.Session.Ids));
        }

        return running.Outcome;
    }

    /// <summary>Decodes all texts in one batch, as a service does: each joins before a draw and leaves after one.</summary>
    public static BatchOutcome[] Together(LanguageModel model, IReadOnlyList<BatchText> texts)
    {
        using var batch = new SessionBatch(model);
        var outcomes = new BatchOutcome[texts.Count];
        var running = new List<(BatchSession Text, int Number)>();
        for (int draw = 0; outcomes.Contains(null); draw++)
        {
            for (int i = 0; i < texts.Count; i++)
            {
                if (texts[i].Joins == draw)
                {
                    running.Add((new BatchSession(model, texts[i]), i));
                }
            }

            int[] ids = new int[running.Count];
            batch.Draw([.. running.Select(r => r.Text.Row)], ids);
            for (int i = 0; i < ids.Length; i++)
            {
                running[i].Text.Take(ids[i]);
            }

            foreach (var (text, number) in running.Where(r => r.Text.Ids.Count == texts[r.Number].Tokens))
            {
                outcomes[number] = text.Outcome;
                text.Dispose();
            }

            running.RemoveAll(r => outcomes[r.Number] is not null);
            batch.Step([.. running.Select(r => r.Text.Row)], [.. running.Select(r => r.Text.Ids[^1])]);
        }

        return outcomes;
    }
}

/// <summary>The result of decoding a text: its token ids, what its law did, and a hash of its last logits.</summary>
internal sealed record BatchOutcome(string Ids, string Trace, ulong LogitsHash);

/// <summary>A text being decoded.</summary>
internal sealed class BatchSession : IDisposable
{
    private readonly SteeringTrace? _trace;

    public BatchSession(LanguageModel model, BatchText text)
    {
        Session = new Session(model, text.Law);
        Sampler = new Sampler(text.Sampling, model.Config.V);
        _trace = text.Law is null ? null : new SteeringTrace(text.Law);
        Session.Append(text.Prompt);
    }

    public Session Session { get; }

    public Sampler Sampler { get; }

    public BatchRow Row => new(Session, Sampler);

    public List<int> Ids { get; } = [];

    public BatchOutcome Outcome
    {
        get
        {
            using var written = new MemoryStream();
            _trace?.Write(written);
            return new BatchOutcome(string.Join(' ', Ids), Encoding.UTF8.GetString(written.ToArray()), Generation.Hash(Session.Logits));
        }
    }

    /// <summary>Records a drawn id, and what the law did before it was drawn.</summary>
    public void Take(int id)
    {
        Ids.Add(id);
        if (Session.Steering is { } steering)
        {
            _trace!.Add(steering, Session.Ids, Session.SteeredPositions);
        }
    }

    public void Dispose() => Session.Dispose();
}
