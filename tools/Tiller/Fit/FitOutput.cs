using System.Text.Json.Serialization;
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

    public static void WriteJson(Terminal terminal, string path, FitResult result) =>
        Json.Write(terminal.Output, new FitJson(path, result), FitJsonContext.Default.FitJson);

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

/// <summary>What <c>fit</c> prints.</summary>
internal sealed record FitJson : FormedJson
{
    public FitJson(string path, FitResult result)
        : base(result.Controller.Source.Form)
    {
        var (controller, report, loop, stages) = result;
        var source = controller.Source;
        var method = (LinearQuadratic)controller.Method;
        (Controller, Model, Fingerprint, L, D) = (path, source.ModelName, source.ModelFingerprint, controller.L, controller.D);
        (Positive, Negative, Calibration) = (source.Positive.Count, source.Negative.Count, FitOutput.CalibrationCount(source));
        (Cost, Order, Setpoint, Layers) = (FitOutput.Name(source.Cost), source.Order, FitOutput.Name(method.Setpoint), method.Layers.ToString());
        (Q, R, Qf) = (source.Weights!.Q, source.Weights.R, source.Weights.Qf);
        ElapsedMs = stages.ToDictionary(static stage => FitOutput.Name(stage.Stage), static stage => stage.ElapsedMs);
        (Residual, SymmetryError, Rank) = (Json.Finite(report.Residual), Json.Finite(report.SymmetryError), report.Rank);
        (DroppedEnergy, Leakage) = (Json.Finite(report.DroppedEnergy), Json.Finite(report.Leakage));
        (OpenLoopGain, ClosedLoopGain) = (Json.Finite(loop.MeanOpen), Json.Finite(loop.MeanClosed));
    }

    public string Controller { get; }

    public string Model { get; }

    public string Fingerprint { get; }

    [JsonPropertyName("L")]
    public int L { get; }

    [JsonPropertyName("D")]
    public int D { get; }

    public int Positive { get; }

    public int Negative { get; }

    public int Calibration { get; }

    public string? Cost { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? Order { get; }

    public string Setpoint { get; }

    public string Layers { get; }

    public double Q { get; }

    public double R { get; }

    public double Qf { get; }

    public IReadOnlyDictionary<string, double> ElapsedMs { get; }

    public double? Residual { get; }

    public double? SymmetryError { get; }

    public int Rank { get; }

    public double? DroppedEnergy { get; }

    public double? Leakage { get; }

    public double? OpenLoopGain { get; }

    public double? ClosedLoopGain { get; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(FitJson))]
internal sealed partial class FitJsonContext : JsonSerializerContext;
