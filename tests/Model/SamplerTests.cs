using System.Runtime.Intrinsics;
using Tiller.Model;

namespace Tiller.Tests.Model;

public class SamplerTests
{
    [TestCase(new[] { 1f, 3, 2 }, 1)]
    [TestCase(new[] { 2f, 3, 3 }, 1)]
    [TestCase(new[] { -0f, 0 }, 0)]
    [TestCase(new[] { 0f, -0 }, 0)]
    [TestCase(new[] { float.NegativeInfinity, -3e38f }, 1)]
    [TestCase(new[] { 0f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8 }, 9)]
    public void Greedy_takes_the_lowest_id_of_the_largest_logit(float[] logits, int expected) =>
        Assert.That(new Sampler(new SamplingOptions(), logits.Length).Next(logits, []), Is.EqualTo(expected));

    [Test]
    public void A_logit_that_is_not_a_number_is_named([Values(0, 5, 8, 18)] int at, [Values(float.NaN, float.PositiveInfinity)] float bad,
        [Values(0f, 1f)] float temperature)
    {
        float[] logits = [.. Enumerable.Range(0, 19).Select(i => (float)i)];
        logits[at] = bad;
        var error = Assert.Throws<NonFiniteLogitsException>(() => new Sampler(new SamplingOptions { Temperature = temperature },
            19).Next(logits, []))!;
        Assert.That((error.Token, error.Logit), Is.EqualTo((at, bad)));
    }

    [Test]
    public void Logits_that_are_all_masked_are_refused() =>
        Assert.That(() => new Sampler(new SamplingOptions(), 9).Next(Enumerable.Repeat(float.NegativeInfinity, 9).ToArray(), []),
            Throws.TypeOf<NonFiniteLogitsException>());

