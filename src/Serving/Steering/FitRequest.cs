using System.Text.Json;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Synthesis;

namespace Tiller.Serving;

/// <summary>A checked request to <c>/v1/controllers/fit</c>.</summary>
internal sealed record FitRequest(string Name, bool Replace, ContrastSet Contrast, FitOptions Options)
{
    private const int MaxPrompts = 512;

    /// <summary>Reads a request.</summary>
    /// <exception cref="ApiException">A field is wrong, unknown or missing, or the name is in use.</exception>
    public static FitRequest Read(JsonElement body, TillerService service)
    {
        var fields = new JsonFields(body);
        string name = JsonFields.TextOf(fields.Need("name"), "name");
        bool replace = fields.TakeFlag("replace") ?? false;
        service.Controllers.CheckFree(name, "name", replace);
        Prompt[] positive = Prompts(fields.Need("positive"), "positive"), negative = Prompts(fields.Need("negative"), "negative");
        Prompt[]? heldOut = fields.Take("certify") is { } certify ? Prompts(certify, "certify") : null;
        RefuseMixed(positive, negative, "negative", "'positive' and 'negative'");
        RefuseMixed(positive, heldOut ?? [], "certify", "'positive', 'negative' and 'certify'");

        var standard = FitOptions.StandardWeights;
        double q = Weight("q", standard.Q), r = Weight("r", standard.R), qf = Weight("qf", standard.Qf);
        var cost = fields.TakeWord("cost", "feature", "state") == "state" ? FitCost.State : FitCost.Feature;
        var config = service.Model.Config;
        var options = new FitOptions
        {
            Weights = new LqrWeights(q, r, qf),
            Cost = cost,
            Order = (int?)fields.TakeWhole("order", 1, config.D),
            HeldOut = heldOut,
            Layers = fields.TakeText("layers") is { } layers ? SteeringRequest.Blocks(layers, "layers", config.L) : null,
        };
        if (fields.TakeText("model") is { } model)
        {
            ModelRoutes.Check(service, model);
        }

        fields.End();
        return new FitRequest(name, replace, new ContrastSet(positive, negative), options);

        double Weight(string field, double standard)
        {
            if (fields.Take(field) is not { } value)
            {
                return standard;
            }

            double weight = JsonFields.NumberOf(value, field);
            bool isRight = field == "r" ? weight > 0 : weight >= 0;
            return isRight ? weight : throw JsonFields.Wrong(
                field, $"'{field}'", field == "r" ? "a number above 0" : "a number of at least 0", value, JsonValueKind.Number);
        }
    }

    private static void RefuseMixed(Prompt[] first, Prompt[] second, string param, string lists)
    {
        if (first.Concat(second).Select(prompt => prompt is ChatPrompt).Distinct().Count() > 1)
        {
            throw ApiException.Bad(param, $"{lists} must be all texts or all lists of messages.", "invalid_value");
        }
    }

    private static Prompt[] Prompts(JsonElement value, string name) => [.. JsonFields.ListOf(value, name, 1, MaxPrompts).Select((prompt, i) =>
    {
        string path = $"{name}[{i}]";
        return prompt.ValueKind == JsonValueKind.Array
            ? new ChatPrompt(ChatMessages.Read(prompt, path))
            : (Prompt)new TextPrompt(JsonFields.TextOf(prompt, path));
    })];
}
