using System.Text;
using Tiller.Checkpoint;
using Tiller.Kernels;

namespace Tiller.Tests.Checkpoint;

[TestFixture]
internal sealed class ModelConfigReaderTests
{
    private static ModelConfig Llama2 => new()
    {
        Family = "llama",
        L = 12,
        D = 64,
        H = 4,
        G = 4,
        E = 16,
        F = 160,
        V = 704,
        MaxPositions = 512,
        NormEpsilon = 1e-5f,
        NormAddsOne = false,
        PostNorms = false,
        QkvBias = false,
        QkNorm = QkNorm.None,
        Activation = Activation.Silu,
        Rotary = [new Rotary(10000)],
        R = 16,
        AttentionScale = 0.25f,
        AttentionSoftCap = 0,
        LogitSoftCap = 0,
        EmbeddingScale = 1,
        Windows = new int[12],
        TiedHead = false,
        BosId = 1,
        EosIds = [2],
    };

    [Test]
    public void Golden_llama2() => AssertSame("llama2-f32", Llama2);

    [Test]
    public void Golden_llama3() => AssertSame("llama3-bf16", Llama2 with
    {
        L = 6,
        H = 8,
        G = 2,
        E = 8,
        F = 192,
        Rotary = [new Rotary(500000, new RopeScaling.Llama3(8, 1, 4, 32))],
        R = 8,
        AttentionScale = (float)Math.Pow(8, -0.5),
        Windows = new int[6],
        TiedHead = true,
        BosId = 699,
        EosIds = [700],
    });

    [Test]
    public void Golden_mistral() => AssertSame("mistral-f16", Llama2 with { Family = "mistral", L = 5, G = 2, F = 128, Windows = [6, 6, 6, 6, 6] });

    [Test]
    public void Golden_qwen2() => AssertSame("qwen2-bf16", Llama2 with
    {
        Family = "qwen2",
        L = 5,
        G = 2,
        F = 192,
        NormEpsilon = 1e-6f,
        QkvBias = true,
        Rotary = [new Rotary(1e6)],
        Windows = new int[5],
        TiedHead = true,
        BosId = null,
        EosIds = [703],
    });

    [Test]
    public void Golden_qwen3() => AssertSame("qwen3-f32", Llama2 with
    {
        Family = "qwen3",
        L = 5,
        G = 2,
        E = 24,
        R = 24,
        F = 128,
        NormEpsilon = 1e-6f,
        QkNorm = QkNorm.Heads,
        Rotary = [new Rotary(1e6)],
        AttentionScale = (float)Math.Pow(24, -0.5),
        Windows = new int[5],
        BosId = 703,
        EosIds = [703],
    });

    [Test]
    public void Golden_gemma2() => AssertSame("gemma2-bf16", Llama2 with
    {
        Family = "gemma2",
        L = 6,
        G = 2,
        E = 20,
        R = 20,
        F = 128,
        NormEpsilon = 1e-6f,
        NormAddsOne = true,
        PostNorms = true,
        Activation = Activation.GeluTanh,
        AttentionScale = (float)Math.Pow(24, -0.5),
        AttentionSoftCap = 5,
        LogitSoftCap = 3,
        EmbeddingScale = 8,
        Windows = [5, 0, 5, 0, 5, 0],
        TiedHead = true,
        BosId = 2,
        EosIds = [1],
    });

    [Test]
    public void Demo_model()
    {
        ModelConfig demo = ModelConfigReader.Read(Repository.Path("models", "demo"));

        Assert.That((demo.Family, demo.L, demo.D, demo.H, demo.G, demo.E, demo.V), Is.EqualTo(("llama", 10, 128, 4, 2, 32, 1024)));
        Assert.That(demo.TiedHead);
    }

