using System.Text.Json.Nodes;
using Tiller.Checkpoint;

namespace Tiller.Tests.Checkpoint;

/// <summary>
/// Writes a config.json as transformers 5 does: rotary parameters in one section, of each kind of layer if there are two, the type of numbers as
/// dtype, the kind of every layer in a list, and sizes that the older versions left out or null.
/// </summary>
internal static class NewerConfig
{
    public static void Rewrite(JsonObject whole, ModelConfig read)
    {
        JsonObject config = whole["text_config"]?.AsObject() ?? whole;
        Rename(whole, "torch_dtype", "dtype");
        JsonObject rope = config["rope_scaling"]?.DeepClone().AsObject() ?? new JsonObject { ["rope_type"] = "default" };
        Rename(rope, "type", "rope_type");
        if (rope["rope_type"]!.GetValue<string>() == "su")
        {
            rope["rope_type"] = "longrope";
        }

        Rotary full = read.Rotary.Zip(read.Windows).FirstOrDefault(layer => layer.Second == 0).First ?? read.Rotary.First(r => r is not null)!;
        rope["rope_theta"] = full.Theta;
        foreach (string key in new[] { "partial_rotary_factor", "original_max_position_embeddings" })
        {
            if (config[key] is { } value && read.Family == "phi3")
            {
                rope[key] = value.DeepClone();
                config.Remove(key);
            }
        }

        config["rope_parameters"] = read.Family == "gemma3_text"
            ? new JsonObject
            {
                ["full_attention"] = rope,
                ["sliding_attention"] = new JsonObject
                {
                    ["rope_type"] = "default",
                    ["rope_theta"] = read.Rotary.Zip(read.Windows).First(layer => layer.Second > 0).First!.Theta,
                },
            }
            : rope;
        foreach (string key in new[] { "rope_scaling", "rope_theta", "rope_local_base_freq", "_sliding_window_pattern", "sliding_window_pattern" })
        {
            config.Remove(key);
        }

        if (read.Family is "gemma3_text" or "smollm3")
        {
            config["layer_types"] = new JsonArray([.. read.Windows.Select(w => (JsonNode?)(w > 0 ? "sliding_attention" : "full_attention"))]);
        }

        if (read.Family == "smollm3")
        {
            config["no_rope_layers"] = new JsonArray([.. read.Rotary.Select(r => (JsonNode?)(r is null ? 0 : 1))]);
            config.Remove("no_rope_layer_interval");
        }

        config["head_dim"] = read.E;
        config["num_key_value_heads"] = read.G;
        whole["tie_word_embeddings"] = read.TiedHead;
        whole["transformers_version"] = "5.0.0";
    }

    private static void Rename(JsonObject its, string from, string to)
    {
        if (its[from] is { } value)
        {
            its[to] = value.DeepClone();
            its.Remove(from);
        }
    }
}
