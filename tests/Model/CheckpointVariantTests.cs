using System.Text.Json;
using System.Text.Json.Nodes;
using Tiller.Checkpoint;
using Tiller.Model;
using Tiller.Tests.Checkpoint;

namespace Tiller.Tests.Model;

/// <summary>One model in the forms in which checkpoints of its family are saved: the results are the same to the last bit.</summary>
public sealed class CheckpointVariantTests
{
    private static IEnumerable<string> Names => FamilyCheckpoint.Names;

    [TestCaseSource(nameof(Names))]
    public void Newer_keys_of_the_configuration(string name) => AssertSame(name, checkpoint =>
        NewerConfig.Rewrite(checkpoint.Config, ModelConfigReader.Parse(JsonSerializer.SerializeToUtf8Bytes(checkpoint.Config))));

    [TestCaseSource(nameof(Names))]
    public void Weights_in_shards_with_an_index(string name) => AssertSame(name, static _ => { }, shards: 3);

    [TestCaseSource(nameof(Names))]
    public void Wider_numbers_for_the_same_weights(string name) =>
        AssertSame(name, static checkpoint => checkpoint.Type = TensorType.F32, tolerance: 2e-5); // sums in another order

    [TestCaseSource(nameof(Names))]
    public void A_head_of_its_own_that_is_the_embedding(string name) => AssertSame(name, static checkpoint =>
    {
        checkpoint.Config["tie_word_embeddings"] = false;
        checkpoint.Tensors["lm_head.weight"] = checkpoint.Tensors["model.embed_tokens.weight"];
    });

    [TestCaseSource(nameof(Names))]
    public void A_tied_head_that_is_stored_all_the_same_and_tensors_that_no_model_has(string name) => AssertSame(name, static checkpoint =>
    {
        if (!checkpoint.Tensors.ContainsKey("lm_head.weight"))
        {
            checkpoint.Tensors["lm_head.weight"] = checkpoint.Tensors["model.embed_tokens.weight"];
        }

        checkpoint.Tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = ([4], [1, 2, 3, 4]);
    });

    [TestCaseSource(nameof(Names))]
    public void Keys_that_are_null_and_keys_of_other_programs(string name) => AssertSame(name, static checkpoint =>
    {
        if (checkpoint.Config["head_dim"] is null)
        {
            checkpoint.Config["head_dim"] = null;
        }

        foreach (string key in new[] { "quantization_config", "pretraining_tp", "auto_map", "unsloth_fixed", "_name_or_path", "id2label" })
        {
            checkpoint.Config[key] = key == "auto_map" ? new JsonObject { ["AutoModel"] = "modeling.Model" } : null;
        }
    });

    private static void AssertSame(string name, Action<FamilyCheckpoint> change, int shards = 1, double tolerance = 0)
    {
        using FamilyCheckpoint one = new(name), other = new(name);
        change(other);
        using var first = TestModels.LoadFrom(one.Save());
        using var second = TestModels.LoadFrom(other.Save(shards));
        foreach (int[] ids in FamilyCheckpoint.Prompts())
        {
            Probe expected = Probe.Run(first, ids, CancellationToken.None), actual = Probe.Run(second, ids, CancellationToken.None);
            Assert.That(actual.States, Is.EqualTo(expected.States).Within(tolerance));
            Assert.That(actual.Logits, Is.EqualTo(expected.Logits).Within(tolerance));
        }
    }
}