    // Values that transformers 4.57's configuration classes give to a config.json of the model_type alone.
    [TestCase("llama", 32, 4096, 32, 32, 128, 11008, 32000, 2048, false, 0)]
    [TestCase("mistral", 32, 4096, 32, 8, 128, 14336, 32000, 131072, false, 32)]
    [TestCase("qwen2", 32, 4096, 32, 32, 128, 22016, 151936, 32768, false, 0)]
    [TestCase("qwen3", 32, 4096, 32, 32, 128, 22016, 151936, 32768, false, 0)]
    [TestCase("gemma2", 26, 2304, 8, 4, 256, 9216, 256000, 8192, true, 13)]
    public void Missing_keys_have_the_values_of_transformers(string type, int L, int D, int H, int G, int E, int F, int V, int positions, bool tied,
        int windows)
    {
        ModelConfig config = Parse($$"""{"model_type":"{{type}}"}""");

        Assert.That((config.L, config.D, config.H, config.G, config.E, config.F, config.V), Is.EqualTo((L, D, H, G, E, F, V)));
        Assert.That((config.MaxPositions, config.TiedHead, config.NormEpsilon, config.Rotary[0]!.Theta),
            Is.EqualTo((positions, tied, 1e-6f, 10000.0)));
        Assert.That(config.Windows.Count(w => w == 4096), Is.EqualTo(windows));
        Assert.That(config.Windows.Count(w => w == 0), Is.EqualTo(L - windows));
    }

    [TestCase("gemma3_text", 26, 2304, 8, 4, 256, 9216, 262208, 131072, true, 22, 1e-6f)]
    [TestCase("olmo2", 32, 4096, 32, 32, 128, 11008, 50304, 2048, false, 0, 1e-5f)]
    [TestCase("phi3", 32, 3072, 32, 32, 96, 8192, 32064, 4096, false, 0, 1e-5f)]
    [TestCase("smollm3", 36, 2048, 16, 4, 128, 11008, 128256, 32768, true, 0, 1e-6f)]
    [TestCase("granite", 32, 4096, 32, 32, 128, 11008, 32000, 2048, false, 0, 1e-6f)]
    public void Missing_keys_of_further_families(string type, int L, int D, int H, int G, int E, int F, int V, int positions, bool tied, int windows,
        float epsilon)
    {
        ModelConfig config = Parse($$"""{"model_type":"{{type}}"}""");

        Assert.That((config.L, config.D, config.H, config.G, config.E, config.F, config.V, config.R), Is.EqualTo((L, D, H, G, E, F, V, E)));
        Assert.That((config.MaxPositions, config.TiedHead, config.NormEpsilon), Is.EqualTo((positions, tied, epsilon)));
        Assert.That(config.Windows.Count(w => w == 4096), Is.EqualTo(windows));
        Assert.That(config.Rotary.Select(rotary => rotary?.Theta).Distinct(), Is.EquivalentTo(type switch
        {
            "gemma3_text" => new double?[] { 10000, 1e6 },
            "smollm3" => [2e6, null],
            _ => [10000],
        }));
    }

    [TestCase("""{"model_type":"smollm3","num_hidden_layers":5}""", "RRR-R")]
    [TestCase("""{"model_type":"smollm3","num_hidden_layers":5,"no_rope_layer_interval":2}""", "R-R-R")]
    [TestCase("""{"model_type":"smollm3","num_hidden_layers":3,"no_rope_layers":[0,1,0],"use_sliding_window":true,"sliding_window":7}""", "-7R-7")]
    [TestCase("""{"model_type":"smollm3","num_hidden_layers":3,"no_rope_layers":[0,1,0],"sliding_window":7}""", "-R-")]
    [TestCase("""{"model_type":"gemma3_text","num_hidden_layers":7,"sliding_window":9}""", "r9r9r9r9r9Rr9")]
    [TestCase("""{"model_type":"gemma3_text","num_hidden_layers":2,"sliding_window":9,"layer_types":["full_attention","sliding_attention"]}""",
        "Rr9")]
    [TestCase("""{"model_type":"phi3","num_hidden_layers":2,"sliding_window":9}""", "R9R9")]
    public void Layers_that_turn_and_attend_otherwise(string json, string expected)
    {
        ModelConfig config = Parse(json);

        // R is the RoPE of full layers, r that of windowed ones where it is another, - none; then the window.
        var layers = config.Rotary.Zip(config.Windows, (rotary, window) =>
            (rotary is null ? "-" : rotary.Theta == 10000 && config.Family == "gemma3_text" ? "r" : "R") + (window > 0 ? $"{window}" : ""));
        Assert.That(string.Concat(layers), Is.EqualTo(expected));
    }

