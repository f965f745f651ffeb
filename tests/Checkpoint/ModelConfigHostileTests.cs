using System.Text;
using System.Text.Json.Nodes;
using Tiller.Checkpoint;

namespace Tiller.Tests.Checkpoint;

/// <summary>Malformed configurations, each with the error it must give. The number is the row of docs/hostile-inputs.md §3b.</summary>
[TestFixture]
internal sealed class ModelConfigHostileTests
{
    private static readonly string[] Dimensions =
        ["hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "intermediate_size",
            "max_position_embeddings"];

    [TestCaseSource(nameof(Rejected))]
    public void Config_is_rejected(string json, ConfigError expected, string? key)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(json);
        long before = GC.GetAllocatedBytesForCurrentThread();
        var error = Assert.Throws<ConfigException>(() => ModelConfigReader.Parse(bytes));
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;

        Assert.That((error!.Error, error.Key), Is.EqualTo((expected, key)), error.Message);
        Assert.That(error.Message, Does.StartWith("config.json: ").And.Contain("expected "));
        Assert.That(allocated, Is.LessThan((1 << 20) + (64L * bytes.Length)));
    }

    [Test]
    public void Message_has_file_key_value_and_what_is_expected()
    {
        var error = Assert.Throws<ConfigException>(() => ModelConfigReader.Parse("""{"model_type":"mixtral"}"""u8));

        const string Known = "llama, mistral, qwen2, qwen3, gemma2, gemma3, gemma3_text, olmo2, phi3, smollm3, granite";
        Assert.That(error!.Message, Does.Contain($"config.json: model_type: expected one of {Known}, got \"mixtral\"."));
        Assert.That((error.File, error.Key, error.Value), Is.EqualTo(("config.json", "model_type", "\"mixtral\"")));
    }

    [Test]
    public void Long_values_are_cut_in_messages()
    {
        var error = Assert.Throws<ConfigException>(() =>
            ModelConfigReader.Parse(Encoding.UTF8.GetBytes($$"""{"model_type":"{{new string('x', 10_000)}}"}""")));

        Assert.That(error!.Message, Has.Length.LessThan(500));
    }

    [TestCase("NaN")]
    [TestCase("Infinity")]
    [TestCase("-Infinity")]
    public void Row15_pythons_literals_get_a_hint(string literal)
    {
        var error = Assert.Throws<ConfigException>(() =>
            ModelConfigReader.Parse(Encoding.UTF8.GetBytes($$"""{"model_type":"llama","rope_theta":{{literal}}}""")));

        Assert.That(error!.Error, Is.EqualTo(ConfigError.InvalidJson));
        Assert.That(error.Message, Does.Contain("Python"));
    }

    [Test]
    public void Invalid_UTF8()
    {
        byte[] json = [.. "{\"model_type\":\"ll"u8, 0xFF, .. "\"}"u8];

        Assert.That(() => ModelConfigReader.Parse(json), Fails(ConfigError.InvalidJson));
    }

    [Test]
    public void Files_are_checked_before_they_are_read()
    {
        using var folder = new TemporaryFolder();
        Assert.That(() => ModelConfigReader.Read(folder.Path), Fails(ConfigError.Missing));
        Assert.That(() => ModelConfigReader.Read(folder["no"]), Fails(ConfigError.Missing));

        Directory.CreateDirectory(folder["config.json"]);
        Assert.That(() => ModelConfigReader.Read(folder.Path), Fails(ConfigError.InputOutput));

        Directory.Delete(folder["config.json"]);
        using (var stream = new FileStream(folder["config.json"], FileMode.CreateNew))
        {
            stream.SetLength(ConfigJson.MaxLength + 1);
        }

        Assert.That(() => ModelConfigReader.Read(folder.Path), Fails(ConfigError.LimitExceeded));

        folder.Write("config.json", """{"model_type":"llama"}""");
        Assert.That(ModelConfigReader.Read(folder.Path).Family, Is.EqualTo("llama"));
        folder.Write("generation_config.json", """{"eos_token_id":-1}""");
        var error = Assert.Throws<ConfigException>(() => ModelConfigReader.Read(folder.Path));
        Assert.That(error!.Error, Is.EqualTo(ConfigError.OutOfRange));
        Assert.That(error.File, Does.EndWith("generation_config.json"));
    }

    private static NUnit.Framework.Constraints.IResolveConstraint Fails(ConfigError error)
        => Throws.TypeOf<ConfigException>().With.Property(nameof(ConfigException.Error)).EqualTo(error);

    private static IEnumerable<TestCaseData> Rejected()
    {
        static TestCaseData Text(string row, string json, ConfigError error, string? key = null)
            => new TestCaseData(json, error, key).SetArgDisplayNames(row);

        // A sound Llama configuration with some keys replaced.
        static TestCaseData Row(int row, ConfigError error, string key, string value, string family = "llama", string? reported = null,
            string more = "{}")
        {
            var json = JsonNode.Parse("""
                {"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,
                 "vocab_size":100,"intermediate_size":96}
                """)!.AsObject();
            json["model_type"] = family;
            foreach ((string name, JsonNode? node) in JsonNode.Parse(more)!.AsObject())
            {
                json[name] = node?.DeepClone();
            }

            json[key] = "@";
            return Text($"{row}: {family} {key} {value} {(more == "{}" ? "" : more)}", json.ToJsonString().Replace("\"@\"", value), error,
                reported ?? key);
        }

        foreach (string json in new[] { "", "{", "{} {}", "{,}", "{'a':1}", "\ufeff{}", "{\"model_type\":\"llama\",}", "// c\n{}" })
        {
            yield return Text($"15: {json.Replace('\ufeff', 'B').Replace('\n', ' ')}", json, ConfigError.InvalidJson);
        }

        yield return Text("15: depth", "{\"a\":" + new string('[', 100_000) + new string(']', 100_000) + "}", ConfigError.InvalidJson);
        yield return Text("15: not an object", "[]", ConfigError.Schema);
        yield return Text("15: lone surrogate", """{"model_type":"\ud800"}""", ConfigError.InvalidJson, "model_type");
        yield return Text("15: key twice", """{"model_type":"llama","vocab_size":1,"vocab_size":1}""", ConfigError.Duplicate, "vocab_size");
        yield return Text("15: key twice, escaped and nested", """{"model_type":"llama","rope_scaling":{"type":"linear","\u0074ype":"linear"}}""",
            ConfigError.Duplicate, "rope_scaling.type");
        yield return Row(15, ConfigError.OutOfRange, "rms_norm_eps", "1e999");
        yield return Row(15, ConfigError.OutOfRange, "rope_theta", "1e999");

        yield return Text("16: no model_type", "{}", ConfigError.Unsupported, "model_type");
        yield return Text("16: model_type of the wrong kind", """{"model_type":1}""", ConfigError.Schema, "model_type");
        yield return Text("16: unknown architectures alone", """{"architectures":["FalconForCausalLM"]}""", ConfigError.Unsupported, "architectures");
        foreach (string type in new[] { "mixtral", "qwen2_moe", "gemma", "gemma3n", "phi", "phimoe", "olmo", "granitemoe", "Llama", "llama4", "" })
        {
            yield return Row(16, ConfigError.Unsupported, "model_type", $"\"{type}\"");
        }

        yield return Row(16, ConfigError.Unsupported, "architectures", """["LlamaForSequenceClassification"]""");
        yield return Row(16, ConfigError.Unsupported, "architectures", """["MistralForCausalLM"]""");
        yield return Row(16, ConfigError.Schema, "architectures", "\"LlamaForCausalLM\"");
        yield return Row(16, ConfigError.Unsupported, "quantization_config", """{"quant_method":"gptq"}""");
        yield return Row(16, ConfigError.Unsupported, "vision_config", "{}");
        yield return Row(16, ConfigError.Unsupported, "num_local_experts", "8");
        yield return Row(16, ConfigError.Unsupported, "num_experts", "64", "qwen3");
        yield return Row(16, ConfigError.Unsupported, "num_experts", "1", "qwen3");
        yield return Row(16, ConfigError.Unsupported, "n_routed_experts", "1");
        foreach (string value in new[] { "2", "-1", "0.5", "\"0\"", "[]", "false" })
        {
            yield return Row(16, ConfigError.Unsupported, "num_local_experts", value);
        }

        yield return Row(16, ConfigError.Unsupported, "quantization_config", "[]");
        yield return Row(16, ConfigError.Unsupported, "quantization_config", """{"bits":16}""");
        yield return Row(16, ConfigError.Unsupported, "hidden_act", "\"relu\"");
        yield return Row(16, ConfigError.Unsupported, "hidden_act", "null");
        yield return Row(16, ConfigError.Unsupported, "hidden_activation", "\"gelu\"", "gemma2");
        yield return Row(16, ConfigError.Unsupported, "torch_dtype", "\"float8_e4m3fn\"");
        yield return Row(16, ConfigError.Unsupported, "dtype", "\"int8\"");
        foreach (string type in new[] { "longrope", "su", "mrope", "proportional" })
        {
            yield return Row(16, ConfigError.Unsupported, "rope_scaling", $$"""{"rope_type":"{{type}}","factor":2}""",
                reported: "rope_scaling.rope_type");
            yield return Row(16, ConfigError.Unsupported, "rope_scaling", $$"""{"type":"{{type}}","factor":2}""", reported: "rope_scaling.type");
        }

        yield return Row(16, ConfigError.Schema, "rope_scaling", """{"factor":2}""", reported: "rope_scaling.rope_type");
        yield return Row(16, ConfigError.Schema, "rope_scaling", """{"rope_type":"default","type":"linear","factor":2}""",
            reported: "rope_scaling.type");
        yield return Row(16, ConfigError.Schema, "rope_scaling", "\"linear\"");
        yield return Row(16, ConfigError.Unsupported, "rope_parameters", """{"full_attention":{"rope_theta":1}}""");
        yield return Row(16, ConfigError.Schema, "rope_scaling", """{"rope_type":"linear","factor":2}""",
            more: """{"rope_parameters":{"rope_theta":1}}""");
        yield return Row(16, ConfigError.Unsupported, "attention_bias", "true", "phi3");
        yield return Row(16, ConfigError.Unsupported, "mlp_bias", "true", "phi3");
        yield return Row(16, ConfigError.Schema, "attention_bias", "1");
        yield return Row(16, ConfigError.Unsupported, "use_bidirectional_attention", "true", "gemma2");
        yield return Row(16, ConfigError.Unsupported, "attn_logit_softcapping", "50.0", "gemma3_text");
        yield return Row(16, ConfigError.Unsupported, "partial_rotary_factor", "0.5");
        yield return Row(16, ConfigError.Schema, "vision_config", "{}", "gemma3", reported: "text_config");
        yield return Row(16, ConfigError.Unsupported, "text_config", """{"model_type":"llama"}""", "gemma3", reported: "text_config.model_type");
        yield return Row(16, ConfigError.Unsupported, "audio_config", "{}", "gemma3");
        yield return Row(16, ConfigError.Schema, "tie_word_embeddings", "\"yes\"");

        foreach (string key in Dimensions)
        {
            bool positions = key == "max_position_embeddings";
            foreach (string value in new[] { "0", "-1", "1.5", "\"4096\"", "null", "2147483648", "9223372036854775808" })
            {
                // Null is the way transformers writes "derived" for these two.
                if (value == "null" && key is "head_dim" or "num_key_value_heads" && value == "null")
                {
                    continue;
                }

                bool large = positions && value.Length > 8;
                yield return Row(18, large ? ConfigError.LimitExceeded : ConfigError.OutOfRange, key, value);
            }
        }

        yield return Row(18, ConfigError.OutOfRange, "num_key_value_heads", "null", "gemma2");
        yield return Row(19, ConfigError.OutOfRange, "hidden_size", "66", more: """{"head_dim":null}""");
        yield return Row(19, ConfigError.OutOfRange, "num_key_value_heads", "3");
        yield return Row(19, ConfigError.OutOfRange, "num_key_value_heads", "8");
        yield return Row(19, ConfigError.OutOfRange, "head_dim", "15");
        yield return Row(19, ConfigError.OutOfRange, "hidden_size", "60", reported: "head_dim", more: """{"head_dim":null}""");
        yield return Row(20, ConfigError.OutOfRange, "vocab_size", "2147483647", more: """{"hidden_size":2147483647}""");
        yield return Row(20, ConfigError.OutOfRange, "intermediate_size", "2147483647", more: """{"hidden_size":2147483647}""");
        yield return Row(20, ConfigError.OutOfRange, "num_attention_heads", "2147483646", more: """{"head_dim":4}""");
        yield return Row(21, ConfigError.LimitExceeded, "num_hidden_layers", "1000000000");
        yield return Row(21, ConfigError.LimitExceeded, "max_position_embeddings", "1000000000000");
        foreach (string value in new[] { "0", "-1", "1e30", "null", "\"1e-5\"" })
        {
            yield return Row(22, ConfigError.OutOfRange, "rms_norm_eps", value);
        }

        // Numbers that are 0 or infinite as float32.
        yield return Row(22, ConfigError.OutOfRange, "rms_norm_eps", "1e-128");
        yield return Row(22, ConfigError.OutOfRange, "rope_theta", "1e39");
        yield return Row(22, ConfigError.OutOfRange, "query_pre_attn_scalar", "1e-300", "gemma2");
        yield return Row(22, ConfigError.OutOfRange, "attn_logit_softcapping", "1e300", "gemma2");
        foreach (string value in new[] { "0", "-1", "null" })
        {
            yield return Row(22, ConfigError.OutOfRange, "rope_theta", value);
            yield return Row(22, ConfigError.OutOfRange, "rope_scaling", $$"""{"rope_type":"linear","factor":{{value}}}""",
                reported: "rope_scaling.factor");
            yield return Row(22, ConfigError.OutOfRange, "query_pre_attn_scalar", value, "gemma2");
        }

        yield return Row(22, ConfigError.OutOfRange, "rope_scaling", """{"rope_type":"linear","factor":0.5}""", reported: "rope_scaling.factor");
        yield return Row(22, ConfigError.Schema, "rope_scaling", """{"rope_type":"linear"}""", reported: "rope_scaling.factor");
        yield return Row(
            22, ConfigError.OutOfRange, "rope_scaling",
            """{"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4,"original_max_position_embeddings":32}""",
            reported: "rope_scaling.high_freq_factor");
        yield return Row(
            22, ConfigError.OutOfRange, "rope_scaling",
            """{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":0}""",
            reported: "rope_scaling.original_max_position_embeddings");
        yield return Row(
            22, ConfigError.Schema, "rope_scaling", """{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4}""",
                reported: "rope_scaling.original_max_position_embeddings");
        yield return Row(22, ConfigError.Schema, "rope_scaling", """{"rope_type":"yarn"}""", reported: "rope_scaling.factor");
        yield return Row(22, ConfigError.OutOfRange, "rope_scaling", """{"rope_type":"yarn","factor":0.5}""", reported: "rope_scaling.factor");
        yield return Row(22, ConfigError.OutOfRange, "rope_scaling", """{"rope_type":"yarn","factor":4,"beta_slow":33}""",
            reported: "rope_scaling.beta_slow");
        foreach (string list in new[] { "null", "[]", "[1,1]", "[1,1,1,1,1]", "[1,1,1,0]", "[1,1,1,\"1\"]", "1" })
        {
            yield return Text(
                $"22: long_factor {list}",
                $$$"""
                {"model_type":"phi3","hidden_size":16,"num_attention_heads":2,
                 "rope_scaling":{"type":"longrope","short_factor":[1,1,1,1],"long_factor":{{{list}}}}}
                """,
                ConfigError.OutOfRange, "rope_scaling.long_factor");
        }

        yield return Text(
            "22: an original length of one",
            """
            {"model_type":"phi3","hidden_size":8,"num_attention_heads":2,"original_max_position_embeddings":1,
             "rope_scaling":{"type":"longrope","short_factor":[1,1],"long_factor":[1,1]}}
            """,
            ConfigError.OutOfRange, "original_max_position_embeddings");
        foreach (string part in new[] { "1.5", "0.4", "0.01", "-1", "\"1\"" })
        {
            yield return Text(
                $"22: partial_rotary_factor {part}",
                $$"""{"model_type":"phi3","hidden_size":16,"num_attention_heads":2,"partial_rotary_factor":{{part}}}""",
                ConfigError.OutOfRange, "partial_rotary_factor");
        }

        foreach (string layers in new[] { "[1]", "[1,2]", "[1,1,1]", "1", "[null,1]" })
        {
            yield return Text($"22: no_rope_layers {layers}", $$"""{"model_type":"smollm3","num_hidden_layers":2,"no_rope_layers":{{layers}}}""",
                ConfigError.OutOfRange, "no_rope_layers");
        }

        yield return Text(
            "22: half of the rotary parameters", """{"model_type":"gemma3_text","rope_parameters":{"full_attention":{"rope_theta":1}}}""",
            ConfigError.Schema, "rope_parameters.sliding_attention");
        yield return Text(
            "22: both spellings for layers that differ",
            """
            {"model_type":"gemma3_text","rope_scaling":{"type":"linear","factor":8},"rope_parameters":{"full_attention":{},"sliding_attention":{}}}
            """,
            ConfigError.Schema, "rope_scaling");
        yield return Text("22: no layer is windowed every zeroth", """{"model_type":"gemma3_text","sliding_window_pattern":0}""",
            ConfigError.OutOfRange, "sliding_window_pattern");
        foreach (string key in new[] { "embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling" })
        {
            yield return Text($"22: {key}", $$"""{"model_type":"granite","{{key}}":0}""", ConfigError.OutOfRange, key);
        }

        yield return Row(22, ConfigError.OutOfRange, "attn_logit_softcapping", "0", "gemma2");
        yield return Row(22, ConfigError.OutOfRange, "final_logit_softcapping", "-30", "gemma2");
        foreach (string value in new[] { "100", "-1", "1.5", "\"</s>\"", "[1,100]", "[[1]]", "4294967296", "{}" })
        {
            yield return Row(25, ConfigError.OutOfRange, "eos_token_id", value);
        }

        yield return Row(25, ConfigError.OutOfRange, "bos_token_id", "100");
        yield return Text("25: the family's bos_token_id in a vocabulary of 1", """{"model_type":"llama","vocab_size":1}""", ConfigError.OutOfRange,
            "bos_token_id");
        yield return Text("25: the family's eos_token_id in a vocabulary of 2", """{"model_type":"llama","vocab_size":2}""", ConfigError.OutOfRange,
            "eos_token_id");
        yield return Row(25, ConfigError.Schema, "bos_token_id", "[1,2]");
        yield return Row(26, ConfigError.OutOfRange, "layer_types", """["full_attention"]""", "gemma2");
        yield return Row(26, ConfigError.OutOfRange, "layer_types", """["full_attention","full_attention","full_attention"]""", "qwen2");
        yield return Row(26, ConfigError.Unsupported, "layer_types", """["full_attention","linear_attention"]""", "qwen3");
        yield return Row(26, ConfigError.Unsupported, "layer_types", """["full_attention","sliding_attention"]""");
        yield return Row(26, ConfigError.Unsupported, "layer_types", """["full_attention","sliding_attention"]""", "mistral");
        yield return Row(26, ConfigError.Schema, "layer_types", "[1,2]", "gemma2");
        foreach (string value in new[] { "0", "-1", "1.5", "\"6\"", "2147483648" })
        {
            yield return Row(26, ConfigError.OutOfRange, "sliding_window", value, "mistral");
            yield return Row(26, ConfigError.OutOfRange, "sliding_window", value, "gemma2");
        }

        yield return Row(26, ConfigError.OutOfRange, "sliding_window", "null", "gemma2");
        yield return Row(26, ConfigError.OutOfRange, "max_window_layers", "-1", "qwen2");
        yield return Row(26, ConfigError.OutOfRange, "max_window_layers", "null", "qwen2",
            more: """{"use_sliding_window":true,"sliding_window":7}""");
        yield return Row(26, ConfigError.OutOfRange, "sliding_window", "7", "qwen2",
            more: """{"layer_types":["full_attention","sliding_attention"]}""");
    }
}
