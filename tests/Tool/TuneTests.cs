using Tiller.Controllers;

namespace Tiller.Tests.Tool;

/// <summary><c>tiller tune</c> on the demo's tasks.</summary>
public sealed class TuneTests
{
    private Scratch _scratch = null!;

    [SetUp]
    public void MakeScratch() => _scratch = new Scratch();

    [TearDown]
    public void DeleteScratch() => _scratch.Dispose();

    [Test]
    public async Task A_controller_is_written_with_the_report_that_recommends_it()
    {
        string[] command =
        [
            "tune", "--model", ToolRun.Model, "--task", Repository.Path("tasks", "demo", "tone"), "--out", _scratch["tuned"],
            "--method", "actadd-lfs", "--lambda", "1", "2", "--layers", "0-5", "--layers", "2-4", "--prompts", "2", "--max-effort", "0.5",
        ];
        var run = await ToolRun.Of(command);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Output, Does.StartWith("## demo tone: tone, effort ≤ 0.500\n\n").And.Contain("Tried: 4 settings on 16 dev prompts.")
            .And.Contain("Test prompts:"));
        Assert.That(await File.ReadAllTextAsync(Path.Combine(_scratch["tuned"], "report.md")), Is.EqualTo(run.Output));
        string path = Path.Combine(_scratch["tuned"], "controller.tiller");
        Assert.That(run.Error, Does.Contain($"tiller: {path}, for λ "));
        Assert.That(Controller.Load(path).Method, Is.InstanceOf<Proportional>());
        var again = await ToolRun.Of([.. command, "--json"]);
        Assert.That(again.Json.GetProperty("controller").GetString(), Is.EqualTo(path));
        Assert.That(again.Json.GetProperty("test").GetArrayLength(), Is.EqualTo(2), "the plain model and the setting; this task has no words");
    }

    [TestCase("none of them 0", "--lambda", "0")]
    [TestCase("--layers must be ranges of blocks", "--layers", "x")]
    [TestCase("--layers must be within 0-9", "--layers", "0-10")]
    [TestCase("--r must be above 0", "--r", "0")]
    [TestCase("--q must be 0 to 1e12", "--q", "-1")]
    [TestCase("--method must be one of a-lqr, ", "--method", "magic")]
    [TestCase("--max-kl must be a number above 0", "--max-kl", "0")]
    [TestCase("--shard must be i/N", "--shard", "2/2")]
    public async Task What_is_wrong_is_told(string problem, params string[] options)
    {
        var run = await ToolRun.Of(
            ["tune", "--model", ToolRun.Model, "--task", Repository.Path("tasks", "demo", "tone"), "--out", _scratch["none"], .. options]);
        Assert.That((run.Code, run.Error), Is.EqualTo((2, run.Error)));
        Assert.That(run.Error, Does.Contain(problem));
    }
}
