using System.Text.Json.Nodes;
using Tiller.Checkpoint;
using Tiller.Tests.Checkpoint;

namespace Tiller.Tests.Model;

/// <summary>
/// Tiny checkpoints of families and options that none of the golden checkpoints has. Their tensors have the names that <c>save_pretrained</c> gives
/// them; their weights are random, so that a part which is left out or misplaced changes the results.
/// </summary>
internal sealed class FamilyCheckpoint : IDisposable
{
    private const string Common = """
        "vocab_size":704,"hidden_size":48,"intermediate_size":72,"max_position_embeddings":96,"rms_norm_eps":1e-5,"bos_token_id":1,"eos_token_id":2
        """;


    // What each of them covers, besides its family: gemma3: two bases of RoPE, and windows. olmo2: norms over the width. phi3: RoPE on a part of each
    // head, with two lists of factors. smollm3: layers without RoPE, and biases. granite: multipliers, biases and YaRN. llama: biases and linear
    // scaling. qwen3: biases, YaRN with other bounds, and norms of heads.
    private static readonly Dictionary<string, string> s_configs = new(StringComparer.Ordinal)
    {
        ["own-gemma3"] = """
            "model_type":"gemma3_text","num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":1,"head_dim":20,
            "sliding_window":4,"sliding_window_pattern":2,"query_pre_attn_scalar":18,"final_logit_softcapping":4,
            "rope_theta":100000,"rope_local_base_freq":500,"rope_scaling":{"rope_type":"linear","factor":8}
            """,
        ["own-olmo2"] = """
            "model_type":"olmo2","num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"tie_word_embeddings":true
            """,
        ["own-phi3"] = """
            "model_type":"phi3","num_hidden_layers":3,"num_attention_heads":3,"num_key_value_heads":1,"sliding_window":9,"partial_rotary_factor":0.75,
            "original_max_position_embeddings":24,"tie_word_embeddings":true,
            "rope_scaling":{"type":"longrope","short_factor":[1,1.1,1.2,1.3,1.4,1.5],"long_factor":[1.5,2,2.5,3,3.5,4],"attention_factor":1.25}
            """,
        ["own-smollm3"] = """
            "model_type":"smollm3","num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":2,"no_rope_layer_interval":2,
            "attention_bias":true
            """,
        ["own-granite"] = """
            "model_type":"granite","num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"tie_word_embeddings":true,
            "embedding_multiplier":3,"residual_multiplier":0.4,"attention_multiplier":0.2,"logits_scaling":1.7,"attention_bias":true,"mlp_bias":true,
            "rope_scaling":{"rope_type":"yarn","factor":4,"original_max_position_embeddings":24}
            """,
        ["own-llama"] = """
            "model_type":"llama","num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":4,
            "attention_bias":true,"mlp_bias":true,"tie_word_embeddings":true,
            "rope_scaling":{"rope_type":"linear","factor":3}
            """,
        ["own-qwen3"] = """
            "model_type":"qwen3","num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,
            "attention_bias":true,"tie_word_embeddings":true,
            "rope_scaling":{"rope_type":"yarn","factor":8,"original_max_position_embeddings":12,"beta_fast":8,
            "beta_slow":0.5,"truncate":false,"attention_factor":0.9}
            """,
    };

    private readonly TemporaryFolder _folder = new();

    public FamilyCheckpoint(string name)
    {
        Config = JsonNode.Parse($"{{{Common},{s_configs[name]}}}")!.AsObject();
        File.Copy(Path.Combine(TestModels.Folder("llama3-bf16"), "tokenizer.json"), _folder["tokenizer.json"]);
        Type = name is "own-gemma3" or "own-phi3" ? TensorType.BF16 : name == "own-smollm3" ? TensorType.F16 : TensorType.F32;
        var random = new Random(7);
        foreach (var (tensor, shape) in TensorsOf(Config))
        {
            bool isNorm = tensor.EndsWith("norm.weight", StringComparison.Ordinal);
            double mean = isNorm && FamilyOf(Config) != "gemma3_text" ? 1 : 0, scale = tensor.EndsWith("bias", StringComparison.Ordinal) ? 0.5
                : isNorm ? 0.2 : 0.16;
            float[] values = [.. Numbers.Gaussian(random, (int)shape.Aggregate(1L, (a, b) => a * b), scale).Select(v =>
                Stored(Type, (float)(mean + v)))];
            Tensors[tensor] = (shape, values);
        }
    }

    public static IEnumerable<string> Names => s_configs.Keys;

    public JsonObject Config { get; }

    /// <summary>The type in which all tensors are stored.</summary>
    public TensorType Type { get; set; }

    /// <summary>The shape and the values of each tensor; the values are exact in <see cref="Type"/>.</summary>
    public Dictionary<string, (long[] Shape, float[] Values)> Tensors { get; } = new(StringComparer.Ordinal);

