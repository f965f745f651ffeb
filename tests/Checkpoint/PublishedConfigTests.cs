using System.Text;
using System.Text.Json.Nodes;
using Tiller.Checkpoint;

namespace Tiller.Tests.Checkpoint;

/// <summary>
/// Configurations in the words in which models of every family are published: the sizes of each, keys that are left out, and keys of other programs.
/// And the same in the words of transformers 5, which writes rotary parameters and types in other places.
/// </summary>
public sealed class PublishedConfigTests
{
    private static readonly Dictionary<string, string> s_configs = new(StringComparer.Ordinal)
    {
        ["Gemma-3-270M"] = """
            {"_sliding_window_pattern":6,"architectures":["Gemma3ForCausalLM"],"attention_bias":false,"attention_dropout":0.0,
             "attn_logit_softcapping":null,"bos_token_id":2,"eos_token_id":1,"final_logit_softcapping":null,"head_dim":256,
             "hidden_activation":"gelu_pytorch_tanh","hidden_size":640,"initializer_range":0.02,"intermediate_size":2048,
             "layer_types":["sliding_attention","sliding_attention","sliding_attention","sliding_attention","sliding_attention","full_attention",
              "sliding_attention","sliding_attention","sliding_attention","sliding_attention","sliding_attention","full_attention",
              "sliding_attention","sliding_attention","sliding_attention","sliding_attention","sliding_attention","full_attention"],
             "max_position_embeddings":32768,"model_type":"gemma3_text","num_attention_heads":4,"num_hidden_layers":18,"num_key_value_heads":1,
             "pad_token_id":0,"query_pre_attn_scalar":256,"rms_norm_eps":1e-06,"rope_local_base_freq":10000.0,"rope_scaling":null,
             "rope_theta":1000000.0,"sliding_window":512,"torch_dtype":"bfloat16","transformers_version":"4.55.0.dev0",
             "use_bidirectional_attention":false,"use_cache":true,"vocab_size":262144}
            """,
        ["Gemma-3-1B"] = """
            {"architectures":["Gemma3ForCausalLM"],"attention_bias":false,"attn_logit_softcapping":null,"bos_token_id":2,
             "cache_implementation":"hybrid","eos_token_id":[1,106],"final_logit_softcapping":null,"head_dim":256,
             "hidden_activation":"gelu_pytorch_tanh","hidden_size":1152,"intermediate_size":6912,"max_position_embeddings":32768,
             "model_type":"gemma3_text","num_attention_heads":4,"num_hidden_layers":26,
             "num_key_value_heads":1,"query_pre_attn_scalar":256,"rms_norm_eps":1e-06,"rope_local_base_freq":10000,"rope_scaling":null,
             "rope_theta":1000000,"sliding_window":512,"sliding_window_pattern":6,"torch_dtype":"bfloat16","vocab_size":262144}
            """,
        ["Gemma-3-4B"] = """
            {"architectures":["Gemma3ForConditionalGeneration"],"boi_token_index":255999,"eoi_token_index":256000,"eos_token_id":[1,106],
             "image_token_index":262144,"mm_tokens_per_image":256,"model_type":"gemma3","text_config":{"hidden_size":2560,
              "intermediate_size":10240,"model_type":"gemma3_text","num_hidden_layers":34,"rope_scaling":{"factor":8.0,"rope_type":"linear"},
              "sliding_window":1024},"torch_dtype":"bfloat16","vision_config":{"hidden_size":1152,"model_type":"siglip_vision_model"}}
            """,
        ["Gemma-3-27B"] = """
            {"architectures":["Gemma3ForConditionalGeneration"],"eos_token_id":[1,106],"model_type":"gemma3","text_config":{"head_dim":128,
              "hidden_size":5376,"intermediate_size":21504,"model_type":"gemma3_text","num_attention_heads":32,"num_hidden_layers":62,
              "num_key_value_heads":16,"query_pre_attn_scalar":168,"rope_scaling":{"factor":8.0,"rope_type":"linear"},"sliding_window":1024},
             "torch_dtype":"bfloat16","vision_config":{"hidden_size":1152}}
            """,
        ["OLMo-2-1B"] = """
            {"architectures":["Olmo2ForCausalLM"],"attention_bias":false,"eos_token_id":100257,"hidden_act":"silu","hidden_size":2048,
             "intermediate_size":8192,"max_position_embeddings":4096,"model_type":"olmo2","num_attention_heads":16,"num_hidden_layers":16,
             "num_key_value_heads":16,"pad_token_id":100277,"rms_norm_eps":1e-06,"rope_scaling":null,"rope_theta":500000,"tie_word_embeddings":false,
             "torch_dtype":"float32","vocab_size":100352}
            """,
        ["OLMo-2-32B"] = """
            {"architectures":["Olmo2ForCausalLM"],"bos_token_id":100257,"eos_token_id":100257,"hidden_act":"silu","hidden_size":5120,
             "intermediate_size":27648,"max_position_embeddings":4096,"model_type":"olmo2","num_attention_heads":40,"num_hidden_layers":64,
             "num_key_value_heads":8,"rms_norm_eps":1e-06,"rope_scaling":null,"rope_theta":500000,"tie_word_embeddings":false,
             "torch_dtype":"bfloat16","vocab_size":100352}
            """,
        ["Phi-3-mini-4k"] = """
            {"architectures":["Phi3ForCausalLM"],"auto_map":{"AutoConfig":"configuration_phi3.Phi3Config"},"bos_token_id":1,"embd_pdrop":0.0,
             "eos_token_id":32000,"hidden_act":"silu","hidden_size":3072,"intermediate_size":8192,"max_position_embeddings":4096,
             "model_type":"phi3","num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":32,"original_max_position_embeddings":4096,
             "resid_pdrop":0.0,"rms_norm_eps":1e-05,"rope_scaling":null,"rope_theta":10000.0,"sliding_window":2047,"tie_word_embeddings":false,
             "torch_dtype":"bfloat16","use_cache":true,"vocab_size":32064}
            """,
        ["Phi-4"] = """
            {"architectures":["Phi3ForCausalLM"],"attention_bias":false,"bos_token_id":100257,"eos_token_id":100265,"hidden_act":"silu",
             "hidden_size":5120,"intermediate_size":17920,"max_position_embeddings":16384,"model_type":"phi3","num_attention_heads":40,
             "num_hidden_layers":40,"num_key_value_heads":10,"original_max_position_embeddings":16384,"rms_norm_eps":1e-05,"rope_scaling":null,
             "rope_theta":250000,"sliding_window":null,"tie_word_embeddings":false,"torch_dtype":"bfloat16","vocab_size":100352}
            """,
        ["SmolLM3-3B"] = """
            {"architectures":["SmolLM3ForCausalLM"],"attention_bias":false,"bos_token_id":null,"eos_token_id":128012,"hidden_act":"silu",
             "hidden_size":2048,"intermediate_size":11008,"max_position_embeddings":65536,"max_window_layers":28,"mlp_bias":false,
             "model_type":"smollm3","no_rope_layer_interval":4,
             "no_rope_layers":[1,1,1,0,1,1,1,0,1,1,1,0,1,1,1,0,1,1,1,0,1,1,1,0,1,1,1,0,1,1,1,0,1,1,1,0],
             "num_attention_heads":16,"num_hidden_layers":36,"num_key_value_heads":4,"pad_token_id":128004,"pretraining_tp":2,
             "rms_norm_eps":1e-06,"rope_scaling":null,"rope_theta":5000000.0,"sliding_window":null,"torch_dtype":"bfloat16",
             "use_sliding_window":false,"vocab_size":128256}
            """,
        ["Granite-3.3-2B"] = """
            {"architectures":["GraniteForCausalLM"],"attention_bias":false,"attention_multiplier":0.015625,"bos_token_id":0,
             "embedding_multiplier":12.0,"eos_token_id":0,"hidden_act":"silu","hidden_size":2048,"intermediate_size":8192,"logits_scaling":8.0,
             "max_position_embeddings":131072,"mlp_bias":false,"model_type":"granite","num_attention_heads":32,"num_hidden_layers":40,
             "num_key_value_heads":8,"pad_token_id":0,"residual_multiplier":0.22,"rms_norm_eps":1e-05,"rope_scaling":null,
             "rope_theta":10000000.0,"tie_word_embeddings":true,"torch_dtype":"bfloat16","vocab_size":49159}
            """,
        ["Qwen3-8B, YaRN"] = """
            {"architectures":["Qwen3ForCausalLM"],"attention_bias":false,"bos_token_id":151643,"eos_token_id":151645,"head_dim":128,
             "hidden_act":"silu","hidden_size":4096,"intermediate_size":12288,"max_position_embeddings":40960,"max_window_layers":36,
             "model_type":"qwen3","num_attention_heads":32,"num_hidden_layers":36,"num_key_value_heads":8,"rms_norm_eps":1e-06,
             "rope_scaling":{"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":32768},"rope_theta":1000000,
             "sliding_window":null,"tie_word_embeddings":false,"torch_dtype":"bfloat16","use_sliding_window":false,"vocab_size":151936}
            """,
        ["Llama-3.2-1B"] = """
            {"architectures":["LlamaForCausalLM"],"attention_bias":false,"bos_token_id":128000,"eos_token_id":[128001,128008,128009],"head_dim":64,
             "hidden_act":"silu","hidden_size":2048,"intermediate_size":8192,"max_position_embeddings":131072,"mlp_bias":false,
             "model_type":"llama","num_attention_heads":32,"num_hidden_layers":16,"num_key_value_heads":8,"pretraining_tp":1,"rms_norm_eps":1e-05,
             "rope_scaling":{"factor":32.0,"high_freq_factor":4.0,"low_freq_factor":1.0,"original_max_position_embeddings":8192,
              "rope_type":"llama3"},"rope_theta":500000.0,"tie_word_embeddings":true,"torch_dtype":"bfloat16","vocab_size":128256}
            """,
        ["Mistral-Nemo"] = """
            {"architectures":["MistralForCausalLM"],"bos_token_id":1,"eos_token_id":2,"head_dim":128,"hidden_act":"silu","hidden_size":5120,
             "intermediate_size":14336,"max_position_embeddings":1024000,"model_type":"mistral","num_attention_heads":32,"num_hidden_layers":40,
             "num_key_value_heads":8,"rms_norm_eps":1e-05,"rope_theta":1000000.0,"sliding_window":null,"tie_word_embeddings":false,
             "torch_dtype":"bfloat16","vocab_size":131072}
            """,
    };

