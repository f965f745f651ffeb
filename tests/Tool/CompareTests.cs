using System.Text.Json;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary><c>tiller compare</c> on the demo's tasks.</summary>
public sealed class CompareTests
{
    private Scratch _scratch = null!;

    [SetUp]
    public void MakeScratch() => _scratch = new Scratch();

    [TearDown]
    public void DeleteScratch() => _scratch.Dispose();

    [Test]
    public async Task The_demo_compares_methods_and_goes_on_where_it_was()
    {
        string folder = _scratch["comparison"];
        string[] command =
            ["compare", "--demo", "--out", folder, "--limit", "3", "--method", "a-lqr", "--method", "actadd-lfs", "--lambda", "1", "2"];
        var run = await ToolRun.Of(command);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Output, Does.StartWith("## demo topic\n\n| method | λ | topic words about the sea | perplexity | kl |"));
        Assert.That(run.Output, Does.Contain("## demo tone").And.Contain("## demo refusal").And.Contain("| actadd-lfs | 2 |"));
        Assert.That(run.Error, Does.EndWith($"tiller: 15 cells in {folder}, with report.html and report.md\n"));
        Assert.That(await File.ReadAllTextAsync(Path.Combine(folder, "report.md")), Is.EqualTo(run.Output));
        string page = await File.ReadAllTextAsync(Path.Combine(folder, "report.html"));
        Assert.That(page, Does.Contain("<h2>demo refusal</h2>").And.EndsWith("</html>\n"));

