using System.Text.Json;
using System.Text.Unicode;

namespace Tiller.Checkpoint;

/// <summary>An object of a configuration file, read by key. A value of the wrong kind or range causes a <see cref="ConfigException"/>.</summary>
internal sealed class ConfigJson
{
    public const int MaxLength = 1 << 20;

    // 2^-126: smaller float32 numbers lose digits or become 0.
    private const double LeastNormal = 1.17549435082228751e-38;

    private readonly JsonElement _object;
    private readonly string _prefix;

    private ConfigJson(string file, JsonElement element, string prefix)
    {
        File = file;
        _object = element;
        _prefix = prefix;
    }

    public string File { get; }

    /// <summary>Reads and parses a file; null if there is no such file.</summary>
    /// <exception cref="ConfigException">InvalidJson, Duplicate, Schema, LimitExceeded, InputOutput.</exception>
    public static ConfigJson? Read(string path)
    {
        byte[] bytes;
        try
        {
            bytes = BoundedFile.Read(path, MaxLength, length => new ConfigException(
                ConfigError.LimitExceeded, path, null, $"{length} bytes", $"a file of at most {MaxLength} bytes"));
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigException(ConfigError.InputOutput, path, null, null, "a readable file", e.Message, e);
        }

        return Parse(bytes, path);
    }

    public static ConfigJson Parse(ReadOnlySpan<byte> bytes, string file)
    {
        if (!Utf8.IsValid(bytes))
        {
            throw new ConfigException(ConfigError.InvalidJson, file, null, null, "JSON in UTF-8");
        }

        try
        {
            var reader = new Utf8JsonReader(bytes);
            using JsonDocument document = JsonDocument.ParseValue(ref reader);
            if (reader.Read())
            {
                throw new JsonException("Text follows the object.");
            }

            JsonElement root = document.RootElement.Clone();
            if (root.ValueKind != JsonValueKind.Object)
            {
                throw new ConfigException(ConfigError.Schema, file, null, root.ValueKind.ToString(), "an object");
            }

            RequireUnique(root, file, "");
            return new ConfigJson(file, root, "");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            bool python = bytes.IndexOf("NaN"u8) >= 0 || bytes.IndexOf("Infinity"u8) >= 0;
            string hint = e.Message + (python ? " JSON has no NaN or Infinity, which Python writes: replace it by a number or null." : "");
            throw new ConfigException(ConfigError.InvalidJson, file, null, null, "valid JSON", hint, e);
        }
    }

    public bool Has(string key) => _object.TryGetProperty(key, out _);

    /// <summary>Whether the key is present and not null.</summary>
    public bool HasValue(string key) => _object.TryGetProperty(key, out JsonElement value) && value.ValueKind != JsonValueKind.Null;

    /// <summary>Whether the key is present and equals this whole number, written with or without decimals.</summary>
    public bool Is(string key, int value)
        => _object.TryGetProperty(key, out JsonElement element) && element.ValueKind == JsonValueKind.Number
            && element.TryGetDouble(out double number) && number == value;

    /// <summary>Whether the key is present and is {}.</summary>
    public bool IsEmptyObject(string key)
        => _object.TryGetProperty(key, out JsonElement value) && value.ValueKind == JsonValueKind.Object && !value.EnumerateObject().MoveNext();

