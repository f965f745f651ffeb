using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Tiller.Fuzz;

/// <summary>Prints the results of a run as a table or as JSON.</summary>
internal static class FuzzReport
{
    public static void Write(TextWriter output, FuzzOptions options, FuzzParent run)
    {
        long total = run.Tallies.Values.Sum(t => t.Inputs);
        output.WriteLine("| target | inputs | accepted | MB | inputs/s | slowest ms |");
        output.WriteLine("|---|---|---|---|---|---|");
        foreach ((string name, Tally t) in run.Tallies)
        {
            output.WriteLine(string.Create(
                CultureInfo.InvariantCulture, $"| {name} | {t.Inputs:N0} | {100.0 * t.Accepted / Math.Max(1, t.Inputs):F1} % | {t.Bytes / 1e6:N0} "
                    + $"| {t.Inputs / Math.Max(t.Seconds, 1e-9):N0} | {t.SlowestMs:F1} |"));
        }

        output.WriteLine();
        output.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{total:N0} inputs in {run.Elapsed.TotalSeconds:N0} s ({total / run.Elapsed.TotalSeconds:N0}/s), {run.Children} child processes, "
            + $"seed {options.Seed}: {run.Findings.All.Count} findings."));
        foreach (Finding finding in run.Findings.All)
        {
            output.WriteLine($"{finding.Target}: {finding.Kind}: {finding.What} ({finding.Times} times; {finding.Input.Length} bytes "
                + $"in {finding.File})");
        }
    }

    public static void WriteJson(Stream output, FuzzOptions options, FuzzParent run)
    {
        var told = new FuzzJson(
            options.Seed,
            run.Tallies.Values.Sum(t => t.Inputs),
            run.Elapsed.TotalSeconds,
            run.Children,
            [.. run.Tallies.Select(t => new TargetJson(t.Key, t.Value.Inputs, t.Value.Accepted, t.Value.Bytes, t.Value.Seconds, t.Value.SlowestMs))],
            [.. run.Findings.All.Select(f => new FindingJson(f.Target, f.Kind, f.What, f.Times, f.File, f.Detail))]);
        JsonSerializer.Serialize(output, told, FuzzJsonContext.Default.FuzzJson);
    }
}

/// <summary>The JSON of a run.</summary>
internal sealed record FuzzJson(
    int Seed, long Inputs, double Seconds, int Children, IReadOnlyList<TargetJson> Targets, IReadOnlyList<FindingJson> Findings);

/// <summary>The counts of a reader.</summary>
internal sealed record TargetJson(string Name, long Inputs, long Accepted, long Bytes, double Seconds, double SlowestMs);

/// <summary>A finding.</summary>
internal sealed record FindingJson(string Target, string Kind, string What, int Times, string File, string Detail);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = true)]
[JsonSerializable(typeof(FuzzJson))]
internal sealed partial class FuzzJsonContext : JsonSerializerContext;
