using System.Text.Json.Nodes;
using Tiller.Checkpoint;
using Tiller.Decode;
using Tiller.Model;

namespace Tiller.Tests.Model;

/// <summary>What families are made of, on checkpoints of the tests' own: against float64, and parts of one family against those of another.</summary>
public sealed class FamilyTests(string device) : OnEveryDevice(device)
{
    private static IEnumerable<string> Names => FamilyCheckpoint.Names;

    [TestCaseSource(nameof(Names))]
    public void States_and_logits_are_those_of_float64(string name)
    {
        using var checkpoint = new FamilyCheckpoint(name);
        using var model = TestModels.LoadFrom(checkpoint.Save());
        var reference = new ReferenceModel(checkpoint);
        foreach (int[] ids in FamilyCheckpoint.Prompts())
        {
            var (states, logits) = reference.Run(ids);
            var probe = Probe.Run(model, ids, CancellationToken.None);
            Assert.That(Worst(probe.States, [.. states.SelectMany(rows => rows)]), Is.LessThan(2e-5), "states");
            Assert.That(Worst(probe.Logits, logits), Is.LessThan(2e-5), "logits");
        }
    }

    [TestCaseSource(nameof(Names))]
    public void Steps_give_the_logits_of_one_pass(string name)
    {
        using var checkpoint = new FamilyCheckpoint(name);
        using var model = TestModels.LoadFrom(checkpoint.Save());
        int[][] prompts = FamilyCheckpoint.Prompts();
        var reference = new ReferenceModel(checkpoint);
        Session[] sessions = [.. prompts.Select(_ => new Session(model))];
        using var batch = new SessionBatch(model);
        for (int i = 0; i < sessions.Length; i++)
        {
            sessions[i].Append(prompts[i].AsSpan(0, prompts[i].Length - 3));
        }

        for (int step = 3; step > 0; step--)
        {
            batch.Step([.. sessions.Select(session => new BatchRow(session))], [.. prompts.Select(ids => ids[^step])]);
        }

        for (int i = 0; i < sessions.Length; i++)
        {
            double[] expected = reference.Run(prompts[i]).Logits[^1];
            Assert.That(Worst([.. sessions[i].Logits.ToArray().Select(v => (double)v)], [expected]), Is.LessThan(2e-5), $"prompt {i}");
            sessions[i].Dispose();
        }
    }

    [Test]
    public void Fused_weights_are_the_separate_ones_under_each_other()
    {
        using var fused = new FamilyCheckpoint("own-phi3");
        fused.Config.Remove("rope_scaling");
        fused.Config.Remove("partial_rotary_factor");
        using var separate = new FamilyCheckpoint("own-phi3");
        foreach (string key in new[] { "rope_scaling", "partial_rotary_factor", "original_max_position_embeddings" })
        {
            separate.Config.Remove(key);
        }

        separate.Config["model_type"] = "mistral";
        foreach (string name in separate.Tensors.Keys.ToList())
        {
            string[] parts = name.Contains("qkv_proj", StringComparison.Ordinal) ? ["q_proj", "k_proj", "v_proj"]
                : name.Contains("gate_up", StringComparison.Ordinal) ? ["gate_proj", "up_proj"] : [];
            int[] rows = parts.Length == 3 ? [48, 16, 16] : [72, 72];
            int at = 0;
            for (int i = 0; i < parts.Length; i++)
            {
                separate.Tensors[name.Replace("qkv_proj", parts[i], StringComparison.Ordinal).Replace("gate_up_proj", parts[i],
                    StringComparison.Ordinal)] =
                    ([rows[i], 48], separate.Tensors[name].Values[at..(at += rows[i] * 48)]);
            }

            if (parts.Length > 0)
            {
                separate.Tensors.Remove(name);
            }
        }

        AssertSame(fused, separate);
    }

