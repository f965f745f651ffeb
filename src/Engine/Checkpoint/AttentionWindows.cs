namespace Tiller.Checkpoint;

/// <summary>
/// Reads the attention window of each layer from <c>sliding_window</c>, <c>layer_types</c> and related keys. 0 means full attention.
/// </summary>
internal static class AttentionWindows
{
    private const int DefaultPattern = 6;
    private const int DefaultUpperLayers = 28;
    private const string Sliding = "sliding_attention";
    private const string Full = "full_attention";
    private const string SwitchKey = "use_sliding_window";
    private const string UpperKey = "max_window_layers";

    /// <summary>The window of each layer in tokens // (L).</summary>
    /// <param name="config">config.json.</param>
    /// <param name="family">The family, which has the rule for windows and the value of a missing window.</param>
    /// <param name="L">Number of layers.</param>
    /// <param name="turned">Whether a layer has RoPE // (L).</param>
    /// <exception cref="ConfigException">OutOfRange, Schema, Unsupported.</exception>
    public static int[] Read(ConfigJson config, ModelFamily family, int L, bool[] turned)
    {
        // A null value means no window; a missing key means the family's window.
        int window = config.Has("sliding_window") ? config.NullableSize("sliding_window", 0)!.Value : family.Window ?? 0;
        string[]? types = LayerTypes(config, L);
        var windows = new int[L];
        switch (family.Windows)
        {
            case WindowRule.None:
                RequireAll(config, types, Full);
                break;
            case WindowRule.Every:
                Array.Fill(windows, window);
                RequireAll(config, types, window > 0 ? Sliding : Full);
                break;
            case WindowRule.Upper:
                // If use_sliding_window is false or null, windows are off, whatever the other keys say.
                int? upper = config.HasValue(UpperKey) ? config.Whole(UpperKey, 0, int.MaxValue) : config.Has(UpperKey) ? null : DefaultUpperLayers;
                bool slides = config.Flag(SwitchKey, missing: false);
                window = slides ? window : 0;
                if (!slides && config.Has(SwitchKey))
                {
                    break;
                }

                if (upper is null && types is null && window > 0)
                {
                    throw config.Fail(ConfigError.OutOfRange, UpperKey, $"a number of layers: {SwitchKey} is true and there are no layer_types");
                }

                Fill(windows, config, types, window, k => window > 0 && k >= upper);
                break;
            case WindowRule.Even:
                Fill(windows, config, types, window, static k => k % 2 == 0);
                break;
            case WindowRule.AllButEveryNth:
                string key = config.HasValue("_sliding_window_pattern") ? "_sliding_window_pattern" : "sliding_window_pattern";
                int pattern = config.HasValue(key) ? config.Whole(key, 1, int.MaxValue) : DefaultPattern;
                Fill(windows, config, types, window, k => (k + 1) % pattern != 0);
                break;
            case WindowRule.Unturned:
                if (config.Flag(SwitchKey, missing: false))
                {
                    Fill(windows, config, types, window, k => window > 0 && !turned[k]);
                }

                break;
        }

        return windows;
    }

    private static void Fill(int[] windows, ConfigJson config, string[]? types, int window, Func<int, bool> slides)
    {
        for (int k = 0; k < windows.Length; k++)
        {
            if (types is null ? slides(k) : types[k] == Sliding)
            {
                windows[k] = window > 0
                    ? window
                    : throw config.Fail(ConfigError.OutOfRange, "sliding_window", $"a window in tokens, since layer {k} is a {Sliding} layer");
            }
        }
    }

    private static string[]? LayerTypes(ConfigJson config, int L)
    {
        if (config.Texts("layer_types") is not { } types)
        {
            return null;
        }

        if (types.Length != L)
        {
            throw config.Fail(ConfigError.OutOfRange, "layer_types", $"{L} entries, one for each of num_hidden_layers");
        }

        return Array.TrueForAll(types, static type => type is Sliding or Full)
            ? types
            : throw config.Fail(ConfigError.Unsupported, "layer_types", $"only {Full} and {Sliding}");
    }

    // transformers ignores layer_types in these families. A list that contradicts the family is refused instead of ignored.
    private static void RequireAll(ConfigJson config, string[]? types, string only)
    {
        if (types is not null && !Array.TrueForAll(types, type => type == only))
        {
            throw config.Fail(ConfigError.Unsupported, "layer_types", $"only {only} in this family");
        }
    }
}
