namespace Tiller.Checkpoint;

/// <summary>Which layers have an attention window.</summary>
internal enum WindowRule
{
    /// <summary>No layer; <c>sliding_window</c> is ignored.</summary>
    None,

    /// <summary>All layers, if <c>sliding_window</c> is a number (Mistral).</summary>
    Every,

    /// <summary>
    /// With <c>use_sliding_window</c>: the layers that <c>layer_types</c> names, or k ≥ <c>max_window_layers</c> without that list (Qwen).
    /// </summary>
    Upper,

    /// <summary>The layers that <c>layer_types</c> names, or every even k without that list (Gemma-2).</summary>
    Even,

    /// <summary>
    /// The layers that <c>layer_types</c> names, or all but every n-th without that list; n is <c>sliding_window_pattern</c> or 6 (Gemma-3).
    /// </summary>
    AllButEveryNth,

    /// <summary>
    /// With <c>use_sliding_window</c>: the layers that <c>layer_types</c> names, or those without RoPE without that list (SmolLM3).
    /// </summary>
    Unturned,
}

/// <summary>
/// Properties of a model family that config.json does not state, and the values of missing keys. Source: the configuration and modelling files of
/// transformers 4.57.1.
/// </summary>
internal sealed record ModelFamily
{
    public required string Name { get; init; }

    public required string Architecture { get; init; }

    // Values of missing keys.
    public required int V { get; init; }

    public required int D { get; init; }

    public required int F { get; init; }

    public required int L { get; init; }

    public required int H { get; init; }

    /// <summary>Value of a missing num_key_value_heads; null for H.</summary>
    public required int? G { get; init; }

    /// <summary>Value of a missing head_dim; null for D / H.</summary>
    public int? E { get; init; }

    public required int MaxPositions { get; init; }

    public int? BosId { get; init; }

    public int? EosId { get; init; }

    public bool TiedHead { get; init; }

    public double NormEpsilon { get; init; } = 1e-6;

    public double RopeTheta { get; init; } = 10000;

    /// <summary>Value of a missing sliding_window; null for none.</summary>
    public int? Window { get; init; } = 4096;

    public string ActivationKey { get; init; } = "hidden_act";

    public string Activation { get; init; } = "silu";

    /// <summary>Value of a missing query_pre_attn_scalar; null if the family has no such key and uses E.</summary>
    public double? QueryScalar { get; init; }

    /// <summary>Value of a missing attn_logit_softcapping, 0 for none; null if the family has no such cap.</summary>
    public double? AttentionSoftCap { get; init; }

    /// <summary>Value of a missing final_logit_softcapping, 0 for none; null if the family has no such cap.</summary>
    public double? LogitSoftCap { get; init; }

    /// <summary>
    /// Whether the family has embedding_multiplier, residual_multiplier, attention_multiplier and logits_scaling, each 1 if missing.
    /// </summary>
    public bool HasMultipliers { get; init; }

    // Components of the block.
    public bool QkvBias { get; init; }

    /// <summary>Whether attention_bias adds biases to queries, keys, values and the output projection.</summary>
    public bool HasAttentionBias { get; init; }

    /// <summary>Whether mlp_bias adds biases to the three linear maps of the gated unit.</summary>
    public bool HasFeedForwardBias { get; init; }

    public QkNorm QkNorm { get; init; }

    public bool NormAddsOne { get; init; }

    public bool PreNorms { get; init; } = true;

    public bool PostNorms { get; init; }

    public bool ScalesEmbedding { get; init; }

    public WindowRule Windows { get; init; }

    /// <summary>
    /// Value of a missing rope_local_base_freq, the RoPE base of windowed layers, which is not rescaled; null if all layers have the same base.
    /// </summary>
    public double? WindowRopeTheta { get; init; }

    /// <summary>
    /// The interval n of layers without RoPE, used if no_rope_layer_interval is missing: every n-th layer has none. A list no_rope_layers takes
    /// precedence: layers with 0 have none. Null if all layers have RoPE.
    /// </summary>
    public int? UnturnedInterval { get; init; }

    /// <summary>Whether the family has partial_rotary_factor and rope_scaling of type longrope.</summary>
    public bool HasLongRope { get; init; }

    /// <summary>Whether checkpoints store queries, keys and values as one matrix, and gate and up as another.</summary>
    public bool FusedWeights { get; init; }

    /// <summary>model_type and architecture of multimodal checkpoints whose text_config is of this family.</summary>
    public (string Name, string Architecture)? Multimodal { get; init; }

    /// <summary>Keys of unsupported changes of the block. They are refused if true or a number.</summary>
    public string[] RefusedKeys { get; init; } = [];

