using Tiller.Checkpoint;
using Tiller.Tests.Checkpoint;
using Tiller.Tests.Hub;
using Tiller.Tests.Model;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary><c>tiller pull</c>, and models by their names.</summary>
[NonParallelizable]
public sealed class PullTests
{
    private const string Family = "qwen2-bf16";

    private TemporaryFolder _disk = null!;
    private HubServer _hub = null!;
    private HubVariables _variables = null!;

    private (string Name, string Value)[] Environment =>
        [("HF_ENDPOINT", _hub.Address.ToString()), ("HF_HOME", _disk["home"]), ("HF_TOKEN", HubServer.Token)];

    private string Incomplete =>
        _disk["home", "hub", HubCache.FolderNameOf(_hub.Name), "blobs", HubServer.TagOf(_hub.Files[CheckpointFolder.SingleFileName]) + ".incomplete"];

    [SetUp]
    public void SetUp()
    {
        _disk = new TemporaryFolder();
        _hub = new HubServer { IsPrivate = true };
        using var checkpoint = new EditableCheckpoint(Family);
        foreach (string file in Directory.GetFiles(checkpoint.Save()))
        {
            _hub.Files[Path.GetFileName(file)] = File.ReadAllBytes(file);
        }

        _variables = new HubVariables(Environment);
    }

    [TearDown]
    public void TearDown()
    {
        _variables.Dispose();
        _hub.Dispose();
        _disk.Dispose();
    }

    [Test]
    public async Task A_model_that_was_pulled_goes_by_its_name_everywhere()
    {
        string name = _hub.Name;
        var before = await ToolRun.Of("generate", "--model", name, "x");
        Assert.That((before.Code, before.Error.Contains($"tiller pull {name}", StringComparison.Ordinal)), Is.EqualTo((ExitCode.BadInput, true)),
            before.Error);
        Assert.That(_hub.Log, Is.Empty, "nothing downloads by itself");

        var pull = await ToolRun.Of("pull", name, "--json");
        Assert.That(pull.Code, Is.Zero, pull.Error);
        string folder = pull.Json.GetProperty("folder").GetString()!;
        Assert.That(folder, Is.EqualTo(_disk["home", "hub", HubCache.FolderNameOf(name), "snapshots", _hub.Commit]));
        Assert.That(pull.Json.GetProperty("files").EnumerateArray().All(f => f.GetProperty("new").GetBoolean()
            && f.GetProperty("verified").GetBoolean()));

        string few = _disk.Write("few.txt", "One day.\nTwo days.\n"), others = _disk.Write("others.txt", "No day.\nNever.\n"),
            controller = _disk["a.tiller"];
        string[][] commands =
        [
            ["generate", "--model", name, "--max-tokens", "2", "Hi"],
            ["inspect", name],
            ["inspect", $"{name}@{_hub.Commit}"],
            ["fit", "--model", name, "--positive", few, "--negative", others, "--cost", "feature", "--plan"],
            ["fit", "--model", name, "--positive", few, "--negative", others, "--cost", "feature", "--out", controller],
            ["steer", "--model", $"{name}@main", "--controller", controller, "--max-tokens", "2", "Hi"],
        ];
        foreach (string[] command in commands)
        {
            var run = await ToolRun.Of([.. command, "--json"]);
            Assert.That(run.Code, Is.Zero, $"{string.Join(' ', command)}: {run.Error}");
            if (run.Json.TryGetProperty("model", out var model))
            {
                Assert.That(model.GetString(), Is.EqualTo(name));
            }
        }

        int asked = _hub.Log.Count;
        Assert.That(asked, Is.EqualTo(1 + (2 * _hub.Files.Count) + _hub.Files.Values.Count(f => f.Length >= HubServer.LargeFrom)),
            "a listing, a HEAD and a GET of each file, and the redirected ones again");
        var again = await ToolRun.Of("pull", name);
        Assert.That((again.Code, again.Output.Contains("there", StringComparison.Ordinal)), Is.EqualTo((0, true)));
        Assert.That(again.Output, Does.Contain(folder).And.Not.Contain("\nnew"));
    }

    [Test]
    public async Task A_revision_goes_by_its_name_too()
    {
        _hub.Branches.Add("v2");
        var pull = await ToolRun.Of("pull", _hub.Name, "--revision", "v2");
        Assert.That((pull.Code, pull.Error), Is.EqualTo((0, $"Use it as --model {_hub.Name}@v2\n")));
        Assert.That((await ToolRun.Of("inspect", $"{_hub.Name}@v2")).Code, Is.Zero);
        var other = await ToolRun.Of("inspect", $"{_hub.Name}@v3");
        Assert.That((other.Code, other.Error.Contains($"tiller pull {_hub.Name}@v3", StringComparison.Ordinal)),
            Is.EqualTo((ExitCode.BadInput, true)), other.Error);
    }

    [Test]
    public async Task A_plain_folder_is_a_model()
    {
        string folder = _disk["plain"];
        var pull = await ToolRun.Of("pull", _hub.Name, "--to", folder);
        Assert.That((pull.Code, pull.Error), Is.EqualTo((0, $"Use it as --model {folder}\n")));
        var generate = await ToolRun.Of("generate", "--model", folder, "--max-tokens", "2", "Hi");
        Assert.That(generate.Code, Is.Zero, generate.Error);
        Assert.That(Directory.Exists(_disk["home"]), Is.False, "the cache is left alone");
    }