    [Test]
    public void A_text_model_inside_another_is_read_with_what_the_whole_says_of_texts()
    {
        ModelConfig config = Parse("""
            {"architectures":["Gemma3ForConditionalGeneration"],"model_type":"gemma3","eos_token_id":[1,106],"vision_config":{},
             "text_config":{"model_type":"gemma3_text","hidden_size":2560,"num_hidden_layers":34,"rope_scaling":{"factor":8.0,"rope_type":"linear"}}}
            """);

        Assert.That((config.Family, config.IsPartOfMultimodal, config.D, config.L, config.TiedHead),
            Is.EqualTo(("gemma3_text", true, 2560, 34, true)));
        Assert.That(config.EosIds, Is.EqualTo(new[] { 1, 106 }));
        Assert.That(config.Rotary[5], Is.EqualTo(new Rotary(1e6, new RopeScaling.Linear(8))));
    }

    [Test]
    public void Newer_files_have_rotary_parameters_for_each_kind_of_layer_or_beside_them_the_part_of_a_head()
    {
        ModelConfig gemma = Parse("""
            {"model_type":"gemma3_text","num_hidden_layers":6,"rope_parameters":{
             "sliding_attention":{"rope_theta":20000,"rope_type":"default"},"full_attention":{"rope_theta":500000,"rope_type":"linear","factor":4}}}
            """);
        ModelConfig phi = Parse("""
            {"model_type":"phi3","hidden_size":64,"num_attention_heads":4,"max_position_embeddings":2048,
             "rope_parameters":{"rope_theta":5000,"partial_rotary_factor":0.25,
             "original_max_position_embeddings":1024,"rope_type":"longrope","short_factor":[1,2],"long_factor":[3,4],"attention_factor":1.5}}
            """);

        Assert.That(gemma.Rotary.Distinct(), Is.EqualTo(new[] { new Rotary(20000), new Rotary(500000, new RopeScaling.Linear(4)) }));
        Assert.That(phi.R, Is.EqualTo(4));
        Assert.That(phi.Rotary.Distinct().Single(), Is.EqualTo(new Rotary(5000, new RopeScaling.LongRope([1, 2], [3, 4], 1024, 1.5))));
    }

    [TestCase("llama", true, true, true)]
    [TestCase("granite", true, true, true)]
    [TestCase("smollm3", true, true, true)]
    [TestCase("qwen3", true, true, false)]
    [TestCase("gemma2", true, true, false)]
    [TestCase("gemma3_text", true, true, false)]
    [TestCase("olmo2", true, true, false)]
    [TestCase("qwen2", true, false, false)]
    [TestCase("mistral", false, false, false)]
    public void Biases_are_where_the_family_has_them(string type, bool qkv, bool output, bool feedForward)
    {
        ModelConfig config = Parse($$"""{"model_type":"{{type}}","attention_bias":true,"mlp_bias":true}""");

        Assert.That((config.QkvBias, config.OutputBias, config.FeedForwardBias), Is.EqualTo((qkv, output, feedForward)));
    }

    [Test]
    public void Granites_multipliers()
    {
        ModelConfig config = Parse("""
            {"model_type":"granite","embedding_multiplier":12.0,"residual_multiplier":0.22,"attention_multiplier":0.015625,"logits_scaling":16.0}
            """);

        Assert.That((config.EmbeddingScale, config.ResidualScale, config.AttentionScale, config.LogitDivisor),
            Is.EqualTo((12f, 0.22f, 0.015625f, 16f)));
    }