    [Test]
    public void Wrong_shapes_are_refused()
    {
        var sampler = new Sampler(new SamplingOptions { RepetitionPenalty = 2 }, 4);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(() => sampler.Next(new float[3], []), Throws.ArgumentException);
            Assert.That(() => sampler.Next(new float[4], [4]), Throws.InstanceOf<ArgumentOutOfRangeException>());
            Assert.That(() => sampler.Next(new float[4], [-1]), Throws.InstanceOf<ArgumentOutOfRangeException>());
        }
    }

    // transformers: score = where(score < 0, score * penalty, score / penalty), scattered once per id.
    [TestCase(new[] { 4f, 3, 1 }, new[] { 0, 0, 0 }, 1.5f, 1)]
    [TestCase(new[] { 4f, 2, 1 }, new[] { 0, 0, 0 }, 1.5f, 0)]
    [TestCase(new[] { -1f, -1.5f, -9 }, new[] { 0 }, 2f, 1)]
    [TestCase(new[] { -1f, -2.5f, -9 }, new[] { 0 }, 2f, 0)]
    [TestCase(new[] { 3f, 4, 1 }, new[] { 1 }, 0.5f, 1)]
    [TestCase(new[] { 3f, 2, 1 }, new[] { 1 }, 0.5f, 1)]
    public void Repetition_penalty_counts_each_id_once(float[] logits, int[] history, float penalty, int expected)
    {
        var sampler = new Sampler(new SamplingOptions { RepetitionPenalty = penalty }, 3);
        Assert.That(sampler.Next([.. logits], history), Is.EqualTo(expected));
        Assert.That(sampler.Next([.. logits], history), Is.EqualTo(expected), "the next call starts anew");
    }

    [Test]
    public void Presence_and_frequency_penalties_count_the_text_and_not_the_prompt()
    {
        var presence = new Sampler(new SamplingOptions { PresencePenalty = 1.5f }, 4);
        var frequency = new Sampler(new SamplingOptions { FrequencyPenalty = 0.75f }, 4);
        var both = new Sampler(new SamplingOptions { PresencePenalty = -0.9f, FrequencyPenalty = 2 }, 4);
        float[] logits = [3, 2, 1.4f, -1];
        foreach (var sampler in new[] { presence, frequency, both })
        {
            Assert.That(sampler.Next([.. logits], [0, 0, 1]), Is.Zero, "the prompt's tokens are not penalised");
        }

        Assert.That(presence.Next([.. logits], [0, 0, 1, 0]), Is.EqualTo(1), "3 - 1.5 < 2");
        Assert.That(presence.Next([.. logits], [0, 0, 1, 0, 0, 0]), Is.EqualTo(1), "however often");
        Assert.That(presence.Next([.. logits], [0, 0, 1, 0, 1]), Is.Zero, "1.5, 0.5, 1.4");
        Assert.That(frequency.Next([.. logits], [0, 0, 1, 0]), Is.Zero, "2.25 > 2");
        Assert.That(frequency.Next([.. logits], [0, 0, 1, 0, 0]), Is.EqualTo(1), "1.5 < 2");
        Assert.That(frequency.Next([.. logits], [0, 0, 1, 0, 0, 1, 1]), Is.Zero, "1.5, 0.5, 1.4");
        Assert.That(both.Next([.. logits], [0, 0, 1, 0, 2]), Is.EqualTo(1), "3 + 0.9 - 2, 2, 1.4 + 0.9 - 2");
    }

    [Test]
    public void A_bias_is_added_before_the_penalties()
    {
        var options = new SamplingOptions { LogitBias = new Dictionary<int, float> { [2] = 3, [0] = -100 }, RepetitionPenalty = 2 };
        Assert.That(new Sampler(options, 4).Next([9, 2, 1.5f, 0], []), Is.EqualTo(2));
        Assert.That(new Sampler(options, 4).Next([9, 2.3f, 1.5f, 0], [2]), Is.EqualTo(1), "(1.5 + 3) / 2 < 2.3");
        Assert.That(new Sampler(options, 4).Next([9, 2.2f, 1.5f, 0], [2]), Is.EqualTo(2));
        var error = Assert.Throws<SamplingOptionsException>(() => new Sampler(options, 2))!;
        Assert.That((error.Option, error.Message), Is.EqualTo((nameof(SamplingOptions.LogitBias),
            "SamplingOptions.LogitBias must be of token ids below 2, got 2.")));
    }

    [Test]
    public void Log_probabilities_are_of_the_models_softmax([Values(0, 1, 7, 20)] int count, [Values(0f, 0.7f)] float temperature,
        [Values(5, 3001)] int v)
    {
        var random = new Random(count + v);
        float[] logits = [.. Enumerable.Range(0, v).Select(_ => (float)Math.Round(random.NextDouble() * 9, 2))]; // with ties
        logits[3] = float.NegativeInfinity;
        var options = new SamplingOptions
        {
            Temperature = temperature,
            TopK = 3,
            Seed = 1,
            PresencePenalty = 2,
            RepetitionPenalty = 5,
            LogitBias = new Dictionary<int, float> { [1] = 20 },
            LogProbabilities = count,
        };
        double[] p = Softmax([.. logits.Select(l => (double)l)]);
        int[] ranked = [.. Enumerable.Range(0, v).OrderByDescending(i => logits[i]).ThenBy(i => i).Take(count)];
        var sampler = new Sampler(options, v);
        Assert.That(sampler.LogProbability, Is.NaN);
        int[] history = [0, 1, 2];
        for (int draw = 0; draw < 5; draw++)
        {
            int id = sampler.Next([.. logits], history);
            history = [.. history, id];
            Assert.That(sampler.LogProbability, Is.EqualTo(Math.Log(p[id])).Within(1e-5));
            Assert.That(sampler.MostProbable.ToArray().Select(token => token.Id), Is.EqualTo(ranked));
            double[] shown = [.. sampler.MostProbable.ToArray().Select(token => (double)token.LogProbability)];
            Assert.That(shown, Is.EqualTo(ranked.Select(i => Math.Log(p[i]))).Within(1e-5));
        }
    }

    [TestCase(1, 0f, 1f, 0f, new[] { 0.4, 0.3, 0.2, 0.1 })]
    [TestCase(1, 0f, 0.75f, 0f, new[] { 0.4 / 0.9, 0.3 / 0.9, 0.2 / 0.9, 0 })]
    [TestCase(1, 0f, 0.65f, 0f, new[] { 0.4 / 0.7, 0.3 / 0.7, 0, 0 })]
    [TestCase(1, 0f, 0.01f, 0f, new[] { 1.0, 0, 0, 0 })]
    [TestCase(1, 2f, 1f, 0f, new[] { 0.4 / 0.7, 0.3 / 0.7, 0, 0 })]
    [TestCase(1, 1f, 1f, 0f, new[] { 1.0, 0, 0, 0 })]
    [TestCase(1, 9f, 1f, 0f, new[] { 0.4, 0.3, 0.2, 0.1 })]
    [TestCase(1, 0f, 1f, 0.4f, new[] { 0.4 / 0.9, 0.3 / 0.9, 0.2 / 0.9, 0 })]
    [TestCase(1, 0f, 1f, 1f, new[] { 1.0, 0, 0, 0 })]
    [TestCase(1, 3f, 0.7f, 0f, new[] { 0.4 / 0.7, 0.3 / 0.7, 0, 0 })]
    [TestCase(0.5f, 0f, 1f, 0f, new[] { 16 / 30.0, 9 / 30.0, 4 / 30.0, 1 / 30.0 })]
    [TestCase(0.5f, 0f, 0.8f, 0f, new[] { 16 / 25.0, 9 / 25.0, 0, 0 })]
    public void Filters_leave_the_distribution_worked_out_by_hand(float temperature, float topK, float topP, float minP, double[] expected)
    {
        var options = new SamplingOptions { Temperature = temperature, TopK = (int)topK, TopP = topP, MinP = minP, Seed = 7 };
        var counts = Draw(options, [.. new[] { 0.4, 0.3, 0.2, 0.1 }.Select(p => (float)Math.Log(p))], 20_000);
        Assert.That(counts.Select(c => c / 20_000.0), Is.EqualTo(expected).Within(0.015));
        Assert.That(counts.Select(c => c == 0), Is.EqualTo(expected.Select(p => p == 0)));
    }

    [Test]
    public void Ties_at_the_edge_of_top_k_all_stay() =>
        Assert.That(Draw(new SamplingOptions { Temperature = 1, TopK = 2, Seed = 0 }, [1, 3, 2, 2, 0], 2000).Select(c => c > 0),
            Is.EqualTo([false, true, true, true, false]));

    [Test]
    public void Ties_at_the_edge_of_top_p_keep_the_lower_ids() =>
        Assert.That(Draw(new SamplingOptions { Temperature = 1, TopP = 0.5f, Seed = 0 }, [1, 1, 1, 1], 2000).Select(c => c > 0),
            Is.EqualTo([true, true, false, false]));

    // Against the definitions in transformers, written with a full sort in float64.
    [Test]
    public void Random_distributions_agree_with_the_definition([Range(0, 39)] int trial)
    {
        var random = new Random(trial);
        int v = 1 + random.Next(trial % 2 == 0 ? 12 : 3000);
        float[] logits = [.. Enumerable.Range(0, v).Select(_ => (float)(random.NextDouble() * 12))];
        var options = new SamplingOptions
        {
            Temperature = 0.3f + (float)random.NextDouble(),
            TopK = random.Next(3) == 0 ? 0 : 1 + random.Next(v + 3),
            TopP = random.Next(3) == 0 ? 1 : 0.05f + (0.94f * (float)random.NextDouble()),
            MinP = random.Next(3) == 0 ? 0 : 0.3f * (float)random.NextDouble(),
            RepetitionPenalty = 1.3f,
            Seed = (ulong)trial,
        };
        int[] history = [.. Enumerable.Range(0, 5).Select(_ => random.Next(v))];
        double[] p = Definition(options, logits, history);
        var sampler = new Sampler(options, v);
        var uniform = new CounterRandom(options.Seed!.Value);
        for (int draw = 0; draw < 200; draw++)
        {
            double u = uniform.NextUnit();
            int token = sampler.Next([.. logits], history);
            double below = p.Take(token).Sum();
            Assert.That(p[token], Is.Positive);
            Assert.That(u, Is.InRange(below - 1e-5, below + p[token] + 1e-5));
        }
    }

    [Test]
    public void The_random_sequence_is_SplitMix64()
    {
        // First outputs of the published generator for seed 1234567.
        var random = new CounterRandom(1234567);
        ulong[] expected = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821];
        Assert.That(expected.Select(_ => random.NextBits()), Is.EqualTo(expected));
    }

    [Test]
    public void Seeds_decide_the_draws()
    {
        static int[] Draws(ulong seed)
        {
            var sampler = new Sampler(new SamplingOptions { Temperature = 1, Seed = seed }, 1000);
            return [.. Enumerable.Range(0, 20).Select(_ => sampler.Next(new float[1000], []))];
        }

        int[] first = Draws(3);
        Assert.That(Draws(3), Is.EqualTo(first));
        Assert.That(Draws(4), Is.Not.EqualTo(first));
    }

    [Test]
    public void Without_a_seed_each_sampler_draws_its_own_and_tells_it()
    {
        var options = new SamplingOptions { Temperature = 1 };
        Sampler[] samplers = [.. Enumerable.Range(0, 50).Select(_ => new Sampler(options, 1000))];
        int[][] draws = [.. samplers.Select(Draws)];
        Assert.That(options.Seed, Is.Null);
        Assert.That(samplers.Select(s => s.Seed), Is.Unique.And.All.LessThan(1ul << 53));
        Assert.That(draws.Select(d => string.Join(' ', d)), Is.Unique);
        Assert.That(samplers.Select(s => Draws(new Sampler(options with { Seed = s.Seed }, 1000))), Is.EqualTo(draws));
        Assert.That(new Sampler(options with { Seed = ulong.MaxValue }, 1000).Seed, Is.EqualTo(ulong.MaxValue));

        static int[] Draws(Sampler sampler) => [.. Enumerable.Range(0, 20).Select(_ => sampler.Next(new float[1000], []))];
    }

    [TestCase(1e-45f)]
    [TestCase(SamplingOptions.MaxTemperature)]
    public void Extreme_temperatures_stay_finite(float temperature)
    {
        var sampler = new Sampler(new SamplingOptions { Temperature = temperature, TopP = 0.9f, TopK = 3 }, 4);
        int token = sampler.Next([3e38f, -3e38f, 0, float.NegativeInfinity], []);
        Assert.That(token, Is.Zero);
    }

    [Test]
    public void Exp_is_accurate_and_vanishes_below_the_normal_numbers()
    {
        for (float x = 0; x > -87.3f; x -= 0.0137f)
        {
            double error = (LogitVector.Exp(Vector256.Create(x))[3] / Math.Exp(x)) - 1;
            Assert.That(error, Is.Zero.Within(2e-7), $"exp({x})");
        }

        Assert.That(LogitVector.Exp(Vector256.Create(float.NegativeInfinity))[0], Is.Zero);
        Assert.That(LogitVector.Exp(Vector256.Create(0f))[0], Is.EqualTo(1));
    }

    [TestCase(nameof(SamplingOptions.Temperature), -1)]
    [TestCase(nameof(SamplingOptions.Temperature), double.NaN)]
    [TestCase(nameof(SamplingOptions.Temperature), 1e308)]
    [TestCase(nameof(SamplingOptions.TopK), -1)]
    [TestCase(nameof(SamplingOptions.TopP), 0)]
    [TestCase(nameof(SamplingOptions.TopP), 2)]
    [TestCase(nameof(SamplingOptions.TopP), double.NaN)]
    [TestCase(nameof(SamplingOptions.MinP), -0.1)]
    [TestCase(nameof(SamplingOptions.MinP), 1.1)]
    [TestCase(nameof(SamplingOptions.MinP), double.NaN)]
    [TestCase(nameof(SamplingOptions.RepetitionPenalty), 0)]
    [TestCase(nameof(SamplingOptions.RepetitionPenalty), -1)]
    [TestCase(nameof(SamplingOptions.RepetitionPenalty), double.PositiveInfinity)]
    [TestCase(nameof(SamplingOptions.RepetitionPenalty), double.NaN)]
    [TestCase(nameof(SamplingOptions.PresencePenalty), 2.01)]
    [TestCase(nameof(SamplingOptions.PresencePenalty), double.NaN)]
    [TestCase(nameof(SamplingOptions.FrequencyPenalty), -2.01)]
    [TestCase(nameof(SamplingOptions.FrequencyPenalty), double.NaN)]
    [TestCase(nameof(SamplingOptions.LogProbabilities), -1)]
    [TestCase(nameof(SamplingOptions.LogProbabilities), 21)]
    [TestCase(nameof(SamplingOptions.LogitBias), 100.1)]
    [TestCase(nameof(SamplingOptions.LogitBias), double.NaN)]
    public void Settings_out_of_range_are_named(string option, double value)
    {
        var options = option switch
        {
            nameof(SamplingOptions.Temperature) => new SamplingOptions { Temperature = (float)value },
            nameof(SamplingOptions.TopK) => new SamplingOptions { TopK = (int)value },
            nameof(SamplingOptions.TopP) => new SamplingOptions { TopP = (float)value },
            nameof(SamplingOptions.MinP) => new SamplingOptions { MinP = (float)value },
            nameof(SamplingOptions.PresencePenalty) => new SamplingOptions { PresencePenalty = (float)value },
            nameof(SamplingOptions.FrequencyPenalty) => new SamplingOptions { FrequencyPenalty = (float)value },
            nameof(SamplingOptions.LogProbabilities) => new SamplingOptions { LogProbabilities = (int)value },
            nameof(SamplingOptions.LogitBias) => new SamplingOptions { LogitBias = new Dictionary<int, float> { [1] = (float)value } },
            _ => new SamplingOptions { RepetitionPenalty = (float)value },
        };
        var error = Assert.Throws<SamplingOptionsException>(() => new Sampler(options, 10))!;
        Assert.That(error.Option, Is.EqualTo(option));
        Assert.That(error.Message, Does.StartWith($"SamplingOptions.{option} must be "));
    }

    [Test]
    public void A_draw_allocates_nothing()
    {
        var options = new SamplingOptions { Temperature = 1, TopK = 50, TopP = 0.9f, MinP = 0.01f, RepetitionPenalty = 1.2f };
        var sampler = new Sampler(options, 5000);
        float[] logits = new float[5000];
        int[] history = [1, 2, 3];
        var random = new Random(5);
        for (int i = 0; i < 20; i++)
        {
            for (int j = 0; j < logits.Length; j++)
            {
                logits[j] = random.NextSingle() * 10;
            }

            long before = GC.GetAllocatedBytesForCurrentThread();
            sampler.Next(logits, history);
            Assert.That(GC.GetAllocatedBytesForCurrentThread() - before, Is.Zero);
        }
    }

    private static int[] Draw(SamplingOptions options, float[] logits, int draws)
    {
        var sampler = new Sampler(options, logits.Length);
        int[] counts = new int[logits.Length];
        for (int i = 0; i < draws; i++)
        {
            counts[sampler.Next([.. logits], [])]++;
        }

        return counts;
    }

    private static double[] Definition(SamplingOptions options, float[] logits, int[] history)
    {
        double[] scores = [.. logits.Select(l => (double)l)];
        foreach (int id in history.Distinct())
        {
            scores[id] = scores[id] < 0 ? scores[id] * options.RepetitionPenalty : scores[id] / options.RepetitionPenalty;
        }

        scores = [.. scores.Select(s => s / options.Temperature)];
        if (options.TopK > 0)
        {
            double least = scores.OrderDescending().Take(options.TopK).Last();
            scores = [.. scores.Select(s => s < least ? double.NegativeInfinity : s)];
        }

        if (options.TopP < 1)
        {
            double[] q = Softmax(scores);
            int[] rising = [.. Enumerable.Range(0, q.Length).OrderBy(i => q[i])];
            double cumulative = 0;
            foreach (int i in rising[..^1])
            {
                cumulative += q[i];
                scores[i] = cumulative <= 1 - (double)options.TopP ? double.NegativeInfinity : scores[i];
            }
        }

        double[] p = Softmax(scores);
        double most = p.Max();
        scores = [.. scores.Select((s, i) => p[i] < options.MinP * most ? double.NegativeInfinity : s)];
        return Softmax(scores);
    }

    private static double[] Softmax(double[] scores)
    {
        double max = scores.Max();
        double[] e = [.. scores.Select(s => Math.Exp(s - max))];
        double sum = e.Sum();
        return [.. e.Select(x => x / sum)];
    }
}
