using System.Text.Json;
using Tiller.Controllers;

namespace Tiller.Tool;

/// <summary>How <c>tiller inspect</c> tells a controller.</summary>
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

    public static void WriteJson(Terminal terminal, Controller controller) => Json.Write(terminal.Output, json =>
    {
        var source = controller.Source;
        json.WriteStartObject();
        json.WriteString("kind", "controller");
        json.WriteString("method", controller.Method.Name);
        if (controller.Method is Gated { Gate: var gate })
        {
            json.WriteStartObject("gate");
            json.WriteNumber("layer", gate.Layer);
            json.WriteNumber("threshold", gate.Threshold);
            json.WriteEndObject();
        }

        json.WriteString("model", source.ModelName);
        json.WriteString("fingerprint", source.ModelFingerprint);
        json.WriteNumber("L", controller.L);
        json.WriteNumber("D", controller.D);
        json.WriteString("steered", controller.Method.Layers.ToString());
        json.WriteString("idle", controller.Method.Idle);
        json.WriteString("cost", FitOutput.Name(source.Cost));
        if (source.Weights is { } weights)
        {
            json.WriteNumber("q", weights.Q);
            json.WriteNumber("r", weights.R);
            json.WriteNumber("qf", weights.Qf);
        }

        FitOutput.WriteSettings(json, source);
        PromptFormOutput.WriteJson(json, source.Form);
        WritePrompts(json, "positive", source.Positive);
        WritePrompts(json, "negative", source.Negative);
        if (source.Calibration is { } calibration)
        {
            WritePrompts(json, "calibration", calibration);
        }

        CertificateOutput.WriteJson(json, source.Certificate);
        json.WriteStartArray("layers");
        foreach (var layer in Layers(controller))
        {
            json.WriteStartObject();
            json.WriteNumber("layer", layer.K);
            json.WriteNumber("mu", layer.Mu);
            WriteIfKnown(json, "w", layer.W);
            WriteIfKnown(json, "open", layer.Open);
            WriteIfKnown(json, "closed", layer.Closed);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    });

    private static void WritePrompts(Utf8JsonWriter json, string name, PromptSet prompts)
    {
        json.WriteStartObject(name);
        json.WriteNumber("count", prompts.Count);
        json.WriteString("sha256", prompts.Sha256);
        json.WriteEndObject();
    }

    private static void WriteIfKnown(Utf8JsonWriter json, string name, double? value)
    {
        if (value is { } known)
        {
            json.WriteNumber(name, known);
        }
    }

    // Methods without a solve have no w of their own, and only a fit knows the open-loop gain.
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

    private static SteeringMethod Ungated(Controller controller) => controller.Method is Gated gated ? gated.Method : controller.Method;

    private static string Fitted(Controller controller)
    {
        string gate = controller.Method is Gated gated ? $", behind a gate at block {gated.Gate.Layer}" : "";
        string setpoint = Ungated(controller) is LinearQuadratic lqr ? $", setpoint {FitOutput.Name(lqr.Setpoint)}" : "";
        string cost = controller.Source.Cost is { } charged ? $", cost {FitOutput.Name(charged)} ({FitOutput.Solve(controller.Source)})" : "";
        return $"{cost}, blocks {controller.Method.Layers}{setpoint}{gate}";
    }

    private static string Short(PromptSet prompts) => prompts.Sha256.Length > 12 ? prompts.Sha256[..12] : prompts.Sha256;
}
