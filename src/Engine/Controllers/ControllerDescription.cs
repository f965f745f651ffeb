using System.Text.Json;
using Tiller.Features;

namespace Tiller.Controllers;

/// <summary>The figures of one layer of a controller. Unknown figures are null.</summary>
/// <param name="Layer">Block k.</param>
/// <param name="Mu">μ_k: distance between the two lists of prompts along the feature.</param>
/// <param name="Effort">|w_k|: effort per unit of error; methods without a solve have none.</param>
/// <param name="Open">v_{k+1}·A_k v_k: the plain model's gain along the feature, which only a fit knows.</param>
/// <param name="Closed">v_{k+1}·(A_k v_k − w_k): with the controller.</param>
/// <param name="Residual">Residual of the Riccati recursion's step.</param>
/// <param name="Rank">Rank of its solution.</param>
public sealed record LayerFigures(int Layer, double Mu, double? Effort, double? Open, double? Closed, double? Residual, int? Rank);

/// <summary>Describes a controller as JSON, for <c>tiller inspect</c>, <c>tiller fit</c> and the service.</summary>
public static class ControllerDescription
{
    /// <summary>Returns the figures of every layer.</summary>
    /// <param name="controller">The controller.</param>
    /// <returns>One entry per block, k = 0..L-1.</returns>
    public static IReadOnlyList<LayerFigures> LayersOf(Controller controller)
    {
        var source = controller.Source;
        var open = source.OpenLoop;
        var gains = controller.Ungated is LinearQuadratic method ? ClosedLoop.Of(method, open ?? new double[controller.L]).Layers : null;
        return
        [
            .. Enumerable.Range(0, controller.L).Select(k => new LayerFigures(
                k, controller.Method.Feature.Mu[k], gains?[k].Effort, open?[k], open is null ? null : gains?[k].Closed, source.Residuals?[k],
                source.Ranks?[k])),
        ];
    }

    /// <summary>Writes an object with everything that is known about a controller.</summary>
    /// <param name="json">The writer.</param>
    /// <param name="controller">The controller.</param>
    public static void Write(Utf8JsonWriter json, Controller controller)
    {
        var (source, method) = (controller.Source, controller.Method);
        json.WriteStartObject();
        json.WriteString("kind", "controller");
        json.WriteString("method", method.Name);
        if (controller.Unconditional is Gated { Gate: var gate })
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

        json.WriteString("steered", method.Layers.ToString());
        json.WriteString("idle", method.Idle);
        WriteFit(json, controller);
        WritePrompts(json, "positive", source.Positive);
        WritePrompts(json, "negative", source.Negative);
        if (source.Calibration is { } calibration)
        {
            WritePrompts(json, "calibration", calibration);
        }

        json.WriteStartArray("layers");
        foreach (var layer in LayersOf(controller))
        {
            json.WriteStartObject();
            json.WriteNumber("layer", layer.Layer);
            json.WriteNumber("mu", layer.Mu);
            WriteIfKnown(json, "w", layer.Effort);
            WriteIfKnown(json, "open", layer.Open);
            WriteIfKnown(json, "closed", layer.Closed);
            WriteIfKnown(json, "residual", layer.Residual);
            WriteIfKnown(json, "rank", layer.Rank);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>
    /// Writes the properties that describe the fit of a controller into the open object: model, settings, weights, form of the prompts and
    /// certificate.
    /// </summary>
    /// <param name="json">The writer.</param>
    /// <param name="controller">The controller.</param>
    public static void WriteFit(Utf8JsonWriter json, Controller controller)
    {
        var source = controller.Source;
        json.WriteString("model", source.ModelName);
        json.WriteString("fingerprint", source.ModelFingerprint);
        json.WriteNumber("L", controller.L);
        json.WriteNumber("D", controller.D);
        json.WriteStartObject("settings");
        foreach (var (name, value) in source.Settings.OrderBy(setting => setting.Key, StringComparer.Ordinal))
        {
            json.WriteString(name, value);
        }

        json.WriteEndObject();
        json.WriteString("cost", source.Cost?.ToString().ToLowerInvariant());
        if (source.Weights is { } weights)
        {
            json.WriteNumber("q", weights.Q);
            json.WriteNumber("r", weights.R);
            json.WriteNumber("qf", weights.Qf);
        }

        json.WriteString("form", source.Form switch { RawForm => "raw", ChatForm => "chat", TokenForm => "tokens", _ => null });
        if (source.Form is ChatForm chat)
        {
            json.WriteString("templateSha256", chat.TemplateSha256);
            if (chat.System is not null)
            {
                json.WriteString("system", chat.System);
            }

            json.WriteBoolean("systemVaries", chat.SystemVaries);
        }

        if (source.Certificate is { } certificate)
        {
            WriteCertificate(json, certificate);
        }
    }

    private static void WriteCertificate(Utf8JsonWriter json, ControllerCertificate certificate)
    {
        json.WriteStartObject("certificate");
        json.WriteNumber("heldOut", certificate.HeldOut.Count);
        json.WriteNumber("inside", certificate.Inside);

        // A run whose error vanishes has no ratio, and JSON has no infinity.
        if (double.IsFinite(certificate.Looseness))
        {
            json.WriteNumber("looseness", certificate.Looseness);
        }
        else
        {
            json.WriteNull("looseness");
        }

        json.WriteNumber("first", certificate.First);
        WriteNumbers(json, "contraction", certificate.Contraction);
        WriteNumbers(json, "propagation", certificate.Propagation);
        WriteNumbers(json, "curvature", certificate.Curvature);
        WriteRuns(json, "error", certificate.Error);
        WriteRuns(json, "bound", certificate.Bound);
        json.WriteEndObject();
    }

    private static void WriteRuns(Utf8JsonWriter json, string name, IReadOnlyList<IReadOnlyList<double>> runs)
    {
        json.WriteStartArray(name);
        foreach (var run in runs)
        {
            WriteNumbers(json, null, run);
        }

        json.WriteEndArray();
    }

    private static void WriteNumbers(Utf8JsonWriter json, string? name, IReadOnlyList<double> numbers)
    {
        if (name is not null)
        {
            json.WritePropertyName(name);
        }

        json.WriteStartArray();
        foreach (double number in numbers)
        {
            json.WriteNumberValue(number);
        }

        json.WriteEndArray();
    }

    private static void WritePrompts(Utf8JsonWriter json, string name, PromptSet prompts)
    {
        json.WriteStartObject(name);
        json.WriteNumber("count", prompts.Count);
        json.WriteString("sha256", prompts.Sha256);
        json.WriteEndObject();
    }

    /// <summary>Writes a number, unless it is not known or not finite.</summary>
    internal static void WriteIfKnown(Utf8JsonWriter json, string name, double? value)
    {
        if (value is { } known && double.IsFinite(known))
        {
            json.WriteNumber(name, known);
        }
    }
}
