using System.Globalization;

namespace Tiller.Checkpoint;

/// <summary>
/// Reads the RoPE settings of config.json: <c>rope_theta</c> and <c>rope_scaling</c>, or the newer <c>rope_parameters</c>, which holds both. Some
/// exporters write the old and the new keys; they must then mean the same.
/// </summary>
internal static class RopeConfig
{
    private const string OlderKey = "rope_scaling";
    private const string NewerKey = "rope_parameters";
    private const string ThetaKey = "rope_theta";
    private const string WindowThetaKey = "rope_local_base_freq";
    private const string PartialKey = "partial_rotary_factor";
    private const string OriginalKey = "original_max_position_embeddings";
    private const string TypeKey = "rope_type";
    private const string OlderTypeKey = "type";
    private const string Choose = "Keep the one that the weights were trained with.";

    /// <summary>Which layers have RoPE // (L).</summary>
    /// <exception cref="ConfigException">OutOfRange.</exception>
    public static bool[] TurnedLayers(ConfigJson config, ModelFamily family, int L)
    {
        const string IntervalKey = "no_rope_layer_interval";
        if (family.UnturnedInterval is not { } missing)
        {
            return [.. Enumerable.Repeat(true, L)];
        }

        int interval = config.HasValue(IntervalKey) ? config.Whole(IntervalKey, 1, int.MaxValue) : missing;
        return config.Flags("no_rope_layers", L) ?? [.. Enumerable.Range(0, L).Select(k => (k + 1) % interval != 0)];
    }

    /// <summary>R, how many numbers of a head are rotated.</summary>
    /// <exception cref="ConfigException">Unsupported, OutOfRange.</exception>
    public static int ReadTurned(ConfigJson config, ModelFamily family, int E)
    {
        ConfigJson place = config.Section(NewerKey) is { } newer && newer.HasValue(PartialKey) ? newer : config;
        double part = place.HasValue(PartialKey) ? place.Positive(PartialKey, 1) : 1;
        if (part != 1 && !family.HasLongRope)
        {
            throw place.Fail(ConfigError.Unsupported, PartialKey, $"1 for {family.Name} (all of a head is rotated)");
        }

        int R = part > 1 ? 0 : (int)(E * part);
        return R > 0 && R % 2 == 0 ? R
            : throw place.Fail(ConfigError.OutOfRange, PartialKey, $"a part of head_dim, which is {E}, that is an even number");
    }

    /// <summary>RoPE of each layer // (L).</summary>
    /// <param name="config">config.json.</param>
    /// <param name="family">The family, which has the values of missing keys.</param>
    /// <param name="R">How many numbers of a head are rotated.</param>
    /// <param name="maxPositions">Context limit.</param>
    /// <param name="turned">Whether a layer has RoPE // (L).</param>
    /// <param name="windows">Window of each layer, 0 for none // (L).</param>
    /// <exception cref="ConfigException">Unsupported, OutOfRange, Schema.</exception>
    public static IReadOnlyList<Rotary?> Read(ConfigJson config, ModelFamily family, int R, int maxPositions, bool[] turned, int[] windows)
    {
        var scope = new Scope(config, family, R, maxPositions);
        var (full, windowed) = family.WindowRopeTheta is { } missing ? ReadTwo(config, scope, missing) : (ReadOne(config, scope), null);
        return [.. turned.Zip(windows, (isTurned, window) => isTurned ? (window > 0 ? windowed ?? full : full) : null)];
    }

    // RoPE of full layers and of windowed layers. Each kind has its own keys, or its own set of parameters in the newer section.
    private static (Rotary Full, Rotary Windowed) ReadTwo(ConfigJson config, Scope scope, double missing)
    {
        if (config.Section(NewerKey) is not { } newer || !newer.AnyObjects())
        {
            return (ReadOne(config, scope), new Rotary(config.Positive(WindowThetaKey, missing)));
        }

        if (config.HasValue(OlderKey))
        {
            throw config.Fail(ConfigError.Schema, OlderKey, $"no such key beside {NewerKey} of both kinds of layers", Choose);
        }

        return (Of("full_attention", scope.Family.RopeTheta), Of("sliding_attention", missing));

        Rotary Of(string key, double theta)
        {
            ConfigJson section = newer.Section(key) ?? throw newer.Fail(ConfigError.Schema, key, "rotary parameters of these layers");
            return new Rotary(section.Positive(ThetaKey, theta), ReadScaling(section, scope, typeRequired: false));
        }
    }

    private static Rotary ReadOne(ConfigJson config, Scope scope)
    {
        ConfigJson? older = config.Section(OlderKey);
        ConfigJson? newer = config.Section(NewerKey);
        if (newer?.AnyObjects() == true)
        {
            throw config.Fail(ConfigError.Unsupported, NewerKey, "one set of parameters for all layers");
        }

        double theta = ReadTheta([config, .. older is null ? [] : new[] { older }, .. newer is null ? [] : new[] { newer }], scope.Family.RopeTheta);
        RopeScaling? scaling = older is null ? null : ReadScaling(older, scope, typeRequired: newer is null);
        if (newer is null)
        {
            return new Rotary(theta, scaling);
        }

        RopeScaling? parameters = ReadScaling(newer, scope, typeRequired: false);
        return older is null || scaling == parameters
            ? new Rotary(theta, parameters)
            : throw config.Fail(ConfigError.Schema, OlderKey, $"the same as {NewerKey}, which is {config.Shown(NewerKey)}", Choose);
    }

