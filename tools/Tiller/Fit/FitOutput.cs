using Tiller.Controllers;

namespace Tiller.Tool;

/// <summary>How <c>tiller fit</c> tells what it fitted, how long it took, and how well.</summary>
internal static class FitOutput
{
    public static void WriteText(Terminal terminal, string path, FitResult result)
    {
        var (controller, report, loop, stages) = result;
        var source = controller.Source;
        var method = (LinearQuadratic)controller.Method;
        Row("model", $"{VisibleText.Of(source.ModelName)}, L {controller.L}, D {controller.D}");
        Row("prompts", $"{source.Positive.Count} positive, {source.Negative.Count} negative; Jacobians averaged over {CalibrationCount(source)}");
        Row("form", VisibleText.Of(PromptFormOutput.Text(source.Form)));
        Row("controller", $"A-LQR, cost {Name(source.Cost)} ({Solve(source)}), blocks {method.Layers}, setpoint {Name(method.Setpoint)}");
        Row("weights", $"q {source.Weights!.Q:G}, r {source.Weights.R:G}, q_f {source.Weights.Qf:G}");
        Row("time", string.Join(", ", stages.Select(s => $"{Name(s.Stage)} {s.ElapsedMs / 1000:F2} s")));
        Row("solved", $"residual {report.Residual:E1}, symmetry error {report.SymmetryError:E1}, rank {report.Rank}");
        if (report.DroppedEnergy > 0 || report.Leakage > 0)
        {
            Row("left out", $"dropped energy {report.DroppedEnergy:E1}, tangents outside the reduced basis {report.Leakage:P1}");
        }

        Row("gain", $"{loop.MeanOpen:F3} open loop, {loop.MeanClosed:F3} closed loop (mean over layers, along the feature)");
        Row("written", VisibleText.Of(path));

        void Row(string name, string value) => terminal.Output.WriteLine($"{name,-12}{value}");
    }

    public static void WriteJson(Terminal terminal, string path, FitResult result) => Json.Write(terminal.Output, json =>
    {
        var (controller, report, loop, stages) = result;
        var source = controller.Source;
        var method = (LinearQuadratic)controller.Method;
        json.WriteStartObject();
        json.WriteString("controller", path);
        json.WriteString("model", source.ModelName);
        json.WriteString("fingerprint", source.ModelFingerprint);
        json.WriteNumber("L", controller.L);
        json.WriteNumber("D", controller.D);
        json.WriteNumber("positive", source.Positive.Count);
        json.WriteNumber("negative", source.Negative.Count);
        json.WriteNumber("calibration", CalibrationCount(source));
        PromptFormOutput.WriteJson(json, source.Form);
        json.WriteString("cost", Name(source.Cost));
        if (source.Order is { } order)
        {
            json.WriteNumber("order", order);
        }

        json.WriteString("setpoint", Name(method.Setpoint));
        json.WriteString("layers", method.Layers.ToString());
        json.WriteNumber("q", source.Weights!.Q);
        json.WriteNumber("r", source.Weights.R);
        json.WriteNumber("qf", source.Weights.Qf);
        json.WriteStartObject("elapsedMs");
        foreach (var stage in stages)
        {
            json.WriteNumber(Name(stage.Stage), stage.ElapsedMs);
        }

        json.WriteEndObject();
        json.WriteNumberOrNull("residual", report.Residual);
        json.WriteNumberOrNull("symmetryError", report.SymmetryError);
        json.WriteNumber("rank", report.Rank);
        json.WriteNumberOrNull("droppedEnergy", report.DroppedEnergy);
        json.WriteNumberOrNull("leakage", report.Leakage);
        json.WriteNumberOrNull("openLoopGain", loop.MeanOpen);
        json.WriteNumberOrNull("closedLoopGain", loop.MeanClosed);
        json.WriteEndObject();
    });

    /// <summary>How the recursion was solved.</summary>
    public static string Solve(ControllerSource source) =>
        source.Order is { } order ? $"reduced, order {order}" : source.Cost == FitCost.Feature ? "factored" : "dense";

    /// <summary>Prompts whose Jacobians were averaged.</summary>
    public static int CalibrationCount(ControllerSource source) => source.Calibration?.Count ?? source.Positive.Count + source.Negative.Count;

    /// <summary>A setting, a stage or a cost as the tool writes it.</summary>
    public static string? Name<T>(T? value)
        where T : struct, Enum => value?.ToString().ToLowerInvariant();

    /// <summary>A setting or a stage as the tool writes it.</summary>
    public static string Name<T>(T value)
        where T : struct, Enum => value.ToString().ToLowerInvariant();
}
