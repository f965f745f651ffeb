using System.Text;
using Tiller.Checkpoint;

namespace Tiller.Tests.Checkpoint;

/// <summary>Checkpoint folders, whole and broken. The number is the row of docs/hostile-inputs.md §3a.</summary>
[TestFixture]
internal sealed class CheckpointFolderTests
{
    private TemporaryFolder _folder = null!;

    [SetUp]
    public void SetUp() => _folder = new TemporaryFolder();

    [TearDown]
    public void TearDown() => _folder.Dispose();

    [TestCaseSource(nameof(Checkpoints))]
    public void Golden_checkpoints_open_without_warning(string directory)
    {
        using CheckpointFolder checkpoint = CheckpointFolder.Open(directory);
        ModelConfig config = ModelConfigReader.Read(directory);

        Assert.That(checkpoint.Warnings, Is.Empty);
        Assert.That(checkpoint.SizeInBytes, Is.EqualTo(checkpoint.Tensors.Sum(t => t.SizeInBytes)).And.Positive);
        Assert.That(checkpoint.Tensors.Select(t => t.Name), Is.Ordered.Using((IComparer<string>)StringComparer.Ordinal));
        Assert.That(checkpoint.Find("model.embed_tokens.weight", config.V, config.D).Type, Is.AnyOf(TensorType.F32, TensorType.F16, TensorType.BF16));
        Assert.That(checkpoint.TryFind("lm_head.weight"), config.TiedHead ? Is.Null : Is.Not.Null);
        for (int k = 0; k < config.L; k++)
        {
            string layer = $"model.layers.{k}.";
            checkpoint.Find(layer + "self_attn.q_proj.weight", config.H * config.E, config.D);
            checkpoint.Find(layer + "self_attn.k_proj.weight", config.G * config.E, config.D);
            checkpoint.Find(layer + "self_attn.o_proj.weight", config.D, config.H * config.E);
            checkpoint.Find(layer + "mlp.down_proj.weight", config.D, config.F);
            float[] norm = checkpoint.ReadFloat32(checkpoint.Find(layer + "input_layernorm.weight", config.D));
            Assert.That(norm, Has.All.Matches<float>(float.IsFinite));
            Assert.That(checkpoint.TryFind(layer + "self_attn.q_proj.bias"), config.QkvBias ? Is.Not.Null : Is.Null);
            Assert.That(checkpoint.TryFind(layer + "self_attn.q_norm.weight"), config.QkNorm != QkNorm.None ? Is.Not.Null : Is.Null);
            Assert.That(checkpoint.TryFind(layer + "post_feedforward_layernorm.weight"), config.PostNorms ? Is.Not.Null : Is.Null);
        }
    }

    [Test]
    public void Shape_mismatch_names_tensor_expected_actual_and_type()
    {
        using CheckpointFolder checkpoint = Single();

        var error = Assert.Throws<CheckpointException>(() => checkpoint.Find("model.norm.weight", 3));

        Assert.That(error!.Error, Is.EqualTo(CheckpointError.ShapeMismatch));
        Assert.That((error.Item, error.Expected), Is.EqualTo(("model.norm.weight", "(3)")));
        Assert.That(error.Actual, Does.Contain("(2)").And.Contain("F32"));
        Assert.That(() => checkpoint.Find("model.norm.weight", 1, 2), Fails(CheckpointError.ShapeMismatch));
        Assert.That(() => checkpoint.Find("model.norm.weight"), Fails(CheckpointError.ShapeMismatch));
    }

    [Test]
    public void Missing_tensor_names_a_similar_one()
    {
        using CheckpointFolder checkpoint = Single();

        var error = Assert.Throws<CheckpointException>(() => checkpoint.Find("model.norm.weigth", 2));

        Assert.That(error!.Error, Is.EqualTo(CheckpointError.TensorNotFound));
        Assert.That(error.Message, Does.Contain("Did you mean \"model.norm.weight\"?").And.Contain("(2)"));
        Assert.That(Assert.Throws<CheckpointException>(() => checkpoint.Find("lm_head.weight", 2))!.Message, Does.Not.Contain("Did you mean"));
    }