    /// <summary>A value as it stands in the file, on one line and safe to print.</summary>
    public string Shown(string key) => Quoted.Bare(string.Join(
        ' ', _object.GetProperty(key).GetRawText().Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)));

    /// <summary>A size: a whole number from 1 to 2^31 - 1.</summary>
    public int Size(string key, int missing)
        => Has(key) ? Whole(key, 1, int.MaxValue) : missing;

    /// <summary>A size; <paramref name="absent"/> if the key is missing or null.</summary>
    public int? NullableSize(string key, int? absent)
        => HasValue(key) ? Whole(key, 1, int.MaxValue) : absent;

    public int Whole(string key, int least, int most, ConfigError above = ConfigError.OutOfRange)
    {
        JsonElement value = _object.GetProperty(key);
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetInt64(out long number))
        {
            // A number written in digits alone that does not fit 64 bits is too large, not malformed.
            bool huge = value.ValueKind == JsonValueKind.Number && value.GetRawText().All(char.IsAsciiDigit);
            throw Fail(huge ? above : ConfigError.OutOfRange, key, $"a whole number from {least} to {most}");
        }

        return number < least || number > most
            ? throw Fail(number > most ? above : ConfigError.OutOfRange, key, $"a whole number from {least} to {most}")
            : (int)number;
    }

    /// <summary>A number above 0 and below <paramref name="limit"/> that is in the normal range of float32.</summary>
    public double Positive(string key, double missing, double limit = double.PositiveInfinity)
    {
        if (!_object.TryGetProperty(key, out JsonElement value))
        {
            return missing;
        }

        return value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number) && number >= LeastNormal && number <= float.MaxValue
            && number < limit
            ? number
            : throw Fail(ConfigError.OutOfRange, key, double.IsFinite(limit)
                ? $"a number above 0 and below {limit}"
                : "a finite number above 0 (as float32)");
    }

    /// <summary>True or false. Null means false, as in Python.</summary>
    public bool Flag(string key, bool missing)
    {
        if (!Has(key))
        {
            return missing;
        }

        return _object.GetProperty(key).ValueKind switch
        {
            JsonValueKind.True => true,
            JsonValueKind.False or JsonValueKind.Null => false,
            _ => throw Fail(ConfigError.Schema, key, "true or false"),
        };
    }

    /// <summary>Whether the key is present and is true or false.</summary>
    public bool IsFlag(string key)
        => _object.TryGetProperty(key, out JsonElement value) && value.ValueKind is JsonValueKind.True or JsonValueKind.False;

    /// <summary>A list of <paramref name="count"/> numbers, each in the range of <see cref="Positive"/>.</summary>
    public double[] Positives(string key, int count)
    {
        if (HasValue(key) && _object.GetProperty(key) is { ValueKind: JsonValueKind.Array } list && list.GetArrayLength() == count
            && list.EnumerateArray().All(item => item.ValueKind == JsonValueKind.Number && item.TryGetDouble(out double x) && x >= LeastNormal
                && x <= float.MaxValue))
        {
            return [.. list.EnumerateArray().Select(item => item.GetDouble())];
        }

        throw Fail(ConfigError.OutOfRange, key, $"a list of {count} finite numbers above 0 (as float32)");
    }

    /// <summary>A list of <paramref name="count"/> flags, written as 0 and 1 or as false and true; null if the key is missing or null.</summary>
    public bool[]? Flags(string key, int count)
    {
        if (!HasValue(key))
        {
            return null;
        }

        JsonElement list = _object.GetProperty(key);
        bool?[] flags = list.ValueKind == JsonValueKind.Array ? [.. list.EnumerateArray().Select(OneFlag)] : [];
        return flags.Length == count && flags.All(flag => flag is not null)
            ? [.. flags.Select(flag => flag!.Value)]
            : throw Fail(ConfigError.OutOfRange, key, $"a list of {count} numbers that are 0 or 1, one for each layer");

        static bool? OneFlag(JsonElement item) => item.ValueKind switch
        {
            JsonValueKind.True => true,
            JsonValueKind.False => false,
            JsonValueKind.Number when item.TryGetInt32(out int number) && number is 0 or 1 => number == 1,
            _ => null,
        };
    }

    /// <summary>A string; null if the key is missing or null.</summary>
    public string? Text(string key)
    {
        if (!HasValue(key))
        {
            return null;
        }

        JsonElement value = _object.GetProperty(key);
        return value.ValueKind == JsonValueKind.String ? String(value, key) : throw Fail(ConfigError.Schema, key, "a string");
    }

    /// <summary>A list of strings; null if the key is missing or null.</summary>
    public string[]? Texts(string key)
    {
        if (!HasValue(key))
        {
            return null;
        }

        JsonElement value = _object.GetProperty(key);
        return value.ValueKind == JsonValueKind.Array && value.EnumerateArray().All(item => item.ValueKind == JsonValueKind.String)
            ? [.. value.EnumerateArray().Select(item => String(item, key))]
            : throw Fail(ConfigError.Schema, key, "a list of strings");
    }

    /// <summary>Token ids from 0 to V - 1, written as a number, a list, or null for none.</summary>
    public int[] Ids(string key, int V)
    {
        if (!HasValue(key))
        {
            return [];
        }

        JsonElement value = _object.GetProperty(key);
        JsonElement[] items = value.ValueKind == JsonValueKind.Array ? [.. value.EnumerateArray()] : [value];
        var ids = new int[items.Length];
        for (int i = 0; i < ids.Length; i++)
        {
            if (items[i].ValueKind != JsonValueKind.Number || !items[i].TryGetInt32(out ids[i]) || ids[i] < 0 || ids[i] >= V)
            {
                throw Fail(ConfigError.OutOfRange, key, $"token ids from 0 to {V - 1}, the vocabulary of the model");
            }
        }

        return ids;
    }

    /// <summary>An object; null if the key is missing or null.</summary>
    public ConfigJson? Section(string key)
    {
        if (!HasValue(key))
        {
            return null;
        }

        JsonElement value = _object.GetProperty(key);
        return value.ValueKind == JsonValueKind.Object
            ? new ConfigJson(File, value, _prefix + key + ".")
            : throw Fail(ConfigError.Schema, key, "an object or null");
    }

    public bool AnyObjects() => _object.EnumerateObject().Any(property => property.Value.ValueKind == JsonValueKind.Object);

    public ConfigException Fail(ConfigError error, string key, string expected, string hint = "")
    {
        string? value = Has(key) ? Shown(key) : null;
        return new ConfigException(error, File, _prefix + key, value, expected, hint);
    }

    private string String(JsonElement value, string key)
    {
        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException)
        {
            throw Fail(ConfigError.InvalidJson, key, "a string of whole characters");
        }
    }

    private static void RequireUnique(JsonElement element, string file, string prefix)
    {
        if (element.ValueKind == JsonValueKind.Array)
        {
            foreach (JsonElement item in element.EnumerateArray())
            {
                RequireUnique(item, file, prefix);
            }
        }

        if (element.ValueKind != JsonValueKind.Object)
        {
            return;
        }

        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (JsonProperty property in element.EnumerateObject())
        {
            if (!seen.Add(property.Name))
            {
                throw new ConfigException(ConfigError.Duplicate, file, prefix + property.Name, null, "each key once");
            }

            RequireUnique(property.Value, file, prefix + property.Name + ".");
        }
    }
}
