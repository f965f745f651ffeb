using System.Text.Json.Nodes;
using Tiller.Checkpoint;
using Tiller.Decode;
using Tiller.Model;
using Tiller.Tests.Checkpoint;
using Tiller.Tests.Tool;
using Tiller.Tool;

namespace Tiller.Tests.Model;

/// <summary>What keeps a checkpoint from loading is said before any weight is read, and leaves nothing behind.</summary>
public sealed class LoadTests
{
    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void A_checkpoint_rewritten_as_one_file_is_the_same_model(string family)
    {
        using var checkpoint = new EditableCheckpoint(family);
        var told = new Told<long>();
        using var model = LanguageModel.Load(checkpoint.Save(), new LoadOptions { Threads = 2, Progress = told });
        Assert.That(Logits(model), Is.EqualTo(Logits(TestModels.Load(family))));
        Assert.That(told.Values, Is.Ordered.And.All.Positive);
        Assert.That(told.Values[^1], Is.EqualTo(checkpoint.Tensors.Values.Sum(t => (long)t.Data.Length)));
        Assert.That(model.WeightsInBytes, Is.AtLeast(told.Values[^1]));
        Assert.That((model.Device, model.DeviceDescription[..3]), Is.EqualTo((Device.Cpu, "cpu")));
    }

    private static IEnumerable<TestCaseData> Contradictions()
    {
        foreach (string family in TestModels.Tiny)
        {
            foreach (var (key, values) in new (string, int[])[]
            {
                ("hidden_size", [32, 48, 128]), ("intermediate_size", [64, 1000]), ("num_attention_heads", [2, 16, 32]),
                ("num_key_value_heads", [1, 8]), ("head_dim", [2, 64]), ("num_hidden_layers", [1, 4, 13]), ("vocab_size", [703, 705, 70400]),
            })
            {
                foreach (int value in values)
                {
                    yield return new TestCaseData(family, key, value).SetArgDisplayNames(family, key, $"{value}");
                }
            }
        }
    }

    [TestCaseSource(nameof(Contradictions))]
    public void A_config_that_contradicts_the_tensors_is_refused_before_any_weight_is_read(string family, string key, int value)
    {
        using var checkpoint = new EditableCheckpoint(family);
        checkpoint.Config[key] = value;
        string folder = checkpoint.Save();
        var told = new Told<long>();
        try
        {
            LanguageModel.Load(folder, new LoadOptions { Threads = 1, Progress = told }).Dispose();
            Assert.Fail("it loaded");
        }
        catch (CheckpointException e)
        {
            Assert.That(e.Error, Is.EqualTo(CheckpointError.ShapeMismatch).Or.EqualTo(CheckpointError.TensorNotFound));
            Assert.That(e.Item, Does.StartWith("model.").Or.StartWith("lm_head."));
            Assert.That(e.Expected, Is.Not.Empty);
            Assert.That(e.Actual, Is.Not.Empty);
        }
        catch (ConfigException)
        {
            // Already contradicts another number of the config, such as heads that no longer divide.
            Assert.That(() => ModelConfigReader.Read(folder), Throws.InstanceOf<ConfigException>());
        }

        Assert.That(told.Values, Is.Empty);
    }

    [Test]
    public void Every_tensor_is_needed_and_its_shape_is_checked([ValueSource(typeof(TestModels), nameof(TestModels.Tiny))] string family)
    {
        string[] names;
        using (var checkpoint = new EditableCheckpoint(family))
        {
            names = [.. checkpoint.Tensors.Keys.Where(name => !name.StartsWith("model.layers.", StringComparison.Ordinal)
                || name.Contains(".1.", StringComparison.Ordinal))];
        }

        foreach (string name in names)
        {
            using var checkpoint = new EditableCheckpoint(family);
            var tensor = checkpoint.Tensors[name];
            checkpoint.Tensors.Remove(name);
            var told = new Told<long>();
            var options = new LoadOptions { Threads = 1, Progress = told };
            string folder = checkpoint.Save();
            Assert.That(
                () => LanguageModel.Load(folder, options),
                Throws.InstanceOf<CheckpointException>().With.Property("Error").EqualTo(CheckpointError.TensorNotFound).And.Property("Item")
                    .EqualTo(name));

            // The same bytes in another shape.
            long[] shape = tensor.Shape.Length == 1 ? [1, tensor.Shape[0]] : [tensor.Shape[0] / 2, tensor.Shape[1] * 2];
            checkpoint.Tensors[name] = tensor with { Shape = shape };
            checkpoint.Save();
            Assert.That(
                () => LanguageModel.Load(folder, options),
                Throws.InstanceOf<CheckpointException>().With.Property("Error").EqualTo(CheckpointError.ShapeMismatch)
                    .And.Property("Item").EqualTo(name).And.Message.Contains($"({string.Join(", ", tensor.Shape)})").And.Message.Contains(
                        $"({string.Join(", ", shape)})"));
            Assert.That(told.Values, Is.Empty);
        }
    }