    [Test]
    public void Gemma2_defaults()
    {
        ModelConfig config = Parse("""{"model_type":"gemma2"}""");

        Assert.That((config.AttentionSoftCap, config.LogitSoftCap, config.AttentionScale, config.EmbeddingScale),
            Is.EqualTo((50f, 30f, 1 / 16f, 48f)));
        Assert.That((config.BosId, config.EosIds[0], config.Windows[0], config.Windows[1]), Is.EqualTo(((int?)2, 1, 4096, 0)));
        Assert.That(Parse("""{"model_type":"gemma2","hidden_size":2048}""").EmbeddingScale, Is.EqualTo(45.254833995939045f));
    }

    [Test]
    public void Null_soft_caps_are_none()
    {
        ModelConfig config = Parse("""{"model_type":"gemma2","attn_logit_softcapping":null,"final_logit_softcapping":null}""");

        Assert.That((config.AttentionSoftCap, config.LogitSoftCap), Is.EqualTo((0f, 0f)));
    }

    [TestCase("llama", "null")]
    [TestCase("mistral", "null")]
    [TestCase("qwen2", "null")]
    [TestCase("qwen3", "null")]
    public void Null_head_dim_and_key_value_heads_are_derived(string type, string value)
    {
        ModelConfig config =
            Parse($$"""{"model_type":"{{type}}","hidden_size":320,"num_attention_heads":10,"head_dim":{{value}},"num_key_value_heads":{{value}}}""");

        Assert.That((config.E, config.G, config.AttentionScale), Is.EqualTo((32, 10, (float)Math.Pow(32, -0.5))));
    }

    [Test]
    public void Family_is_known_by_architecture_when_there_is_no_model_type()
        => Assert.That(Parse("""{"architectures":["Qwen3ForCausalLM"]}""").Family, Is.EqualTo("qwen3"));

    [TestCase("""{"rope_type":"default"}""")]
    [TestCase("""{"type":"default","factor":8}""")]
    [TestCase("""{"rope_type":"dynamic","factor":2}""")] // within the context, nothing is rescaled
    [TestCase("null")]
    public void No_rope_scaling(string scaling)
        => Assert.That(Parse($$"""{"model_type":"llama","rope_scaling":{{scaling}}}""").Rotary[0]!.Scaling, Is.Null);

    // Zero is as good as no value, as in transformers.
    [Test]
    public void Zeros_of_yarn_are_no_values()
    {
        const string Yarn = "\"rope_type\":\"yarn\",\"factor\":4";
        RopeScaling? Of(string keys) => Parse($$$"""{"model_type":"qwen3","rope_scaling":{{{{Yarn}}}{{{keys}}}}}""").Rotary[0]!.Scaling;

        RopeScaling? plain = Of("");
        Assert.That(plain, Is.InstanceOf<RopeScaling.Yarn>());
        Assert.That(Of(""","mscale":0,"mscale_all_dim":0.0,"beta_fast":0,"beta_slow":0,"original_max_position_embeddings":0"""), Is.EqualTo(plain));
        Assert.That(Of(""","mscale":2.0,"mscale_all_dim":0"""), Is.EqualTo(plain));
        Assert.That(Of(""","mscale":2.0,"mscale_all_dim":1"""), Is.Not.EqualTo(plain));
    }

    [TestCase("rope_type")]
    [TestCase("type")]
    public void Rope_scaling_by_new_and_old_key(string key)
    {
        Assert.That(Parse($$$"""{"model_type":"llama","rope_scaling":{"{{{key}}}":"linear","factor":2.5}}""").Rotary[0]!.Scaling,
            Is.EqualTo(new RopeScaling.Linear(2.5)));
        Assert.That(
            Parse($$$"""
                {"model_type":"qwen2",
                 "rope_scaling":{"{{{key}}}":"llama3","factor":32,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":8192}}
                """).Rotary[0]!.Scaling,
            Is.EqualTo(new RopeScaling.Llama3(32, 1, 4, 8192)));
    }

