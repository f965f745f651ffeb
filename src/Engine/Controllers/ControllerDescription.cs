using System.Text.Json;
using System.Text.Json.Serialization;
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
        var method = controller.Ungated;
        var gains = method.OptimalFeedback is null ? null : ClosedLoop.Of(method, open ?? new double[controller.L]).Layers;
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
    public static void Write(Utf8JsonWriter json, Controller controller) =>
        JsonSerializer.Serialize(json, new ControllerJson(controller), ControllerJsonContext.Default.ControllerJson);
}

/// <summary>The JSON of how a controller was fitted: model, settings, weights, form of the prompts and certificate.</summary>
internal record FittedJson
{
    public FittedJson(Controller controller)
    {
        var source = controller.Source;
        (Model, Fingerprint, L, D) = (source.ModelName, source.ModelFingerprint, controller.L, controller.D);
        Settings = new SortedDictionary<string, string>(source.Settings.ToDictionary(), StringComparer.Ordinal);
        Cost = source.Cost?.ToString().ToLowerInvariant();
        (Q, R, Qf) = (source.Weights?.Q, source.Weights?.R, source.Weights?.Qf);
        Form = source.Form switch { RawForm => "raw", ChatForm => "chat", TokenForm => "tokens", _ => null };
        var chat = source.Form as ChatForm;
        (TemplateSha256, System, SystemVaries) = (chat?.TemplateSha256, chat?.System, chat?.SystemVaries);
        Certificate = source.Certificate is { } certificate ? new CertificateJson(certificate) : null;
    }

    public string Model { get; }

    public string Fingerprint { get; }

    [JsonPropertyName("L")]
    public int L { get; }

    [JsonPropertyName("D")]
    public int D { get; }

    public IReadOnlyDictionary<string, string> Settings { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? Cost { get; }

    public double? Q { get; }

    public double? R { get; }

    public double? Qf { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? Form { get; }

    public string? TemplateSha256 { get; }

    public string? System { get; }

    public bool? SystemVaries { get; }

    public CertificateJson? Certificate { get; }

    /// <summary>A number, or null for NaN and infinities, which JSON does not have.</summary>
    internal static double? Finite(double? value) => value is { } known && double.IsFinite(known) ? known : null;
}

/// <summary>The JSON of everything that is known about a controller.</summary>
internal sealed record ControllerJson : FittedJson
{
    public ControllerJson(Controller controller)
        : base(controller)
    {
        var (source, method) = (controller.Source, controller.Method);
        (Method, Steered, Idle) = (method.Name, method.Layers.ToString(), method.Idle);
        Gate = controller.Unconditional is Gated { Gate: var gate } ? new GateJson(gate.Layer, gate.Threshold) : null;
        Condition = method is Conditional { Condition: var asked }
            ? new ConditionJson([.. asked.Probes.Select(static probe => probe.Layer)], asked.Threshold, asked.Above)
            : null;
        (Positive, Negative, Calibration) = (source.Positive, source.Negative, source.Calibration);
        Layers =
        [
            .. ControllerDescription.LayersOf(controller).Select(static x => new LayerJson(
                x.Layer, x.Mu, Finite(x.Effort), Finite(x.Open), Finite(x.Closed), Finite(x.Residual), x.Rank)),
        ];
    }

    public string Kind { get; } = "controller";

    public string Method { get; }

    public GateJson? Gate { get; }

    public ConditionJson? Condition { get; }

    public string Steered { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? Idle { get; }

    public PromptSet Positive { get; }

    public PromptSet Negative { get; }

    public PromptSet? Calibration { get; }

    public IReadOnlyList<LayerJson> Layers { get; }
}

/// <summary>The JSON of a probe that opens a law.</summary>
internal sealed record GateJson(int Layer, double Threshold);

/// <summary>The JSON of a condition on the prompt.</summary>
internal sealed record ConditionJson(IReadOnlyList<int> Layers, double Threshold, bool Above);

/// <summary>The JSON of <see cref="LayerFigures"/>.</summary>
internal sealed record LayerJson(int Layer, double Mu, double? W, double? Open, double? Closed, double? Residual, int? Rank);

/// <summary>The JSON of a certificate.</summary>
internal sealed record CertificateJson
{
    public CertificateJson(ControllerCertificate certificate)
    {
        (HeldOut, Inside, First) = (certificate.HeldOut.Count, certificate.Inside, certificate.First);
        Looseness = FittedJson.Finite(certificate.Looseness);
        (Contraction, Propagation, Curvature) = (certificate.Contraction, certificate.Propagation, certificate.Curvature);
        (Error, Bound) = (certificate.Error, certificate.Bound);
    }

    public int HeldOut { get; }

    public int Inside { get; }

    /// <summary>Null for a run whose error vanishes: it has no ratio, and JSON has no infinity.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public double? Looseness { get; }

    public int First { get; }

    public IReadOnlyList<double> Contraction { get; }

    public IReadOnlyList<double> Propagation { get; }

    public IReadOnlyList<double> Curvature { get; }

    public IReadOnlyList<IReadOnlyList<double>> Error { get; }

    public IReadOnlyList<IReadOnlyList<double>> Bound { get; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(ControllerJson))]
internal sealed partial class ControllerJsonContext : JsonSerializerContext;
