using Tiller.Chat;
using Tiller.Checkpoint;
using Tiller.Model;
using Tiller.Tests.Hub;
using Tiller.Tests.Model;
using Tiller.Tests.Tool;
using Tiller.Tokens;

namespace Tiller.Tests.Checkpoint;

/// <summary>
/// Checkpoints where huggingface_hub puts them: a model's folder stands for its snapshot of main, and a wrong folder is told which are right.
/// </summary>
[TestFixture]
internal sealed class HubCacheTests
{
    private const string Family = "qwen2-bf16";
    private const string Older = "1111aaaa";
    private const string Newer = "2222bbbb";

    private TemporaryFolder _hub = null!;

    private string Repository => _hub["models--org--some-name"];

    [SetUp]
    public void SetUp() => _hub = new TemporaryFolder();

    [TearDown]
    public void TearDown() => _hub.Dispose();

    [Test]
    public async Task A_models_folder_is_its_snapshot_of_main()
    {
        Snapshot(Older, family: "llama2-f32");
        Snapshot(Newer);
        Main(Newer + "\n");
        using var model = LanguageModel.Load(Repository, new LoadOptions { Threads = 1 });
        var expected = TestModels.Load(Family);

        Assert.That(model.Name, Is.EqualTo("org/some-name"));
        Assert.That(model.Directory, Is.EqualTo(Path.Combine(Repository, "snapshots", Newer)));
        using (CheckpointFolder snapshot = CheckpointFolder.Open(model.Directory))
        {
            Assert.That(model.Fingerprint, Is.EqualTo(snapshot.Fingerprint));
        }

        Assert.That(model.Warnings, Is.Empty);
        Assert.That(ModelConfigReader.Read(Repository).Family, Is.EqualTo("qwen2"));
        Tokenizer tokenizer = Tokenizer.Load(Repository);
        Assert.That(tokenizer.Encode("Hello"), Is.EqualTo(expected.Tokenizer.Encode("Hello")));
        Assert.That(ChatFormat.Load(Repository, tokenizer).Name, Is.EqualTo(model.Chat.Name).And.EqualTo("chatml"));

        var inspect = await ToolRun.Of("inspect", "--json", Repository);
        Assert.That(inspect.Code, Is.Zero, inspect.Error);
        Assert.That(inspect.Json.GetProperty("folder").GetString(), Is.EqualTo(model.Directory));
        var generate = await ToolRun.Of("generate", "--json", "--model", Repository, "--max-tokens", "2", "Hi");
        Assert.That(generate.Code, Is.Zero, generate.Error);
        Assert.That(generate.Json.GetProperty("model").GetString(), Is.EqualTo("org/some-name"));
        string prompts = _hub.Write("prompts.txt", "One.\nTwo.\n");
        var plan = await ToolRun.Of("fit", "--model", Repository, "--positive", prompts, "--negative", prompts, "--plan", "--json",
            "--cost", "feature");
        Assert.That(plan.Code, Is.Zero, plan.Error);
        Assert.That(plan.Output, Does.Contain("org/some-name"));
    }

    [Test]
    public void Through_a_link_and_with_a_slash_at_the_end_it_is_the_same()
    {
        Snapshot(Newer);
        Main(Newer);
        Directory.CreateSymbolicLink(_hub["model"], Repository);
        foreach (string path in new[] { _hub["model"], Repository + "/", Path.Combine(Repository, "snapshots", Newer) })
        {
            using CheckpointFolder folder = CheckpointFolder.Open(path);
            Assert.That(folder.Tensors, Is.Not.Empty, path);
        }
    }

    [Test]
    public void The_only_snapshot_needs_no_main()
    {
        Snapshot(Older);
        using CheckpointFolder folder = CheckpointFolder.Open(Repository);
        Assert.That(folder.Path, Does.EndWith(Older));
        Assert.That(folder.Name, Is.EqualTo("org/some-name"));
    }

