using System.Globalization;
using System.Text.Json;
using Tiller.Checkpoint;

namespace Tiller.Bench;

/// <summary>
/// The shape of a model, stored as its config.json. So the engine's own reader turns it into a <see cref="ModelConfig"/>, and a random checkpoint can
/// be written with it.
/// </summary>
internal sealed class BenchShape
{
    private const int CustomMaxPositions = 131072;

    private static readonly Family Llama = new("llama", "LlamaForCausalLM", "silu", 1e-5, 10000);
    private static readonly Family Gemma2 = new("gemma2", "Gemma2ForCausalLM", "gelu_pytorch_tanh", 1e-6, 10000);
    private static readonly Family Gemma3 = new("gemma3_text", "Gemma3ForCausalLM", "gelu_pytorch_tanh", 1e-6, 1000000);
    private static readonly Family Qwen2 = new("qwen2", "Qwen2ForCausalLM", "silu", 1e-6, 1000000);
    private static readonly Family Olmo2 = new("olmo2", "Olmo2ForCausalLM", "silu", 1e-6, 500000);
    private static readonly Family Phi3 = new("phi3", "Phi3ForCausalLM", "silu", 1e-5, 10000);
    private static readonly Family SmolLm3 = new("smollm3", "SmolLM3ForCausalLM", "silu", 1e-6, 5000000);
    private static readonly Family Granite = new("granite", "GraniteForCausalLM", "silu", 1e-5, 5000000);

    // Numbers: config.json of the models of these names. L, D, FF, H, KV, E, V; then positions.
    private static readonly Dictionary<string, Func<string, BenchShape>> s_named = new(StringComparer.Ordinal)
    {
        ["demo"] = static x => new(x, Llama, [10, 128, 352, 4, 2, 32, 1024], 1024, tied: true),
        ["smollm2-135m"] = static x => new(x, Llama with { RopeTheta = 100000 }, [30, 576, 1536, 9, 3, 64, 49152], 8192, tied: true),
        ["llama-3.2-1b"] = static x =>
            new(x, Llama with { RopeTheta = 500000 }, [16, 2048, 8192, 32, 8, 64, 128256], 131072, tied: true, Llama3Rope),
        ["gemma-2-2b"] = static x => new(x, Gemma2, [26, 2304, 9216, 8, 4, 256, 256000], 8192, tied: true, Gemma2Keys),
        ["qwen2.5-3b"] = static x => new(x, Qwen2, [36, 2048, 11008, 16, 2, 128, 151936], 32768, tied: true),
        ["llama-3-8b"] = static x => new(x, Llama with { RopeTheta = 500000 }, [32, 4096, 14336, 32, 8, 128, 128256], 8192, tied: false),
        ["qwen2.5-14b"] = static x => new(x, Qwen2 with { Epsilon = 1e-5 }, [48, 5120, 13824, 40, 8, 128, 152064], 131072, tied: false),
        ["gemma-3-1b"] = static x => new(x, Gemma3, [26, 1152, 6912, 4, 1, 256, 262144], 32768, tied: true, Gemma3Keys),
        ["olmo-2-1b"] = static x => new(x, Olmo2, [16, 2048, 8192, 16, 16, 128, 100352], 4096, tied: false),
        ["phi-3-mini"] = static x =>
            new(x, Phi3, [32, 3072, 8192, 32, 32, 96, 32064], 4096, tied: false, static json => json.WriteNumber("sliding_window", 2047)),
        ["smollm3-3b"] = static x =>
            new(x, SmolLm3, [36, 2048, 11008, 16, 4, 128, 128256], 65536, tied: true, static json => json.WriteNumber("no_rope_layer_interval", 4)),
        ["granite-3.1-2b"] = static x => new(x, Granite, [40, 2048, 8192, 32, 8, 64, 49155], 131072, tied: true, GraniteKeys),
    };