    public string this[string file] => _folder[file];

    public static bool Has(string name) => s_configs.ContainsKey(name);

    /// <summary>The token ids of prompts of different lengths.</summary>
    public static int[][] Prompts()
    {
        var random = new Random(11);
        return [.. new[] { 5, 9, 17 }.Select(length => Enumerable.Range(0, length).Select(_ => random.Next(3, 704)).ToArray())];
    }

    public static string FamilyOf(JsonObject config) => config["model_type"]!.GetValue<string>();

    /// <summary>Writes it and returns the folder.</summary>
    /// <param name="shards">Files of weights; with more than one there is an index.</param>
    public string Save(int shards = 1)
    {
        File.WriteAllText(_folder["config.json"], Config.ToJsonString());
        var map = new JsonObject();
        for (int shard = 0; shard < shards; shard++)
        {
            string file = shards == 1 ? CheckpointFolder.SingleFileName : $"model-{shard + 1:D5}-of-{shards:D5}.safetensors";
            var its = Tensors.Where((_, i) => i % shards == shard).ToList();
            its.ForEach(t => map[t.Key] = file);
            SafetensorsWriter.Write(
                _folder[file], new Dictionary<string, string>(StringComparer.Ordinal),
                [.. its.Select(t => new TensorData(t.Key, Type, t.Value.Shape, Bytes(t.Value.Values)))]);
        }

        if (shards > 1)
        {
            File.WriteAllText(_folder[CheckpointFolder.IndexFileName], new JsonObject { ["weight_map"] = map }.ToJsonString());
        }

        return _folder.Path;
    }

    public void Dispose() => _folder.Dispose();

    private byte[] Bytes(float[] values) => Type switch
    {
        TensorType.F32 => [.. values.SelectMany(BitConverter.GetBytes)],
        TensorType.F16 => [.. values.SelectMany(v => BitConverter.GetBytes((Half)v))],
        _ => [.. values.SelectMany(v => BitConverter.GetBytes((ushort)(BitConverter.SingleToUInt32Bits(v) >> 16)))],
    };

    private static float Stored(TensorType type, float v) => type switch
    {
        TensorType.F32 => v,
        TensorType.F16 => (float)(Half)v,
        _ => BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(v) & 0xFFFF0000u),
    };

    private static IEnumerable<(string Name, long[] Shape)> TensorsOf(JsonObject c)
    {
        int Number(string key) => c[key]!.GetValue<int>();
        bool Flag(string key) => c[key]?.GetValue<bool>() ?? false;
        string family = FamilyOf(c);
        int D = Number("hidden_size"), F = Number("intermediate_size"), H = Number("num_attention_heads"), G = Number("num_key_value_heads");
        int E = c["head_dim"]?.GetValue<int>() ?? D / H;
        yield return ("model.embed_tokens.weight", [Number("vocab_size"), D]);
        yield return ("model.norm.weight", [D]);
        for (int k = 0; k < Number("num_hidden_layers"); k++)
        {
            string block = $"model.layers.{k}.";
            string[] norms = family switch
            {
                "gemma3_text" => ["input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"],
                "olmo2" => ["post_attention_layernorm", "post_feedforward_layernorm"],
                _ => ["input_layernorm", "post_attention_layernorm"],
            };
            (string Name, int Rows, int Columns, bool Bias)[] maps = family == "phi3"
                ? [("self_attn.qkv_proj", (H + (2 * G)) * E, D, false), ("self_attn.o_proj", D, H * E, false), ("mlp.gate_up_proj", 2 * F, D, false),
                    ("mlp.down_proj", D, F, false)]
                :
                [
                    ("self_attn.q_proj", H * E, D, Flag("attention_bias")), ("self_attn.k_proj", G * E, D, Flag("attention_bias")),
                    ("self_attn.v_proj", G * E, D, Flag("attention_bias")), ("self_attn.o_proj", D, H * E, Flag("attention_bias")),
                    ("mlp.gate_proj", F, D, Flag("mlp_bias")), ("mlp.up_proj", F, D, Flag("mlp_bias")), ("mlp.down_proj", D, F, Flag("mlp_bias")),
                ];
            foreach (string norm in norms)
            {
                yield return ($"{block}{norm}.weight", [D]);
            }

            foreach (var (name, rows, columns, bias) in maps)
            {
                yield return ($"{block}{name}.weight", [rows, columns]);
                if (bias)
                {
                    yield return ($"{block}{name}.bias", [rows]);
                }
            }

            if (family is "gemma3_text" or "qwen3" or "olmo2")
            {
                bool isWide = family == "olmo2";
                yield return (block + "self_attn.q_norm.weight", [isWide ? H * E : E]);
                yield return (block + "self_attn.k_norm.weight", [isWide ? G * E : E]);
            }
        }
    }
}