    [Test]
    public void Rope_parameters_of_newer_files()
    {
        ModelConfig plain = Parse("""{"model_type":"llama","rope_parameters":{"rope_theta":500000.0,"rope_type":"default"}}""");
        ModelConfig scaled = Parse("""{"model_type":"llama","rope_parameters":{"rope_theta":5e5,"rope_type":"linear","factor":4}}""");

        Assert.That((plain.Rotary[0]!.Theta, plain.Rotary[0]!.Scaling), Is.EqualTo((500000.0, (RopeScaling?)null)));
        Assert.That((scaled.Rotary[0]!.Theta, scaled.Rotary[0]!.Scaling), Is.EqualTo((500000.0, (RopeScaling?)new RopeScaling.Linear(4))));
    }

    private const string Llama3 =
        """{"rope_type":"llama3","factor":32.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192""";

    // What exporters write for programs old and new: the same twice, in other words.
    [TestCase(Llama3 + "}", Llama3 + ""","rope_theta":500000.0}""", "500000")]
    [TestCase(Llama3 + ""","rope_theta":5e5}""", Llama3 + ""","rope_theta":500000.0}""", "500000.0")]
    [TestCase(Llama3 + ""","rope_theta":5e5}""", Llama3 + "}", null)]
    [TestCase("""{"original_max_position_embeddings":8192,"high_freq_factor":4,"low_freq_factor":1,"factor":32,"type":"llama3"}""",
        Llama3 + ""","rope_theta":5e5}""", null)]
    public void Rope_parameters_beside_a_rope_scaling_that_means_the_same(string older, string newer, string? theta)
    {
        string rope = theta is null ? "" : $",\"rope_theta\":{theta}";
        ModelConfig config = Parse($$"""{"model_type":"llama","rope_scaling":{{older}},"rope_parameters":{{newer}}{{rope}}}""");

        Assert.That((config.Rotary[0]!.Theta, config.Rotary[0]!.Scaling),
            Is.EqualTo((500000.0, (RopeScaling?)new RopeScaling.Llama3(32, 1, 4, 8192))));
    }

    [TestCase("""{"rope_type":"default"}""", """{"rope_theta":10000.0}""")]
    [TestCase("""{"rope_theta":10000.0}""", """{"rope_theta":10000.0}""")]
    [TestCase("null", """{"rope_type":"default","rope_theta":10000}""")]
    [TestCase("""{"type":"default"}""", "null")]
    public void Rope_parameters_that_scale_nothing_beside_a_rope_scaling_that_does_not_either(string older, string newer)
    {
        ModelConfig config = Parse($$"""{"model_type":"llama","rope_scaling":{{older}},"rope_parameters":{{newer}},"rope_theta":10000}""");

        Assert.That((config.Rotary[0]!.Theta, config.Rotary[0]!.Scaling), Is.EqualTo((10000.0, (RopeScaling?)null)));
    }

    [TestCase("""{"rope_type":"linear","factor":2}""", """{"rope_type":"linear","factor":4}""", "rope_scaling")]
    [TestCase("""{"rope_type":"linear","factor":2}""", """{"rope_theta":10000}""", "rope_scaling")]
    [TestCase(Llama3 + "}", """{"rope_type":"linear","factor":32}""", "rope_scaling")]
    [TestCase("""{"rope_type":"default","rope_theta":1000}""", """{"rope_type":"default","rope_theta":2000}""", "rope_parameters.rope_theta")]
    [TestCase("null", """{"rope_theta":2000}""", "rope_parameters.rope_theta")]
    [TestCase("""{"rope_type":"default","rope_theta":2000}""", "null", "rope_scaling.rope_theta")]
    public void Rope_parameters_and_rope_scaling_that_differ_are_refused_and_both_shown(string older, string newer, string key)
    {
        string theta = older.Contains("1000}", StringComparison.Ordinal) ? "" : ""","rope_theta":10000""";
        var error = Assert.Throws<ConfigException>(() =>
            Parse($$"""{"model_type":"llama","rope_scaling":{{older}},"rope_parameters":{{newer}}{{theta}}}"""))!;

        Assert.That((error.Error, error.Key), Is.EqualTo((ConfigError.Schema, key)));
        string[] shown = key == "rope_scaling" ? [older[..20], newer[..20]] : theta.Length > 0 ? ["2000", "10000"] : ["1000", "2000"];
        Assert.That(shown, Has.All.Matches<string>(text => error.Message.Contains(text!, StringComparison.Ordinal)), error.Message);
    }

