using System.Text.Json;

namespace Tiller.Serving;

/// <summary>
/// The fields of an object in a request. Each field is taken once and checked when it is taken. <see cref="End"/> refuses fields that were not taken.
/// </summary>
internal sealed class JsonFields
{
    private const int ShownLength = 40;

    private readonly Dictionary<string, JsonElement> _left = new(StringComparer.Ordinal);
    private readonly List<string> _known = [];
    private readonly string _path;

    /// <summary>Creates the fields of an object.</summary>
    /// <param name="value">The object.</param>
    /// <param name="path">The path of the object in the request; empty for the request itself.</param>
    /// <exception cref="ApiException">The value is not an object.</exception>
    public JsonFields(JsonElement value, string path = "")
    {
        _path = path;
        if (value.ValueKind != JsonValueKind.Object)
        {
            throw Wrong(path.Length == 0 ? null : path, path.Length == 0 ? "The body" : $"'{path}'", "an object", value, JsonValueKind.Object);
        }

        foreach (var property in value.EnumerateObject())
        {
            _left.Add(Text(property), property.Value);
        }
    }

    /// <summary>A field's name with its path, for messages.</summary>
    public string NameOf(string field) => _path.Length == 0 ? field : $"{_path}.{field}";

    /// <summary>Takes a field; null if it is absent or null.</summary>
    public JsonElement? Take(string field)
    {
        _known.Add(field);
        return _left.Remove(field, out var value) && value.ValueKind != JsonValueKind.Null ? value : null;
    }

    /// <summary>Takes a required field.</summary>
    public JsonElement Need(string field) => Take(field)
        ?? throw ApiException.Bad(NameOf(field), $"'{NameOf(field)}' is missing.", "missing_field");

    /// <summary>Takes a text; null if it is absent.</summary>
    public string? TakeText(string field) => Take(field) is { } value ? TextOf(value, NameOf(field)) : null;

    /// <summary>Takes a finite number; null if it is absent.</summary>
    public double? TakeNumber(string field) => Take(field) is { } value ? NumberOf(value, NameOf(field)) : null;

    /// <summary>Takes a whole number in a range; null if it is absent.</summary>
    public long? TakeWhole(string field, long least = long.MinValue, long most = long.MaxValue) =>
        Take(field) is { } value ? WholeOf(value, NameOf(field), least, most) : null;

    /// <summary>Takes true or false; null if it is absent.</summary>
    public bool? TakeFlag(string field) => Take(field) is not { } value ? null : value.ValueKind switch
    {
        JsonValueKind.True => true,
        JsonValueKind.False => false,
        _ => throw Wrong(NameOf(field), $"'{NameOf(field)}'", "true or false", value, JsonValueKind.True),
    };

    /// <summary>Takes a list with a limited number of values; null if it is absent.</summary>
    public JsonElement[]? TakeList(string field, int least, int most) =>
        Take(field) is { } value ? ListOf(value, NameOf(field), least, most) : null;

    /// <summary>Takes one of some words; null if it is absent.</summary>
    public string? TakeWord(string field, params ReadOnlySpan<string> words)
    {
        if (TakeText(field) is not { } word)
        {
            return null;
        }

        return words.Contains(word) ? word : throw ApiException.Bad(
            NameOf(field), $"'{NameOf(field)}' must be one of {string.Join(", ", words.ToArray())}, got \"{Short(word)}\".", "invalid_value");
    }

    /// <summary>Refuses a field that is not implemented, unless its value requests nothing.</summary>
    /// <param name="field">The field's name.</param>
    /// <param name="asksForNothing">Whether a value requests nothing.</param>
    /// <param name="instead">A sentence that says what to do instead.</param>
    public void Refuse(string field, Func<JsonElement, bool> asksForNothing, string instead)
    {
        if (Take(field) is { } value && !asksForNothing(value))
        {
            throw ApiException.Bad(NameOf(field), $"'{NameOf(field)}' is not implemented. {instead}", "unsupported_value");
        }
    }

    /// <summary>Takes fields that have no effect.</summary>
    public void Ignore(params ReadOnlySpan<string> fields)
    {
        foreach (string field in fields)
        {
            _left.Remove(field);
        }
    }

