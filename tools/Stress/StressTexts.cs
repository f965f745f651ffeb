using System.Diagnostics;
using Tiller.Bench;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Stress;

/// <summary>One way to decode a text, with the result of a session alone.</summary>
internal sealed class StressText
{
    public required int[] Prompt { get; init; }

    /// <summary>The law from the first token on; null for the plain model.</summary>
    public required FeedbackLaw? Law { get; init; }

    /// <summary>The law from new token <see cref="SwitchAt"/> on: the same controller at another λ.</summary>
    public required FeedbackLaw? Later { get; init; }

    public required int SwitchAt { get; init; }

    public required SteeredTokens Tokens { get; init; }

    public required SamplingOptions Sampling { get; init; }

    /// <summary>Tokens drawn by the session alone.</summary>
    public int[] Ids { get; private set; } = [];

    /// <summary>Hash of the logits from which each token was drawn.</summary>
    public ulong[] Hashes { get; private set; } = [];

    /// <summary>Runs the text in a session alone.</summary>
    public void RunAlone(LanguageModel model, int newTokens)
    {
        Ids = new int[newTokens];
        Hashes = new ulong[newTokens];
        using var session = new Session(model, Law, Tokens);
        var draw = new StressDraw(this, model.Config.V);
        for (int i = 0; i < newTokens; i++)
        {
            Advance(session, i, CancellationToken.None);
            Hashes[i] = Generation.Hash(session.Logits);
            Ids[i] = draw.Next(session.Logits);
        }
    }

    /// <summary>Makes the call that computes the logits of new token <paramref name="i"/>.</summary>
    public void Advance(Session session, int i, CancellationToken cancellationToken)
    {
        SwitchLaw(session, i);
        if (i == 0)
        {
            session.Prefill(Prompt, cancellationToken);
        }
        else
        {
            session.Step(Ids[i - 1], cancellationToken);
        }
    }

    /// <summary>Changes λ if it changes at this token. A repeated call has no further effect.</summary>
    public void SwitchLaw(Session session, int i)
    {
        if (i == SwitchAt)
        {
            session.Use(Later);
        }
    }
}

/// <summary>Draws the tokens of one text.</summary>
internal sealed class StressDraw(StressText text, int vocabulary)
{
    private readonly Sampler _sampler = new(text.Sampling, vocabulary);
    private readonly float[] _scores = new float[vocabulary];

    public int Next(ReadOnlySpan<float> logits)
    {
        logits.CopyTo(_scores);
        return _sampler.Next(_scores, text.Prompt);
    }
}

/// <summary>The texts of a stress run: plain and with several kinds of law at several λ, with short and long prompts, greedy and sampled.</summary>
internal static class StressTexts
{
    private const int Count = 24;
    private const int NewTokens = 24;
    private const int LongestPrompt = 300;

    // A law that looks back runs the prompt token by token if all tokens are steered.
    private const int LongestPromptOneByOne = 40;

    private static readonly double[] s_strengths = [1, -1.5, 0.5, 3];

    /// <summary>Creates the texts and runs each in a session alone.</summary>
    /// <param name="model">A model with random weights.</param>
    /// <param name="meanMs">Mean time of a text in milliseconds.</param>
    /// <param name="cancellationToken">Checked between texts.</param>
    public static IReadOnlyList<StressText> Build(LanguageModel model, out double meanMs, CancellationToken cancellationToken)
    {
        var texts = new List<StressText>();
        for (int i = 0; i < Count; i++)
        {
            texts.Add(Text(model, i));
        }

        var clock = Stopwatch.StartNew();
        foreach (var text in texts)
        {
            cancellationToken.ThrowIfCancellationRequested();
            text.RunAlone(model, NewTokens);
        }

        meanMs = clock.Elapsed.TotalMilliseconds / Count;
        return texts;
    }

    private static StressText Text(LanguageModel model, int i)
    {
        var random = new Random(100 + i);
        bool all = i % 5 == 3;
        double strength = s_strengths[i / 6 % s_strengths.Length];
        var law = Law(model, i % 6, strength);
        bool oneByOne = all && law is { LooksBack: true };
        bool drawn = i % 3 == 1;
        return new StressText
        {
            Prompt = RandomParts.Tokens(model.Config.V, 1 + random.Next(oneByOne ? LongestPromptOneByOne : LongestPrompt), seed: 200 + i),
            Law = law,
            Later = i % 4 == 2 ? Law(model, i % 6, strength / 2) : law,
            SwitchAt = NewTokens / 2,
            Tokens = all ? SteeredTokens.All : SteeredTokens.Last,
            Sampling = new SamplingOptions { Temperature = drawn ? 0.8f : 0, TopP = drawn ? 0.95f : 1, Seed = (ulong)i },
        };
    }

    private static FeedbackLaw? Law(LanguageModel model, int kind, double strength)
    {
        var c = model.Config;
        var random = new Random(kind);
        var feature = Feature.FromDifference([.. Enumerable.Range(0, c.L + 1).Select(_ => RandomParts.Unit(random, c.D))]);
        float[][] w = [.. Enumerable.Range(0, c.L).Select(_ => Array.ConvertAll(RandomParts.Unit(random, c.D), x => 0.3f * x))];
        return kind switch
        {
            0 => null,
            1 => new LinearQuadratic(feature, w).Compile(strength),
            2 => new Proportional(feature, 0.3).Compile(strength, maxEffort: 0.05f),
            3 => new SPid(feature, 0.2, 0.05, 0.1).Compile(strength),
            4 => FeedbackLaw.Sum([new OpenLoopAddition(feature).Compile(0.1 * strength), RandomParts.Law(c, 4, seed: 9)]),
            _ => new Ablation(feature).Compile(0.2 * strength),
        };
    }
}
