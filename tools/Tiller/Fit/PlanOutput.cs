using System.Text.Json.Serialization;
using Tiller.Controllers;

namespace Tiller.Tool;

/// <summary>Prints what a fit will need, for <c>--plan</c>.</summary>
internal static class PlanOutput
{
    private const double Gibibyte = 1L << 30;

    /// <summary>Writes plans for one model: as texts one after another; as JSON, one object or an array of them.</summary>
    public static void Write(Terminal terminal, bool json, IReadOnlyList<PlannedFit> plans)
    {
        if (json)
        {
            PlanJson[] all = [.. plans.Select(JsonOf)];
            if (all.Length == 1)
            {
                Json.Write(terminal.Output, all[0], PlanJsonContext.Default.PlanJson);
            }
            else
            {
                Json.Write(terminal.Output, all, PlanJsonContext.Default.PlanJsonArray);
            }

            return;
        }

        WriteModel(terminal, plans[0]);
        foreach (var plan in plans)
        {
            WriteText(terminal, plan);
        }
    }

    /// <summary>Prints, before a fit starts, a line with what it needs.</summary>
    public static void WriteNeed(Terminal terminal, PlannedFit fit)
    {
        double seconds = fit.Plan.Stages.Sum(s => Seconds(fit, s));
        string time = seconds < 100 ? $"{seconds:N0} s" : $"{seconds / 60:N0} minutes";
        string room = fit.Plan.PeakInBytes > fit.Rates.FreeInBytes ? $", and only {fit.Rates.FreeInBytes / Gibibyte:F1} GiB are free" : "";
        terminal.Error.WriteLine(
            $"tiller: this {fit.Solve} fit needs about {fit.Plan.PeakInBytes / Gibibyte:F1} GiB and {time} on {fit.Rates.Device}{room}; "
            + "--plan shows more; --calibration and --cost feature make it shorter.");
    }

    private static void WriteModel(Terminal terminal, PlannedFit fit)
    {
        var c = fit.Config;
        Row("model", $"{VisibleText.Of(fit.Model)}, {c.Family}, L {c.L}, D {c.D}, F {c.F}; weights {fit.Weights}");
        Row("prompts", $"{fit.Prompts:N0}, {(fit.CountedTokens ? "" : "about ")}{fit.Tokens:N0} tokens in total; "
            + $"Jacobians averaged over {fit.Calibration:N0}");
        Row("rates", $"{Rate(fit.Rates.Single)} float32, {Rate(fit.Rates.Double)} float64, measured on a small block by {fit.Rates.Device}");

        void Row(string name, string value) => terminal.Output.WriteLine($"{name,-12}{value}");
    }

    private static void WriteText(Terminal terminal, PlannedFit fit)
    {
        var plan = fit.Plan;
        terminal.Output.WriteLine();
        terminal.Output.WriteLine($"{fit.Solve,-20}{"GiB",10}");
        foreach (var part in plan.Memory)
        {
            Memory(part.Name, part.SizeInBytes);
        }

        string verdict = plan.PeakInBytes > fit.Rates.FreeInBytes ? "does not fit into" : "fits into";
        Memory("total", plan.PeakInBytes, $"{verdict} the {fit.Rates.FreeInBytes / Gibibyte:F1} GiB that are free on {fit.Rates.Device}");
        if (plan.AllJacobiansInBytes > 0)
        {
            Memory("(not needed:", plan.AllJacobiansInBytes, "for the Jacobians of all layers at once; a fit keeps only one layer's at a time)");
        }

        terminal.Output.WriteLine($"{"",-20}{"GFLOP",10}{"seconds",12}");
        foreach (var stage in plan.Stages)
        {
            Work(FitOutput.Name(stage.Stage), stage.SingleFlops + stage.DoubleFlops, Seconds(fit, stage));
        }

        Work("total", plan.Stages.Sum(s => s.SingleFlops + s.DoubleFlops), plan.Stages.Sum(s => Seconds(fit, s)));

        void Memory(string name, long bytes, string note = "")
            => terminal.Output.WriteLine($"  {name,-18}{bytes / Gibibyte,10:F3}  {note}".TrimEnd());

        void Work(string name, double flops, double seconds) => terminal.Output.WriteLine($"  {name,-18}{flops / 1e9,10:N1}{seconds,12:N2}");
    }

    private static PlanJson JsonOf(PlannedFit fit) => new()
    {
        Model = fit.Model,
        Solve = fit.Solve,
        Weights = fit.Weights,
        Prompts = fit.Prompts,
        Calibration = fit.Calibration,
        Tokens = fit.Tokens,
        TokensCounted = fit.CountedTokens,
        SizeInBytes = fit.Plan.Memory.ToDictionary(static part => part.Name, static part => part.SizeInBytes),
        PeakInBytes = fit.Plan.PeakInBytes,
        Device = fit.Rates.Device,
        AvailableInBytes = fit.Rates.FreeInBytes,
        AllJacobiansInBytes = fit.Plan.AllJacobiansInBytes,
        Stages = [.. fit.Plan.Stages.Select(x => new PlannedStageJson(FitOutput.Name(x.Stage), x.SingleFlops + x.DoubleFlops, Seconds(fit, x)))],
    };

    private static double Seconds(PlannedFit fit, PlannedStage stage) => FitPlan.Seconds(stage, fit.Rates.Single, fit.Rates.Double);

    private static string Rate(double flopsPerSecond) => $"{flopsPerSecond / 1e9:N0} GFLOP/s";
}

/// <summary>The JSON of <c>fit --plan</c> for a fit.</summary>
internal sealed record PlanJson
{
    public required string Model { get; init; }

    public required string Solve { get; init; }

    public required string Weights { get; init; }

    public required int Prompts { get; init; }

    public required int Calibration { get; init; }

    public required long Tokens { get; init; }

    public required bool TokensCounted { get; init; }

    public required IReadOnlyDictionary<string, long> SizeInBytes { get; init; }

    public required long PeakInBytes { get; init; }

    public required string Device { get; init; }

    public required long AvailableInBytes { get; init; }

    public required long AllJacobiansInBytes { get; init; }

    public required IReadOnlyList<PlannedStageJson> Stages { get; init; }
}

/// <summary>A stage of a fit.</summary>
internal sealed record PlannedStageJson(string Stage, double Flops, double Seconds);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(PlanJson))]
[JsonSerializable(typeof(PlanJson[]))]
internal sealed partial class PlanJsonContext : JsonSerializerContext;
