using System.Diagnostics;
using System.Text;
using Tiller.Checkpoint;
using Tiller.Hub;
using Tiller.Tests.Checkpoint;

namespace Tiller.Tests.Hub;

/// <summary>Models from a hub on the loopback, which fails in every way that networks and hubs have.</summary>
[TestFixture]
internal sealed class HubPullTests
{
    private const string Weights = CheckpointFolder.SingleFileName;
    private const string Index = CheckpointFolder.IndexFileName;

    private static readonly string[] s_absent = ["chat_template.jinja", "generation_config.json"];

    private TemporaryFolder _disk = null!;
    private HubServer _hub = null!;
    private HubTime _time = null!;

    private string Model => _disk["hub", HubCache.FolderNameOf(_hub.Name)];

    private HubPullOptions Options => new() { Endpoint = _hub.Address, Cache = _disk["hub"], Token = HubServer.Token, Time = _time };

    [SetUp]
    public void SetUp()
    {
        _disk = new TemporaryFolder();
        _time = new HubTime();
        _hub = new HubServer();
        _hub.Files["README.md"] = Bytes(100);
        _hub.Files["config.json"] = Bytes(300);
        _hub.Files["tokenizer.json"] = Bytes(9000);
        _hub.Files["tokenizer_config.json"] = Bytes(0);
        _hub.Files["additional_chat_templates/tool_use.jinja"] = Bytes(50);
        _hub.Files["pytorch_model.bin"] = Bytes(20_000);
        _hub.Files["onnx/model.safetensors"] = Bytes(20_000);
        _hub.Files[Weights] = Bytes(1_000_000);
    }

    [TearDown]
    public void TearDown()
    {
        _hub.Dispose();
        _disk.Dispose();
    }

    [Test]
    public async Task A_model_goes_into_the_cache_as_Python_has_it()
    {
        var model = await Pull();
        string[] wanted = ["additional_chat_templates/tool_use.jinja", "config.json", Weights, "tokenizer.json", "tokenizer_config.json"];
        Assert.That(model.Files.Select(f => f.Name), Is.EqualTo(wanted));
        Assert.That(model.Files, Has.All.Matches<PulledFile>(f => f!.IsVerified && f.IsNew && f.SizeInBytes == _hub.Files[f.Name].Length));
        Assert.That((model.Repository, model.Commit, model.Folder),
            Is.EqualTo((_hub.Name, _hub.Commit, Path.Combine(Model, "snapshots", _hub.Commit))));

        string[] expected =
        [
            .. wanted.Select(f => $"hub/models--org--some-model/blobs/{HubServer.TagOf(_hub.Files[f])}"),
            .. wanted.Select(f => $"hub/models--org--some-model/snapshots/{_hub.Commit}/{f}"),
            .. wanted.Select(f => $"hub/.locks/models--org--some-model/{HubServer.TagOf(_hub.Files[f])}.lock"),
            .. s_absent.Select(f => $"hub/models--org--some-model/.no_exist/{_hub.Commit}/{f}"),
            "hub/models--org--some-model/refs/main",
        ];
        Assert.That(Listing(), Is.EquivalentTo(expected));
        Assert.That(await File.ReadAllTextAsync(Path.Combine(Model, "refs", "main")), Is.EqualTo(_hub.Commit));
        foreach (string file in wanted)
        {
            string path = Path.Combine(model.Folder, file);
            Assert.That(new FileInfo(path).LinkTarget,
                Is.EqualTo($"{(file.Contains('/', StringComparison.Ordinal) ? "../" : "")}../../blobs/{HubServer.TagOf(_hub.Files[file])}"));
            Assert.That(await File.ReadAllBytesAsync(path), Is.EqualTo(_hub.Files[file]), file);
        }
    }

    [TestCase("hub", UriKind.Relative)]
    [TestCase("ftp://hub.example", UriKind.Absolute)]
    [TestCase("file:///hub", UriKind.Absolute)]
    [TestCase("https://hub.example/?mirror=1", UriKind.Absolute)]
    [TestCase("https://hub.example/#there", UriKind.Absolute)]
    public async Task What_is_no_address_of_a_hub_is_refused_before_anything_is_asked(string address, UriKind kind)
    {
        var error = await Fails(HubPull.RunAsync(_hub.Name, Options with { Endpoint = new Uri(address, kind) }));
        Assert.That((error.Error, error.Message), Is.EqualTo((HubError.Name,
            $"HubPullOptions.Endpoint: expected an address https://… of a hub, got \"{address}\".")));
    }

