using System.Text.Json;

namespace Tiller.Tests.Tool;

/// <summary><c>tiller eval</c> on the demo's tasks, whose scores the demo itself computes in its own way.</summary>
public sealed class EvalTests
{
    private Scratch _scratch = null!;

    private static string Task(string name) => Repository.Path("tasks", "demo", name);

    [OneTimeSetUp]
    public void MakeScratch() => _scratch = new Scratch();

    [OneTimeTearDown]
    public void DeleteScratch() => _scratch.Dispose();

    [TestCase("topic", "topic words about the sea", "1.75")]
    [TestCase("tone", "tone", "2")]
    [TestCase("refusal", "refusal", "1")]
    public async Task The_demos_tasks_score_as_the_demo_says(string task, string score, string lambda)
    {
        // The demo fits with weights of its own, in blocks of its own.
        var demo = await ToolRun.Of("demo", "--task", task, "--lambda", lambda, "--layers", "0-9", "--json");
        Assert.That(demo.Code, Is.Zero, demo.Error);
        string controller = _scratch[$"{task}.tiller"];
        var fit = await ToolRun.Of(
            "fit", "--model", ToolRun.Model, "--positive", ToolRun.Contrast($"{task}.positive"), "--negative", ToolRun.Contrast($"{task}.negative"),
            "--out", controller, "--q", "0.03", "--layers", "0-9");
        Assert.That(fit.Code, Is.Zero, fit.Error);

        await Agree("plain");
        await Agree("steered", "--controller", controller, "--lambda", lambda);

        async Task Agree(string side, params string[] how)
        {
            var run = await ToolRun.Of(["eval", "--model", ToolRun.Model, "--task", Task(task), "--json", .. how]);
            Assert.That(run.Code, Is.Zero, run.Error);
            var (told, expected) = (run.Json, demo.Json.GetProperty(side));
            Assert.That(Score(told, score), Is.EqualTo(expected.GetProperty("score").GetDouble()).Within(1e-12), side);
            Assert.That(Score(told, "perplexity"), Is.EqualTo(expected.GetProperty("perplexity").GetDouble()).Within(1e-9), side);
            if (side == "steered")
            {
                Assert.That(told.GetProperty("effort").GetDouble(), Is.EqualTo(expected.GetProperty("effort").GetDouble()).Within(1e-9));
                Assert.That(Score(told, "kl"), Is.Positive);
            }
            else
            {
                Assert.That(told.GetProperty("effort").ValueKind, Is.EqualTo(JsonValueKind.Null));
                Assert.That(Score(told, "kl"), Is.Zero);
            }
        }
    }

    [Test]
    public async Task Texts_go_to_a_file_and_scores_to_a_table()
    {
        string file = _scratch["texts.jsonl"];
        var run = await ToolRun.Of("eval", "--model", ToolRun.Model, "--task", Task("topic"), "--limit", "3", "--out", file);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Output, Does.StartWith("task        demo topic, test, 3 prompts\nsteered     no\n\nscore "));
        Assert.That(run.Output, Does.Match("\nperplexity +[0-9.]+ +[0-9.]+\n"));
        var demo = await ToolRun.Of("demo", "--json");
        string[] lines = await File.ReadAllLinesAsync(file);
        string[] texts = [.. demo.Json.GetProperty("plain").GetProperty("texts").EnumerateArray().Take(3).Select(x => x.GetString()!)];
        Assert.That(lines.Select(Text), Is.EqualTo(texts));

        static string Text(string line)
        {
            using var json = JsonDocument.Parse(line);
            return json.RootElement.GetProperty("prompt").GetString() + json.RootElement.GetProperty("text").GetString();
        }
    }

    [Test]
    public async Task Texts_may_go_to_a_file_of_the_folder_that_one_is_in()
    {
        string name = $"tiller-eval-{Guid.NewGuid():N}.jsonl";
        try
        {
            var run = await ToolRun.Of("eval", "--model", ToolRun.Model, "--task", Task("refusal"), "--limit", "1", "--out", name);
            Assert.That(run.Code, Is.Zero, run.Error);
            Assert.That(await File.ReadAllLinesAsync(name), Has.Length.EqualTo(1));
        }
        finally
        {
            File.Delete(name);
        }
    }

    [Test]
    public async Task A_larger_batch_gives_the_same_scores()
    {
        var eight = await ToolRun.Of("eval", "--model", ToolRun.Model, "--task", Task("refusal"), "--json");
        var one = await ToolRun.Of("eval", "--model", ToolRun.Model, "--task", Task("refusal"), "--json", "--batch", "1");
        Assert.That(Score(one.Json, "refusal"), Is.EqualTo(Score(eight.Json, "refusal")));
        Assert.That(Score(one.Json, "perplexity"), Is.EqualTo(Score(eight.Json, "perplexity")));
    }

    [TestCase("eval")]
    [TestCase("compare", "--out", "out")]
    [TestCase("tune", "--out", "out")]
    public async Task A_task_with_a_classifier_needs_the_other_tool(string command, params string[] options)
    {
        string task = Directory.CreateDirectory(_scratch["classified"]).FullName;
        await File.WriteAllTextAsync(Path.Combine(task, "task.yaml"), "name: x\nprompts: p.txt\nscorers:\n  - onnx: {file: m.onnx, label: toxic}\n");
        var run = await ToolRun.Of([command, "--model", ToolRun.Model, "--task", task, .. options]);
        Assert.That(run.Code, Is.EqualTo(4));
        Assert.That(run.Error, Does.Contain(
            "line 4: scorers[0] names the scorer 'onnx', which is in the tool tiller-eval, because it brings native libraries: "
            + "run the same command with tiller-eval in place of tiller."));
    }

    [TestCase(2, "--split must be one of test, those of ", "--split", "train")]
    [TestCase(2, "--limit must be a whole number above 0", "--limit", "0")]
    [TestCase(2, "--batch must be a whole number, 1 to 4096", "--batch", "0")]
    [TestCase(2, "--out - and --json would both write to standard output", "--out", "-", "--json")]
    [TestCase(2, "--lambda needs a controller: add --controller", "--lambda", "3")]
    [TestCase(2, "--tokens needs a controller: add --controller", "--tokens", "all")]
    [TestCase(4, "/nowhere.tiller", "--controller", "/nowhere.tiller")]
    public async Task What_is_wrong_is_told(int code, string problem, params string[] options)
    {
        var run = await ToolRun.Of(["eval", "--model", ToolRun.Model, "--task", Task("topic"), .. options]);
        Assert.That((run.Code, run.Error), Is.EqualTo((code, run.Error)));
        Assert.That(run.Error, Does.Contain(problem));
    }

    [Test]
    public async Task A_task_that_cannot_be_read_is_bad_input()
    {
        var run = await ToolRun.Of("eval", "--model", ToolRun.Model, "--task", _scratch["none"]);
        Assert.That(run.Code, Is.EqualTo(4));
        Assert.That(run.Error, Does.Contain("Name a folder that contains task.yaml."));
    }

    private static double Score(JsonElement report, string name) =>
        report.GetProperty("scores").EnumerateArray().Single(x => x.GetProperty("name").GetString() == name).GetProperty("value").GetDouble();
}