    [TestCase("""{"model_type":"mistral","num_hidden_layers":2,"sliding_window":null}""", new[] { 0, 0 })]
    [TestCase("""{"model_type":"qwen2","num_hidden_layers":2,"sliding_window":7,"max_window_layers":null}""", new[] { 0, 0 })]
    [TestCase("""{"model_type":"qwen3","num_hidden_layers":2,"sliding_window":null,"max_window_layers":null,"use_sliding_window":true}""",
        new[] { 0, 0 })]
    [TestCase("""{"model_type":"qwen2","num_hidden_layers":2,"sliding_window":7,"max_window_layers":null,"use_sliding_window":true,"""
        + """ "layer_types":["full_attention","sliding_attention"]}""", new[] { 0, 7 })]
    [TestCase("""{"model_type":"qwen2","num_hidden_layers":2,"sliding_window":7,"max_window_layers":0,"use_sliding_window":false}""", new[] { 0, 0 })]
    [TestCase("""{"model_type":"qwen2","num_hidden_layers":2,"sliding_window":7,"use_sliding_window":false,"""
        + """ "layer_types":["full_attention","sliding_attention"]}""", new[] { 0, 0 })]
    [TestCase("""{"model_type":"mistral","num_hidden_layers":2,"sliding_window":7,"use_sliding_window":false}""", new[] { 7, 7 })]
    [TestCase("""{"model_type":"mistral","num_hidden_layers":2,"sliding_window":7}""", new[] { 7, 7 })]
    [TestCase("""{"model_type":"llama","num_hidden_layers":2,"sliding_window":7}""", new[] { 0, 0 })]
    [TestCase("""{"model_type":"qwen2","num_hidden_layers":3,"sliding_window":7,"max_window_layers":1}""", new[] { 0, 0, 0 })]
    [TestCase("""{"model_type":"qwen2","num_hidden_layers":3,"sliding_window":7,"max_window_layers":1,"use_sliding_window":true}""",
        new[] { 0, 7, 7 })]
    [TestCase("""{"model_type":"qwen3","num_hidden_layers":2,"sliding_window":7,"max_window_layers":0,"use_sliding_window":true}""", new[] { 7, 7 })]
    [TestCase("""{"model_type":"qwen3","num_hidden_layers":2,"sliding_window":null,"max_window_layers":0,"use_sliding_window":true}""",
        new[] { 0, 0 })]
    [TestCase("""{"model_type":"qwen3","num_hidden_layers":2,"sliding_window":7,"use_sliding_window":true,"""
        + """ "layer_types":["sliding_attention","full_attention"]}""", new[] { 7, 0 })]
    [TestCase("""{"model_type":"gemma2","num_hidden_layers":3,"sliding_window":7}""", new[] { 7, 0, 7 })]
    [TestCase("""{"model_type":"gemma2","num_hidden_layers":3,"sliding_window":7,"""
        + """ "layer_types":["full_attention","sliding_attention","full_attention"]}""", new[] { 0, 7, 0 })]
    public void Windows(string json, int[] expected) => Assert.That(Parse(json).Windows, Is.EqualTo(expected));