    [Test]
    public async Task A_second_pull_fetches_nothing_and_mends_what_is_wrong()
    {
        var first = await Pull();
        int before = Fetches();
        var second = await Pull();
        Assert.That(second.Files, Has.None.Matches<PulledFile>(f => f!.IsNew));
        Assert.That((Fetches(), second.Folder), Is.EqualTo((before, first.Folder)));

        string blob = Path.Combine(Model, "blobs", HubServer.TagOf(_hub.Files[Weights]));
        byte[] wrong = [.. _hub.Files[Weights]];
        wrong[1234] ^= 1;
        await File.WriteAllBytesAsync(blob, wrong);
        var third = await Pull();
        Assert.That(third.Files.Where(f => f.IsNew).Select(f => f.Name), Is.EqualTo(new[] { Weights }));
        Assert.That(await File.ReadAllBytesAsync(blob), Is.EqualTo(_hub.Files[Weights]));
    }

    [Test]
    public async Task The_index_names_the_shards()
    {
        _hub.Files.Remove(Weights);
        _hub.Files[Index] = Encoding.UTF8.GetBytes(
            """{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}""");
        _hub.Files["model-00001-of-00002.safetensors"] = Bytes(5000);
        _hub.Files["model-00002-of-00002.safetensors"] = Bytes(6000);
        _hub.Files["model-00003-of-00003.safetensors"] = Bytes(7000);
        var model = await Pull();
        Assert.That(
            model.Files.Select(f => f.Name).Where(f => f.StartsWith("model", StringComparison.Ordinal)),
            Is.EqualTo(new[] { "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", Index }));

        _hub.Files.Remove("model-00002-of-00002.safetensors");
        Assert.That((await Fails()).Error, Is.EqualTo(HubError.FileNotFound));
    }

    [TestCase("v1.0", "v1.0")]
    [TestCase("refs/pr/7", "refs/pr/7")]
    [TestCase("commit", null)]
    public async Task A_revision_has_its_reference(string revision, string? reference)
    {
        _hub.Branches.Add("v1.0");
        _hub.Branches.Add("refs/pr/7");
        revision = revision == "commit" ? _hub.Commit : revision;
        var model = await Pull(Options with { Revision = revision });
        string[] references = Directory.Exists(Path.Combine(Model, "refs"))
            ? Directory.GetFiles(Path.Combine(Model, "refs"), "*", SearchOption.AllDirectories) : [];
        Assert.That(references.Select(r => Path.GetRelativePath(Path.Combine(Model, "refs"), r)),
            Is.EqualTo(reference is null ? [] : new[] { reference }));
        Assert.That((await HubPull.RunAsync($"{_hub.Name}@{revision}", Options)).Folder, Is.EqualTo(model.Folder));
    }

    [Test]
    public async Task A_plain_folder_holds_the_files()
    {
        var options = Options with { Folder = _disk["plain"], Cache = null };
        var model = await Pull(options);
        Assert.That(model.Folder, Is.EqualTo(_disk["plain"]));
        foreach (var file in model.Files)
        {
            var path = new FileInfo(Path.Combine(_disk["plain"], file.Name));
            Assert.That((path.LinkTarget, await File.ReadAllBytesAsync(path.FullName)), Is.EqualTo(((string?)null, _hub.Files[file.Name])));
        }

        int before = Fetches();
        Assert.That((await Pull(options)).Files, Has.None.Matches<PulledFile>(f => f!.IsNew));
        Assert.That(Fetches(), Is.EqualTo(before));
        _hub.Files["config.json"] = Bytes(301);
        Assert.That((await Pull(options)).Files.Where(f => f.IsNew).Select(f => f.Name), Is.EqualTo(new[] { "config.json" }));
        Assert.That(await File.ReadAllBytesAsync(_disk["plain", "config.json"]), Is.EqualTo(_hub.Files["config.json"]));
    }

    [Test]
    public async Task The_token_goes_to_the_hub_and_nowhere_else()
    {
        _hub.IsPrivate = true;
        await Pull();
        Assert.That(_hub.Log.Where(r => r["Host"] == $"127.0.0.1:{_hub.Port}"),
            Has.All.Matches<HubRequest>(r => r!["Authorization"] == $"Bearer {HubServer.Token}"));
        var elsewhere = _hub.Log.Where(r => r["Host"] == $"localhost:{_hub.Port}").ToArray();
        Assert.That(elsewhere, Has.Length.EqualTo(2).And.All.Matches<HubRequest>(r => r!["Authorization"] is null));
        Assert.That(_hub.Log, Has.All.Matches<HubRequest>(r => r!["User-Agent"]!.StartsWith("tiller/", StringComparison.Ordinal)));
    }

