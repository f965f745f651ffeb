using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>
/// A sequence that outgrows the short factors of LongRoPE: from then on it must be as if it had had the long ones from its first token, each position
/// steered as it was. The other model is the same one but for an original length of two.
/// </summary>
public sealed class LongRopeTests(string device) : OnEveryDevice(device)
{
    private const int Original = 24;
    private readonly int[] _ids = [.. Enumerable.Range(0, 40).Select(i => 3 + (i * 131 % 700))];
    private LanguageModel _model = null!;
    private LanguageModel _long = null!;

    [OneTimeSetUp]
    public void Load()
    {
        using var checkpoint = new FamilyCheckpoint("own-phi3");
        _model = TestModels.LoadFrom(checkpoint.Save());
        checkpoint.Config["original_max_position_embeddings"] = 2;
        _long = TestModels.LoadFrom(checkpoint.Save());
    }

    [OneTimeTearDown]
    public void Free()
    {
        _model.Dispose();
        _long.Dispose();
    }

    [Test]
    public void Steps_beyond_the_original_length_are_those_of_a_long_text()
    {
        using Session session = new(_model), always = new(_long);
        Append(20, session, always);
        for (int t = 20; t < 30; t++)
        {
            float[] logits = session.Step(_ids[t]).ToArray(), expected = always.Step(_ids[t]).ToArray();
            Assert.That(Numbers.Error(logits, expected), t < Original ? Is.GreaterThan(1e-3) : Is.LessThan(1e-5), $"{t + 1} tokens");
        }

        using var checkpoint = new FamilyCheckpoint("own-phi3");
        double[] exact = new ReferenceModel(checkpoint).Run(_ids[..30]).Logits[^1];
        Assert.That(Numbers.Error(session.Logits, [.. exact.Select(v => (float)v)]), Is.LessThan(2e-5), "the reference reads all tokens together");
    }

    [Test]
    public void Each_position_is_steered_as_it_was([Values] SteeredTokens steered, [Values] bool looksBack)
    {
        FeedbackLaw first = looksBack ? Laws.LooksBack(_model, 1) : Laws.Random(_model, 1), second = looksBack
            ? Laws.LooksBack(_model, 1, lambda: 2) : Laws.Random(_model, 2);
        FeedbackLaw?[] laws = [first, first, null, second, second, first, first, second, second];
        using Session session = new(_model, steered: steered), always = new(_long, steered: steered);
        int[] lengths = [6, 1, 2, 1, 4, 5, 3, 7, 1];
        int length = 0;
        for (int i = 0; i < lengths.Length; i++)
        {
            session.Use(laws[i]);
            always.Use(laws[i]);
            session.Append(_ids.AsSpan(length, lengths[i]));
            always.Append(_ids.AsSpan(length, lengths[i]));
            length += lengths[i];
            Assert.That(Numbers.Error(session.Logits, always.Logits), length <= Original ? Is.GreaterThan(1e-3) : Is.LessThan(3e-5),
                $"{length} tokens");
        }

        Assert.That(length, Is.GreaterThan(Original));
        if (looksBack)
        {
            float[] errors = new float[first.Sensors.Count], expected = new float[first.Sensors.Count];
            session.Steering!.ReadErrors(session.Steering.Slots - 1, errors);
            always.Steering!.ReadErrors(always.Steering.Slots - 1, expected);
            Assert.That(Numbers.Error(errors, expected), Is.LessThan(3e-5), "what the law looks back at");
        }
    }

    [Test]
    public void One_of_a_batch_outgrows_them_and_the_others_do_not()
    {
        var law = Laws.Random(_model, 4);
        using Session grown = new(_model, law), young = new(_model, law), always = new(_long, law), alone = new(_model, law);
        Append(22, grown, always);
        Append(4, young, alone);
        using SessionBatch batch = new(_model), other = new(_long);
        for (int t = 0; t < 5; t++)
        {
            batch.Step([new BatchRow(grown), new BatchRow(young)], [_ids[22 + t], _ids[4 + t]]);
            other.Step([new BatchRow(always)], [_ids[22 + t]]);
            alone.Append(_ids[4 + t]);
            Assert.That(Numbers.Error(grown.Logits, always.Logits), 22 + t < Original ? Is.GreaterThan(1e-3) : Is.LessThan(1e-5), $"{23 + t} tokens");
            Assert.That(Numbers.Error(young.Logits, alone.Logits), Is.LessThan(1e-5));
        }
    }

    [Test]
    public void A_device_that_runs_ahead_draws_the_same_tokens()
    {
        int[] Drawn(bool ahead)
        {
            using var session = new Session(_model, Laws.Random(_model, 5));
            session.Append(_ids.AsSpan(0, 18));
            var sampler = new Sampler(new SamplingOptions { Temperature = 0.8f, Seed = 9 }, _model.Config.V);
            return [.. Enumerable.Range(0, 14).Select(_ =>
            {
                int id = session.Draw(sampler, goesOn: ahead);
                session.Append(id);
                return id;
            })];
        }

        Assert.That(Drawn(ahead: true), Is.EqualTo(Drawn(ahead: false)));
    }

    [Test]
    public void A_call_given_up_while_it_reads_again_leaves_the_short_text()
    {
        var law = Laws.LooksBack(_model, 6);
        using Session session = new(_model, law), other = new(_model, law), always = new(_long, law);
        Append(10, session, other, always);
        Assert.Throws<OperationCanceledException>(() => session.Append(_ids.AsSpan(10, 20), new CancellationToken(canceled: true)));
        Assert.That(session.Length, Is.EqualTo(10));
        Append(10, 13, session, other, always);
        Assert.That(Numbers.Error(session.Logits, other.Logits), Is.LessThan(1e-5), "short again");
        Append(13, 34, session, other, always);
        Assert.That(Numbers.Error(session.Logits, always.Logits), Is.LessThan(3e-5), "and then long");
    }

    private void Append(int end, params Session[] sessions) => Append(0, end, sessions);

    private void Append(int begin, int end, params Session[] sessions)
    {
        foreach (var session in sessions)
        {
            session.Append(_ids.AsSpan(begin, end - begin));
        }
    }
}
