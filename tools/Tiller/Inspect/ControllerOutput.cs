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
            Row("weights", FitOutput.Text(weights));
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
        foreach (var layer in ControllerDescription.LayersOf(controller))
        {
            terminal.Output.WriteLine($"{layer.Layer,5}{layer.Mu,12:G4}{layer.Effort,12:G4}{layer.Open,10:F3}{layer.Closed,10:F3}");
        }

        if (source.Certificate is { } certified)
        {
            CertificateOutput.WriteTable(terminal, certified);
        }

        void Row(string name, string value) => terminal.Output.WriteLine($"{name,-12}{VisibleText.Of(value)}");
    }

    public static void WriteJson(Terminal terminal, Controller controller) =>
        Json.Write(terminal.Output, json => ControllerDescription.Write(json, controller));

    private static string Fitted(Controller controller)
    {
        string gate = controller.Method is Gated gated ? $", behind a gate at block {gated.Gate.Layer}" : "";
        string setpoint = controller.Ungated is LinearQuadratic lqr ? $", setpoint {FitOutput.Name(lqr.Setpoint)}" : "";
        string cost = controller.Source.Cost is { } charged
            ? $", cost {FitOutput.Name(charged)} ({FitOutput.Solve(controller.Source.Order, charged)})" : "";
        return $"{cost}, blocks {controller.Method.Layers}{setpoint}{gate}";
    }

    private static string Short(PromptSet prompts) => prompts.Sha256.Length > 12 ? prompts.Sha256[..12] : prompts.Sha256;
}
