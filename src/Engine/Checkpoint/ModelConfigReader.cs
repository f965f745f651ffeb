using Tiller.Kernels;

namespace Tiller.Checkpoint;

/// <summary>
/// Reads config.json and generation_config.json as transformers 4.57 reads them, with the same values for missing keys and the same meaning of null.
/// A key that the engine does not support is refused by name. No key opens a file, a process or a connection.
/// </summary>
public static class ModelConfigReader
{
    /// <summary>Maximum number of layers.</summary>
    public const int MaxLayers = 4096;

    // Keys of unsupported models, and the values besides null with which the model is supported after all. A single expert of Mixtral's kind
    // (num_local_experts) is a dense model; a single expert of the other kinds is not.
    private const string VisionKey = "vision_config";
    private const string TextKey = "text_config";
    private const string TieKey = "tie_word_embeddings";

    private static readonly (string Key, Func<ConfigJson, string, bool> Dense)[] RefusedKeys =
    [
        ("quantization_config", (c, key) => c.IsEmptyObject(key)),
        ("compression_config", (c, key) => c.IsEmptyObject(key)),
        (VisionKey, (_, _) => false),
        (TextKey, (_, _) => false),
        ("audio_config", (_, _) => false),
        ("num_local_experts", (c, key) => c.Is(key, 0) || c.Is(key, 1)),
        ("num_experts", (c, key) => c.Is(key, 0)),
        ("n_routed_experts", (c, key) => c.Is(key, 0)),
    ];

    /// <summary>Reads the configuration of a checkpoint folder.</summary>
    /// <param name="directory">As for <see cref="CheckpointFolder.Open"/>.</param>
    /// <exception cref="ConfigException">config.json is missing, or a file is malformed or describes an unsupported model.</exception>
    /// <exception cref="CheckpointException">A model's folder in the Hugging Face cache has no snapshot of main.</exception>
    public static ModelConfig Read(string directory)
    {
        ArgumentNullException.ThrowIfNull(directory);
        directory = HubCache.Resolve(directory);
        string path = Path.Combine(directory, "config.json");
        ConfigJson config = ConfigJson.Read(path)
            ?? throw new ConfigException(ConfigError.Missing, path, null, null, "a checkpoint folder with a config.json", "There is no such file.");
        return Read(config, ConfigJson.Read(Path.Combine(directory, "generation_config.json")));
    }

    /// <summary>Reads a configuration from the text of its files.</summary>
    /// <param name="config">config.json as UTF-8.</param>
    /// <param name="generationConfig">generation_config.json as UTF-8; empty if there is none.</param>
    /// <param name="file">Name of config.json for messages.</param>
    /// <exception cref="ConfigException">As <see cref="Read(string)"/>.</exception>
    public static ModelConfig Parse(ReadOnlySpan<byte> config, ReadOnlySpan<byte> generationConfig = default, string file = "config.json")
        => Read(ConfigJson.Parse(config, file), generationConfig.IsEmpty ? null : ConfigJson.Parse(generationConfig, "generation_config.json"));

    private static ModelConfig Read(ConfigJson config, ConfigJson? generation)
    {
        if (FindMultimodal(config) is { } multimodal)
        {
            RefuseOthers(config, but: [VisionKey, TextKey]);
            ConfigJson text = config.Section(TextKey)
                ?? throw config.Fail(ConfigError.Schema, TextKey, $"the text model's configuration, of a {multimodal.Name}");
            if (text.Text("model_type") is { } type && type != multimodal.Name)
            {
                throw text.Fail(ConfigError.Unsupported, "model_type", multimodal.Name);
            }

            return Read(text, multimodal, whole: config, generation) with { IsPartOfMultimodal = true };
        }

        return Read(config, FindFamily(config), whole: config, generation);
    }

