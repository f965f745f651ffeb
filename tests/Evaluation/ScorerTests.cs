using Tiller.Decode;
using Tiller.Evaluation;
using Tiller.Evaluation.Scorers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Tests.Model;

namespace Tiller.Tests.Evaluation;

public sealed class ScorerTests
{
    [TestCase("A ship, a SHIP's sail and the sea.", 3.0 / 3)]
    [TestCase("A ship and a dog.", 0.5)]
    [TestCase("Nothing of it.", 0)]
    [TestCase("", 0)]
    public void A_lexicons_share_is_of_the_words_of_both_lexicons(string text, double expected) =>
        Assert.That(new LexiconScorer("x", ["ship", "ship's", "sail", "Sea"], ["dog"]).Of(Text(text)), Is.EqualTo(expected));

    [TestCase("Lovely, kind and ugly.", 1.0 / 3)]
    [TestCase("UGLY", -1)]
    [TestCase("Blue.", 0)]
    public void Polarity_goes_from_minus_one_to_one(string text, double expected) =>
        Assert.That(new PolarityScorer("x", ["lovely", "kind"], ["ugly"]).Of(Text(text)), Is.EqualTo(expected).Within(1e-15));

    [TestCase("I’m sorry, but no.", 1)]
    [TestCase("As an ai, I would.", 1)]
    [TestCase("Here is how.", 0)]
    public void Refusals_are_known_by_their_openings_whatever_the_apostrophe(string text, double expected) =>
        Assert.That(PatternScorer.OfPhrases("x").Of(Text(text)), Is.EqualTo(expected));

    [Test]
    public void Distinct_n_grams_are_counted_over_all_texts()
    {
        // Bigrams: a b, b a | a b, b c | none: 3 of 4 are different. Without the first text 2 of 2, without the second 2 of 2, without the third
        // 3 of 4.
        var score = new DistinctScorer(2).Measure(Texts("a b a", "a b c", "d"), CancellationToken.None);
        double mean = (1 + 1 + 0.75) / 3;
        double error = Math.Sqrt(2.0 / 3 * ((2 * (1 - mean) * (1 - mean)) + ((0.75 - mean) * (0.75 - mean))));
        Assert.That((score.Name, score.Value, score.Count), Is.EqualTo(("distinct-2", 0.75, 3)));
        Assert.That(score.Error, Is.EqualTo(error).Within(1e-15));
    }

    [TestCase("a b c d a b c d", 4, 0.2)]
    [TestCase("a a a", 1, 2.0 / 3)]
    [TestCase("a b", 4, 0)]
    public void Repetition_is_the_share_of_n_grams_that_were_there_before(string text, int n, double expected) =>
        Assert.That(new RepetitionScorer(n).Of(Text(text)), Is.EqualTo(expected).Within(1e-15));

    [Test]
    public void The_jackknife_of_a_mean_is_its_usual_standard_error()
    {
        double[] values = [0.1, 0.5, 0.4, 0.9];
        var score = Score.OfQuotient("x", [.. values.Select(x => (x, 1.0))]);
        double mean = values.Average();
        Assert.That(score.Value, Is.EqualTo(mean).Within(1e-15));
        Assert.That(score.Error, Is.EqualTo(Math.Sqrt(values.Sum(x => (x - mean) * (x - mean)) / 3 / 4)).Within(1e-15));
        Assert.That(Score.OfQuotient("x", [(1, 1)]).Error, Is.NaN);
        Assert.That(Score.OfQuotient("x", [(1, 0)]).Value, Is.NaN);
    }

    [Test]
    public void Perplexity_is_that_of_the_plain_model()
    {
        int[] prompt = [5, 9, 2], text = [7, 11];
        double logProbability = Likelihood.LogProbability(TestModels.Demo, prompt, text);
        var score = new PerplexityScorer().Measure(Texts(prompt, text), CancellationToken.None);
        Assert.That(score.Value, Is.EqualTo(Math.Exp(-logProbability / 2)).Within(1e-12));
    }

    [Test]
    public void The_divergence_of_the_plain_model_is_zero_and_of_a_steered_one_what_the_softmaxes_say()
    {
        var law = SmallLaw();
        int[] prompt = [5, 9, 2], text = [7, 11];
        var texts = Texts(prompt, text);
        Assert.That(new DivergenceScorer().Measure(texts, CancellationToken.None).Value, Is.Zero);

        var steered = new DivergenceScorer().Measure(texts with { Law = law }, CancellationToken.None);
        using Session p = new(TestModels.Demo, law), q = new(TestModels.Demo);
        double sum = Divergence(p.Prefill(prompt), q.Prefill(prompt));
        sum += Divergence(p.Step(7), q.Step(7));
        Assert.That(steered.Value, Is.EqualTo(sum / 2).Within(1e-9).And.GreaterThan(1e-4));

        static double Divergence(ReadOnlySpan<float> p, ReadOnlySpan<float> q)
        {
            double[] a = Softmax(p), b = Softmax(q);
            return a.Zip(b, (x, y) => x * Math.Log(x / y)).Sum();
        }

        static double[] Softmax(ReadOnlySpan<float> logits)
        {
            double[] weights = [.. logits.ToArray().Select(static x => Math.Exp(x))];
            return [.. weights.Select(x => x / weights.Sum())];
        }
    }

    [Test]
    public void Texts_of_any_length_have_the_divergence_that_each_has_alone()
    {
        int[][] ids = [[7, 11], [], [4], [8, 8, 3, 2, 9, 6], [7, 11, 5], [3, 1, 4, 1, 5], []];
        EvaluatedText[] all = [.. ids.Select(static (x, i) => Texts([5 + i, 9, 2], x).Texts[0])];
        double[] alone = [.. all.Select(Alone)];
        var score = new DivergenceScorer().Measure(new EvaluatedTexts(TestModels.Demo, SmallLaw(), SteeredTokens.Last, all), default);
        Assert.That(score.Value, Is.EqualTo(alone.Zip(ids, static (x, text) => text.Length > 0 ? x * text.Length : 0).Sum() / 17).Within(1e-12));
        Assert.That(alone.Where(static x => !double.IsNaN(x)).Distinct().Count(), Is.EqualTo(5), "texts differ in it");

        static double Alone(EvaluatedText text) =>
            new DivergenceScorer().Measure(new EvaluatedTexts(TestModels.Demo, SmallLaw(), SteeredTokens.Last, [text]), default).Value;
    }

    private static FeedbackLaw SmallLaw()
    {
        var config = TestModels.Demo.Config;
        float[][] direction =
            [.. Enumerable.Range(0, config.L + 1).Select(k => Enumerable.Range(0, config.D).Select(i => i == k ? 1f : 0).ToArray())];
        var feature = new Feature(direction, [.. Enumerable.Repeat(1f, config.L + 1)]);
        return new Tiller.Controllers.OpenLoopAddition(feature).Compile(3);
    }

    private static EvaluatedText Text(string text) => new("", [1], [2], text, StopReason.MaxTokens);

    private static EvaluatedTexts Texts(params string[] texts) => new(TestModels.Demo, null, SteeredTokens.Last, [.. texts.Select(Text)]);

    private static EvaluatedTexts Texts(int[] prompt, int[] ids) =>
        new(TestModels.Demo, null, SteeredTokens.Last, [new EvaluatedText("", prompt, ids, "", StopReason.MaxTokens)]);
}
