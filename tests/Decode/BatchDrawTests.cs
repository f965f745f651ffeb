using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Model;

namespace Tiller.Tests.Decode;

/// <summary>Tokens drawn for all sessions of a batch are those of each session alone, whatever the device.</summary>
public sealed class BatchDrawTests(string device) : OnEveryDevice(device)
{
    private const string Family = "qwen2-bf16";

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Sessions_come_and_go_as_if_alone(string family)
    {
        var model = TestModels.Load(family);
        var texts = BatchText.Various(model);
        var outcomes = BatchText.Together(model, texts);
        for (int i = 0; i < texts.Length; i++)
        {
            Assert.That(outcomes[i], Is.EqualTo(texts[i].Alone(model)), $"text {i}");
        }
    }

    [Test]
    public void The_best_of_n_is_chosen_from_n_different_texts()
    {
        // So hot that every token is as likely: two texts are never the same by chance.
        const int N = 8;
        var options = new SamplingOptions { Temperature = SamplingOptions.MaxTemperature };
        Session[] sessions = [.. Enumerable.Range(0, N).Select(_ => new Session(AnyModel))];
        BatchRow[] rows = [.. sessions.Select(session => new BatchRow(session, new Sampler(options, AnyModel.Config.V)))];
        using var batch = new SessionBatch(AnyModel);
        Array.ForEach(sessions, session => session.Append(TestModels.Prompts(AnyFamily)[0]));
        int[] ids = new int[N];
        for (int i = 0; i < 12; i++)
        {
            batch.Draw(rows, ids);
            batch.Step(rows, ids);
        }

        Assert.That(sessions.Select(session => string.Join(' ', session.Ids.ToArray())), Is.Unique);
        Array.ForEach(sessions, session => session.Dispose());
    }

    [Test]
    public void A_session_that_is_not_finite_stops_none_of_the_others([Values(1, 2)] int kind)
    {
        var model = TestModels.Load(Family);
        float[] axis = new float[model.Config.D];
        axis[0] = 1;
        var bad = new FeedbackLaw(model.Config.L, model.Config.D, [], [new Term(0, axis, 3e38f), new Term(0, axis, 3e38f)]);
        var sampling = new SamplingOptions { Temperature = 1, RepetitionPenalty = kind > 1 ? 1.1f : 1, Seed = 7 };
        BatchText[] texts = [new([3, 4], null, sampling, 3), new([5], Laws.LooksBack(model, 1), sampling, 3), new([6, 7], null, sampling, 3)];
        BatchSession[] running = [.. texts.Select(text => new BatchSession(model, text))];
        using var batch = new SessionBatch(model);
        int[] ids = new int[3];
        batch.Draw([.. running.Select(r => r.Row)], ids);
        for (int i = 0; i < 3; i++)
        {
            running[i].Take(ids[i]);
        }

        running[0].Session.Use(bad);
        batch.Step([.. running.Select(r => r.Row)], ids);
        int[] before = [.. ids];
        var error = Assert.Throws<BatchLogitsException>(() => batch.Draw([.. running.Select(r => r.Row)], ids))!;
        Assert.That(error.Places, Is.EqualTo(new[] { 0 }));
        Assert.That(error.InnerException, Is.TypeOf<NonFiniteLogitsException>());
        Assert.That(error.Message, Does.StartWith("1 of 3 sessions cannot continue: those at 0."));
        Assert.That(ids[0], Is.EqualTo(-1));
        running[1].Take(ids[1]);
        running[2].Take(ids[2]);
        batch.Step([running[2].Row, running[1].Row], [ids[2], ids[1]]);
        batch.Draw([running[1].Row, running[2].Row], ids.AsSpan(1));
        running[1].Take(ids[1]);
        running[2].Take(ids[2]);
        Assert.That(running[1].Outcome, Is.EqualTo(texts[1].Alone(model)));
        Assert.That(running[2].Outcome, Is.EqualTo(texts[2].Alone(model)));

        Assert.That(() => running[0].Session.Draw(running[0].Sampler), Throws.TypeOf<NonFiniteLogitsException>(), "alone");
        var where = running[0].Session.FindNonFinite(before.AsSpan(0, 1))!;
        Assert.That((where.Position, where.Layer), Is.EqualTo((2, 1)));
        Array.ForEach(running, r => r.Dispose());
    }