    private static double ReadTheta(ConfigJson[] places, double missing)
    {
        double? theta = null;
        foreach (ConfigJson place in places.Where(place => place.Has(ThetaKey)))
        {
            double here = place.Positive(ThetaKey, missing);
            if (theta is { } first && here != first)
            {
                string expected = string.Create(CultureInfo.InvariantCulture, $"the same as the other {ThetaKey}, which is {first}");
                throw place.Fail(ConfigError.Schema, ThetaKey, expected, Choose);
            }

            theta = here;
        }

        return theta ?? missing;
    }

    private static RopeScaling? ReadScaling(ConfigJson section, Scope scope, bool typeRequired)
    {
        if (section.HasValue(PartialKey) && section.Positive(PartialKey, 1) != 1 && !scope.Family.HasLongRope)
        {
            throw section.Fail(ConfigError.Unsupported, PartialKey, "1 in this place");
        }

        string known = "default, linear, dynamic, llama3" + (scope.Family.HasLongRope ? " or longrope" : " or yarn");
        string key = section.HasValue(TypeKey) ? TypeKey : OlderTypeKey;
        string? type = section.Text(key);
        if (type is null && typeRequired)
        {
            throw section.Fail(ConfigError.Schema, TypeKey, known);
        }

        if (section.Text(OlderTypeKey) is { } older && older != type)
        {
            throw section.Fail(ConfigError.Schema, OlderTypeKey, $"the same as {TypeKey}, which is {section.Shown(TypeKey)}", Choose);
        }

        return type switch
        {
            null or "default" => null,

            // The base is changed only for texts longer than max_position_embeddings, which are refused.
            "dynamic" when Factor(section, "factor", least: 1) >= 1 => null,
            "linear" => new RopeScaling.Linear(Factor(section, "factor", least: 1)),
            "llama3" => ReadLlama3(section),

            // Phi-3's own code used the names su and yarn for LongRoPE before.
            "longrope" or "su" or "yarn" when scope.Family.HasLongRope => ReadLongRope(section, scope),
            "yarn" => ReadYarn(section, scope),
            _ => throw section.Fail(ConfigError.Unsupported, key, known),
        };
    }

    private static RopeScaling.Llama3 ReadLlama3(ConfigJson section)
    {
        double low = Factor(section, "low_freq_factor", least: 0);
        double high = Factor(section, "high_freq_factor", least: 0);
        if (high <= low)
        {
            throw section.Fail(ConfigError.OutOfRange, "high_freq_factor", $"a number above low_freq_factor, which is {low}");
        }

        Require(section, OriginalKey);
        int original = section.Whole(OriginalKey, 1, int.MaxValue);
        return new RopeScaling.Llama3(Factor(section, "factor", least: 1), low, high, original);
    }

    // arXiv:2309.00071. The amplitude is attention_factor if given; with mscale and mscale_all_dim, it is (0.1 mscale ln(factor) + 1) divided by the
    // same expression for mscale_all_dim; otherwise it is 0.1 ln(factor) + 1.
    private static RopeScaling.Yarn ReadYarn(ConfigJson section, Scope scope)
    {
        double factor = Factor(section, "factor", least: 1);
        int original = IsGiven(section, OriginalKey) ? section.Whole(OriginalKey, 1, int.MaxValue) : scope.MaxPositions;
        double fast = Optional(section, "beta_fast") ?? 32;
        double slow = Optional(section, "beta_slow") ?? 1;
        if (slow > fast)
        {
            throw section.Fail(ConfigError.OutOfRange, "beta_slow", $"a number of at most beta_fast, which is {fast}");
        }

        double? all = Optional(section, "mscale_all_dim"), one = Optional(section, "mscale");
        double amplitude = Optional(section, "attention_factor")
            ?? (all is null || one is null ? Amplitude(1) : Amplitude(one.Value) / Amplitude(all.Value));
        return new RopeScaling.Yarn(factor, original, fast, slow, section.Flag("truncate", missing: true), amplitude);

        double Amplitude(double scale) => (0.1 * scale * Math.Log(factor)) + 1;
    }

    // arXiv:2402.13753. The amplitude is attention_factor if given, otherwise sqrt(1 + ln(new / original) / ln(original)).
    private static RopeScaling.LongRope ReadLongRope(ConfigJson section, Scope scope)
    {
        ConfigJson place = scope.Config.HasValue(OriginalKey) ? scope.Config : section;
        int original = place.HasValue(OriginalKey) ? place.Whole(OriginalKey, 2, int.MaxValue) : scope.Family.MaxPositions;
        double ratio = (double)scope.MaxPositions / original;
        double amplitude = Optional(section, "attention_factor") ?? (ratio <= 1 ? 1 : Math.Sqrt(1 + (Math.Log(ratio) / Math.Log(original))));
        double[] shortFactors = section.Positives("short_factor", scope.R / 2), longFactors = section.Positives("long_factor", scope.R / 2);
        return new RopeScaling.LongRope(shortFactors, longFactors, original, amplitude);
    }

    private static double? Optional(ConfigJson section, string key) => IsGiven(section, key) ? section.Positive(key, double.NaN) : null;

    // As in transformers, 0 means that there is no value.
    private static bool IsGiven(ConfigJson section, string key) => section.HasValue(key) && !section.Is(key, 0);

    private static double Factor(ConfigJson section, string key, double least)
    {
        Require(section, key);
        double factor = section.Positive(key, double.NaN);
        return factor >= least ? factor : throw section.Fail(ConfigError.OutOfRange, key, $"a number of at least {least}");
    }

    private static void Require(ConfigJson section, string key)
    {
        if (!section.Has(key))
        {
            throw section.Fail(ConfigError.Schema, key, "this key for the rope type");
        }
    }

    /// <summary>The context in which a section is read.</summary>
    private readonly record struct Scope(ConfigJson Config, ModelFamily Family, int R, int MaxPositions);
}