    [Test]
    public void Weights_of_other_types_are_unsupported()
    {
        using CheckpointFolder checkpoint = Single(new TensorData("w", TensorType.F8E4M3, [2], new byte[2]));

        Assert.That(() => checkpoint.Find("w", 2), Fails(CheckpointError.Unsupported));
        Assert.That(checkpoint.TryFind("w")!.Type, Is.EqualTo(TensorType.F8E4M3));
    }

    [Test]
    public void Reads_by_offset_within_a_tensor()
    {
        using CheckpointFolder checkpoint = Single();
        TensorInfo tensor = checkpoint.Find("model.norm.weight", 2);
        var bytes = new byte[4];
        checkpoint.Read(tensor, 4, bytes);

        Assert.That(BitConverter.ToSingle(bytes), Is.EqualTo(2f));
        Assert.That(() => checkpoint.Read(tensor, 5, new byte[4]), Fails(CheckpointError.OutOfRange));
        Assert.That(() => checkpoint.Read(tensor, -1, new byte[4]), Fails(CheckpointError.OutOfRange));
    }

    [TestCaseSource(nameof(BadIndexes))]
    public void Index_is_rejected(byte[] json, CheckpointError expected)
    {
        Shard("a.safetensors", "t");
        _folder.Write(CheckpointFolder.IndexFileName, json);

        var error = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(_folder.Path));

