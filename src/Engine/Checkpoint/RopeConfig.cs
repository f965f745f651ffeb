using System.Globalization;

namespace Tiller.Checkpoint;

/// <summary>
/// The rotary part of config.json: <c>rope_theta</c> and <c>rope_scaling</c>, or the newer <c>rope_parameters</c> that holds both. Exporters write
/// the old and the new beside each other; they must then mean the same.
/// </summary>
internal static class RopeConfig
{
    private const string Known = "default, linear or llama3";
    private const string OlderKey = "rope_scaling";
    private const string NewerKey = "rope_parameters";
    private const string Choose = "Keep the one that the weights were trained with.";
    private const double DefaultTheta = 10000;

    /// <summary>The base of the frequencies and how they are rescaled.</summary>
    /// <exception cref="ConfigException">Unsupported, OutOfRange, Schema.</exception>
    public static (double Theta, RopeScaling? Scaling) Read(ConfigJson config)
    {
        RequireFullRotation(config);
        ConfigJson? older = config.Section(OlderKey);
        ConfigJson? newer = config.Section(NewerKey);
        if (newer?.AnyObjects() == true)
        {
            throw config.Fail(ConfigError.Unsupported, NewerKey, "one set of parameters for all layers");
        }

        double theta = ReadTheta([config, .. older is null ? [] : new[] { older }, .. newer is null ? [] : new[] { newer }]);
        RopeScaling? scaling = older is null ? null : ReadScaling(older, typeRequired: newer is null);
        if (newer is null)
        {
            return (theta, scaling);
        }

        RopeScaling? parameters = ReadScaling(newer, typeRequired: false);
        return older is null || scaling == parameters
            ? (theta, parameters)
            : throw config.Fail(ConfigError.Schema, OlderKey, $"the same as {NewerKey}, which is {config.Shown(NewerKey)}", Choose);
    }

    private static double ReadTheta(ConfigJson[] places)
    {
        const string Key = "rope_theta";
        double? theta = null;
        foreach (ConfigJson place in places.Where(place => place.Has(Key)))
        {
            double here = place.Positive(Key, DefaultTheta);
            if (theta is { } first && here != first)
            {
                string expected = string.Create(CultureInfo.InvariantCulture, $"the same as the other {Key}, which is {first}");
                throw place.Fail(ConfigError.Schema, Key, expected, Choose);
            }

            theta = here;
        }

        return theta ?? DefaultTheta;
    }

    private static RopeScaling? ReadScaling(ConfigJson section, bool typeRequired)
    {
        RequireFullRotation(section);
        string key = section.HasValue("rope_type") ? "rope_type" : "type";
        string? type = section.Text(key);
        if (type is null && typeRequired)
        {
            throw section.Fail(ConfigError.Schema, "rope_type", Known);
        }

        return type switch
        {
            null or "default" => null,
            "linear" => new RopeScaling.Linear(Factor(section, "factor", least: 1)),
            "llama3" => ReadLlama3(section),
            _ => throw section.Fail(ConfigError.Unsupported, key, Known),
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

        Require(section, "original_max_position_embeddings");
        int original = section.Whole("original_max_position_embeddings", 1, int.MaxValue);
        return new RopeScaling.Llama3(Factor(section, "factor", least: 1), low, high, original);
    }

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

    private static void RequireFullRotation(ConfigJson section)
    {
        if (section.HasValue("partial_rotary_factor") && section.Positive("partial_rotary_factor", 1) != 1)
        {
            throw section.Fail(ConfigError.Unsupported, "partial_rotary_factor", "1 (all of a head is rotated)");
        }
    }
}