    [Test]
    public async Task A_connection_that_is_cut_goes_on_where_it_ended()
    {
        _hub.Fail(Weights, HubFault.Cut, times: 12);
        await Pull();
        var ranges = _hub.Fetches(Weights).Select(r => r["Range"]).ToArray();
        Assert.That(ranges, Has.Length.EqualTo(13));
        Assert.That(ranges[0], Is.Null);
        Assert.That(ranges[1], Is.EqualTo("bytes=500000-"));
        Assert.That(await Content(), Is.EqualTo(_hub.Files[Weights]));
        Assert.That(_time.Pauses, Has.Length.EqualTo(12).And.All.EqualTo(1), "what brings bytes begins a new row of failures");
    }

    [Test]
    public async Task A_silence_is_a_cut()
    {
        _hub.Fail(Weights, HubFault.Hang);
        var pull = Pull();
        await _hub.Hanging.Task.InTime();
        Patience.Until(() => PartLength() >= 500_000, "half of the file");
        Patience.Until(() => _time.IsListening, "the next bytes are waited for");
        _time.ElapseSilence();
        await pull.InTime();
        Assert.That(await Content(), Is.EqualTo(_hub.Files[Weights]));
        Assert.That(_hub.Fetches(Weights)[^1]["Range"], Is.Not.Null);
    }

    [TestCase("right", "bytes=1000-")]
    [TestCase("wrong", "bytes=3-", null)]
    [TestCase("whole")]
    [TestCase("too long", null)]
    public async Task A_part_of_an_earlier_attempt_is_gone_on_from(string part, params string?[]? ranges)
    {
        byte[] whole = _hub.Files[Weights];
        byte[] kept = part switch { "right" => whole[..1000], "wrong" => [1, 2, 3], "whole" => whole, _ => [.. whole, 0] };
        _disk.Write($"hub/{HubCache.FolderNameOf(_hub.Name)}/blobs/{HubServer.TagOf(whole)}.incomplete", kept);
        await Pull();
        Assert.That(await Content(), Is.EqualTo(whole));
        Assert.That(_hub.Fetches(Weights).Select(r => r["Range"]), Is.EqualTo(ranges ?? [null]));
    }

    [TestCase(HubFault.Whole)]
    [TestCase(HubFault.OtherPart)]
    public async Task A_hub_that_cannot_go_on_sends_all_again(HubFault fault)
    {
        _hub.Fail(Weights, HubFault.Cut);
        _hub.Fail(Weights, fault);
        await Pull();
        Assert.That(await Content(), Is.EqualTo(_hub.Files[Weights]));
        Assert.That(_hub.Fetches(Weights), Has.Length.EqualTo(fault == HubFault.Whole ? 2 : 3));
    }

    [TestCase(Weights, HubFault.WrongByte)]
    [TestCase(Weights, HubFault.TooMany)]
    [TestCase("config.json", HubFault.WrongByte)]
    [TestCase("config.json", HubFault.TooMany)]
    public async Task A_wrong_content_is_never_kept(string file, HubFault fault)
    {
        _hub.Fail(file, fault, times: 3);
        var error = await Fails();
        Assert.That(error.Error, Is.EqualTo(HubError.WrongContent));
        Assert.That(error.Message, Does.Contain(HubServer.TagOf(_hub.Files[file])));
        Assert.That(Listing().Where(f => f.Contains(HubServer.TagOf(_hub.Files[file]), StringComparison.Ordinal)), Has.All.EndsWith(".lock"));
        Assert.That(Directory.Exists(Path.Combine(Model, "snapshots")), Is.False);

        await Pull();
        Assert.That(await Content(file), Is.EqualTo(_hub.Files[file]), "the one fault that is left is overcome");
    }

    [Test]
    public async Task A_busy_hub_is_given_the_time_it_asks_for()
    {
        _hub.Refuse(Weights, "429 Too Many Requests\nRetry-After: 7");
        _hub.Refuse(Weights, "503 Service Unavailable");
        _hub.Refuse(Weights, "500 Internal Server Error");
        _hub.Refuse(Weights, "503 Service Unavailable\nRetry-After: 9");
        await Pull();
        Assert.That(_time.Pauses, Is.EqualTo(new[] { 7.0, 2, 4, 9 }));
        Assert.That(await Content(), Is.EqualTo(_hub.Files[Weights]));
    }

