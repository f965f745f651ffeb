using System.Globalization;
using System.Text.Json;

namespace Tiller.Fuzz;

/// <summary>What a run has to say, as a table or as JSON.</summary>
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
        using var json = new Utf8JsonWriter(output, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteNumber("seed", options.Seed);
        json.WriteNumber("inputs", run.Tallies.Values.Sum(t => t.Inputs));
        json.WriteNumber("seconds", run.Elapsed.TotalSeconds);
        json.WriteNumber("children", run.Children);
        json.WriteStartArray("targets");
        foreach ((string name, Tally t) in run.Tallies)
        {
            json.WriteStartObject();
            json.WriteString("name", name);
            json.WriteNumber("inputs", t.Inputs);
            json.WriteNumber("accepted", t.Accepted);
            json.WriteNumber("bytes", t.Bytes);
            json.WriteNumber("seconds", t.Seconds);
            json.WriteNumber("slowestMs", t.SlowestMs);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("findings");
        foreach (Finding finding in run.Findings.All)
        {
            json.WriteStartObject();
            json.WriteString("target", finding.Target);
            json.WriteString("kind", finding.Kind);
            json.WriteString("what", finding.What);
            json.WriteNumber("times", finding.Times);
            json.WriteString("file", finding.File);
            json.WriteString("detail", finding.Detail);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }
}
