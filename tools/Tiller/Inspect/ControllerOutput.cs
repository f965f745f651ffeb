using System.Text.Json.Serialization;
using Tiller.Controllers;

namespace Tiller.Tool;

/// <summary>Prints a controller, for <c>tiller inspect</c>.</summary>
internal static class ControllerOutput
{
    public static void WriteText(Terminal terminal, Controller controller)
    {
        var source = controller.Source;
        Row("method", $"{controller.Method.Name}{Fitted(controller)}");
        Row("model", $"{source.ModelName}, L {controller.L}, D {controller.D}, fingerprint {source.ModelFingerprint}");
        Row("prompts", $"{source.Positive.Count} positive ({Short(source.Positive)}), {source.Negative.Count} negative ({Short(source.Negative)})" +
            (source.Calibration is { } calibration ? $", {calibration.Count} for the Jacobians ({Short(calibration)})" : ""));
        Row("form", PromptFormOutput.Text(source.Form));
        if (source.Weights is { } weights)
        {
            Row("weights", $"q {weights.Q:G}, r {weights.R:G}, q_f {weights.Qf:G}");
        }

        if (source.Residuals is { Count: > 0 } residuals && source.Ranks is { Count: > 0 } ranks)
        {
            Row("solved", $"residual {residuals.Max():E1}, rank {ranks.Max()}");
        }

        if (source.Settings.Count > 0)
        {
            string fitted = source.Settings.GetValueOrDefault(ControllerSource.MethodSetting) is { } name ? $"{name}, " : "";
            Row("settings", $"{fitted}{FitOutput.Found(source)}");
        }

        if (source.Certificate is { } certificate)
        {
            Row("certificate", CertificateOutput.Text(certificate));
        }

        if (controller.Method.Idle is { } reason)
        {
            Row("warning", $"does nothing, as {reason}");
        }

        terminal.Output.WriteLine();
        terminal.Output.WriteLine($"{"layer",5}{"mu",12}{"|w|",12}{"open",10}{"closed",10}");
        foreach (var layer in Layers(controller))
        {
            terminal.Output.WriteLine($"{layer.K,5}{layer.Mu,12:G4}{layer.W,12:G4}{layer.Open,10:F3}{layer.Closed,10:F3}");
        }

        if (source.Certificate is { } certified)
        {
            CertificateOutput.WriteTable(terminal, certified);
        }

        void Row(string name, string value) => terminal.Output.WriteLine($"{name,-12}{VisibleText.Of(value)}");
    }

    public static void WriteJson(Terminal terminal, Controller controller) =>
        Json.Write(terminal.Output, new ControllerJson(controller, Layers(controller)), ControllerJsonContext.Default.ControllerJson);

    // Only methods that solve for gains have w, and only a fit knows the open-loop gain.
    private static IEnumerable<(int K, double Mu, double? W, double? Open, double? Closed)> Layers(Controller controller)
    {
        var method = Ungated(controller) as LinearQuadratic;
        var open = controller.Source.OpenLoop;
        var gains = method is null ? null : ClosedLoop.Of(method, open ?? new double[controller.L]).Layers;
        for (int k = 0; k < controller.L; k++)
        {
            yield return (k, controller.Method.Feature.Mu[k], gains?[k].Effort, open?[k], open is null ? null : gains?[k].Closed);
        }
    }

    private static SteeringMethod Unconditional(Controller controller) =>
        controller.Method is Conditional conditional ? conditional.Method : controller.Method;

    private static SteeringMethod Ungated(Controller controller) =>
        Unconditional(controller) is Gated gated ? gated.Method : Unconditional(controller);

    private static string Fitted(Controller controller)
    {
        string gate = Unconditional(controller) is Gated gated ? $", behind a gate at block {gated.Gate.Layer}" : "";
        string condition = controller.Method is Conditional { Condition: var asked }
            ? $", if the prompt's similarity at block {string.Join(" or ", asked.Probes.Select(probe => probe.Layer))} is "
                + $"{(asked.Above ? "above" : "below")} {asked.Threshold:G6}"
            : "";
        string numbers = Ungated(controller) switch
        {
            DirectionalAblation ablation => $", of the direction of block {ablation.Block}",
            OdeSteering flow => $", {flow.Steps} steps on {flow.Sketch.Components} features",
            CastSteering { Norm: not NormRule.None } cast => $", norm kept by {(cast.Norm == NormRule.Token ? "token" : "pass")}",
            _ => "",
        };
        string setpoint = Ungated(controller) is LinearQuadratic lqr ? $", setpoint {FitOutput.Name(lqr.Setpoint)}" : "";
        string cost = controller.Source.Cost is { } charged ? $", cost {FitOutput.Name(charged)} ({FitOutput.Solve(controller.Source)})" : "";
        return $"{cost}, blocks {controller.Method.Layers}{setpoint}{numbers}{gate}{condition}";
    }

    private static string Short(PromptSet prompts) => prompts.Sha256.Length > 12 ? prompts.Sha256[..12] : prompts.Sha256;
}

/// <summary>The JSON of <c>inspect</c> for a controller.</summary>
internal sealed record ControllerJson : FittedJson
{
    public ControllerJson(Controller controller, IEnumerable<(int K, double Mu, double? W, double? Open, double? Closed)> layers)
        : base(controller)
    {
        var (source, method) = (controller.Source, controller.Method);
        Method = method.Name;
        var inner = method is Conditional conditional ? conditional.Method : method;
        Gate = inner is Gated { Gate: var gate } ? new GateJson(gate.Layer, gate.Threshold) : null;
        Condition = method is Conditional { Condition: var asked }
            ? new ConditionJson([.. asked.Probes.Select(static probe => probe.Layer)], asked.Threshold, asked.Above)
            : null;
        (Steered, Idle) = (method.Layers.ToString(), method.Idle);
        (Positive, Negative) = (new PromptSetJson(source.Positive), new PromptSetJson(source.Negative));
        Calibration = source.Calibration is { } calibration ? new PromptSetJson(calibration) : null;
        Layers = [.. layers.Select(static x => new ControllerLayerJson(x.K, x.Mu, x.W, x.Open, x.Closed))];
    }

    public string Kind { get; } = "controller";

    public string Method { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public GateJson? Gate { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public ConditionJson? Condition { get; }

    public string Steered { get; }

    public string? Idle { get; }

    public PromptSetJson Positive { get; }

    public PromptSetJson Negative { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public PromptSetJson? Calibration { get; }

    public IReadOnlyList<ControllerLayerJson> Layers { get; }
}

/// <summary>The layer that a gate reads, and the threshold above which it opens.</summary>
internal sealed record GateJson(int Layer, double Threshold);

/// <summary>Blocks of which one must be similar, and on which side of what threshold.</summary>
internal sealed record ConditionJson(IReadOnlyList<int> Layers, double Threshold, bool Above);

/// <summary>The prompts from which a controller was made.</summary>
internal sealed record PromptSetJson
{
    public PromptSetJson(PromptSet prompts) => (Count, Sha256) = (prompts.Count, prompts.Sha256);

    public int Count { get; }

    public string Sha256 { get; }
}

/// <summary>The JSON of a layer of a controller; unknown values are null.</summary>
internal sealed record ControllerLayerJson(
    int Layer, double Mu,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] double? W,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] double? Open,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] double? Closed);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(ControllerJson))]
internal sealed partial class ControllerJsonContext : JsonSerializerContext;
