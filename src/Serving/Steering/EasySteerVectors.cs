using System.Globalization;
using System.Text.Json;
using Tiller.Law;

namespace Tiller.Serving;

/// <summary>
/// Reads EasySteer's vectors (arXiv:2509.25175), which are added to the outputs of some blocks, for any state. They compile to a law without
/// feedback; λ of a part is its scale.
/// </summary>
internal static class EasySteerVectors
{
    private const int MaxVectors = 16;

    // Fields of EasySteer that a law does not have, each with a sentence about what to do instead.
    private static readonly (string Field, string Instead)[] s_missing =
    [
        ("algorithm", "Vectors are always added, as with \"direct\": leave it out."),
        ("prefill_trigger_tokens", "Choose the tokens by 'steering.tokens'."),
        ("prefill_trigger_positions", "Choose the tokens by 'steering.tokens'."),
        ("prefill_exclude_tokens", "Choose the tokens by 'steering.tokens'."),
        ("prefill_exclude_positions", "Choose the tokens by 'steering.tokens'."),
        ("generate_trigger_tokens", "Choose the tokens by 'steering.tokens'."),
        ("path", "Requests cannot name files: upload the file, and name the controller in 'source'."),
    ];

    /// <summary>Reads the parts of <c>vectors</c>; none if it is absent.</summary>
    /// <param name="steering">The object that contains it.</param>
    /// <param name="service">The service with the sources.</param>
    public static IReadOnlyList<SteeringPart> Read(JsonFields steering, TillerService service)
    {
        string conflict = steering.TakeWord("conflict", "sequential", "priority", "error") ?? "sequential";
        var vectors = steering.TakeList("vectors", 1, MaxVectors) ?? [];
        var taken = new HashSet<int>();
        var parts = new SteeringPart[vectors.Length];
        for (int i = 0; i < vectors.Length; i++)
        {
            string path = $"{steering.NameOf("vectors")}[{i}]";
            var (name, scale, directions) = Vector(vectors[i], path, service);
            if (conflict == "error" && directions.Keys.Any(taken.Contains))
            {
                throw ApiException.Bad(
                    path, $"'{path}' steers a block that an earlier vector steers, and 'steering.conflict' is \"error\".", "invalid_value");
            }

            // If several vectors are added at one block, "priority" uses only the first; otherwise all of them add up.
            Term[] terms = [.. directions.Where(d => conflict != "priority" || !taken.Contains(d.Key)).Select(d => new Term(d.Key, d.Value, 1))];
            taken.UnionWith(directions.Keys);
            var config = service.Model.Config;
            parts[i] = new SteeringPart(name, scale, (lambda, bound) =>
                new FeedbackLaw(config.L, config.D, [], [.. terms.Select(t => t with { C = (float)lambda })], bound));
        }

        return parts;
    }

    private static (string Name, double Scale, SortedDictionary<int, float[]> Directions) Vector(
        JsonElement value, string path, TillerService service)
    {
        var fields = new JsonFields(value, path);
        string? source = fields.TakeText("source");
        var data = fields.Take("data");
        if (source is null == data is null)
        {
            throw ApiException.Bad(path, $"'{path}' needs either 'source', the name of a controller, or 'data', the numbers.", "missing_field");
        }

        double scale = fields.Take("scale") is { } given ? JsonFields.FloatOf(given, fields.NameOf("scale")) : 1;
        var layers = fields.Take("layers") is { } some ? Layers(some, fields.NameOf("layers"), service.Model.Config.L) : null;
        fields.Refuse("normalize", v => v.ValueKind == JsonValueKind.False, "Vectors are added, so a state's length changes: set it to false.");
        foreach (var (field, instead) in s_missing)
        {
            fields.Refuse(field, v => field == "algorithm" && v.ValueKind == JsonValueKind.String && v.ValueEquals("direct"), instead);
        }

        fields.Ignore("debug", "name");
        fields.End();
        return source is not null
            ? (source, scale, OfController(service.Controllers.Get(source, fields.NameOf("source")), layers))
            : (path, scale, OfNumbers(data!.Value, fields.NameOf("data"), layers, service));
    }

    // The differences of a controller's two means, at the blocks where they were measured and are to be added.
    private static SortedDictionary<int, float[]> OfController(NamedController named, LayerSet? layers)
    {
        var feature = named.Controller.Method.Feature;
        var directions = new SortedDictionary<int, float[]>();
        foreach (int k in (layers ?? named.Controller.Method.Layers).Blocks)
        {
            if (feature.Mu[k + 1] > 0)
            {
                directions[k] = feature.Difference(k + 1);
            }
        }

        return directions;
    }

    // Reads one vector for some blocks, or an object with a vector for each block.
    private static SortedDictionary<int, float[]> OfNumbers(JsonElement data, string name, LayerSet? layers, TillerService service)
    {
        var config = service.Model.Config;
        var directions = new SortedDictionary<int, float[]>();
        if (data.ValueKind != JsonValueKind.Object)
        {
            float[] one = Numbers(data, name, config.D);
            if (layers is null)
            {
                throw ApiException.Bad(name, $"'{name}' is one vector: name the blocks to which it is added in 'layers'.", "missing_field");
            }

            foreach (int k in layers.Blocks)
            {
                directions[k] = one;
            }

            return directions;
        }

        foreach (var property in data.EnumerateObject())
        {
            if (!int.TryParse(property.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int k) || k >= config.L)
            {
                throw ApiException.Bad(name, $"'{name}' must have block numbers, 0 to {config.L - 1}, as its names; one is not.", "invalid_value");
            }

            if (layers?.Contains(k) != false)
            {
                directions[k] = Numbers(property.Value, $"{name}.{k}", config.D);
            }
        }

        return directions;
    }

    private static float[] Numbers(JsonElement value, string name, int width) =>
        [.. JsonFields.ListOf(value, name, width, width).Select((number, i) =>
            number.ValueKind == JsonValueKind.Number && number.TryGetSingle(out float x) && float.IsFinite(x)
                ? x
                : JsonFields.FloatOf(number, $"{name}[{i}]"))]; // throws with the reason

    private static LayerSet Layers(JsonElement value, string name, int layers) => value.ValueKind == JsonValueKind.String
        ? SteeringRequest.Blocks(JsonFields.TextOf(value, name), name, layers)
        : new LayerSet([.. JsonFields.ListOf(value, name, 1, layers)
            .Select((k, i) => (int)JsonFields.WholeOf(k, $"{name}[{i}]", 0, layers - 1)).Select(k => new LayerRange(k, k))]);
}
