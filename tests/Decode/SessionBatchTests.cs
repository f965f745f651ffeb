using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>Sessions stepped together, each under its own law, are as if alone.</summary>
public sealed class SessionBatchTests(string device) : OnEveryDevice(device)
{
    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Up_to_eight_rows_are_bit_for_bit_as_alone(string family)
    {
        var model = TestModels.Load(family);
        (FeedbackLaw? Law, SteeredTokens Tokens)[] kinds =
        [
            (null, SteeredTokens.Last), (Laws.Random(model, 1), SteeredTokens.Last), (Laws.Random(model, 2, 0.3f), SteeredTokens.All),
            (Laws.LooksBack(model, 3), SteeredTokens.Last), (Laws.LooksBack(model, 4), SteeredTokens.All), (null, SteeredTokens.Last),
            (Laws.Random(model, 1), SteeredTokens.All), (new FeedbackLaw(model.Config.L, model.Config.D, [], []), SteeredTokens.Last),
        ];
        Compare(model, family, kinds, (actual, expected) => Assert.That(actual, Is.EqualTo(expected)));
    }

    [Test]
    public void More_rows_agree_up_to_rounding()
    {
        var model = AnyModel;
        var kinds = Enumerable.Range(0, 13)
            .Select(i => (i % 3 == 0 ? null : Laws.Random(model, i), i % 2 == 0 ? SteeredTokens.Last : SteeredTokens.All)).ToArray();
        Compare(model, AnyFamily, kinds, (actual, expected) => Assert.That(Numbers.Error(actual, expected), Is.LessThan(1e-4)));
    }

    [Test]
    public void One_full_session_stops_none_of_the_others()
    {
        var model = AnyModel;
        using var full = new Session(model);
        using var other = new Session(model);
        using var batch = new SessionBatch(model);
        full.Prefill(TestModels.LongPrompt(AnyFamily, model.Config.MaxPositions));
        other.Prefill([3, 4]);
        Assert.That(() => batch.Step([new(other), new(full)], [5, 5]), Throws.InstanceOf<ContextLengthException>());
        Assert.That(other.Length, Is.EqualTo(2));
        batch.Step([new(other)], [5]);
        using var alone = new Session(model);
        alone.Prefill([3, 4]);
        Assert.That(other.Logits.ToArray(), Is.EqualTo(alone.Step(5).ToArray()));
    }

    [Test]
    public void A_batch_takes_distinct_sessions_of_its_model_and_one_id_for_each()
    {
        var model = TestModels.Demo;
        using var session = new Session(model);
        using var foreign = new Session(TestModels.Load("qwen3-f32"));
        using var batch = new SessionBatch(model);
        session.Prefill([3]);
        foreign.Prefill([3]);
        batch.Step([], []);
        Assert.That(() => batch.Step([new(session), new(foreign)], [4, 4]), Throws.InstanceOf<ModelMismatchException>());
        Assert.That(() => batch.Step([new(session)], [4, 4]), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => batch.Step([new(session), new(session)], [4, 4]), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => batch.Step([new(session)], [-1]), Throws.InstanceOf<ArgumentException>());
        Assert.That(session.Length, Is.EqualTo(1));
    }

    private void Compare(LanguageModel model, string family, (FeedbackLaw? Law, SteeredTokens Tokens)[] kinds, Action<float[], float[]> check)
    {
        Session[] together = [.. kinds.Select(kind => new Session(model, kind.Law, kind.Tokens))];
        Session[] alone = [.. kinds.Select(kind => new Session(model, kind.Law, kind.Tokens))];
        for (int i = 0; i < kinds.Length; i++)
        {
            int[] prompt = TestModels.LongPrompt(family, (3 * i) + 1);
            together[i].Prefill(prompt);
            alone[i].Prefill(prompt);
        }

        using var batch = new SessionBatch(model);
        for (int step = 0; step < (IsHostCuda ? 5 : 12); step++)
        {
            int[] ids = [.. kinds.Select((_, i) => 3 + ((7 * i) + (5 * step)) % 200)];
            batch.Step([.. together.Select(session => new BatchRow(session))], ids);
            for (int i = 0; i < kinds.Length; i++)
            {
                check(together[i].Logits.ToArray(), alone[i].Step(ids[i]).ToArray());
            }
        }

        foreach (var session in together.Concat(alone))
        {
            session.Dispose();
        }
    }
}