    [TestCase("1", "", new[] { 1 })]
    [TestCase("[1,2]", "", new[] { 1, 2 })]
    [TestCase("null", "", new int[0])]
    [TestCase("1", """{"eos_token_id":[3,1]}""", new[] { 1, 3 })]
    [TestCase("null", """{"eos_token_id":5}""", new[] { 5 })]
    [TestCase("1", """{"eos_token_id":null}""", new[] { 1 })]
    [TestCase("1", "{}", new[] { 1 })]
    [TestCase(null, """{"eos_token_id":5}""", new[] { 5 })]
    [TestCase(null, "{}", new[] { 2 })]
    [TestCase(null, "", new[] { 2 })]
    public void Row25_end_tokens_are_the_union_of_both_files(string? eos, string generation, int[] expected)
        => Assert.That(Parse($$"""{"model_type":"llama"{{(eos is null ? "" : $",\"eos_token_id\":{eos}")}}}""", generation).EosIds,
            Is.EqualTo(expected));

    [Test]
    public void Null_bos_is_none_and_missing_bos_the_default()
    {
        Assert.That(Parse("""{"model_type":"llama","bos_token_id":null}""").BosId, Is.Null);
        Assert.That(Parse("""{"model_type":"llama"}""").BosId, Is.EqualTo(1));
        Assert.That(Parse("""{"model_type":"qwen2"}""").BosId, Is.Null);
    }

    [TestCase("llama", "true", true)]
    [TestCase("llama", "false", false)]
    [TestCase("gemma2", "true", true)]
    [TestCase("gemma2", "false", false)]
    [TestCase("gemma2", "null", false)]
    public void Row24_tied_head(string type, string value, bool expected)
        => Assert.That(Parse($$"""{"model_type":"{{type}}","tie_word_embeddings":{{value}}}""").TiedHead, Is.EqualTo(expected));

    [TestCase("\"dtype\":\"bfloat16\"")]
    [TestCase("\"torch_dtype\":\"float16\"")]
    [TestCase("\"dtype\":null,\"torch_dtype\":\"float32\"")]
    [TestCase("\"quantization_config\":null")]
    [TestCase("\"quantization_config\":{}")]
    [TestCase("\"compression_config\":{}")]
    [TestCase("\"num_experts\":0")]
    [TestCase("\"num_local_experts\":0")]
    [TestCase("\"num_local_experts\":1,\"num_experts_per_tok\":1")]
    [TestCase("\"n_routed_experts\":0")]
    [TestCase("\"num_experts\":null,\"num_local_experts\":null,\"n_routed_experts\":null")]
    [TestCase("\"use_sliding_window\":false,\"sliding_window\":4096,\"max_window_layers\":null")]
    [TestCase("\"attention_bias\":false,\"mlp_bias\":null")]
    [TestCase("\"partial_rotary_factor\":1.0")]
    [TestCase("\"auto_map\":{\"AutoModel\":\"http://x.invalid/y--z.Evil\"},\"trust_remote_code\":true,\"_name_or_path\":\"/dev/zero\"")]
    public void Row17_harmless_keys_are_ignored(string keys)
        => Assert.That(Parse($$"""{"model_type":"llama",{{keys}}}""").Family, Is.EqualTo("llama"));

    private static ModelConfig Parse(string config, string generation = "")
        => ModelConfigReader.Parse(Encoding.UTF8.GetBytes(config), Encoding.UTF8.GetBytes(generation));

    private static void AssertSame(string golden, ModelConfig expected)
    {
        ModelConfig config = ModelConfigReader.Read(Repository.Path("tests", "goldens", golden, "checkpoint"));

        Assert.That(config.Windows, Is.EqualTo(expected.Windows));
        Assert.That(config.EosIds, Is.EqualTo(expected.EosIds));
        Assert.That(config.Rotary, Is.EqualTo(Enumerable.Repeat(expected.Rotary.Single(), expected.L)));
        Assert.That(config with { Windows = expected.Windows, EosIds = expected.EosIds, Rotary = expected.Rotary }, Is.EqualTo(expected));
    }
}