    /// <summary>
    /// Reads a family's configuration. <paramref name="whole"/> is the whole file; for a multimodal model, it has the token ids and the tie of the
    /// head.
    /// </summary>
    private static ModelConfig Read(ConfigJson config, ModelFamily family, ConfigJson whole, ConfigJson? generation)
    {
        RefuseOthers(config, but: []);
        RefuseKeys(config, family);

        int L = config.Size("num_hidden_layers", family.L);
        if (L > MaxLayers)
        {
            throw config.Fail(ConfigError.LimitExceeded, "num_hidden_layers", $"at most {MaxLayers} layers");
        }

        int D = config.Size("hidden_size", family.D);
        int H = config.Size("num_attention_heads", family.H);
        int G = ReadKeyValueHeads(config, family, H);
        int E = ReadHeadSize(config, family, D, H);
        int F = config.Size("intermediate_size", family.F);
        int V = config.Size("vocab_size", family.V);
        RequireIndexable(config, D, H, E, F, V);
        int maxPositions = config.Has("max_position_embeddings")
            ? config.Whole("max_position_embeddings", 1, int.MaxValue, above: ConfigError.LimitExceeded)
            : family.MaxPositions;
        bool attentionBias = family.HasAttentionBias && config.Flag("attention_bias", missing: false);
        bool[] turned = RopeConfig.TurnedLayers(config, family, L);
        int[] windows = AttentionWindows.Read(config, family, L, turned);
        int R = RopeConfig.ReadTurned(config, family, E);

        return new ModelConfig
        {
            Family = family.Name,
            L = L,
            D = D,
            H = H,
            G = G,
            E = E,
            F = F,
            V = V,
            MaxPositions = maxPositions,
            NormEpsilon = (float)config.Positive("rms_norm_eps", family.NormEpsilon, limit: 1),
            NormAddsOne = family.NormAddsOne,
            PreNorms = family.PreNorms,
            PostNorms = family.PostNorms,
            QkvBias = family.QkvBias || attentionBias,
            OutputBias = attentionBias,
            FeedForwardBias = family.HasFeedForwardBias && config.Flag("mlp_bias", missing: false),
            QkNorm = family.QkNorm,
            Activation = ReadActivation(config, family),
            Rotary = RopeConfig.Read(config, family, R, maxPositions, turned, windows),
            R = R,
            AttentionScale = ReadAttentionScale(config, family, E),
            AttentionSoftCap = ReadSoftCap(config, "attn_logit_softcapping", family.AttentionSoftCap),
            LogitSoftCap = ReadSoftCap(config, "final_logit_softcapping", family.LogitSoftCap),
            EmbeddingScale = family.ScalesEmbedding ? (float)Math.Sqrt(D) : ReadMultiplier(config, family, "embedding_multiplier"),
            ResidualScale = ReadMultiplier(config, family, "residual_multiplier"),
            LogitDivisor = ReadMultiplier(config, family, "logits_scaling"),
            Windows = windows,
            TiedHead = (whole.Has(TieKey) ? whole : config).Flag(TieKey, family.TiedHead),
            BosId = ReadBos(whole.Has("bos_token_id") ? whole : config, family, V),
            EosIds = ReadEos(whole.Has("eos_token_id") ? whole : config, generation, family, V),
            FusedWeights = family.FusedWeights,
        };
    }

    private static ModelFamily? FindMultimodal(ConfigJson config)
    {
        string? type = config.Text("model_type");
        string[] architectures = config.Texts("architectures") ?? [];
        return ModelFamily.All.FirstOrDefault(f => f.Multimodal is { } its
            && (type is null ? architectures.Contains(its.Architecture) : its.Name == type));
    }

    private static ModelFamily FindFamily(ConfigJson config)
    {
        string? type = config.Text("model_type");
        string[] architectures = config.Texts("architectures") ?? [];
        ModelFamily? family = ModelFamily.All.FirstOrDefault(f => type is null ? architectures.Contains(f.Architecture) : f.Name == type);
        if (family is null)
        {
            string key = type is not null || architectures.Length == 0 ? "model_type" : "architectures";
            throw config.Fail(ConfigError.Unsupported, key, $"one of {ModelFamily.Known}", "Other model families are not computed.");
        }

        return architectures.Length == 0 || architectures.Contains(family.Architecture)
            ? family
            : throw config.Fail(ConfigError.Unsupported, "architectures", $"{family.Architecture} for model_type {family.Name}");
    }

    private static void RefuseOthers(ConfigJson config, ReadOnlySpan<string> but)
    {
        foreach (var (key, dense) in RefusedKeys)
        {
            if (!but.Contains(key) && config.HasValue(key) && !dense(config, key))
            {
                throw config.Fail(ConfigError.Unsupported, key,
                    "no such key: quantized, mixture-of-experts and other multimodal models are not computed");
            }
        }

        string dtype = config.HasValue("dtype") ? "dtype" : "torch_dtype";
        if (config.Text(dtype) is not (null or "float32" or "float16" or "bfloat16"))
        {
            throw config.Fail(ConfigError.Unsupported, dtype, "float32, float16 or bfloat16");
        }
    }

    private static void RefuseKeys(ConfigJson config, ModelFamily family)
    {
        foreach (string key in family.RefusedKeys)
        {
            if (config.IsFlag(key) ? config.Flag(key, missing: false) : config.HasValue(key))
            {
                throw config.Fail(ConfigError.Unsupported, key, $"false or null for {family.Name}");
            }
        }
    }

