using System.Text.Json;
using Tiller.Controllers;

namespace Tiller.Tool;

/// <summary>How <c>--plan</c> tells what a fit will take.</summary>
internal static class PlanOutput
{
    private const double Gibibyte = 1L << 30;

    /// <summary>Writes plans of one model: as text one after another, as JSON one object or an array of them.</summary>
    public static void Write(Terminal terminal, bool json, IReadOnlyList<PlannedFit> plans)
    {
        if (json)
        {
            Json.Write(terminal.Output, writer =>
            {
                if (plans.Count == 1)
                {
                    WriteJson(writer, plans[0]);
                    return;
                }

                writer.WriteStartArray();
                foreach (var plan in plans)
                {
                    WriteJson(writer, plan);
                }

                writer.WriteEndArray();
            });
            return;
        }

        WriteModel(terminal, plans[0]);
        foreach (var plan in plans)
        {
            WriteText(terminal, plan);
        }
    }

    /// <summary>Tells in a line, before a fit starts, what it needs.</summary>
    public static void WriteNeed(Terminal terminal, PlannedFit fit)
    {
        double seconds = fit.Plan.Stages.Sum(s => Seconds(fit, s));
        string time = seconds < 100 ? $"{seconds:N0} s" : $"{seconds / 60:N0} minutes";
        string room = fit.Plan.PeakInBytes > fit.Rates.FreeInBytes ? $", and only {fit.Rates.FreeInBytes / Gibibyte:F1} GiB are free" : "";
        terminal.Error.WriteLine(
            $"tiller: this {fit.Solve} fit needs about {fit.Plan.PeakInBytes / Gibibyte:F1} GiB and {time} on {fit.Rates.Device}{room}; "
            + "--plan tells more, --calibration and --cost feature make it shorter.");
    }

    private static void WriteModel(Terminal terminal, PlannedFit fit)
    {
        var c = fit.Config;
        Row("model", $"{VisibleText.Of(fit.Model)}, {c.Family}, L {c.L}, D {c.D}, F {c.F}; weights {fit.Weights}");
        Row("prompts", $"{fit.Prompts:N0}, {(fit.CountedTokens ? "" : "about ")}{fit.Tokens:N0} tokens in all; "
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
        Memory("in all", plan.PeakInBytes, $"{verdict} the {fit.Rates.FreeInBytes / Gibibyte:F1} GiB that are free on {fit.Rates.Device}");
        if (plan.AllJacobiansInBytes > 0)
        {
            Memory("(not needed:", plan.AllJacobiansInBytes, "for the Jacobians of all layers at once; one layer's is alive at a time)");
        }

        terminal.Output.WriteLine($"{"",-20}{"GFLOP",10}{"seconds",12}");
        foreach (var stage in plan.Stages)
        {
            Work(FitOutput.Name(stage.Stage), stage.SingleFlops + stage.DoubleFlops, Seconds(fit, stage));
        }

        Work("in all", plan.Stages.Sum(s => s.SingleFlops + s.DoubleFlops), plan.Stages.Sum(s => Seconds(fit, s)));

        void Memory(string name, long bytes, string note = "")
            => terminal.Output.WriteLine($"  {name,-18}{bytes / Gibibyte,10:F3}  {note}".TrimEnd());

        void Work(string name, double flops, double seconds) => terminal.Output.WriteLine($"  {name,-18}{flops / 1e9,10:N1}{seconds,12:N2}");
    }

    private static void WriteJson(Utf8JsonWriter json, PlannedFit fit)
    {
        json.WriteStartObject();
        json.WriteString("model", fit.Model);
        json.WriteString("solve", fit.Solve);
        json.WriteString("weights", fit.Weights);
        json.WriteNumber("prompts", fit.Prompts);
        json.WriteNumber("calibration", fit.Calibration);
        json.WriteNumber("tokens", fit.Tokens);
        json.WriteBoolean("tokensCounted", fit.CountedTokens);
        json.WriteStartObject("sizeInBytes");
        foreach (var part in fit.Plan.Memory)
        {
            json.WriteNumber(part.Name, part.SizeInBytes);
        }

        json.WriteEndObject();
        json.WriteNumber("peakInBytes", fit.Plan.PeakInBytes);
        json.WriteString("device", fit.Rates.Device);
        json.WriteNumber("availableInBytes", fit.Rates.FreeInBytes);
        json.WriteNumber("allJacobiansInBytes", fit.Plan.AllJacobiansInBytes);
        json.WriteStartArray("stages");
        foreach (var stage in fit.Plan.Stages)
        {
            json.WriteStartObject();
            json.WriteString("stage", FitOutput.Name(stage.Stage));
            json.WriteNumber("flops", stage.SingleFlops + stage.DoubleFlops);
            json.WriteNumber("seconds", Seconds(fit, stage));
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static double Seconds(PlannedFit fit, PlannedStage stage) => FitPlan.Seconds(stage, fit.Rates.Single, fit.Rates.Double);

    private static string Rate(double flopsPerSecond) => $"{flopsPerSecond / 1e9:N0} GFLOP/s";
}
