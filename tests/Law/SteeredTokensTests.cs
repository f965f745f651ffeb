using Tiller.Decode;
using Tiller.Law;
using Tiller.Tests.Decode;
using Tiller.Tests.Model;

namespace Tiller.Tests.Law;

/// <summary>Which tokens a law moves, and what it leaves behind in keys and values.</summary>
public sealed class SteeredTokensTests(string device) : OnEveryDevice(device)
{
    private static readonly int[] s_prompt = [3, 4, 5, 6, 7];

    [Test]
    public void A_choice_of_tokens_is_what_it_says()
    {
        // Numbers count from the prompt's last token; positions from the first.
        var window = new SteeredTokens { Prompt = PromptTokens.None, GeneratedBegin = 1, GeneratedEnd = 3 };
        var without = SteeredTokens.All with { ExcludedPositions = [4, 0, 4], ExcludedIds = [9] };
        (SteeredTokens Tokens, string Text, bool[] Moved)[] cases =
        [
            (SteeredTokens.Last, "last", [false, false, true, true, true, true]),
            (SteeredTokens.All, "all", [true, true, true, true, true, true]),
            (SteeredTokens.First, "first", [false, false, true, false, false, false]),
            (SteeredTokens.LastOverCleanPrefix, "clean", [false, false, true, true, true, true]),
            (window, "prompt none, generated 1 to 2", [false, false, false, false, true, true]),
            (without, "all, not at 0 4, not of id 9", [false, true, true, true, false, false]),
        ];
        foreach (var (tokens, text, moved) in cases)
        {
            Assert.That(Enumerable.Range(0, 6).Select(i => tokens.Steers(i - 2, i, i == 5 ? 9 : 1)), Is.EqualTo(moved), text);
            Assert.That(tokens.ToString(), Is.EqualTo(text));
            Assert.That(tokens with { }, Is.EqualTo(tokens));
        }

        Assert.That(cases.Select(c => c.Tokens).Distinct().Count(), Is.EqualTo(cases.Length));
        Assert.That(without, Is.EqualTo(SteeredTokens.All with { ExcludedPositions = [0, 4], ExcludedIds = [9] }));
        Assert.That(() => new Session(AnyModel, null, SteeredTokens.All with { Clean = true }), Throws.ArgumentException);
        Assert.That(() => new Session(AnyModel, null, new SteeredTokens { GeneratedBegin = 3, GeneratedEnd = 2 }), Throws.ArgumentException);
        Assert.That(() => new Session(AnyModel, null, new SteeredTokens { GeneratedBegin = -1 }), Throws.ArgumentException);
    }

    [Test]
    public void Tokens_that_are_left_alone_are_those_of_a_session_that_changes_its_law()
    {
        var model = AnyModel;
        var law = Laws.Random(model, 1);
        using var session = new Session(model, law, SteeredTokens.All with { ExcludedPositions = [0, 3, 6], ExcludedIds = [5, 11] });
        using var other = new Session(model, law, SteeredTokens.All);
        int[] all = [.. s_prompt, 8, 9, 11, 5, 12, 13];
        session.Append(s_prompt);
        foreach (int id in all[s_prompt.Length..])
        {
            session.Append(id);
        }

        for (int i = 0; i < all.Length; i++)
        {
            other.Use(i is 0 or 3 or 6 || all[i] is 5 or 11 ? null : law);
            other.Append(all[i]);
        }

        Assert.That(Numbers.Error(session.Logits, other.Logits), Is.LessThan(1e-4));
        Assert.That(session.SteeredPositions.ToArray(), Is.EqualTo(new[] { all.Length - 1 }));
    }