    /// <summary>Refuses the fields that have not been taken.</summary>
    public void End()
    {
        if (_left.Keys.FirstOrDefault() is { } unknown)
        {
            string near = _known.OrderBy(known => Distance(known, unknown)).First();
            string hint = Distance(near, unknown) <= 2 ? $" Did you mean '{near}'?" : "";
            throw ApiException.Bad(NameOf(Short(unknown)), $"'{NameOf(Short(unknown))}' is not a field of this request.{hint}", "unknown_field");
        }
    }

    /// <summary>Reads a text.</summary>
    public static string TextOf(JsonElement value, string name)
    {
        if (value.ValueKind != JsonValueKind.String)
        {
            throw Wrong(name, $"'{name}'", "a text", value, JsonValueKind.String);
        }

        try
        {
            return value.GetString()!;
        }
        catch (InvalidOperationException)
        {
            throw ApiException.Bad(name, $"'{name}' has half a surrogate pair (\\uD800 to \\uDFFF): write whole characters.", "invalid_text");
        }
    }

    /// <summary>Reads a finite number.</summary>
    public static double NumberOf(JsonElement value, string name) =>
        value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double number) && double.IsFinite(number)
            ? number
            : throw Wrong(name, $"'{name}'", "a finite number", value, JsonValueKind.Number);

    /// <summary>Reads a number that is finite in float32.</summary>
    public static float FloatOf(JsonElement value, string name) => (float)NumberOf(value, name) is var number && float.IsFinite(number)
        ? number
        : throw Wrong(name, $"'{name}'", "a number that fits in float32", value, JsonValueKind.Number);

    /// <summary>Reads a whole number in a range.</summary>
    public static long WholeOf(JsonElement value, string name, long least, long most) =>
        value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out long number) && number >= least && number <= most
            ? number
            : throw Wrong(name, $"'{name}'",
                (least, most) is (long.MinValue, long.MaxValue) ? "a whole number" : most == long.MaxValue ? $"a whole number of at least {least}"
                    : $"a whole number from {least} to {most}", value, JsonValueKind.Number);

    /// <summary>Reads a list with a limited number of values.</summary>
    public static JsonElement[] ListOf(JsonElement value, string name, int least, int most) =>
        value.ValueKind == JsonValueKind.Array && value.GetArrayLength() is var count && count >= least && count <= most
            ? [.. value.EnumerateArray()]
            : throw Wrong(name, $"'{name}'", most == int.MaxValue ? "a list" : $"a list of {least} to {most}", value,
                JsonValueKind.Array);

    /// <summary>Makes the error for a value of the wrong type or outside its range.</summary>
    /// <param name="param">The field; null for the body.</param>
    /// <param name="what">The beginning of the message, which names the value.</param>
    /// <param name="expected">The expected value.</param>
    /// <param name="value">The value.</param>
    /// <param name="kind">The expected type.</param>
    public static ApiException Wrong(string? param, string what, string expected, JsonElement value, JsonValueKind kind) =>
        ApiException.Bad(param, $"{what} must be {expected}, got {Shown(value)}.", value.ValueKind == kind ? "invalid_value" : "invalid_type");

    private static string Shown(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => $"a list of {value.GetArrayLength()}",
        _ => Short(value.GetRawText()),
    };

    private static string Short(string text) => text.Length <= ShownLength ? text : $"{text[..ShownLength]}…";

    private static string Text(JsonProperty property)
    {
        try
        {
            return property.Name;
        }
        catch (InvalidOperationException)
        {
            throw ApiException.Bad(null, "A field's name has half a surrogate pair (\\uD800 to \\uDFFF): write whole characters.", "invalid_json");
        }
    }

    // The Levenshtein distance of two words; int.MaxValue if their lengths differ by more than 2.
    private static int Distance(string a, string b)
    {
        if (Math.Abs(a.Length - b.Length) > 2)
        {
            return int.MaxValue;
        }

        int[] row = [.. Enumerable.Range(0, b.Length + 1)];
        for (int i = 1; i <= a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= b.Length; j++)
            {
                (diagonal, row[j]) = (row[j], Math.Min(Math.Min(row[j], row[j - 1]) + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)));
            }
        }

        return row[^1];
    }
}
