using System.Text.Json.Serialization;
using Tiller.Controllers;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>Prints what <c>tiller fit</c> has fitted, with its time and accuracy.</summary>
internal static class FitOutput
{
    public static void WriteText(Terminal terminal, string path, FitResult result)
    {
        var (controller, report, loop, stages) = result;
        var source = controller.Source;
        var method = controller.Method;
        string averaged = source.Weights is null ? "" : $"; Jacobians averaged over {CalibrationCount(source)}";
        string solve = source.Cost is null ? "" : $", cost {Name(source.Cost)} ({Solve(source.Order, source.Cost)})";
        string setpoint = method is LinearQuadratic lqr ? $", setpoint {Name(lqr.Setpoint)}" : "";
        Row("model", $"{VisibleText.Of(source.ModelName)}, L {controller.L}, D {controller.D}");
        Row("prompts", $"{source.Positive.Count} positive, {source.Negative.Count} negative{averaged}");
        Row("form", VisibleText.Of(PromptFormOutput.Text(source.Form)));
        Row("controller", $"{source.Settings[ControllerSource.MethodSetting]}{solve}, blocks {method.Layers}{setpoint}");
        if (source.Weights is { } weights)
        {
            Row("weights", Text(weights));
        }

        if (Found(source) is { Length: > 0 } found)
        {
            Row("found", found);
        }

        Row("time", string.Join(", ", stages.Where(s => source.Weights is not null || s.Stage == FitStage.Activations)
            .Select(s => $"{Name(s.Stage)} {s.ElapsedMs / 1000:F2} s")));
        if (report.Steps.Count > 0)
        {
            Row("solved", $"residual {report.Residual:E1}, symmetry error {report.SymmetryError:E1}, rank {report.Rank}");
        }

        if (report.DroppedEnergy > 0 || report.Leakage > 0)
        {
            Row("left out", $"dropped energy {report.DroppedEnergy:E1}, tangents outside the reduced basis {report.Leakage:P1}");
        }

        if (loop.Layers.Count > 0)
        {
            Row("gain", $"{loop.MeanOpen:F3} open loop, {loop.MeanClosed:F3} closed loop (mean over layers, along the feature)");
        }

        if (source.Certificate is { } certificate)
        {
            Row("certificate", CertificateOutput.Text(certificate));
        }

        Row("written", VisibleText.Of(path));

        void Row(string name, string value) => terminal.Output.WriteLine($"{name,-12}{value}");
    }

    /// <summary>One fit as an object, several as an array of them.</summary>
    public static void WriteJson(Terminal terminal, IReadOnlyList<string> paths, IReadOnlyList<FitResult> results)
    {
        IReadOnlyList<FitJson> fits = [.. paths.Zip(results, static (path, result) => new FitJson(path, result))];
        if (fits.Count == 1)
        {
            Json.Write(terminal.Output, fits[0], FitJsonContext.Default.FitJson);
        }
        else
        {
            Json.Write(terminal.Output, fits, FitJsonContext.Default.IReadOnlyListFitJson);
        }
    }

    /// <summary>The settings of a fit in a line, without the method's name; empty if there are no others.</summary>
    public static string Found(ControllerSource source) => string.Join(
        ", ",
        source.Settings.Where(x => x.Key != ControllerSource.MethodSetting).OrderBy(x => x.Key, StringComparer.Ordinal)
            .Select(x => $"{x.Key} {x.Value}"));

    /// <summary>The form of the recursion: dense, factored, or reduced and its order.</summary>
    public static string Solve(int? order, FitCost? cost) =>
        order is { } p ? $"reduced, order {p}" : cost == FitCost.Feature ? "factored" : "dense";

    /// <summary>q, r and q_f.</summary>
    public static string Text(LqrWeights weights) => $"q {weights.Q:G}, r {weights.R:G}, q_f {weights.Qf:G}";

    /// <summary>Number of prompts over which the Jacobians were averaged.</summary>
    public static int CalibrationCount(ControllerSource source) => source.Calibration?.Count ?? source.Positive.Count + source.Negative.Count;

    /// <summary>The name of a setting, a stage or a cost in output; null for null.</summary>
    public static string? Name<T>(T? value)
        where T : struct, Enum => value?.ToString().ToLowerInvariant();

    /// <summary>The name of a setting or a stage in output.</summary>
    public static string Name<T>(T value)
        where T : struct, Enum => value.ToString().ToLowerInvariant();
}

/// <summary>The JSON of a fit, and of each in a sweep.</summary>
internal sealed record FitJson : FittedJson
{
    public FitJson(string path, FitResult result)
        : base(result.Controller)
    {
        var (controller, report, loop, stages) = result;
        var source = controller.Source;
        (Controller, Positive, Negative, Calibration) = (path, source.Positive.Count, source.Negative.Count, FitOutput.CalibrationCount(source));
        (Order, Setpoint) = (source.Order, controller.Method is LinearQuadratic lqr ? FitOutput.Name(lqr.Setpoint) : null);
        Layers = controller.Method.Layers.ToString();
        ElapsedMs = stages.ToDictionary(static stage => FitOutput.Name(stage.Stage), static stage => stage.ElapsedMs);
        if (report.Steps.Count > 0)
        {
            (Residual, SymmetryError, Rank) = (Finite(report.Residual), Finite(report.SymmetryError), report.Rank);
            (DroppedEnergy, Leakage) = (Finite(report.DroppedEnergy), Finite(report.Leakage));
        }

        if (loop.Layers.Count > 0)
        {
            (OpenLoopGain, ClosedLoopGain) = (Finite(loop.MeanOpen), Finite(loop.MeanClosed));
        }
    }

    public string Controller { get; }

    public int Positive { get; }

    public int Negative { get; }

    public int Calibration { get; }

    public int? Order { get; }

    public string? Setpoint { get; }

    public string Layers { get; }

    public IReadOnlyDictionary<string, double> ElapsedMs { get; }

    public double? Residual { get; }

    public double? SymmetryError { get; }

    public int? Rank { get; }

    public double? DroppedEnergy { get; }

    public double? Leakage { get; }

    public double? OpenLoopGain { get; }

    public double? ClosedLoopGain { get; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(FitJson))]
[JsonSerializable(typeof(IReadOnlyList<FitJson>))]
internal sealed partial class FitJsonContext : JsonSerializerContext;
