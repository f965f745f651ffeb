namespace Tiller.Checkpoint;

/// <summary>Which layers attend through a window.</summary>
internal enum WindowRule
{
    /// <summary>None; <c>sliding_window</c> is ignored.</summary>
    None,

    /// <summary>All, when <c>sliding_window</c> is a number (Mistral).</summary>
    Every,

    /// <summary>With <c>use_sliding_window</c>: those of <c>layer_types</c>, else k ≥ <c>max_window_layers</c> (Qwen).</summary>
    Upper,

    /// <summary>Those of <c>layer_types</c>, else every even k (Gemma-2).</summary>
    Even,
}

/// <summary>
/// What a model family has that config.json does not say, and the values that a missing key stands for.
/// Source: the configuration and modelling files of transformers 4.57.1.
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

    public string ActivationKey { get; init; } = "hidden_act";

    public string Activation { get; init; } = "silu";

    /// <summary>Value of a missing query_pre_attn_scalar; null where the family has no such key and E is used.</summary>
    public double? QueryScalar { get; init; }

    /// <summary>Values of missing attn_logit_softcapping and final_logit_softcapping; null where the family has no such keys.</summary>
    public (double Attention, double Logits)? SoftCaps { get; init; }

    // What the block is made of.
    public bool QkvBias { get; init; }

    public bool QkNorm { get; init; }

    public bool NormAddsOne { get; init; }

    public bool PostNorms { get; init; }

    public bool ScalesEmbedding { get; init; }

    public WindowRule Windows { get; init; }

    /// <summary>Keys that add a bias the block does not have, refused when true.</summary>
    public string[] RefusedFlags { get; init; } = [];

    public static IReadOnlyList<ModelFamily> All { get; } =
    [
        new()
        {
            Name = "llama", Architecture = "LlamaForCausalLM",
            V = 32000, D = 4096, F = 11008, L = 32, H = 32, G = null, MaxPositions = 2048, BosId = 1, EosId = 2,
            RefusedFlags = ["attention_bias", "mlp_bias"],
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
            QkNorm = true, Windows = WindowRule.Upper, RefusedFlags = ["attention_bias"],
        },
        new()
        {
            Name = "gemma2", Architecture = "Gemma2ForCausalLM",
            V = 256000, D = 2304, F = 9216, L = 26, H = 8, G = 4, E = 256, MaxPositions = 8192, BosId = 2, EosId = 1, TiedHead = true,
            ActivationKey = "hidden_activation", Activation = "gelu_pytorch_tanh", QueryScalar = 256, SoftCaps = (50, 30),
            NormAddsOne = true, PostNorms = true, ScalesEmbedding = true, Windows = WindowRule.Even,
            RefusedFlags = ["attention_bias", "use_bidirectional_attention"],
        },
    ];

    public static string Known => string.Join(", ", All.Select(family => family.Name));
}