    [TestCase(true, true)]
    [TestCase(true, false)]
    [TestCase(false, true)]
    [TestCase(false, false)]
    public void A_tied_head_is_the_embedding_and_an_untied_one_must_be_there(bool tied, bool present)
    {
        using var checkpoint = new EditableCheckpoint("llama2-f32");
        checkpoint.Config["tie_word_embeddings"] = tied;
        var head = checkpoint.Tensors["lm_head.weight"];
        if (!present)
        {
            checkpoint.Tensors.Remove("lm_head.weight");
        }

        string folder = checkpoint.Save();
        if (!tied && !present)
        {
            Assert.That(() => LanguageModel.Load(folder), Throws.InstanceOf<CheckpointException>().With.Property("Item").EqualTo("lm_head.weight"));
            return;
        }

        using var model = LanguageModel.Load(folder);
        if (!tied)
        {
            Assert.That(Logits(model), Is.EqualTo(Logits(TestModels.Load("llama2-f32"))));
            return;
        }

        // Tied is the same as untied with the embedding for a head.
        using var untied = new EditableCheckpoint("llama2-f32");
        untied.Tensors["lm_head.weight"] = untied.Tensors["model.embed_tokens.weight"] with { Name = head.Name };
        using var twin = LanguageModel.Load(untied.Save());
        Assert.That(Logits(model), Is.EqualTo(Logits(twin)));
    }

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Nothing_is_odd_about_the_golden_checkpoints(string family) => Assert.That(TestModels.Load(family).Warnings, Is.Empty);

    [TestCase(1)]
    [TestCase(5)]
    [TestCase(6)]
    [TestCase(40)]
    public void Tensors_that_the_model_does_not_use_are_one_warning_of_at_most_five_names(int count)
    {
        // A bias of a family without biases is the stray one; the others are of no family.
        using var checkpoint = new EditableCheckpoint("llama2-f32");
        string[] names = [.. Enumerable.Range(0, count)
            .Select(i => i == 0 ? "model.layers.0.self_attn.q_proj.bias" : $"model.layers.1.rotary_emb.inv_freq{i:D2}")];
        foreach (string name in names)
        {
            checkpoint.Tensors[name] = TensorData.FromFloat32(name, [2], [1, 2]);
        }

        using var model = LanguageModel.Load(checkpoint.Save());
        Assert.That(model.Warnings, Has.Count.EqualTo(1));
        Assert.That(names.Where(name => model.Warnings[0].Contains($"\"{name}\"", StringComparison.Ordinal)), Is.EqualTo(names.Take(5)));
        Assert.That(model.Warnings[0].Contains($" and {count - 5} more", StringComparison.Ordinal), Is.EqualTo(count > 5));
        Assert.That(Logits(model), Is.EqualTo(Logits(TestModels.Load("llama2-f32"))));
    }

    [TestCase("gemma2-bf16")]
    [TestCase("qwen2-bf16")]
    public async Task A_different_head_beside_a_tied_one_is_told_and_not_used(string family)
    {
        using var checkpoint = new EditableCheckpoint(family);
        var head = checkpoint.Tensors["model.embed_tokens.weight"];
        checkpoint.Tensors["lm_head.weight"] = head with { Name = "lm_head.weight", Data = new byte[head.Data.Length] };
        string folder = checkpoint.Save();
        using var model = LanguageModel.Load(folder);
        Assert.That(model.Warnings, Has.Count.EqualTo(1));
        Assert.That(model.Warnings[0], Does.Contain("lm_head.weight").And.Contain("tie_word_embeddings"));
        Assert.That(Logits(model), Is.EqualTo(Logits(TestModels.Load(family))));

        var text = await ToolRun.Of("inspect", folder);
        Assert.That(text.Output, Does.Match("\nweights +.*tied, lm_head.weight not used\n").And.Match("\nwarning +Not used by the model: "
            + "\"lm_head.weight\""));
        var json = await ToolRun.Of("inspect", "--json", folder);
        Assert.That(json.Json.GetProperty("tiedHead").GetBoolean());
        Assert.That(json.Json.GetProperty("warnings")[0].GetString(), Is.EqualTo(model.Warnings[0]));
        var run = await ToolRun.Of("generate", "--model", folder, "--max-tokens", "1", "Hi");
        Assert.That(run.Error, Does.StartWith("tiller: warning: Not used by the model: \"lm_head.weight\""));
    }

