using System.Text.Json;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>
/// The demo, with the settings a user gets. Bounds: what a PyTorch prototype of A-LQR reached with the same files, less the noise of a
/// single run over 48 prompts (0.05 of score).
/// </summary>
public class DemoTests
{
    [TestCase("tone", 0.94, 1.10)]
    [TestCase("honesty", 0.66, 1.10)]
    [TestCase("refusal", 0.89, 1.10)]
    public async Task Steering_reaches_the_prototype(string task, double score, double perplexityRatio)
    {
        var run = await ToolRun.Of("demo", "--task", task, "--json");
        Assert.That(run.Code, Is.Zero, run.Error);
        Check(run.Json, task, score, perplexityRatio);
    }

    [Test]
    public async Task The_program_itself_steers_stories_to_the_sea()
    {
        using var program = Program.Start("demo", "--json");
        var (code, output, error) = await Program.Ended(program);
        Assert.That(code, Is.Zero, error);
        using var json = JsonDocument.Parse(output);
        Check(json.RootElement, "topic", score: 0.64, perplexityRatio: 1.4);
        Assert.That((await ToolRun.Of("demo", "--json")).Output, Is.EqualTo(output.ReplaceLineEndings("\n")),
            "the same texts, however threads are scheduled");
    }

    [Test]
    public async Task The_table_shows_both_sides_and_a_setting_of_ones_own()
    {
        var run = await ToolRun.Of("demo", "--task", "honesty", "--lambda", "0", "--layers", "3-6");
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Output, Does.Contain("steered: towards the truth, λ 0").And.Contain("share of true answers").And.Contain("mean |u|/|x|"));
        Assert.That((await ToolRun.Of("demo", "--layers", "3-10")).Code, Is.EqualTo(ExitCode.Usage));
    }

    private static void Check(JsonElement report, string task, double score, double perplexityRatio)
    {
        var (plain, steered) = (report.GetProperty("plain"), report.GetProperty("steered"));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(report.GetProperty("task").GetString(), Is.EqualTo(task));
            Assert.That(plain.GetProperty("texts").GetArrayLength(), Is.EqualTo(48));
            Assert.That(steered.GetProperty("texts").GetArrayLength(), Is.EqualTo(48));
            Assert.That(steered.GetProperty("score").GetDouble(), Is.GreaterThanOrEqualTo(score));
            Assert.That(steered.GetProperty("score").GetDouble(), Is.GreaterThanOrEqualTo(plain.GetProperty("score").GetDouble() - 0.05));
            Assert.That(steered.GetProperty("perplexity").GetDouble(), Is.LessThan(perplexityRatio * plain.GetProperty("perplexity").GetDouble()));
            Assert.That(steered.GetProperty("trackingError").GetDouble(), Is.Positive);
            Assert.That(steered.GetProperty("effort").GetDouble(), Is.Positive.And.LessThan(0.2));
        }
    }
}
