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
    private static readonly Family Qwen2 = new("qwen2", "Qwen2ForCausalLM", "silu", 1e-6, 1000000);

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
            json.WriteString(family == Gemma2 ? "hidden_activation" : "hidden_act", family.Activation);
            json.WriteNumber("rms_norm_eps", family.Epsilon);
            json.WriteNumber("rope_theta", family.RopeTheta);
            json.WriteBoolean("tie_word_embeddings", tied);
            json.WriteNumber("bos_token_id", 0);
            json.WriteNumber("eos_token_id", 1);
            more?.Invoke(json);
            json.WriteEndObject();
        }

        Json = bytes.ToArray();
        Config = ModelConfigReader.Parse(Json, file: $"config.json of shape {name}");
    }

    /// <summary>Name on the command line.</summary>
    public string Name { get; }

    /// <summary>config.json, UTF-8.</summary>
    public byte[] Json { get; }

    /// <summary>The configuration that the engine reads from it.</summary>
    public ModelConfig Config { get; }

    /// <summary>Names that <see cref="Parse"/> knows.</summary>
    public static IReadOnlyList<string> Names { get; } = ["demo", "llama-3.2-1b", "gemma-2-2b", "qwen2.5-3b", "llama-3-8b", "qwen2.5-14b"];

    /// <summary>
    /// Parses the name of a shape, or L,D,FF,H,KV,E,V of a Llama with a tied head. The named shapes are from the config.json of those models.
    /// </summary>
    /// <exception cref="BenchException">The text is neither.</exception>
    /// <exception cref="ConfigException">The seven numbers do not form a valid model.</exception>
    public static BenchShape Parse(string text)
    {
        switch (text)
        {
            case "demo":
                return new(text, Llama, [10, 128, 352, 4, 2, 32, 1024], 1024, tied: true);
            case "llama-3.2-1b":
                return new(text, Llama with { RopeTheta = 500000 }, [16, 2048, 8192, 32, 8, 64, 128256], 131072, tied: true, Llama3Rope);
            case "gemma-2-2b":
                return new(text, Gemma2, [26, 2304, 9216, 8, 4, 256, 256000], 8192, tied: true, GemmaKeys);
            case "qwen2.5-3b":
                return new(text, Qwen2, [36, 2048, 11008, 16, 2, 128, 151936], 32768, tied: true);
            case "llama-3-8b":
                return new(text, Llama with { RopeTheta = 500000 }, [32, 4096, 14336, 32, 8, 128, 128256], 8192, tied: false);
            case "qwen2.5-14b":
                return new(text, Qwen2 with { Epsilon = 1e-5 }, [48, 5120, 13824, 40, 8, 128, 152064], 131072, tied: false);
        }

        int[] numbers =
            [.. text.Split(',').Select(part => int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out int n) && n > 0 ? n : 0)];
        return numbers.Length == 7 && !numbers.Contains(0)
            ? new(text, Llama, numbers, CustomMaxPositions, tied: true)
            : throw new BenchException($"A shape is one of {string.Join(", ", Names)}, or seven positive numbers L,D,FF,H,KV,E,V, got '{text}'.");
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

    private static void GemmaKeys(Utf8JsonWriter json)
    {
        json.WriteNumber("query_pre_attn_scalar", 256);
        json.WriteNumber("sliding_window", 4096);
        json.WriteNumber("attn_logit_softcapping", 50);
        json.WriteNumber("final_logit_softcapping", 30);
    }

    private sealed record Family(string Name, string Architecture, string Activation, double Epsilon, double RopeTheta);
}
