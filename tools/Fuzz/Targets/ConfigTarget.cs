using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Checkpoint;

namespace Tiller.Fuzz.Targets;

/// <summary>config.json, and after a NUL byte generation_config.json.</summary>
internal sealed class ConfigTarget(Corpus corpus) : FuzzTarget
{
    private static readonly string[] s_keys =
    [
        "architectures", "attention_bias", "attn_logit_softcapping", "bos_token_id", "eos_token_id", "final_logit_softcapping", "head_dim",
        "hidden_act", "hidden_activation", "hidden_size", "intermediate_size", "layer_types", "max_position_embeddings", "max_window_layers",
        "mlp_bias", "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "query_pre_attn_scalar", "rms_norm_eps", "rope_scaling",
        "rope_theta", "sliding_window", "tie_word_embeddings", "torch_dtype", "dtype", "use_sliding_window", "vocab_size", "quantization_config",
        "rope_parameters", "partial_rotary_factor", "num_experts", "num_local_experts", "n_routed_experts",
    ];

    public override string Name => "config";

    public override IReadOnlyList<byte[]> Seeds { get; } =
        [.. corpus.Files("config.json"), .. corpus.Files("config.json")
            .Zip(corpus.Files("generation_config.json"), (c, g) => (byte[])[.. c, 0, .. g])];

    public override IReadOnlyList<byte[]> Words { get; } =
    [
        .. s_keys.Select(k => Encoding.UTF8.GetBytes($"\"{k}\":")),
        .. new[] { "\"llama\"", "\"mistral\"", "\"qwen2\"", "\"qwen3\"", "\"gemma2\"", "null", "true", "false", "[]", "{}", "NaN", "Infinity", "\0{}",
            "\\ud800", ",", "{\"rope_type\":\"llama3\"}", "{\"type\":\"linear\",\"factor\":2}" }
            .Select(Encoding.UTF8.GetBytes),
    ];

    public override Gen<byte[]> Structure { get; } = Config().Bytes();

    public override void Read(byte[] input)
    {
        int zero = input.AsSpan().IndexOf((byte)0);
        ModelConfig config = zero < 0 ? ModelConfigReader.Parse(input) : ModelConfigReader.Parse(input.AsSpan(0, zero), input.AsSpan(zero + 1));
        Promise(config is { L: > 0 and <= ModelConfigReader.MaxLayers, D: > 0, H: > 0, G: > 0, E: > 0, F: > 0, V: > 0, MaxPositions: > 0 },
            "every dimension is positive");
        Promise(config.H % config.G == 0 && config.E % 2 == 0 && (long)config.H * config.E <= int.MaxValue, "heads divide, and fit a matrix");
        Promise(config.Windows.Count == config.L && config.Windows.All(w => w >= 0), "every layer has a window or none");
        Promise(config.NormEpsilon > 0 && config.Rotary.All(rotary => rotary is null || (double.IsFinite(rotary.Theta) && rotary.Theta > 0))
            && float.IsFinite(config.AttentionScale), "every number is usable");
        Promise(config.EosIds.All(id => id >= 0 && id < config.V) && !(config.BosId >= config.V) && !(config.BosId < 0), "ids lie in the vocabulary");
    }

    private static Gen<string> Config()
    {
        var rope = HostileJson.Object(
            ("rope_type", HostileJson.One("\"llama3\"", "\"linear\"", "\"default\"", "\"yarn\"")), ("factor", HostileJson.Whole(1, 9)),
            ("low_freq_factor", HostileJson.Whole(1, 4)),
            ("high_freq_factor", HostileJson.Whole(4, 9)), ("original_max_position_embeddings", HostileJson.Whole(1, 9999)));
        var ids = Gen.OneOf(HostileJson.Whole(0, 99), HostileJson.List(HostileJson.Whole(0, 99), 3), Gen.Constant("null"));
        var config = HostileJson.Object(
            ("model_type", HostileJson.One("\"llama\"", "\"mistral\"", "\"qwen2\"", "\"qwen3\"", "\"gemma2\"")),
            ("hidden_size", HostileJson.Whole(64, 64)), ("num_hidden_layers", HostileJson.Whole(1, 4)),
            ("num_attention_heads", HostileJson.Whole(4, 4)),
            ("num_key_value_heads", HostileJson.One("1", "2", "4")), ("head_dim", HostileJson.One("16", "24", "null")),
            ("vocab_size", HostileJson.Whole(100, 200)),
            ("intermediate_size", HostileJson.Whole(1, 99)), ("max_position_embeddings", HostileJson.Whole(1, 999)),
            ("rms_norm_eps", HostileJson.One("1e-5", "1e-6")),
            ("rope_theta", HostileJson.One("10000", "1e6")),
            ("rope_scaling", Gen.Frequency((2, Gen.Constant("null")), (1, HostileJson.Mostly(rope)))),
            ("rope_parameters", Gen.Frequency((4, Gen.Constant("null")), (1, HostileJson.Mostly(rope)))),
            ("max_window_layers", HostileJson.One("null", "1", "28")),
            ("use_sliding_window", HostileJson.One("true", "false", "null")), ("sliding_window", HostileJson.One("null", "6", "4096")),
            ("layer_types", HostileJson.One("null", "[\"full_attention\",\"sliding_attention\"]")),
            ("eos_token_id", ids), ("bos_token_id", ids), ("tie_word_embeddings", HostileJson.One("true", "false")));
        return config.Zip(Gen.Frequency((3, Gen.Constant("")), (1, HostileJson.Object(("eos_token_id", ids)).Select(g => "\0" + g))),
            (a, b) => a + b);
    }
}