    [TestCase("language_model.model.", "language_model.lm_head.weight")]
    [TestCase("model.language_model.", "lm_head.weight")]
    public void A_checkpoint_that_also_reads_images_gives_its_text_model(string prefix, string head)
    {
        using var text = new FamilyCheckpoint("own-gemma3");
        text.Config["tie_word_embeddings"] = false;
        float[] weights = Numbers.Gaussian(new Random(3), 704 * 48, 0.125);
        text.Type = TensorType.F32;
        text.Tensors["lm_head.weight"] = ([704, 48], weights);
        using var whole = new FamilyCheckpoint("own-gemma3") { Type = TensorType.F32 };
        var inner = JsonNode.Parse(text.Config.ToJsonString())!.AsObject();
        inner.Remove("tie_word_embeddings");
        whole.Config.Clear();
        whole.Config["model_type"] = "gemma3";
        whole.Config["architectures"] = new JsonArray("Gemma3ForConditionalGeneration");
        whole.Config["tie_word_embeddings"] = false;
        whole.Config["text_config"] = inner;
        whole.Config["vision_config"] = new JsonObject { ["hidden_size"] = 8 };
        foreach (string name in whole.Tensors.Keys.ToList())
        {
            whole.Tensors[prefix + name["model.".Length..]] = whole.Tensors[name];
            whole.Tensors.Remove(name);
        }

        whole.Tensors[head] = ([704, 48], weights);
        whole.Tensors["vision_tower.vision_model.embeddings.weight"] = ([2, 2], [1, 2, 3, 4]);
        whole.Tensors["multi_modal_projector.mm_soft_emb_norm.weight"] = ([2], [1, 2]);
        var model = AssertSame(text, whole);
        const string Note = "The checkpoint also reads images: its text model is loaded, the 2 tensors of its vision tower are left out.";
        Assert.That(model, Is.EqualTo(new[] { Note }));
    }

    [Test]
    public void A_scale_of_one_and_no_bias_change_nothing()
    {
        using var granite = new FamilyCheckpoint("own-granite");
        foreach (string key in new[] { "embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling", "attention_bias",
            "mlp_bias" })
        {
            granite.Config.Remove(key);
        }

        granite.Config["attention_multiplier"] = Math.Pow(12, -0.5);
        using var llama = new FamilyCheckpoint("own-granite");
        llama.Config.Clear();
        foreach (var (key, value) in granite.Config)
        {
            llama.Config[key] = value?.DeepClone();
        }

        llama.Config["model_type"] = "llama";
        foreach (var checkpoint in new[] { granite, llama })
        {
            foreach (string bias in checkpoint.Tensors.Keys.Where(name => name.EndsWith("bias", StringComparison.Ordinal)).ToList())
            {
                checkpoint.Tensors.Remove(bias);
            }
        }

        AssertSame(granite, llama);
    }

    // Bit for bit; gives back what the second says of itself.
    private static IReadOnlyList<string> AssertSame(FamilyCheckpoint one, FamilyCheckpoint other)
    {
        using var first = TestModels.LoadFrom(one.Save());
        using var second = TestModels.LoadFrom(other.Save());
        int[] ids = FamilyCheckpoint.Prompts()[2];
        Probe expected = Probe.Run(first, ids, CancellationToken.None), actual = Probe.Run(second, ids, CancellationToken.None);
        Assert.That(actual.States, Is.EqualTo(expected.States));
        Assert.That(actual.Logits, Is.EqualTo(expected.Logits));
        return second.Warnings;
    }

    // Of all rows the largest error, relative to the row's norm.
    private static double Worst(IReadOnlyList<double> actual, double[][] expected)
    {
        Assert.That(actual, Has.Count.EqualTo(expected.Sum(row => row.Length)));
        int width = expected[0].Length;
        return expected.Select((row, i) =>
            Math.Sqrt(row.Select((v, j) => Math.Pow(actual[(i * width) + j] - v, 2)).Sum() / row.Sum(v => v * v))).Max();
    }
}