    private BenchShape(string name, Family family, ReadOnlySpan<int> n, int maxPositions, bool tied, Action<Utf8JsonWriter>? more = null)
    {
        Name = name;
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes))
        {
            json.WriteStartObject();
            json.WriteString("model_type", family.Name);
            json.WriteStartArray("architectures");
            json.WriteStringValue(family.Architecture);
            json.WriteEndArray();
            ReadOnlySpan<string> keys =
                ["num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size"];
            for (int i = 0; i < keys.Length; i++)
            {
                json.WriteNumber(keys[i], n[i]);
            }

            json.WriteNumber("max_position_embeddings", maxPositions);
            json.WriteString(family == Gemma2 || family == Gemma3 ? "hidden_activation" : "hidden_act", family.Activation);
            json.WriteNumber("rms_norm_eps", family.Epsilon);
            json.WriteNumber("rope_theta", family.RopeTheta);
            json.WriteBoolean("tie_word_embeddings", tied);
            json.WriteNumber("bos_token_id", 0);
            json.WriteNumber("eos_token_id", 1);
            more?.Invoke(json);
            json.WriteEndObject();
        }

        Json = bytes.ToArray();
        Config = ModelConfigReader.Parse(Json, file: $"config.json of {name}");
    }

    private BenchShape(string name, byte[] json)
    {
        Name = name;
        Json = json;
        Config = ModelConfigReader.Parse(json, file: $"config.json of {name}");
    }

    /// <summary>Name on the command line, or of the checkpoint's folder.</summary>
    public string Name { get; }

    /// <summary>config.json, UTF-8.</summary>
    public byte[] Json { get; }

    /// <summary>The configuration that the engine reads from it.</summary>
    public ModelConfig Config { get; }

    /// <summary>Names that <see cref="Parse"/> knows.</summary>
    public static IReadOnlyCollection<string> Names => s_named.Keys;

    /// <summary>
    /// Parses the name of a shape, or L,D,FF,H,KV,E,V of a Llama with a tied head. The named shapes are from the config.json of those models.
    /// </summary>
    /// <exception cref="BenchException">The text is neither.</exception>
    /// <exception cref="ConfigException">The seven numbers do not form a valid model.</exception>
    public static BenchShape Parse(string text)
    {
        if (s_named.TryGetValue(text, out var named))
        {
            return named(text);
        }

        int[] numbers =
            [.. text.Split(',').Select(part => int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out int n) && n > 0 ? n : 0)];
        return numbers.Length == 7 && !numbers.Contains(0)
            ? new(text, Llama, numbers, CustomMaxPositions, tied: true)
            : throw new BenchException($"A shape is one of {string.Join(", ", Names)}, or seven positive numbers L,D,FF,H,KV,E,V, got '{text}'.");
    }

    /// <summary>The shape of a checkpoint.</summary>
    /// <exception cref="ConfigException">The config.json in <paramref name="folder"/> is not one of a supported model.</exception>
    public static BenchShape Of(DirectoryInfo folder)
    {
        _ = ModelConfigReader.Read(folder.FullName);
        return new(folder.Name, File.ReadAllBytes(Path.Combine(folder.FullName, "config.json")));
    }

    private static void Llama3Rope(Utf8JsonWriter json)
    {
        json.WriteStartObject("rope_scaling");
        json.WriteString("rope_type", "llama3");
        json.WriteNumber("factor", 32);
        json.WriteNumber("low_freq_factor", 1);
        json.WriteNumber("high_freq_factor", 4);
        json.WriteNumber("original_max_position_embeddings", 8192);
        json.WriteEndObject();
    }

    private static void Gemma2Keys(Utf8JsonWriter json)
    {
        json.WriteNumber("query_pre_attn_scalar", 256);
        json.WriteNumber("sliding_window", 4096);
        json.WriteNumber("attn_logit_softcapping", 50);
        json.WriteNumber("final_logit_softcapping", 30);
    }

    private static void Gemma3Keys(Utf8JsonWriter json)
    {
        json.WriteNumber("query_pre_attn_scalar", 256);
        json.WriteNumber("sliding_window", 512);
        json.WriteNumber("sliding_window_pattern", 6);
        json.WriteNumber("rope_local_base_freq", 10000);
    }

    private static void GraniteKeys(Utf8JsonWriter json)
    {
        json.WriteNumber("embedding_multiplier", 12);
        json.WriteNumber("attention_multiplier", 0.015625);
        json.WriteNumber("residual_multiplier", 0.22);
        json.WriteNumber("logits_scaling", 8);
    }

    private sealed record Family(string Name, string Architecture, string Activation, double Epsilon, double RopeTheta);
}