        Assert.That(error!.Error, Is.EqualTo(expected), error.Message);
        Assert.That(error.Message, Does.Contain(CheckpointFolder.IndexFileName));
    }

    [Test]
    public void Row1_index_above_64_MiB()
    {
        using (var stream = new FileStream(_folder[CheckpointFolder.IndexFileName], FileMode.CreateNew))
        {
            stream.SetLength(CheckpointIndex.MaxLength + 1);
        }

        Assert.That(() => CheckpointFolder.Open(_folder.Path), Fails(CheckpointError.LimitExceeded));
    }

    [Test]
    public void Row1_too_many_shards()
    {
        string map = string.Join(',', Enumerable.Range(0, CheckpointIndex.MaxShards + 1).Select(i => $"\"t{i}\":\"{i}.safetensors\""));

        Assert.That(() => CheckpointIndex.Parse(Encoding.UTF8.GetBytes($"{{\"weight_map\":{{{map}}}}}"), "index"),
            Fails(CheckpointError.LimitExceeded));
    }

    [Test]
    public void Row6_shard_linked_to_outside()
    {
        using var outside = new TemporaryFolder();
        string secret = outside.Write("secret.safetensors", SafetensorsBytes.One("U8", "[1]", "[0,1]", 1));
        File.CreateSymbolicLink(_folder["a.safetensors"], secret);
        Index(("t", "a.safetensors"));

        Assert.That(() => CheckpointFolder.Open(_folder.Path), Fails(CheckpointError.UnsafePath));
    }

    [Test]
    public void Row6_link_through_a_linked_folder_to_outside()
    {
        using var outside = new TemporaryFolder();
        outside.Write("secret.safetensors", SafetensorsBytes.One("U8", "[1]", "[0,1]", 1));
        Directory.CreateSymbolicLink(_folder["sub"], outside.Path);
        File.CreateSymbolicLink(_folder["a.safetensors"], "sub/secret.safetensors");
        Index(("t", "a.safetensors"));

        Assert.That(() => CheckpointFolder.Open(_folder.Path), Fails(CheckpointError.UnsafePath));
    }

    [TestCase(false)]
    [TestCase(true)]
    public void Row6_links_of_the_hugging_face_cache(bool single)
    {
        _folder.Write("models--a--b/blobs/0123abcd", SafetensorsBytes.One("F32", "[2]", "[0,8]", 8));
        string snapshot = _folder["models--a--b", "snapshots", "fedc"];
        Directory.CreateDirectory(snapshot);
        string name = single ? CheckpointFolder.SingleFileName : "a.safetensors";
        File.CreateSymbolicLink(Path.Combine(snapshot, name), "../../blobs/0123abcd");
        if (!single)
        {
            _folder.Write("models--a--b/blobs/index", $$$"""{"weight_map":{"t":"{{{name}}}"}}""");
            File.CreateSymbolicLink(Path.Combine(snapshot, CheckpointFolder.IndexFileName), "../../blobs/index");
        }

        // The same through a link to the snapshot, as people make them.
        Directory.CreateSymbolicLink(_folder["model"], snapshot);
        foreach (string directory in new[] { snapshot, _folder["model"], snapshot + "/" })
        {
            using CheckpointFolder checkpoint = CheckpointFolder.Open(directory);
            Assert.That(checkpoint.ReadFloat32(checkpoint.Find("t", 2)), Is.EqualTo(new float[2]));
        }
    }

    [Test]
    public void Row6_cache_link_to_another_repository()
    {
        _folder.Write("models--c--d/blobs/0123abcd", SafetensorsBytes.One("F32", "[2]", "[0,8]", 8));
        string snapshot = _folder["models--a--b", "snapshots", "fedc"];
        Directory.CreateDirectory(snapshot);
        File.CreateSymbolicLink(Path.Combine(snapshot, CheckpointFolder.SingleFileName), "../../../models--c--d/blobs/0123abcd");

        Assert.That(() => CheckpointFolder.Open(snapshot), Fails(CheckpointError.UnsafePath));
    }

    [Test]
    public void Row6_link_loop()
    {
        File.CreateSymbolicLink(_folder["a.safetensors"], "b.safetensors");
        File.CreateSymbolicLink(_folder["b.safetensors"], "a.safetensors");
        Index(("t", "a.safetensors"));

        Assert.That(() => CheckpointFolder.Open(_folder.Path), Fails(CheckpointError.InputOutput));
    }

    [Test]
    public void Row8_missing_shard()
    {
        Shard("a.safetensors", "t");
        Index(("t", "a.safetensors"), ("u", "b.safetensors"));

        var error = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(_folder.Path));

        Assert.That((error!.Error, error.Item), Is.EqualTo((CheckpointError.Missing, "b.safetensors")));
    }

    [Test]
    public void Row9_tensor_listed_but_absent_or_in_another_shard()
    {
        Shard("a.safetensors", "t");
        Shard("b.safetensors", "u");
        Index(("t", "a.safetensors"), ("u", "b.safetensors"), ("v", "b.safetensors"));
        var absent = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(_folder.Path));
        Index(("t", "a.safetensors"), ("u", "a.safetensors"), ("x", "b.safetensors"));
        var elsewhere = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(_folder.Path));

        Assert.That((absent!.Error, absent.Item), Is.EqualTo((CheckpointError.TensorNotFound, "v")));
        Assert.That(absent.Message, Does.Contain("b.safetensors"));
        Assert.That(elsewhere!.Error, Is.EqualTo(CheckpointError.TensorNotFound));
    }

    [Test]
    public void Row10_unlisted_tensor_is_a_warning()
    {
        Shard("a.safetensors", "t", "extra");
        Index(("t", "a.safetensors"));
        using CheckpointFolder checkpoint = CheckpointFolder.Open(_folder.Path);

        Assert.That(checkpoint.TryFind("extra"), Is.Not.Null);
        Assert.That(checkpoint.Warnings, Has.One.Contains("extra"));
    }

    [TestCase("a.safetensors", 1)]
    [TestCase("b.safetensors", 2)]
    public void Row11_of_a_tensor_in_two_shards_the_index_decides(string named, float value)
    {
        Shard("a.safetensors", 1, "t", "v");
        Shard("b.safetensors", 2, "u", "t");
        Index(("t", named), ("u", "b.safetensors"), ("v", "a.safetensors"));
        using CheckpointFolder checkpoint = CheckpointFolder.Open(_folder.Path);
        TensorInfo tensor = checkpoint.Find("t", 2);

        Assert.That(checkpoint.ReadFloat32(tensor)[0], Is.EqualTo(value));
        Assert.That(checkpoint.FileOf(tensor), Does.EndWith(named));
        Assert.That(checkpoint.Tensors, Has.Count.EqualTo(3));
        Assert.That(checkpoint.SizeInBytes, Is.EqualTo(24));
        Assert.That(checkpoint.Warnings, Has.Count.EqualTo(1));
        Assert.That(checkpoint.Warnings[0], Does.Contain("more than one shard").And.Contain("\"t\""));
    }

    [Test]
    public void Row11_tensor_in_two_shards_that_the_index_does_not_name_or_has_elsewhere()
    {
        Shard("a.safetensors", "t", "v");
        Shard("b.safetensors", "u", "t");
        Shard("c.safetensors", "w");
        Index(("v", "a.safetensors"), ("u", "b.safetensors"), ("w", "c.safetensors"));
        var unnamed = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(_folder.Path));
        Index(("v", "a.safetensors"), ("u", "b.safetensors"), ("w", "c.safetensors"), ("t", "c.safetensors"));
        var elsewhere = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(_folder.Path));

        Assert.That((unnamed!.Error, unnamed.Item), Is.EqualTo((CheckpointError.Duplicate, "t")));
        Assert.That(unnamed.Message, Does.Contain("a.safetensors").And.Contain("b.safetensors"));
        Assert.That((elsewhere!.Error, elsewhere.Item), Is.EqualTo((CheckpointError.TensorNotFound, "t")));
    }

    [Test]
    public void Many_odd_tensors_are_one_warning_of_five_names()
    {
        string[] names = [.. Enumerable.Range(0, 12).Select(i => $"t{i:D2}")];
        Shard("a.safetensors", [.. names, "named"]);
        Shard("b.safetensors", "u");
        Index(("named", "a.safetensors"), ("u", "b.safetensors"));
        using CheckpointFolder checkpoint = CheckpointFolder.Open(_folder.Path);

        Assert.That(checkpoint.Warnings, Has.Count.EqualTo(1));
        Assert.That(names.Count(name => checkpoint.Warnings[0].Contains(name, StringComparison.Ordinal)), Is.EqualTo(5));
        Assert.That(checkpoint.Warnings[0], Does.EndWith(" and 7 more."));
    }

    [TestCase("-1")]
    [TestCase("5")]
    [TestCase("8.0")]
    [TestCase("1e999")]
    [TestCase("18446744073709551616")]
    [TestCase("\"x\"")]
    [TestCase("[8]")]
    public void Row12_wrong_total_size_is_a_warning(string size)
    {
        Shard("a.safetensors", "t");
        _folder.Write(CheckpointFolder.IndexFileName, $$$"""{"metadata":{"total_size":{{{size}}}},"weight_map":{"t":"a.safetensors"}}""");
        using CheckpointFolder checkpoint = CheckpointFolder.Open(_folder.Path);

        Assert.That(checkpoint.Warnings, Has.Count.EqualTo(1));
        Assert.That(checkpoint.Warnings[0], Does.Contain("total_size").And.Contain(" 8 bytes"));
    }

    [Test]
    public void Row13_shard_short_by_one_byte_is_named()
    {
        Shard("a.safetensors", "t");
        string path = Shard("b.safetensors", "u");
        File.WriteAllBytes(path, File.ReadAllBytes(path)[..^1]);
        Index(("t", "a.safetensors"), ("u", "b.safetensors"));

        var error = Assert.Throws<SafetensorsException>(() => CheckpointFolder.Open(_folder.Path));

        Assert.That(error!.Error, Is.EqualTo(SafetensorsError.IncompleteBuffer));
        Assert.That(error.File, Does.EndWith("b.safetensors"));
    }

    [Test]
    public void Row14_single_file_wins_over_the_index()
    {
        Shard(CheckpointFolder.SingleFileName, "single");
        Shard("a.safetensors", "t");
        Index(("t", "a.safetensors"));
        using CheckpointFolder checkpoint = CheckpointFolder.Open(_folder.Path);

        Assert.That(checkpoint.Tensors.Select(t => t.Name), Is.EqualTo(new[] { "single" }));
        Assert.That(checkpoint.Warnings, Has.One.Contains("index is ignored"));
    }

    [Test]
    public void Wrong_folders_are_told_apart()
    {
        string file = _folder.Write("config.json", "{}");
        var missing = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(_folder["no"]));
        var isFile = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(file));
        var empty = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(_folder.Path));
        _folder.Write("pytorch_model.bin", "x");
        var pickled = Assert.Throws<CheckpointException>(() => CheckpointFolder.Open(_folder.Path));

        Assert.That(new[] { missing!.Error, isFile!.Error, empty!.Error, pickled!.Error }, Is.EqualTo(new[]
        {
            CheckpointError.Missing, CheckpointError.Missing, CheckpointError.Missing, CheckpointError.Unsupported,
        }));
        Assert.That(isFile.Message, Does.Contain("give the folder"));
        Assert.That(empty.Message, Does.Contain("model.safetensors"));
    }

    [Test]
    public void Fingerprint_follows_config_tokenizer_and_tensor_list_but_not_weights()
    {
        string Print()
        {
            using CheckpointFolder checkpoint = CheckpointFolder.Open(_folder.Path);
            return checkpoint.Fingerprint;
        }

        Shard(CheckpointFolder.SingleFileName, "t");
        _folder.Write("config.json", "{}");
        _folder.Write("tokenizer.json", "{}");
        string first = Print();
        Assert.That(first, Does.Match("^[0-9a-f]{64}$"));
        Assert.That(Print(), Is.EqualTo(first));

        SafetensorsWriter.Write(_folder[CheckpointFolder.SingleFileName], new Dictionary<string, string>(),
            [TensorData.FromFloat32("t", [2], [5, 6])]);
        Assert.That(Print(), Is.EqualTo(first), "weights");

        var seen = new HashSet<string> { first };
        _folder.Write("config.json", "{ }");
        Assert.That(seen.Add(Print()), "config.json");
        _folder.Write("tokenizer.json", "{ }");
        Assert.That(seen.Add(Print()), "tokenizer.json");
        File.Delete(_folder["tokenizer.json"]);
        Assert.That(seen.Add(Print()), "no tokenizer.json");
        SafetensorsWriter.Write(_folder[CheckpointFolder.SingleFileName], new Dictionary<string, string>(),
            [TensorData.FromFloat32("t", [2, 1], [5, 6])]);
        Assert.That(seen.Add(Print()), "shape");
        SafetensorsWriter.Write(_folder[CheckpointFolder.SingleFileName], new Dictionary<string, string>(),
            [TensorData.FromFloat32("u", [2, 1], [5, 6])]);
        Assert.That(seen.Add(Print()), "name");
    }

    [Test]
    public void A_fingerprint_is_taken_later_and_never_of_other_files_than_were_loaded([Values("config.json", "tokenizer.json")] string name)
    {
        Shard(CheckpointFolder.SingleFileName, "t");
        _folder.Write("config.json", "{}");
        _folder.Write("tokenizer.json", "{}");
        CheckpointFingerprint unchanged, changed, removed;
        using (CheckpointFolder checkpoint = CheckpointFolder.Open(_folder.Path), again = CheckpointFolder.Open(_folder.Path),
            last = CheckpointFolder.Open(_folder.Path))
        {
            (unchanged, changed, removed) = (checkpoint.LazyFingerprint, again.LazyFingerprint, last.LazyFingerprint);
        }

        string taken = unchanged.Value;
        _folder.Write(name, "{ }");
        Assert.That(unchanged.Value, Is.EqualTo(taken), "it is taken once");
        Assert.That(() => changed.Value, Fails(CheckpointError.InputOutput));
        Assert.That(Assert.Throws<CheckpointException>(() => _ = changed.Value)!.Message, Does.Contain("load it again"));
        File.Delete(_folder[name]);
        Assert.That(() => removed.Value, Fails(CheckpointError.InputOutput));
    }

    private static NUnit.Framework.Constraints.IResolveConstraint Fails(CheckpointError error)
        => Throws.TypeOf<CheckpointException>().With.Property(nameof(CheckpointException.Error)).EqualTo(error);

    private static IEnumerable<TestCaseData> Checkpoints()
        => Repository.Goldens.Select(folder => Path.Combine(folder, "checkpoint")).Where(Directory.Exists).Append(Repository.Path("models", "demo"))
            .Select(path => new TestCaseData(path).SetArgDisplayNames(Path.GetRelativePath(Repository.Root, path)));

    private static IEnumerable<TestCaseData> BadIndexes()
    {
        TestCaseData Bytes(string row, CheckpointError error, byte[] json) => new TestCaseData(json, error).SetArgDisplayNames(row);
        TestCaseData Row(string row, CheckpointError error, string json) => Bytes(row, error, Encoding.UTF8.GetBytes(json));

        yield return Row("1: empty", CheckpointError.InvalidJson, "");
        yield return Row("1: cut", CheckpointError.InvalidJson, """{"weight_map":{"t":"a.safetensors"}""");
        yield return Row("1: text after", CheckpointError.InvalidJson, """{"weight_map":{"t":"a.safetensors"}}{}""");
        yield return Row("1: BOM", CheckpointError.InvalidJson, "\ufeff" + """{"weight_map":{"t":"a.safetensors"}}""");
        yield return Bytes("1: invalid UTF-8", CheckpointError.InvalidJson, [.. "{\"a"u8, 0xFF, .. "\":1}"u8]);
        yield return Row("1: depth", CheckpointError.InvalidJson, "{\"metadata\":" + new string('[', 100_000) + new string(']', 100_000) + "}");
        yield return Row("1: lone surrogate", CheckpointError.InvalidJson, """{"weight_map":{"\ud800":"a.safetensors"}}""");
        foreach (string json in new[] { "[]", "null", "1", "{}", """{"weight_map":null}""", """{"weight_map":[]}""", """{"weight_map":{}}""",
            """{"weight_map":{"t":1}}""", """{"weight_map":{"t":null}}""", """{"weight_map":{"t":["a"]}}""" })
        {
            yield return Row($"2: {json}", CheckpointError.Schema, json);
        }

        yield return Row("3: tensor twice", CheckpointError.Duplicate, """{"weight_map":{"t":"a.safetensors","t":"a.safetensors"}}""");
        yield return Row("3: tensor twice, escaped", CheckpointError.Duplicate, """{"weight_map":{"t":"a.safetensors","\u0074":"a.safetensors"}}""");
        yield return Row("3: weight_map twice", CheckpointError.Duplicate,
            """{"weight_map":{"t":"a.safetensors"},"weight_map":{"t":"a.safetensors"}}""");
        string[] unsafeNames =
        [
            "../x.safetensors", "a/../../x", "/etc/passwd", @"C:\\x", @"\\\\srv\\x", "sub/x", "", ".", "..", @"x\u0000y", "x:ads", "CON",
            "a.safetensors.", "a.safetensors ", "con.safetensors", "COM1.safetensors", ".safetensors", "%2e%2e%2fx", "%2e%2e%2fx.safetensors",
            "é.safetensors", "a.SAFETENSORS", @"a.safetensors\u0000.bin", "sub/a.bin",
        ];
        foreach (string name in unsafeNames)
        {
            yield return Row($"{(name.Contains('%') ? 5 : 4)}: {name}", CheckpointError.UnsafePath, $$$"""{"weight_map":{"t":"{{{name}}}"}}""");
        }

        foreach (string name in new[] { "pytorch_model.bin", "x.pt", "x.py", "x.pth", "x.ckpt", "X.BIN" })
        {
            yield return Row($"7: {name}", CheckpointError.Unsupported, $$$"""{"weight_map":{"t":"{{{name}}}"}}""");
        }
    }

    private CheckpointFolder Single(params TensorData[] more)
    {
        SafetensorsWriter.Write(_folder[CheckpointFolder.SingleFileName], new Dictionary<string, string>(),
            [TensorData.FromFloat32("model.norm.weight", [2], [1, 2]), .. more]);
        return CheckpointFolder.Open(_folder.Path);
    }

    // Each tensor is F32 of 2 elements: 8 bytes.
    private string Shard(string file, params string[] tensors) => Shard(file, 1, tensors);

    private string Shard(string file, float first, params string[] tensors)
    {
        SafetensorsWriter.Write(_folder[file], new Dictionary<string, string>(),
            [.. tensors.Select(name => TensorData.FromFloat32(name, [2], [first, 2]))]);
        return _folder[file];
    }

    private void Index(params (string Tensor, string File)[] map)
        => _folder.Write(
            CheckpointFolder.IndexFileName,
            "{\"weight_map\":{" + string.Join(',', map.Select(entry => $"\"{entry.Tensor}\":\"{entry.File}\"")) + "}}");
}