    [TestCase("", "org/some-model@no", ExitCode.BadInput, "no such branch")]
    [TestCase("", "org/none", ExitCode.BadInput, "no such model")]
    [TestCase("", "some-model", ExitCode.Usage, "OWNER/NAME")]
    [TestCase("HF_ENDPOINT=ftp://example.org", "org/some-model", ExitCode.Usage, "HF_ENDPOINT")]
    [TestCase("HF_ENDPOINT=http://127.0.0.1:1", "org/some-model", ExitCode.Hub, "cannot be reached")]
    [TestCase("HF_HUB_OFFLINE=1", "org/some-model", ExitCode.Usage, "forbids")]
    [TestCase("HF_TOKEN=two words", "org/some-model", ExitCode.Usage, "HF_TOKEN")]
    public async Task What_is_wrong_has_its_exit_code(string variable, string model, int code, string told)
    {
        if (variable.Split('=') is [var name, var value])
        {
            System.Environment.SetEnvironmentVariable(name, value);
        }

        var run = await ToolRun.Of("pull", model, "--json");
        Assert.That((run.Code, run.Error.Contains(told, StringComparison.Ordinal)), Is.EqualTo((code, true)), run.Error);
        Assert.That(run.Json.GetProperty("error").GetProperty("type").GetString(), Is.EqualTo("Hub"));
        Assert.That(run.Error, Does.Not.Contain(HubServer.Token));
    }

    [TestCase("HF_TOKEN_PATH")]
    [TestCase("HF_HOME")]
    public async Task The_token_may_be_in_the_usual_file(string variable)
    {
        System.Environment.SetEnvironmentVariable("HF_TOKEN", null);
        string path = _disk.Write(variable == "HF_HOME" ? "home/token" : "elsewhere", HubServer.Token + "\n");
        System.Environment.SetEnvironmentVariable("HF_TOKEN_PATH", variable == "HF_HOME" ? null : path);
        var run = await ToolRun.Of("pull", _hub.Name);
        Assert.That(run.Code, Is.Zero, run.Error);
    }

    [Test]
    public async Task A_kill_costs_nothing_that_has_come()
    {
        long half = _hub.Files[CheckpointFolder.SingleFileName].Length / 2;
        _hub.Fail(CheckpointFolder.SingleFileName, HubFault.Hang);
        using var program = Program.StartIn(Environment, "pull", _hub.Name);
        Patience.Until(() => program.HasExited || (File.Exists(Incomplete) && new FileInfo(Incomplete).Length == half), "half of the weights");
        program.Kill();
        await program.WaitForExitAsync().InTime();
        Assert.That(new FileInfo(Incomplete).Length, Is.EqualTo(half));
        var before = await ToolRun.Of("generate", "--model", _hub.Name, "x");
        Assert.That((before.Code, before.Error.Contains("tiller pull", StringComparison.Ordinal)), Is.EqualTo((ExitCode.BadInput, true)),
            before.Error);

        var run = await ToolRun.Of("pull", _hub.Name);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(_hub.Fetches(CheckpointFolder.SingleFileName).Select(r => r["Range"]), Is.EqualTo(new[] { null, $"bytes={half}-" }));
        Assert.That((await ToolRun.Of("generate", "--model", _hub.Name, "--max-tokens", "1", "x")).Code, Is.Zero);
    }

    [Test]
    public async Task Cancelled_it_ends_as_every_command_does()
    {
        _hub.Fail(CheckpointFolder.SingleFileName, HubFault.Hang);
        using var stop = new CancellationTokenSource();
        var run = Task.Run(() => ToolRun.Of(["pull", _hub.Name], [], stop.Token));
        await _hub.Hanging.Task.InTime();
        await stop.CancelAsync();
        var ended = await run.InTime();
        Assert.That((ended.Code, ended.Output, ended.Error), Is.EqualTo((ExitCode.Cancelled, "", "tiller: error: cancelled.\n")));
        Assert.That(File.Exists(Incomplete));
    }

    [Test]
    public async Task A_proxy_of_the_environment_is_asked()
    {
        (string Name, string Value)[] variables =
            [.. Environment[1..], ("HF_ENDPOINT", "http://hub.example"), ("http_proxy", _hub.Address.ToString()), ("no_proxy", ""), ("NO_PROXY", "")];
        using var program = Program.StartIn(variables, "pull", _hub.Name);
        string error = await program.StandardError.ReadToEndAsync().InTime();
        await program.WaitForExitAsync().InTime();
        Assert.That(program.ExitCode, Is.Zero, error);
        Assert.That(_hub.Log[0].Target, Is.EqualTo($"http://hub.example/api/models/{_hub.Name}/revision/main"));
    }

    [Test]
    public async Task Progress_tells_every_file()
    {
        var stages = new System.Collections.Concurrent.ConcurrentDictionary<string, long>(StringComparer.Ordinal);
        var run = await ToolRun.Of(["pull", _hub.Name], [], default, onStage: p => stages[p.Stage] = p.Done);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(stages, Is.EquivalentTo(_hub.Files.Where(f => f.Value.Length > 0).ToDictionary(f => f.Key, f => (long)f.Value.Length)));
    }
}
