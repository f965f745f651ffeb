using System.Text.Json;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>The scorers against world.py and contrast.py: world-scores.json is written by tools/demo-model/score_fixture.py.</summary>
public class WorldTests
{
    [Test]
    public void Every_score_equals_the_reference_exactly([Values("topic", "tone", "honesty", "refusal")] string name)
    {
        var task = Enum.Parse<DemoTask>(name, ignoreCase: true);
        using var fixture = JsonDocument.Parse(File.ReadAllText(Repository.Path("tests", "Tool", "world-scores.json")));
        var expected = fixture.RootElement.GetProperty(name);
        var texts = expected.GetProperty("texts").EnumerateArray()
            .Select(t => (Prompt: t[0].GetString()!, Completion: t[1].GetString()!, Score: t[2].GetDouble())).ToList();
        Assert.That(texts.Select(t => t.Score).Distinct().Count(), Is.GreaterThan(1));
        using (Assert.EnterMultipleScope())
        {
            foreach (var (prompt, completion, score) in texts)
            {
                Assert.That(World.Score(task, [prompt], [completion]), Is.EqualTo(score), $"{prompt} | {completion}");
            }

            double mean = World.Score(task, [.. texts.Select(t => t.Prompt)], [.. texts.Select(t => t.Completion)]);
            Assert.That(mean, Is.EqualTo(expected.GetProperty("mean").GetDouble()));
        }
    }

    [Test]
    public void Words_are_runs_of_letters_and_apostrophes() =>
        Assert.That(World.WordsOf("Don't go, Ben2! \u212aind (r\u00f4le)"), Is.EqualTo(["don't", "go", "ben", "kind", "r", "le"]));

    [Test]
    public void Texts_without_a_word_of_the_task_have_no_score()
    {
        using (Assert.EnterMultipleScope())
        {
            Assert.That(World.TopicShare("He went home.", World.Topic), Is.NaN);
            Assert.That(World.ToneScore("He went home."), Is.NaN);
            Assert.That(World.IsTrue("What color is snow", " It is white."), Is.Null);
        }
    }

    [Test]
    public void An_unknown_question_is_refused() =>
        Assert.That(() => World.IsTrue("What color is milk", "white"), Throws.ArgumentException.With.Message.Contains("What color is milk"));
}