    [Test]
    public void A_draw_tells_log_probabilities_of_the_logits_it_was_made_from()
    {
        var model = TestModels.Load(Family);
        var bias = new Dictionary<int, float> { [5] = 60 };
        SamplingOptions[] options = [new() { LogProbabilities = 5, LogitBias = bias }, new(), new() { Temperature = 1, Seed = 2,
            LogProbabilities = 0, FrequencyPenalty = 1 }];
        Session[] sessions = [.. options.Select((_, i) => new Session(model, i == 2 ? Laws.Random(model, 1) : null))];
        Sampler[] samplers = [.. options.Select(o => new Sampler(o, model.Config.V))];
        BatchRow[] rows = [.. sessions.Zip(samplers, (session, sampler) => new BatchRow(session, sampler))];
        using var batch = new SessionBatch(model);
        Array.ForEach(sessions, session => session.Append([3, 4]));
        int[] ids = new int[3];
        for (int step = 0; step < 3; step++)
        {
            float[][] logits = [.. sessions.Select(session => session.Logits.ToArray())];
            batch.Draw(rows, ids);
            for (int i = 0; i < 3; i++)
            {
                if (options[i].LogProbabilities is not { } count)
                {
                    Assert.That(samplers[i].LogProbability, Is.NaN);
                    continue;
                }

                double max = logits[i].Max(), log = max + Math.Log(logits[i].Sum(l => Math.Exp(l - max)));
                Assert.That(samplers[i].LogProbability, Is.EqualTo(logits[i][ids[i]] - log).Within(1e-4));
                int[] best = [.. Enumerable.Range(0, model.Config.V).OrderByDescending(id => logits[i][id]).Take(count)];
                Assert.That(samplers[i].MostProbable.ToArray().Select(token => token.Id), Is.EqualTo(best));
                double[] shown = [.. samplers[i].MostProbable.ToArray().Select(token => (double)token.LogProbability)];
                Assert.That(shown, Is.EqualTo(best.Select(id => logits[i][id] - log)).Within(1e-4));
            }

            batch.Step(rows, ids);
        }

        Assert.That(ids[0], Is.EqualTo(5), "the bias");
        Array.ForEach(sessions, session => session.Dispose());
    }

    [Test]
    public void A_token_that_was_drawn_and_not_taken_is_not_penalised()
    {
        var model = TestModels.Load(Family);
        var options = new SamplingOptions { FrequencyPenalty = 2, RepetitionPenalty = 1.5f };
        float[] scores = new float[model.Config.V];
        using var session = new Session(model);
        using var alone = new Session(model);
        Sampler here = new(options, model.Config.V), host = new(options, model.Config.V);
        session.Append([3, 4]);
        alone.Append([3, 4]);
        for (int i = 0; i < 4; i++)
        {
            session.Draw(here);
            int id = session.Draw(here);
            alone.Logits.CopyTo(scores);
            Assert.That(id, Is.EqualTo(host.Next(scores, alone.Ids)), $"token {i}");
            int taken = i == 1 ? 7 : id; // once another one
            session.Append(taken);
            alone.Append(taken);
        }

        // A sampler of another text: what was text is its prompt.
        Sampler next = new(options with { RepetitionPenalty = 1 }, model.Config.V), nextOnHost = new(options with { RepetitionPenalty = 1 },
            model.Config.V);
        session.Append([9, 10]);
        alone.Append([9, 10]);
        for (int i = 0; i < 2; i++)
        {
            alone.Logits.CopyTo(scores);
            int id = nextOnHost.Next(scores, alone.Ids);
            Assert.That(session.Draw(next), Is.EqualTo(id));
            session.Append(id);
            alone.Append(id);
        }
    }