    [Test]
    public void Every_steered_token_of_a_prompt_with_gaps_has_its_line()
    {
        var model = AnyModel;
        var law = Laws.Random(model, 2);
        int[] kept = [1, 2, 4];
        var gaps = SteeredTokens.All with { ExcludedPositions = [0, 3] };
        using var session = new Session(model, law, gaps);
        session.Append(s_prompt);
        Assert.That(session.SteeredPositions.ToArray(), Is.EqualTo(kept));
        Assert.That(session.Steering!.Slots, Is.EqualTo(kept.Length));

        var trace = new SteeringTrace(law);
        using var generation = new Generation(
            model, s_prompt, new GenerationOptions { Law = law, Trace = trace, SteeredTokens = gaps, MaxNewTokens = 3, StopIds = [] });
        while (generation.MoveNext())
        {
        }

        int[] ids = [.. s_prompt, .. generation.NewIds];
        int[] positions = [1, 2, 4, 5, 6];
        Assert.That(Enumerable.Range(0, trace.Count).Select(trace.Position), Is.EqualTo(positions));
        Assert.That(Enumerable.Range(0, trace.Count).Select(trace.Id), Is.EqualTo(positions.Select(i => ids[i])));

        // Each line is its own token's: v·x of block 0 is a token's alone.
        var probe = Tiller.Model.Probe.Run(model, ids, CancellationToken.None);
        for (int i = 0; i < trace.Count; i++)
        {
            double projection = law.Sensors[0].V.Select((v, e) => v * probe.States[(positions[i] * model.Config.D) + e]).Sum();
            Assert.That(law.Sensors[0].Beta - trace.Errors(i)[0], Is.EqualTo(projection).Within(1e-5));
        }
    }

    [Test]
    public void A_clean_prefix_is_the_whole_sequence_read_again_by_the_plain_model()
    {
        var model = AnyModel;
        var law = Laws.Random(model, 3);
        int[] all = [.. s_prompt, 8, 9, 10, 11];
        using var clean = new Session(model, law, SteeredTokens.LastOverCleanPrefix);
        using var kept = new Session(model, law);
        clean.Append(s_prompt);
        kept.Append(s_prompt);
        for (int length = s_prompt.Length; length <= all.Length; length++)
        {
            // As code without a cache does it: everything anew, and the last token alone is steered.
            using var again = new Session(model, law);
            again.Append(all.AsSpan(0, length));
            Assert.That(Numbers.Error(clean.Logits, again.Logits), Is.LessThan(1e-5), $"{length} tokens");
            if (length < all.Length)
            {
                clean.Append(all[length]);
                kept.Append(all[length]);
            }
        }

        Assert.That(Numbers.Error(clean.Logits, kept.Logits), Is.GreaterThan(1e-4), "what steering leaves in keys and values matters");
    }

    [Test]
    public void A_generation_steers_what_it_was_told_however_its_tokens_are_drawn()
    {
        // A device that draws tokens begins steps by itself; what is steered must not depend on that.
        var model = AnyModel;
        var law = Laws.Random(model, 4);
        SteeredTokens[] choices =
        [
            SteeredTokens.First, SteeredTokens.LastOverCleanPrefix, new() { Prompt = PromptTokens.None, GeneratedBegin = 2, GeneratedEnd = 4 },
            new() { ExcludedPositions = [6, 7] }, new() { ExcludedIds = [.. Enumerable.Range(0, model.Config.V / 2)] },
        ];
        foreach (var tokens in choices)
        {
            using var generation = new Generation(model, s_prompt,
                new GenerationOptions { Law = law, SteeredTokens = tokens, MaxNewTokens = 7, StopIds = [] });
            while (generation.MoveNext())
            {
            }

            using var session = new Session(model, law, tokens);
            session.Append(s_prompt);
            foreach (int id in generation.NewIds[..^1])
            {
                Assert.That(session.Logits.IndexOf(System.Numerics.Tensors.TensorPrimitives.Max(session.Logits)), Is.EqualTo(id), tokens.ToString());
                session.Append(id);
            }

            Assert.That(generation.LogitsHash, Is.EqualTo(Generation.Hash(session.Logits)), tokens.ToString());
        }
    }
}