    [Test]
    public async Task A_hub_that_stays_busy_is_given_up()
    {
        _hub.Refuse("config.json", "503 Service Unavailable", times: 6);
        Assert.That((await Fails()).Error, Is.EqualTo(HubError.Refused));
        Assert.That(_time.Pauses, Is.EqualTo(new[] { 1.0, 2, 4, 8, 16 }));
        _hub.Refuse("config.json", "429 Too Many Requests\nRetry-After: 3600");
        var error = await Fails();
        Assert.That((error.Error, error.Message.Contains("3600 s", StringComparison.Ordinal)), Is.EqualTo((HubError.RateLimited, true)));
        Assert.That(_time.Pauses, Has.Length.EqualTo(5));
    }

    [Test]
    public async Task What_is_denied_says_what_would_open_it()
    {
        _hub.IsPrivate = true;
        var hidden = await Fails(Options with { Token = "hf_of_another" });
        Assert.That(hidden.Error, Is.EqualTo(HubError.RepositoryNotFound));
        Assert.That(hidden.Message, Does.Contain("the token that was sent does not open it").And.Not.Contain("hf_of_another"));

        _hub.IsPrivate = false;
        _hub.Refuse("config.json", "403 Forbidden\nX-Error-Code: GatedRepo\nX-Error-Message: Ask for access");
        var gated = await Fails();
        Assert.That((gated.Error, gated.Message.Contains("conditions", StringComparison.Ordinal)), Is.EqualTo((HubError.AccessDenied, true)));
        _hub.Refuse(Weights, "403 Forbidden");
        Assert.That((await Fails()).Error, Is.EqualTo(HubError.AccessDenied));
        Assert.That(_time.Pauses, Is.Empty, "a no is final");
    }

    [TestCase("no/such", HubError.RepositoryNotFound)]
    [TestCase("org/some-model@no-such", HubError.RevisionNotFound)]
    [TestCase("some-model", HubError.Name)]
    [TestCase("a/b/c", HubError.Name)]
    [TestCase("org/..", HubError.Name)]
    [TestCase("org/some-model@../main", HubError.Name)]
    [TestCase("org/some model", HubError.Name)]
    public async Task A_name_that_means_nothing_is_told(string name, HubError expected)
    {
        var error = await Fails(HubPull.RunAsync(name, Options));
        Assert.That(error.Error, Is.EqualTo(expected));
        Assert.That(error.Message, Does.StartWith(name));
        Assert.That(Listing(), Is.Empty);
    }

    [Test]
    public async Task Two_revisions_contradict_each_other()
    {
        Assert.That((await Fails(HubPull.RunAsync($"{_hub.Name}@main", Options with { Revision = "v2" }))).Error, Is.EqualTo(HubError.Name));
        Assert.That((await HubPull.RunAsync($"{_hub.Name}@main", Options with { Revision = "main" })).Commit, Is.EqualTo(_hub.Commit));
    }

    [TestCase("config.json", "config.json")]
    [TestCase("tokenizer.json", "tokenizer.json")]
    [TestCase(Weights, "pytorch_model.bin")]
    public async Task What_could_not_be_run_is_not_downloaded(string missing, string told)
    {
        _hub.Files.Remove(missing);
        var error = await Fails();
        Assert.That((error.Error, error.Message.Contains(told, StringComparison.Ordinal)), Is.EqualTo((HubError.FileNotFound, true)));
        Assert.That(Fetches(), Is.Zero);
    }

    [Test]
    public async Task A_full_disk_is_told_and_what_has_come_is_gone_on_from()
    {
        string part = Path.Combine(Model, "blobs", HubServer.TagOf(_hub.Files[Weights]) + ".incomplete");
        Directory.CreateDirectory(Path.GetDirectoryName(part)!);
        File.CreateSymbolicLink(part, "/dev/full");
        var full = await Fails();
        Assert.That((full.Error, full.Message.Contains("make room", StringComparison.Ordinal)), Is.EqualTo((HubError.NoRoom, true)));
        File.Delete(part);
        await Pull();
        Assert.That(await Content(), Is.EqualTo(_hub.Files[Weights]));
    }

    [Test]
    public async Task What_does_not_fit_is_not_begun()
    {
        _hub.HeadHeaders["X-Linked-Size"] = "4000000000000000000";
        var error = await Fails();
        Assert.That((error.Error, error.Message.Contains("4000000000000000", StringComparison.Ordinal)), Is.EqualTo((HubError.NoRoom, true)));
        Assert.That(Fetches(), Is.Zero);
    }