    private static IEnumerable<string> Names => s_configs.Keys;

    // L, D, H, G, E, F; θ of the first and the last layer; layers with a window, and without rotary embedding; whether the head is tied.
    [TestCase("Gemma-3-270M", "18 640 4 1 256 2048", 1e4, 1e6, 15, 0, true)]
    [TestCase("Gemma-3-1B", "26 1152 4 1 256 6912", 1e4, 1e4, 22, 0, true)]
    [TestCase("Gemma-3-4B", "34 2560 8 4 256 10240", 1e4, 1e4, 29, 0, true)]
    [TestCase("Gemma-3-27B", "62 5376 32 16 128 21504", 1e4, 1e4, 52, 0, true)]
    [TestCase("OLMo-2-1B", "16 2048 16 16 128 8192", 5e5, 5e5, 0, 0, false)]
    [TestCase("OLMo-2-32B", "64 5120 40 8 128 27648", 5e5, 5e5, 0, 0, false)]
    [TestCase("Phi-3-mini-4k", "32 3072 32 32 96 8192", 1e4, 1e4, 32, 0, false)]
    [TestCase("Phi-4", "40 5120 40 10 128 17920", 2.5e5, 2.5e5, 0, 0, false)]
    [TestCase("SmolLM3-3B", "36 2048 16 4 128 11008", 5e6, null, 0, 9, true)]
    [TestCase("Granite-3.3-2B", "40 2048 32 8 64 8192", 1e7, 1e7, 0, 0, true)]
    [TestCase("Qwen3-8B, YaRN", "36 4096 32 8 128 12288", 1e6, 1e6, 0, 0, false)]
    [TestCase("Llama-3.2-1B", "16 2048 32 8 64 8192", 5e5, 5e5, 0, 0, true)]
    [TestCase("Mistral-Nemo", "40 5120 32 8 128 14336", 1e6, 1e6, 0, 0, false)]
    public void A_published_configuration_is_read(string name, string sizes, double? first, double? last, int windows, int unturned, bool tied)
    {
        ModelConfig c = Parse(s_configs[name]);
        Assert.That($"{c.L} {c.D} {c.H} {c.G} {c.E} {c.F}", Is.EqualTo(sizes));
        Assert.That((c.Rotary[0]?.Theta, c.Rotary[^1]?.Theta), Is.EqualTo((first, last)));
        Assert.That((c.Windows.Count(w => w > 0), c.Rotary.Count(r => r is null)), Is.EqualTo((windows, unturned)));
        Assert.That(c.TiedHead, Is.EqualTo(tied));
    }