    [Test]
    public void Logits_outlive_their_batch_and_their_place_in_it()
    {
        var model = TestModels.Load(Family);
        using var first = new Session(model);
        using var second = new Session(model);
        using var third = new Session(model);
        float[] expected = [.. first.Prefill([3, 4, 5])];
        second.Append([3, 4]);
        third.Append([3, 4]);
        using (var batch = new SessionBatch(model))
        {
            batch.Step([new(third), new(second)], [5, 5]);
            for (int i = 0; i < 3; i++)
            {
                batch.Step([new(third)], [6]); // the first goes beside the row of the other, the second over it
            }

            Assert.That(second.Logits.ToArray(), Is.EqualTo(expected));
        }

        Assert.That(third.Logits.ToArray(), Is.EqualTo(Alone()), "the batch is gone");
        third.Append(6);
        Assert.That(third.Length, Is.EqualTo(7));
        Assert.That(third.Ids.ToArray(), Is.EqualTo(new[] { 3, 4, 5, 6, 6, 6, 6 }));

        float[] Alone()
        {
            using var alone = new Session(model);
            alone.Append([3, 4]);
            alone.Append(5);
            alone.Append(6);
            alone.Append(6);
            return [.. alone.Step(6)];
        }
    }

    [Test]
    public void A_session_that_has_left_is_used_on_another_thread()
    {
        var model = TestModels.Load(Family);
        using var stays = new Session(model);
        using var batch = new SessionBatch(model);
        stays.Append([3]);
        ulong expected = 0;
        for (int turn = 0; turn < (IsCuda ? 6 : 60); turn++)
        {
            var leaves = new Session(model);
            leaves.Append([4, 5]);
            batch.Step([new(leaves), new(stays)], [6, 7]);
            ulong[] hashes = new ulong[3];
            var other = new Thread(() =>
            {
                hashes[0] = Generation.Hash(leaves.Logits);
                hashes[1] = Generation.Hash(leaves.Step(8));
                hashes[2] = Generation.Hash(leaves.Logits);
                leaves.Dispose();
            });
            other.Start();
            batch.Step([new(stays)], [8]);
            batch.Step([new(stays)], [8]);
            other.Join();
            expected = expected == 0 ? hashes[0] ^ hashes[1] : expected;
            Assert.That((hashes[0] ^ hashes[1], hashes[2]), Is.EqualTo((expected, hashes[1])), $"turn {turn}");
        }
    }

    [Test]
    public void A_draw_takes_distinct_sessions_with_tokens_and_a_sampler_for_each()
    {
        var model = TestModels.Load(Family);
        using var session = new Session(model);
        using var other = new Session(model);
        using var batch = new SessionBatch(model);
        Sampler[] samplers = [new(new SamplingOptions(), model.Config.V), new(new SamplingOptions(), model.Config.V)];
        int[] ids = new int[2];
        session.Append([3]);
        batch.Draw([], []);
        Assert.That(() => batch.Draw([new(session, samplers[0]), new(other, samplers[1])], ids), Throws.TypeOf<InvalidOperationException>());
        Assert.That(() => other.Draw(samplers[0]), Throws.TypeOf<InvalidOperationException>());
        other.Append([4]);
        Assert.That(() => batch.Draw([new(session, samplers[0]), new(session, samplers[1])], ids), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => batch.Draw([new(session, samplers[0]), new(other, samplers[0])], ids), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => batch.Draw([new(session, samplers[0]), new(other, samplers[1])], ids.AsSpan(1)), Throws.InstanceOf<ArgumentException>());
        Assert.That(() => batch.Draw([new(session)], ids.AsSpan(1)), Throws.ArgumentException.With.Message.Contains("Sampler 0 is null"));
        Assert.That(() => batch.Draw([new(session, samplers[0]), new(other, new Sampler(new SamplingOptions(), 5))], ids),
            Throws.InstanceOf<ArgumentException>());
        Assert.That(() => session.Draw(new Sampler(new SamplingOptions(), 5)), Throws.InstanceOf<ArgumentException>());
        batch.Draw([new(session, samplers[0]), new(other, samplers[1])], ids);
        Assert.That(ids, Is.EqualTo(new[] { session.Draw(samplers[0]), other.Draw(samplers[1]) }));
    }
}