    private static int ReadKeyValueHeads(ConfigJson config, ModelFamily family, int H)
    {
        const string Key = "num_key_value_heads";

        // Null means H in every family except Gemma's, where it is not allowed.
        int G = config.Has(Key) ? (family.QueryScalar is null ? config.NullableSize(Key, H)!.Value : config.Size(Key, H)) : family.G ?? H;
        return G <= H && H % G == 0 ? G : throw config.Fail(ConfigError.OutOfRange, Key, $"a divisor of num_attention_heads, which is {H}");
    }

    private static int ReadHeadSize(ConfigJson config, ModelFamily family, int D, int H)
    {
        const string Key = "head_dim";
        int? given = config.Has(Key) ? config.NullableSize(Key, null) : family.E;
        if (given is null && D % H != 0)
        {
            throw config.Fail(ConfigError.OutOfRange, "hidden_size", $"a multiple of num_attention_heads, which is {H}, since there is no head_dim");
        }

        int E = given ?? D / H;
        return E % 2 == 0 ? E : throw config.Fail(ConfigError.OutOfRange, Key, $"an even number for rotary embedding; it is {E}");
    }

    // The rows and columns of every weight must fit an int, and its size in bytes a long.
    private static void RequireIndexable(ConfigJson config, int D, int H, int E, int F, int V)
    {
        if ((long)H * E > int.MaxValue)
        {
            throw config.Fail(ConfigError.OutOfRange, "num_attention_heads", $"heads × head_dim of at most {int.MaxValue}; head_dim is {E}");
        }

        foreach ((string key, int rows) in new[] { ("vocab_size", V), ("intermediate_size", F), ("num_attention_heads", H * E) })
        {
            if ((Int128)rows * D * sizeof(float) > long.MaxValue)
            {
                throw config.Fail(ConfigError.OutOfRange, key, $"a matrix of less than 2^63 bytes; hidden_size is {D}");
            }
        }
    }

    private static Activation ReadActivation(ConfigJson config, ModelFamily family)
        => (config.Has(family.ActivationKey) ? config.Text(family.ActivationKey) : family.Activation) switch
        {
            "silu" or "swish" => Activation.Silu,
            "gelu_pytorch_tanh" => Activation.GeluTanh,
            _ => throw config.Fail(ConfigError.Unsupported, family.ActivationKey, "silu or gelu_pytorch_tanh"),
        };

    private static float ReadAttentionScale(ConfigJson config, ModelFamily family, int E) => family.HasMultipliers
        ? ReadMultiplier(config, family, "attention_multiplier")
        : (float)Math.Pow(family.QueryScalar is { } scalar ? config.Positive("query_pre_attn_scalar", scalar) : E, -0.5);

    private static float ReadMultiplier(ConfigJson config, ModelFamily family, string key) =>
        family.HasMultipliers ? (float)config.Positive(key, 1) : 1;

    // Null means no cap; a missing key means the family's value.
    private static float ReadSoftCap(ConfigJson config, string key, double? family)
    {
        if (family is null || (config.Has(key) && !config.HasValue(key)))
        {
            return 0;
        }

        return (float)config.Positive(key, family.Value);
    }

    private static int? ReadBos(ConfigJson config, ModelFamily family, int V)
    {
        if (!config.Has("bos_token_id"))
        {
            return Default(config, "bos_token_id", family.BosId, V);
        }

        int[] ids = config.Ids("bos_token_id", V);
        return ids.Length > 1 ? throw config.Fail(ConfigError.Schema, "bos_token_id", "one token id or null") : ids.Length == 0 ? null : ids[0];
    }

    // The family's id for a missing key. A small vocabulary may lack it.
    private static int? Default(ConfigJson config, string key, int? id, int V)
        => id < V || id is null
            ? id
            : throw config.Fail(ConfigError.OutOfRange, key, $"a value, as the family's id {id} is not in the vocabulary of {V}");

    private static int[] ReadEos(ConfigJson config, ConfigJson? generation, ModelFamily family, int V)
    {
        const string Key = "eos_token_id";
        int[] generated = generation?.Ids(Key, V) ?? [];
        IEnumerable<int> ids = config.Has(Key) ? config.Ids(Key, V)
            : generated.Length == 0 && Default(config, Key, family.EosId, V) is { } id ? [id]
            : [];
        return [.. ids.Concat(generated).Distinct()];
    }
}