    [TestCase(null, "a single snapshot")]
    [TestCase("3333cccc", "3333cccc")]
    [TestCase("../../outside", "outside")]
    [TestCase("", "the snapshot of main")]
    public void Which_snapshots_there_are_is_told_when_main_is_none_of_them(string? main, string expected)
    {
        Snapshot(Older);
        Snapshot(Newer);
        Directory.CreateDirectory(_hub["outside"]);
        File.Copy(TestModels.Folder(Family) + "/config.json", _hub["outside", "config.json"]);
        if (main is not null)
        {
            Main(main);
        }

        foreach (Action read in new Action[] { () => CheckpointFolder.Open(Repository), () => ModelConfigReader.Read(Repository),
            () => Tokenizer.Load(Repository) })
        {
            var error = Assert.Throws<CheckpointException>(() => read())!;
            Assert.That(error.Error, Is.EqualTo(CheckpointError.Missing));
            Assert.That(error.Message, Does.Contain($"snapshots/{Older}").And.Contain($"snapshots/{Newer}").And.Contain(expected));
        }
    }

    [Test]
    public void A_folder_of_models_or_of_snapshots_names_those_it_holds()
    {
        Snapshot(Older);
        Snapshot(Newer);
        var models = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(_hub.Path))!;
        var snapshots = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(Path.Combine(Repository, "snapshots")))!;

        Assert.That(models.Message, Does.Contain("models--org--some-name"));
        Assert.That(snapshots.Message, Does.Contain(Older).And.Contain(Newer));
    }

    [Test]
    public void A_folder_that_holds_a_checkpoint_is_no_models_folder_whatever_lies_beside_it()
    {
        Snapshot(Newer);
        using var checkpoint = new EditableCheckpoint(Family);
        string folder = checkpoint.Save();
        Directory.CreateDirectory(checkpoint["snapshots"]);
        using CheckpointFolder opened = CheckpointFolder.Open(folder);
        Assert.That(opened.Path, Is.EqualTo(folder));
    }

    [TestCase("HF_HUB_CACHE={}", "")]
    [TestCase("HUGGINGFACE_HUB_CACHE={}", "")]
    [TestCase("HF_HOME={}", "hub")]
    [TestCase("XDG_CACHE_HOME={}", "huggingface/hub")]
    [TestCase("HF_HUB_CACHE={}|HF_HOME=/nowhere", "")]
    public void A_name_is_looked_up_where_the_environment_says(string variables, string folder)
    {
        using var cache = new TemporaryFolder();
        using var environment = new HubVariables(
            [.. variables.Split('|').Select(v => v.Replace("{}", cache.Path, StringComparison.Ordinal).Split('=')).Select(v => (v[0], v[1]))]);
        Snapshot(Newer);
        Main(Newer);
        string root = Path.Combine(cache.Path, folder);
        Directory.CreateDirectory(root);
        Directory.Move(Repository, Path.Combine(root, "models--org--some-name"));
        foreach (string name in new[] { "org/some-name", "org/some-name@main", $"org/some-name@{Newer}" })
        {
            using CheckpointFolder folderOfName = CheckpointFolder.Open(name);
            Assert.That(folderOfName.Path, Is.EqualTo(Path.Combine(root, "models--org--some-name", "snapshots", Newer)));
            Assert.That((folderOfName.Name, ModelConfigReader.Read(name).Family), Is.EqualTo(("org/some-name", "qwen2")));
        }
    }

    [TestCase("org/none", "Download it with HubPull.RunAsync: org/none.")]
    [TestCase("org/some-name@old", "Download it with HubPull.RunAsync: org/some-name@old.")]
    [TestCase("no name", "there is no such folder")]
    [TestCase("../org/some-name", "there is no such folder")]
    public void A_name_that_is_not_in_the_cache_says_how_it_comes_there(string name, string told)
    {
        using var environment = new HubVariables(("HF_HUB_CACHE", _hub.Path));
        Snapshot(Newer);
        var error = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(name))!;
        Assert.That(error.Error, Is.EqualTo(CheckpointError.Missing));
        Assert.That(error.Message, Does.Contain(told));
    }

    // Files as the hub has them: links to blobs.
    private void Snapshot(string commit, string family = Family)
    {
        using var checkpoint = new EditableCheckpoint(family);
        string folder = Path.Combine(Repository, "snapshots", commit);
        Directory.CreateDirectory(folder);
        foreach (string file in Directory.GetFiles(checkpoint.Save()))
        {
            string blob = $"{family}-{Path.GetFileName(file)}";
            _hub.Write($"models--org--some-name/blobs/{blob}", File.ReadAllBytes(file));
            File.CreateSymbolicLink(Path.Combine(folder, Path.GetFileName(file)), $"../../blobs/{blob}");
        }
    }

    private void Main(string commit) => _hub.Write("models--org--some-name/refs/main", commit);
}
