using Tiller.Decode;
using Tiller.Evaluation;
using Tiller.Evaluation.Scorers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Tests.Decode;
using Tiller.Tests.Model;

namespace Tiller.Tests.Evaluation;

/// <summary>Multiple choice against probabilities that are multiplied up token by token.</summary>
public sealed class ChoiceScorerTests
{
    private static readonly ChoiceQuestion s_question = new(
        "The captain looked for",
        [new(" land.", true), new(" the harbor and the sea.", true), new(" dog", false), new(" a goal and a ball.", false)]);

    // ln 0.5, ln 0.2, ln 0.2, ln 0.1: the likeliest is right, and the right ones have 0.6 of 1.
    [TestCase(new[] { 0.5, 0.2, 0.2, 0.1 }, new[] { true, false, false, true }, 1, 0.6)]
    [TestCase(new[] { 0.02, 0.01, 0.04, 0.01 }, new[] { true, true, false, false }, 0, 0.375)]
    [TestCase(new[] { 0.2, 0.2 }, new[] { true, false }, 0, 0.5)] // an answer that is no likelier is not chosen
    public void A_question_counts_by_its_likeliest_answer_or_by_the_share_of_its_right_ones(
        double[] probabilities, bool[] isTrue, double accuracy, double share)
    {
        double[] logs = [.. probabilities.Select(x => Math.Log(x) - 2000)]; // far below what exp can tell
        Assert.That(ChoiceScorer.Of(logs, isTrue, ChoiceMeasure.Accuracy), Is.EqualTo(accuracy));
        Assert.That(ChoiceScorer.Of(logs, isTrue, ChoiceMeasure.Probability), Is.EqualTo(share).Within(1e-12));
    }

    [TestCase(false)]
    [TestCase(true)]
    public void Questions_are_asked_in_words_where_prompts_are(bool chat)
    {
        var scorer = new ChoiceScorer("mc1", [s_question], ChoiceMeasure.Accuracy, chat);
        var asked = (ChoiceScorer)scorer.AskedFor("Speak of the sea. ");
        Assert.That(asked.Questions[0].Text, Is.EqualTo((chat ? "" : "Speak of the sea. ") + s_question.Text));
        Assert.That(asked.Questions[0].Answers, Is.EqualTo(s_question.Answers));
        Assert.That(asked.Identity, Is.Not.EqualTo(scorer.Identity));
        if (!chat)
        {
            var texts = new EvaluatedTexts(TestModels.Demo, null, SteeredTokens.Last, []);
            var itself = new ChoiceScorer("mc1", asked.Questions, ChoiceMeasure.Accuracy);
            Assert.That(asked.Measure(texts, CancellationToken.None).Value, Is.EqualTo(itself.Measure(texts, CancellationToken.None).Value));
        }
    }

    [TestCase(false, false)]
    [TestCase(true, false)]
    [TestCase(true, true)]
    public void The_score_is_that_of_products_of_probabilities(bool isSteered, bool all)
    {
        var model = TestModels.Demo;
        var law = isSteered ? Laws.Random(model, 5) : null;
        var tokens = all ? SteeredTokens.All : SteeredTokens.Last;
        double[] expected = [.. s_question.Answers.Select(answer => Product(s_question.Text, answer.Text))];
        Assert.That(expected, Has.All.InRange(1e-30, 1), "as exact products go");
        var score = new ChoiceScorer("mc2", [s_question], ChoiceMeasure.Probability)
            .Measure(new EvaluatedTexts(model, law, tokens, []), CancellationToken.None);
        Assert.That((score.Name, score.Count), Is.EqualTo(("mc2", 1)));
        Assert.That(score.Value, Is.EqualTo((expected[0] + expected[1]) / expected.Sum()).Within(1e-6));
        var best = new ChoiceScorer("mc1", [s_question], ChoiceMeasure.Accuracy)
            .Measure(new EvaluatedTexts(model, law, tokens, []), CancellationToken.None);
        Assert.That(best.Value, Is.EqualTo(Math.Max(expected[0], expected[1]) > Math.Max(expected[2], expected[3]) ? 1 : 0));

        double Product(string text, string answer)
        {
            int[] whole = model.Tokenizer.Encode(text + answer), alone = model.Tokenizer.Encode(text);
            Assert.That(whole.AsSpan(0, alone.Length).SequenceEqual(alone), Is.True, "these words begin tokens of their own");
            using var session = new Session(model, law, tokens);
            var logits = session.Prefill(alone);
            double product = 1;
            foreach (int id in whole.AsSpan(alone.Length))
            {
                double[] weights = [.. logits.ToArray().Select(static x => Math.Exp(x))];
                product *= weights[id] / weights.Sum();
                logits = session.Step(id);
            }

            return product;
        }
    }

    [Test]
    public void Letters_are_scored_by_one_token_each()
    {
        var model = TestModels.Demo;
        var question = new ChoiceQuestion("The sailor had a", [new(" ship", true), new(" dog", false), new(" goal", false)]);
        var score = new ChoiceScorer("letters", [question, question with { Answers = [.. question.Answers.Reverse()] }], ChoiceMeasure.Accuracy)
            .Measure(new EvaluatedTexts(model, null, SteeredTokens.Last, []), CancellationToken.None);
        using var session = new Session(model);
        float[] logits = session.Prefill(model.Tokenizer.Encode(question.Text)).ToArray();
        float Of(string word) => logits[model.Tokenizer.Encode(question.Text + word)[^1]];
        Assert.That(score.Value, Is.EqualTo(Of(" ship") > Of(" dog") && Of(" ship") > Of(" goal") ? 1 : 0), "the order of answers does not matter");
        Assert.That(score.Count, Is.EqualTo(2));
    }

    [Test]
    public void Answers_share_what_a_law_that_looks_back_allows()
    {
        // The sum of a law that looks back is state beside keys and values, where every token of a prompt is steered.
        var model = TestModels.Demo;
        var law = Laws.LooksBack(model, 3, 0.5);
        int[] prompt = model.Tokenizer.Encode("One day a captain went to the");
        int[][] answers = [.. new[] { " harbor. He", " sea and the", " dog" }.Select(x => model.Tokenizer.Encode(x, addSpecial: false))];
        foreach (var tokens in new[] { SteeredTokens.Last, SteeredTokens.All, SteeredTokens.LastOverCleanPrefix })
        {
            double[] logs = Likelihood.LogProbabilities(model, prompt, answers, law, tokens);
            for (int i = 0; i < answers.Length; i++)
            {
                using var session = new Session(model, law, tokens);
                float[] logits = session.Prefill(prompt).ToArray();
                double sum = 0;
                foreach (int id in answers[i])
                {
                    double largest = logits.Max();
                    sum += logits[id] - largest - Math.Log(logits.Sum(x => Math.Exp(x - largest)));
                    logits = session.Step(id).ToArray();
                }

                Assert.That(logs[i], Is.EqualTo(sum).Within(1e-9), $"{tokens} {i}");
            }
        }
    }

    [Test]
    public void What_has_no_probability_is_refused()
    {
        var model = TestModels.Demo;
        Assert.That(() => Likelihood.LogProbabilities(model, [], [[3]]), Throws.ArgumentException);
        Assert.That(() => Likelihood.LogProbabilities(model, [3], [[]]), Throws.ArgumentException);
        Assert.That(() => Likelihood.LogProbabilities(model, [3], [[model.Config.V]]), Throws.ArgumentException);
        Assert.That(() => Likelihood.LogProbabilities(model, new int[1000], [new int[26]]), Throws.InstanceOf<Tiller.Model.ContextLengthException>());
    }
}
