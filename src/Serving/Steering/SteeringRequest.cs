using System.Text.Json;
using Tiller.Law;

namespace Tiller.Serving;

/// <summary>Reads a request's <c>steering</c>.</summary>
internal static class SteeringRequest
{
    private const int MaxControllers = 16;

    /// <summary>Reads the plan; null if the request has no steering.</summary>
    /// <exception cref="ApiException">A field is wrong, or names an unknown controller.</exception>
    public static SteeringPlan? Read(JsonElement? value, TillerService service)
    {
        if (value is null)
        {
            return null;
        }

        var fields = new JsonFields(value.Value, "steering");
        var controllers = fields.TakeList("controllers", 1, MaxControllers);
        SteeringPart[] parts =
        [
            .. (controllers ?? []).Select((c, i) => Controller(c, $"steering.controllers[{i}]", service)), .. EasySteerVectors.Read(fields, service),
        ];
        if (parts.Length == 0)
        {
            throw ApiException.Bad("steering.controllers", "'steering.controllers' is missing: name at least one.", "missing_field");
        }

        if (parts.Select(part => part.Name).Distinct(StringComparer.Ordinal).Count() < parts.Length)
        {
            throw ApiException.Bad("steering.controllers", "'steering' has the same controller twice, so it would steer twice: name each controller "
                + "once, with the λ that is intended.", "invalid_value");
        }

        var plan = new SteeringPlan
        {
            Parts = parts,
            Tokens = fields.TakeWord("tokens", "last", "all", "first", "generated", "clean") switch
            {
                "all" => SteeredTokens.All,
                "first" => SteeredTokens.First,
                "generated" => new SteeredTokens { Prompt = PromptTokens.None },
                "clean" => SteeredTokens.LastOverCleanPrefix,
                _ => SteeredTokens.Last,
            },
            Layers = fields.TakeText("layers") is { } layers ? Blocks(layers, fields.NameOf("layers"), service.Model.Config.L) : null,
            MaxEffort = fields.Take("max_effort") is { } bound ? Bound(bound, fields.NameOf("max_effort")) : float.PositiveInfinity,
            Compare = fields.TakeFlag("compare") ?? false,
            Telemetry = Enum.Parse<Telemetry>(fields.TakeWord("telemetry", "none", "summary", "tokens", "layers") ?? "summary", ignoreCase: true),
        };
        fields.End();
        return plan;
    }

    /// <summary>Reads a set of blocks of the model.</summary>
    public static LayerSet Blocks(string text, string name, int layers) =>
        LayerSet.TryParse(text, out var blocks) && blocks.Last < layers ? blocks : throw ApiException.Bad(
            name, $"'{name}' must be ranges of blocks a-b within 0-{layers - 1}, such as 1-3,8-9, got \"{text[..Math.Min(40, text.Length)]}\".",
            "invalid_value");

    private static SteeringPart Controller(JsonElement value, string path, TillerService service)
    {
        var fields = new JsonFields(value, path);
        string name = JsonFields.TextOf(fields.Need("name"), fields.NameOf("name"));
        double lambda = fields.Take("lambda") is { } given ? JsonFields.FloatOf(given, fields.NameOf("lambda")) : 1;
        fields.End();
        return new SteeringPart(name, lambda, service.Controllers.Get(name, fields.NameOf("name")).ToLaw);
    }

    private static float Bound(JsonElement value, string name) => JsonFields.FloatOf(value, name) is > 0 and var bound
        ? bound
        : throw JsonFields.Wrong(name, $"'{name}'", "a number above 0", value, JsonValueKind.Number);
}