    [TestCase("Phi-4-mini", 128, 96, 48, 131072, 4096)]
    [TestCase("Phi-3.5-mini", 96, 96, 48, 131072, 4096)]
    public void A_published_configuration_with_two_lists_of_factors_is_read(string name, int E, int R, int factors, int positions, int original)
    {
        string list = $"[{string.Join(',', Enumerable.Range(0, factors).Select(i => $"1.{i}"))}]";
        string mini = name == "Phi-4-mini" ? "\"partial_rotary_factor\":0.75,\"num_attention_heads\":24,\"num_key_value_heads\":8,"
            + "\"sliding_window\":262144,\"tie_word_embeddings\":true,\"vocab_size\":200064,\"full_attn_mod\":1,\"interpolate_factor\":1,"
            + "\"lm_head_bias\":false,\"mlp_bias\":false," : "\"num_attention_heads\":32,\"num_key_value_heads\":32,\"sliding_window\":262144,";
        ModelConfig c = Parse($$"""
            {"architectures":["Phi3ForCausalLM"],"model_type":"phi3","hidden_size":3072,"intermediate_size":8192,"num_hidden_layers":32,{{mini}}
             "max_position_embeddings":{{positions}},"original_max_position_embeddings":{{original}},"eos_token_id":2,
             "rope_scaling":{"long_factor":{{list}},"short_factor":{{list}},"type":"longrope"},"rope_theta":10000.0,"torch_dtype":"bfloat16"}
            """);
        var scaling = (RopeScaling.LongRope)c.Rotary[0]!.Scaling!;
        Assert.That((c.E, c.R, scaling.LongFactors.Count, scaling.OriginalMaxPositions), Is.EqualTo((E, R, factors, original)));
        Assert.That(scaling.Amplitude, Is.EqualTo(Math.Sqrt(1 + (Math.Log(32) / Math.Log(4096)))).Within(1e-15));
    }

    [TestCaseSource(nameof(Names))]
    public void It_means_the_same_in_the_words_of_transformers_5(string name)
    {
        JsonObject whole = JsonNode.Parse(s_configs[name])!.AsObject();
        ModelConfig older = Parse(whole.ToJsonString());
        NewerConfig.Rewrite(whole, older);
        ModelConfig newer = Parse(whole.ToJsonString());
        Assert.That(newer.Rotary, Is.EqualTo(older.Rotary));
        Assert.That(newer.Windows, Is.EqualTo(older.Windows));
        Assert.That(newer.EosIds, Is.EqualTo(older.EosIds));
        Assert.That(newer with { Rotary = older.Rotary, Windows = older.Windows, EosIds = older.EosIds }, Is.EqualTo(older));
    }

    private static ModelConfig Parse(string json) => ModelConfigReader.Parse(Encoding.UTF8.GetBytes(json));
}