        var cells = Directory.GetFiles(Path.Combine(folder, "cells"), "*.json", SearchOption.AllDirectories)
            .ToDictionary(x => x, File.GetLastWriteTimeUtc);
        Assert.That(cells, Has.Count.EqualTo(15));
        var again = await ToolRun.Of([.. command, "--json"]);
        Assert.That(again.Code, Is.Zero, again.Error);
        Assert.That(cells, Has.All.Matches<KeyValuePair<string, DateTime>>(x => File.GetLastWriteTimeUtc(x.Key) == x.Value));
        JsonElement topic = again.Json[0];
        Assert.That(topic.GetProperty("task").GetString(), Is.EqualTo("demo topic"));
        var points = topic.GetProperty("points").EnumerateArray();
        Assert.That(
            points.Select(x => (x.GetProperty("method").GetString(), x.GetProperty("lambda").GetDouble())),
            Is.EqualTo(new[] { ("plain", 0.0), ("a-lqr", 1), ("a-lqr", 2), ("actadd-lfs", 1), ("actadd-lfs", 2) }));
        Assert.That(topic.GetProperty("operatingPoints")[0].GetProperty("differences").EnumerateObject().Select(x => x.Name),
            Is.EqualTo(new[] { "actadd-lfs" }));
    }

    [Test]
    public async Task Tasks_that_do_not_go_together_are_bad_input()
    {
        File.WriteAllText(_scratch["p.txt"], "One\n");
        File.WriteAllText(_scratch["task.yaml"], "name: bare\nprompts: p.txt\nscorers: [perplexity]\n");
        string folder = Path.GetDirectoryName(_scratch["task.yaml"])!;
        string[] command = ["compare", "--model", ToolRun.Model, "--out", _scratch["out"], "--method", "a-lqr", "--task", folder];
        var bare = await ToolRun.Of(command);
        Assert.That((bare.Code, bare.Error), Is.EqualTo((4, bare.Error)));
        Assert.That(bare.Error, Does.Contain("The task bare has no contrast"));
        var twice = await ToolRun.Of([.. command, "--task", folder]);
        Assert.That((twice.Code, twice.Error), Is.EqualTo((4, twice.Error)));
        Assert.That(twice.Error, Does.Contain("Two of the tasks are named bare"));
    }

    [Test]
    public async Task Other_splits_have_reports_of_their_own_with_the_same_controllers()
    {
        string folder = Directory.CreateDirectory(_scratch["split"]).FullName;
        File.WriteAllLines(Path.Combine(folder, "p.txt"), ["Once upon a time", "One day"]);
        File.WriteAllLines(Path.Combine(folder, "other.txt"), ["A guest wrote."]);
        File.WriteAllLines(Path.Combine(folder, "a.txt"), ["The sea was calm.", "A gull flew over the harbor."]);
        File.WriteAllLines(Path.Combine(folder, "b.txt"), ["The kennel was full.", "A dog barked."]);
        File.WriteAllText(
            Path.Combine(folder, "task.yaml"),
            "name: split\ncontrast: {positive: a.txt, negative: b.txt}\nprompts: {test: p.txt, off: other.txt}\n"
            + "generation: {max_tokens: 4}\nscorers: [repetition]\n");
        string[] command =
            ["compare", "--model", ToolRun.Model, "--task", folder, "--method", "actadd-lfs", "--lambda", "1", "--out", _scratch["splits"]];
        var stages = new List<StageProgress>();
        var run = await ToolRun.Of([.. command, "--split", "test", "--split", "off"], [], default, onStage: stages.Add);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Output, Does.StartWith("## split\n").And.Contain("## split, off\n"));
        Assert.That(stages.Count(static x => x.Stage == "contrast" && x.Done == x.Total), Is.EqualTo(1), "fitted once");
        string cell = await File.ReadAllTextAsync(Path.Combine(_scratch["splits"], "cells", "split--off", "actadd-lfs", "1-0.json"));
        using (var json = JsonDocument.Parse(cell))
        {
            Assert.That(json.RootElement.GetProperty("scores")[0].GetProperty("without").GetArrayLength(), Is.EqualTo(1), "its one prompt");
        }

        var wrong = await ToolRun.Of([.. command, "--split", "train"]);
        Assert.That((wrong.Code, wrong.Error), Is.EqualTo((2, wrong.Error)));
        Assert.That(wrong.Error, Does.Contain("--split must be one of test, off, those of the tasks, got 'train'."));
    }

    [Test]
    public async Task Shards_give_bit_for_bit_the_report_of_one_process()
    {
        string[] command = ["compare", "--demo", "--limit", "2", "--method", "actadd-lfs", "--method", "caa", "--lambda", "1", "2"];
        var whole = await ToolRun.Of([.. command, "--out", _scratch["whole"]]);
        Assert.That(whole.Code, Is.Zero, whole.Error);

        // In one folder, in any order, one of them twice; then each in a folder of its own.
        foreach (string shard in new[] { "2/4", "0/4", "3/4", "0/4" })
        {
            var part = await ToolRun.Of([.. command, "--out", _scratch["parts"], "--shard", shard]);
            Assert.That((part.Code, part.Output), Is.EqualTo((0, "")), part.Error);
        }

        var early = await ToolRun.Of("merge", _scratch["parts"]);
        Assert.That(early.Code, Is.EqualTo(4));
        Assert.That(early.Error, Does.Contain("4 of 15 cells are missing; the first is number 3, "));
        Assert.That(Directory.GetFiles(_scratch["parts"], "report.*"), Is.Empty);
        var last = await ToolRun.Of([.. command, "--out", _scratch["last"], "--shard", "1/4"]);
        Assert.That(last.Code, Is.Zero, last.Error);
        var merged = await ToolRun.Of("merge", _scratch["parts"], _scratch["last"], "--out", _scratch["merged"]);
        Assert.That((merged.Code, merged.Output), Is.EqualTo((0, whole.Output)), merged.Error);
        foreach (string report in new[] { "report.md", "report.html" })
        {
            Assert.That(
                await File.ReadAllBytesAsync(Path.Combine(_scratch["merged"], report)),
                Is.EqualTo(await File.ReadAllBytesAsync(Path.Combine(_scratch["whole"], report))), report);
        }

        // The whole goes on as if it had been run there.
        var cells = Cells();
        Assert.That(cells, Has.Count.EqualTo(15));
        var again = await ToolRun.Of("merge", _scratch["merged"]);
        Assert.That((again.Code, again.Output), Is.EqualTo((0, whole.Output)), again.Error);
        var on = await ToolRun.Of([.. command, "--out", _scratch["merged"]]);
        Assert.That((on.Code, on.Output), Is.EqualTo((0, whole.Output)), on.Error);
        Assert.That(Cells(), Is.EqualTo(cells), "nothing is computed anew");

        Dictionary<string, DateTime> Cells() => Directory.GetFiles(Path.Combine(_scratch["merged"], "cells"), "*.json", SearchOption.AllDirectories)
            .ToDictionary(static x => x, File.GetLastWriteTimeUtc);
    }

    [Test]
    public async Task What_cannot_be_merged_is_told()
    {
        string[] command = ["compare", "--demo", "--limit", "1", "--method", "caa", "--lambda", "1"];
        Assert.That((await ToolRun.Of([.. command, "--out", _scratch["a"], "--shard", "0/2"])).Code, Is.Zero);
        Assert.That((await ToolRun.Of([.. command, "--seeds", "2", "--out", _scratch["b"], "--shard", "11/12"])).Code, Is.Zero);
        var other = await ToolRun.Of("merge", _scratch["a"], _scratch["b"], "--out", _scratch["c"]);
        Assert.That((other.Code, other.Error), Is.EqualTo((4, other.Error)));
        Assert.That(other.Error, Does.Contain("hold different comparisons"));
        var nowhere = await ToolRun.Of("merge", _scratch["a"], _scratch["b"]);
        Assert.That((nowhere.Code, nowhere.Error), Is.EqualTo((2, nowhere.Error)));
        Directory.CreateDirectory(_scratch["empty"]);
        var empty = await ToolRun.Of("merge", _scratch["empty"]);
        Assert.That((empty.Code, empty.Error), Is.EqualTo((4, empty.Error)));
        Assert.That(empty.Error, Does.Contain("Name a folder that a comparison was run in."));
        string plan = Path.Combine(_scratch["a"], "comparison.json");
        File.WriteAllText(plan, """{"model":"m","cells":[{"path":"cells/../../x.json","identity":"y"}]}""");
        var outside = await ToolRun.Of("merge", _scratch["a"]);
        Assert.That((outside.Code, outside.Error), Is.EqualTo((4, outside.Error)));
        Assert.That(outside.Error, Does.Contain("is no list of a comparison's cells"));
    }

    [TestCase("Expected --model and one --task at least, or --demo without them.")]
    [TestCase("Expected --model and one --task at least, or --demo without them.", "--demo", "--model", "m")]
    [TestCase("Expected --model and one --task at least, or --demo without them.", "--model", "m")]
    [TestCase("none of them 0", "--demo", "--lambda", "0")]
    [TestCase("Expected each --lambda once", "--demo", "--lambda", "1", "1")]
    [TestCase("--method must be one of a-lqr, ", "--demo", "--method", "magic")]
    [TestCase("--method angular needs more prompts than a task has", "--demo", "--method", "angular")]
    [TestCase("--seeds must be a whole number, 1 to 1000", "--demo", "--seeds", "0")]
    public async Task What_is_wrong_is_told(string problem, params string[] options)
    {
        var run = await ToolRun.Of(["compare", "--out", _scratch["none"], .. options]);
        Assert.That((run.Code, run.Error), Is.EqualTo((2, run.Error)));
        Assert.That(run.Error, Does.Contain(problem));
    }
}
