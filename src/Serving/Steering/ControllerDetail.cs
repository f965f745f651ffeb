using System.Text.Json;
using Tiller.Controllers;
using Tiller.Features;

namespace Tiller.Serving;

/// <summary>Writes the details of a controller, with the names that <c>tiller inspect</c> uses.</summary>
internal static class ControllerDetail
{
    /// <summary>Writes the object.</summary>
    public static void Write(Utf8JsonWriter json, Controller controller)
    {
        var (source, method) = (controller.Source, controller.Method);
        json.WriteStartObject();
        json.WriteString("kind", "controller");
        json.WriteString("method", method.Name);
        var inner = method is Conditional conditional ? conditional.Method : method;
        if (inner is Gated { Gate: var gate })
        {
            json.WriteStartObject("gate");
            json.WriteNumber("layer", gate.Layer);
            json.WriteNumber("threshold", gate.Threshold);
            json.WriteEndObject();
        }

        if (method is Conditional { Condition: var asked })
        {
            json.WriteStartObject("condition");
            json.WriteStartArray("layers");
            foreach (var probe in asked.Probes)
            {
                json.WriteNumberValue(probe.Layer);
            }

            json.WriteEndArray();
            json.WriteNumber("threshold", asked.Threshold);
            json.WriteBoolean("above", asked.Above);
            json.WriteEndObject();
        }

        json.WriteString("model", source.ModelName);
        json.WriteString("fingerprint", source.ModelFingerprint);
        json.WriteNumber("L", controller.L);
        json.WriteNumber("D", controller.D);
        json.WriteString("steered", method.Layers.ToString());
        json.WriteString("idle", method.Idle);
        json.WriteString("cost", source.Cost?.ToString().ToLowerInvariant());
        if (source.Weights is { } weights)
        {
            json.WriteNumber("q", weights.Q);
            json.WriteNumber("r", weights.R);
            json.WriteNumber("qf", weights.Qf);
        }

        json.WriteString("form", source.Form switch { RawForm => "raw", ChatForm => "chat", TokenForm => "tokens", _ => null });
        WriteSettings(json, source.Settings);
        WritePrompts(json, "positive", source.Positive);
        WritePrompts(json, "negative", source.Negative);
        if (source.Calibration is { } calibration)
        {
            WritePrompts(json, "calibration", calibration);
        }

        WriteLayers(json, controller);
        json.WriteEndObject();
    }

    private static void WriteSettings(Utf8JsonWriter json, IReadOnlyDictionary<string, string> settings)
    {
        json.WriteStartObject("settings");
        foreach (var (name, value) in settings)
        {
            json.WriteString(name, value);
        }

        json.WriteEndObject();
    }

    private static void WritePrompts(Utf8JsonWriter json, string name, PromptSet prompts)
    {
        json.WriteStartObject(name);
        json.WriteNumber("count", prompts.Count);
        json.WriteString("sha256", prompts.Sha256);
        json.WriteEndObject();
    }

    // Unknown values are left out: only methods that solve for gains have w, and only a fit knows the open-loop gain.
    private static void WriteLayers(Utf8JsonWriter json, Controller controller)
    {
        var source = controller.Source;
        var unconditional = controller.Method is Conditional conditional ? conditional.Method : controller.Method;
        var method = (unconditional is Gated gated ? gated.Method : unconditional) as LinearQuadratic;
        var gains = method is null ? null : ClosedLoop.Of(method, source.OpenLoop ?? new double[controller.L]).Layers;
        json.WriteStartArray("layers");
        for (int k = 0; k < controller.L; k++)
        {
            json.WriteStartObject();
            json.WriteNumber("layer", k);
            json.WriteNumber("mu", (double)controller.Method.Feature.Mu[k]);
            WriteIfKnown(json, "w", gains?[k].Effort);
            WriteIfKnown(json, "open", source.OpenLoop?[k]);
            WriteIfKnown(json, "closed", source.OpenLoop is null ? null : gains?[k].Closed);
            WriteIfKnown(json, "residual", source.Residuals?[k]);
            WriteIfKnown(json, "rank", source.Ranks?[k]);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteIfKnown(Utf8JsonWriter json, string name, double? value)
    {
        if (value is { } known && double.IsFinite(known))
        {
            json.WriteNumber(name, known);
        }
    }
}