    [Test]
    public async Task Two_pulls_at_once_share_the_work()
    {
        _hub.Fail(Weights, HubFault.Hang);
        var first = Pull();
        await _hub.Hanging.Task.InTime();
        var waits = new TaskCompletionSource();
        var second = Pull(progress: p =>
        {
            if (p is { File: Weights, Stage: HubPullStage.Waiting })
            {
                waits.TrySetResult();
            }
        });
        await waits.Task.InTime();
        _hub.Release();
        var (one, two) = (await first.InTime(), await second.InTime());
        Assert.That(two.Folder, Is.EqualTo(one.Folder));
        Assert.That(two.Files, Has.None.Matches<PulledFile>(f => f!.IsNew));
        Assert.That(one.Files, Has.All.Matches<PulledFile>(f => _hub.Fetches(f!.Name).Length == (f.SizeInBytes > 0 ? 1 : 0)));
        Assert.That(await Content(), Is.EqualTo(_hub.Files[Weights]));
    }

    // Python's client takes a lock of the same kind on the same file.
    [Test]
    [Platform("Linux", Reason = "flock(1)")]
    public async Task Another_programs_lock_is_waited_for()
    {
        string held = _disk["hub", ".locks", HubCache.FolderNameOf(_hub.Name), HubServer.TagOf(_hub.Files[Weights]) + ".lock"];
        Directory.CreateDirectory(Path.GetDirectoryName(held)!);
        using var other = Process.Start(new ProcessStartInfo("flock", [held, "sh", "-c", "echo held; cat"])
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        Assert.That(await other.StandardOutput.ReadLineAsync().InTime(), Is.EqualTo("held"));
        var waits = new TaskCompletionSource();
        var pull = Pull(progress: p =>
        {
            if (p.Stage == HubPullStage.Waiting)
            {
                waits.TrySetResult();
            }
        });
        await waits.Task.InTime();
        Assert.That((pull.IsCompleted, _hub.Fetches(Weights).Length), Is.EqualTo((false, 0)));
        other.StandardInput.Close();
        await pull.InTime();
        await other.WaitForExitAsync().InTime();
        Assert.That(await Content(), Is.EqualTo(_hub.Files[Weights]));
    }

    [Test]
    public async Task A_pull_that_is_cancelled_leaves_the_old_snapshot_and_what_has_come()
    {
        string old = (await Pull()).Folder;
        _hub.Files[Weights] = Bytes(2_000_000);
        _hub.Fail(Weights, HubFault.Hang);
        using var stop = new CancellationTokenSource();
        var pull = Pull(cancellationToken: stop.Token);
        Patience.Until(() => PartLength() == 1_000_000, "half of the new file");
        await stop.CancelAsync();
        Assert.That(() => pull.InTime(), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(HubCache.Resolve(Model), Is.EqualTo(old));
        Assert.That(PartLength(), Is.EqualTo(1_000_000));
        string renewed = (await Pull()).Folder;
        Assert.That(_hub.Fetches(Weights)[^1]["Range"], Is.EqualTo("bytes=1000000-"));
        Assert.That(HubCache.Resolve(Model), Is.EqualTo(renewed).And.Not.EqualTo(old));
    }

    [TestCase("308 Permanent Redirect\nLocation: /api/models/org/some-model/revision/main", null)]
    [TestCase("307 Temporary Redirect\nLocation: /api/models/org/old-name/revision/main", "redirects more than")]
    [TestCase("302 Found\nLocation: file:///etc/passwd", "not safe to follow")]
    public async Task A_model_that_was_renamed_is_followed(string answer, string? refused)
    {
        _hub.Answers["/api/models/org/old-name/revision/main"] = answer;
        foreach (string file in _hub.Files.Keys)
        {
            string path = $"resolve/{_hub.Commit}/{file}";
            _hub.Answers[$"/org/old-name/{path}"] = $"307 Temporary Redirect\nLocation: /{_hub.Name}/{path}";
        }

        var pull = HubPull.RunAsync("org/old-name", Options);
        if (refused is null)
        {
            Assert.That((await pull).Folder, Is.EqualTo(_disk["hub", "models--org--old-name", "snapshots", _hub.Commit]));
        }
        else
        {
            Assert.That((await Fails(pull)).Message, Does.Contain(refused));
        }
    }

    [TestCase("X-Repo-Commit", "another")]
    [TestCase("ETag", "\"../../../escape\"")]
    [TestCase("ETag", "\"a/b\"")]
    [TestCase("X-Linked-Size", "-1")]
    [TestCase("X-Linked-Size", "much")]
    public async Task Headers_that_no_hub_sends_are_refused(string header, string value)
    {
        if (header == "ETag")
        {
            _hub.HeadHeaders["X-Linked-Etag"] = value;
        }

        _hub.HeadHeaders[header] = value;
        Assert.That((await Fails()).Error, Is.EqualTo(HubError.Protocol));
        Assert.That(Listing(), Is.Empty);
    }

    [TestCase("no JSON")]
    [TestCase("[]")]
    [TestCase("""{"siblings":[]}""")]
    [TestCase("""{"sha":"../../x","siblings":[]}""")]
    [TestCase("""{"sha":"0123456789abcdef","siblings":[1]}""")]
    public async Task A_listing_that_no_hub_sends_is_refused(string listing)
    {
        _hub.Listing = listing;
        Assert.That((await Fails()).Error, Is.EqualTo(HubError.Protocol));
        Assert.That(Listing(), Is.Empty);
    }

    [TestCase("../../config.json")]
    [TestCase("additional_chat_templates/../../x.jinja")]
    [TestCase("/etc/cron.d/x.jinja")]
    [TestCase("additional_chat_templates/a\\..\\b.jinja")]
    public async Task Names_that_lead_out_of_the_folder_are_passed_over(string name)
    {
        _hub.Listing = HubServer.ListingOf(_hub.Commit, [.. _hub.Files.Keys, name]);
        Assert.That((await Pull()).Files.Select(f => f.Name), Has.None.EqualTo(name));
        Assert.That(Listing(), Has.All.StartsWith("hub/"));
    }

    [Test]
    public async Task A_tag_that_is_no_hash_tells_the_length_only()
    {
        _hub.HeadHeaders["ETag"] = "W/\"abc-1\"";
        _hub.HeadHeaders["X-Linked-Etag"] = "abc-2";
        _hub.Files.Remove("additional_chat_templates/tool_use.jinja");
        _hub.Files.Remove("tokenizer_config.json");
        _hub.Files["tokenizer.json"] = _hub.Files[Weights];
        var model = await Pull();
        Assert.That(model.Files, Has.All.Matches<PulledFile>(f => !f!.IsVerified));
        Assert.That(Directory.GetFiles(Path.Combine(Model, "blobs")).Select(Path.GetFileName), Is.EquivalentTo(new[] { "abc-1", "abc-2" }));
    }

    [Test]
    public async Task A_hub_that_is_not_there_is_told_at_once()
    {
        _hub.Dispose();
        var error = await Fails();
        Assert.That((error.Error, error.Message.Contains("HF_ENDPOINT", StringComparison.Ordinal)), Is.EqualTo((HubError.Unreachable, true)));
        Assert.That(_time.Pauses, Is.Empty);
    }

    private static byte[] Bytes(int count)
    {
        var bytes = new byte[count];
        new Random(count).NextBytes(bytes);
        return bytes;
    }

    private Task<PulledModel> Pull(HubPullOptions? options = null, Action<HubPullProgress>? progress = null,
        CancellationToken cancellationToken = default) =>
        HubPull.RunAsync(_hub.Name, options ?? Options, progress is null ? null : new Told(progress), cancellationToken);

    private Task<HubException> Fails(HubPullOptions? options = null) => Fails(Pull(options));

    private static async Task<HubException> Fails(Task<PulledModel> pull)
    {
        try
        {
            await pull;
        }
        catch (HubException e)
        {
            return e;
        }

        throw new AssertionException("the pull should have failed");
    }

    private int Fetches() => _hub.Files.Keys.Sum(file => _hub.Fetches(file).Length);

    private Task<byte[]> Content(string file = Weights) => File.ReadAllBytesAsync(Path.Combine(Model, "blobs", HubServer.TagOf(_hub.Files[file])));

    private long PartLength()
    {
        var part = new FileInfo(Path.Combine(Model, "blobs", HubServer.TagOf(_hub.Files[Weights]) + ".incomplete"));
        return part.Exists ? part.Length : 0;
    }

    private string[] Listing() =>
        [.. Directory.GetFiles(_disk.Path, "*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(_disk.Path, f).Replace('\\', '/'))];

    private sealed class Told(Action<HubPullProgress> tell) : IProgress<HubPullProgress>
    {
        public void Report(HubPullProgress value) => tell(value);
    }
}