    [Test]
    public async Task An_added_token_beyond_the_embedding_keeps_no_text_from_running_but_its_own()
    {
        using var checkpoint = new EditableCheckpoint("qwen2-bf16");
        int rows = TestModels.Load("qwen2-bf16").Config.V;
        var tokenizer = JsonNode.Parse(await File.ReadAllTextAsync(checkpoint["tokenizer.json"]))!;
        tokenizer["added_tokens"]!.AsArray().Add(new JsonObject
        {
            ["id"] = rows,
            ["content"] = "[PAD]",
            ["special"] = false,
            ["normalized"] = false,
        });
        await File.WriteAllTextAsync(checkpoint["tokenizer.json"], tokenizer.ToJsonString());
        string folder = checkpoint.Save();
        using (var model = LanguageModel.Load(folder))
        {
            Assert.That(Logits(model), Is.EqualTo(Logits(TestModels.Load("qwen2-bf16"))));
            Assert.That(model.Tokenizer.IdOf("[PAD]"), Is.EqualTo(rows));
        }

        foreach (string[] chat in new string[][] { [], ["--chat"] })
        {
            string[] generate = ["generate", "--model", folder, "--max-tokens", "1", .. chat];
            var fits = await ToolRun.Of([.. generate, "Hi"]);
            var needs = await ToolRun.Of([.. generate, "Hi [PAD]"]);
            Assert.That(fits.Code, Is.Zero, fits.Error);
            Assert.That((needs.Code, needs.Output), Is.EqualTo((ExitCode.BadInput, "")));
            Assert.That(needs.Error, Does.Contain("[PAD]").And.Contain($"{rows} rows"));
        }

        var inspect = await ToolRun.Of("inspect", folder);
        Assert.That(inspect.Output, Does.Contain($"those from {rows} on without a row in the embedding"));
    }

    [Test]
    public void Types_that_cannot_form_one_matrix_or_be_computed_with_are_refused()
    {
        using var checkpoint = new EditableCheckpoint("llama2-f32");
        const string Name = "model.layers.3.self_attn.k_proj.weight";
        var tensor = checkpoint.Tensors[Name];
        foreach (var (type, size) in new[] { (TensorType.BF16, 2), (TensorType.F64, 8), (TensorType.I32, 4) })
        {
            checkpoint.Tensors[Name] = tensor with { Type = type, Data = new byte[tensor.Data.Length / 4 * size] };
            string folder = checkpoint.Save();
            Assert.That(
                () => LanguageModel.Load(folder),
                Throws.InstanceOf<CheckpointException>().With.Property("Error").EqualTo(CheckpointError.Unsupported).And.Property("Item")
                    .EqualTo(Name));
        }
    }

    [Test]
    public void A_shard_cut_short_is_named()
    {
        foreach (string shard in Directory.GetFiles(TestModels.Folder("llama3-bf16"), "*.safetensors").Select(f => Path.GetFileName(f)!))
        {
            using var folder = new TemporaryFolder();
            foreach (string file in Directory.GetFiles(TestModels.Folder("llama3-bf16")))
            {
                byte[] bytes = File.ReadAllBytes(file);
                folder.Write(Path.GetFileName(file), Path.GetFileName(file) == shard ? bytes[..^1] : bytes);
            }

            Assert.That(() => LanguageModel.Load(folder.Path), Throws.InstanceOf<SafetensorsException>().With.Message.Contains(shard));
        }
    }

    [Test]
    public void A_folder_that_is_no_checkpoint_is_refused()
    {
        using var folder = new TemporaryFolder();
        Assert.That(() => LanguageModel.Load(folder.Path), Throws.InstanceOf<TillerException>());
        Assert.That(() => LanguageModel.Load(folder["nowhere"]), Throws.InstanceOf<CheckpointException>().With.Property("Error")
            .EqualTo(CheckpointError.Missing));
        Assert.That(() => LanguageModel.Load(folder.Write("file", "text")), Throws.InstanceOf<CheckpointException>());
        foreach (string missing in new[] { "config.json", "tokenizer.json", "model.safetensors" })
        {
            using var checkpoint = new EditableCheckpoint("qwen3-f32");
            string path = checkpoint.Save();
            File.Delete(checkpoint[missing]);
            Assert.That(() => LanguageModel.Load(path), Throws.InstanceOf<TillerException>().With.Message.Contains(missing), missing);
        }
    }

    [Test]
    public void Loading_can_be_cancelled_at_any_tensor()
    {
        foreach (int at in new[] { 0, 1, 20 })
        {
            using var source = new CancellationTokenSource();
            int reports = 0;
            var told = new Told<long>(_ =>
            {
                if (++reports == at)
                {
                    source.Cancel();
                }
            });
            if (at == 0)
            {
                source.Cancel();
            }

            Assert.That(
                () => LanguageModel.Load(TestModels.Folder("demo"), new LoadOptions { Progress = told }, source.Token),
                Throws.InstanceOf<OperationCanceledException>());

            // Other readers may finish the chunk they are at.
            Assert.That(told.Values, Has.Count.InRange(at, at == 0 ? 0 : at + 8));
        }
    }

    [Test]
    public void Disposing_twice_is_harmless()
    {
        var model = LanguageModel.Load(TestModels.Folder("qwen2-bf16"));
        var session = new Session(model);
        session.Prefill([3, 4]);
        session.Dispose();
        session.Dispose();
        model.Dispose();
        Assert.That(model.Dispose, Throws.Nothing);
    }

    private static float[] Logits(LanguageModel model)
    {
        using var session = new Session(model);
        return session.Prefill([3, 4, 5, 6]).ToArray();
    }
}