    public static IReadOnlyList<ModelFamily> All { get; } =
    [
        new()
        {
            Name = "llama", Architecture = "LlamaForCausalLM",
            V = 32000, D = 4096, F = 11008, L = 32, H = 32, G = null, MaxPositions = 2048, BosId = 1, EosId = 2,
            HasAttentionBias = true, HasFeedForwardBias = true,
        },
        new()
        {
            Name = "mistral", Architecture = "MistralForCausalLM",
            V = 32000, D = 4096, F = 14336, L = 32, H = 32, G = 8, MaxPositions = 131072, BosId = 1, EosId = 2,
            Windows = WindowRule.Every,
        },
        new()
        {
            Name = "qwen2", Architecture = "Qwen2ForCausalLM",
            V = 151936, D = 4096, F = 22016, L = 32, H = 32, G = 32, MaxPositions = 32768,
            QkvBias = true, Windows = WindowRule.Upper,
        },
        new()
        {
            Name = "qwen3", Architecture = "Qwen3ForCausalLM",
            V = 151936, D = 4096, F = 22016, L = 32, H = 32, G = 32, E = 128, MaxPositions = 32768,
            QkNorm = QkNorm.Heads, Windows = WindowRule.Upper, HasAttentionBias = true,
        },
        new()
        {
            Name = "gemma2", Architecture = "Gemma2ForCausalLM",
            V = 256000, D = 2304, F = 9216, L = 26, H = 8, G = 4, E = 256, MaxPositions = 8192, BosId = 2, EosId = 1, TiedHead = true,
            ActivationKey = "hidden_activation", Activation = "gelu_pytorch_tanh", QueryScalar = 256, AttentionSoftCap = 50, LogitSoftCap = 30,
            NormAddsOne = true, PostNorms = true, ScalesEmbedding = true, Windows = WindowRule.Even, HasAttentionBias = true,
            RefusedKeys = ["use_bidirectional_attention"],
        },
        new()
        {
            Name = "gemma3_text", Architecture = "Gemma3ForCausalLM", Multimodal = ("gemma3", "Gemma3ForConditionalGeneration"),
            V = 262208, D = 2304, F = 9216, L = 26, H = 8, G = 4, E = 256, MaxPositions = 131072, BosId = 2, EosId = 1, TiedHead = true,
            ActivationKey = "hidden_activation", Activation = "gelu_pytorch_tanh", QueryScalar = 256, LogitSoftCap = 0,
            QkNorm = QkNorm.Heads, NormAddsOne = true, PostNorms = true, ScalesEmbedding = true, HasAttentionBias = true,
            Windows = WindowRule.AllButEveryNth, RopeTheta = 1e6, WindowRopeTheta = 10000,
            RefusedKeys = ["use_bidirectional_attention", "attn_logit_softcapping"],
        },
        new()
        {
            Name = "olmo2", Architecture = "Olmo2ForCausalLM",
            V = 50304, D = 4096, F = 11008, L = 32, H = 32, G = null, MaxPositions = 2048, EosId = 50279, NormEpsilon = 1e-5,
            QkNorm = QkNorm.Width, PreNorms = false, PostNorms = true, HasAttentionBias = true,
        },
        new()
        {
            Name = "phi3", Architecture = "Phi3ForCausalLM",
            V = 32064, D = 3072, F = 8192, L = 32, H = 32, G = null, MaxPositions = 4096, BosId = 1, EosId = 32000, NormEpsilon = 1e-5,
            Windows = WindowRule.Every, Window = null, HasLongRope = true, FusedWeights = true,
            RefusedKeys = ["attention_bias", "mlp_bias", "lm_head_bias"],
        },
        new()
        {
            Name = "smollm3", Architecture = "SmolLM3ForCausalLM",
            V = 128256, D = 2048, F = 11008, L = 36, H = 16, G = 4, MaxPositions = 32768, BosId = 128000, EosId = 128001, TiedHead = true,
            RopeTheta = 2e6, UnturnedInterval = 4, Windows = WindowRule.Unturned, Window = null, HasAttentionBias = true, HasFeedForwardBias = true,
        },
        new()
        {
            Name = "granite", Architecture = "GraniteForCausalLM",
            V = 32000, D = 4096, F = 11008, L = 32, H = 32, G = null, MaxPositions = 2048, BosId = 1, EosId = 2,
            HasMultipliers = true, HasAttentionBias = true, HasFeedForwardBias = true,
        },
    ];

    public static string Known =>
        string.Join(", ", All.SelectMany(family => family.Multimodal is { } multimodal ? new[] { multimodal.Name, family.Name } : [family.Name]));
}
