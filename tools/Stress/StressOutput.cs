using System.Text;
using System.Text.Json;
using Tiller.Bench;

namespace Tiller.Stress;

/// <summary>How a stress run is told: lines for people, a table for Markdown, an object for machines.</summary>
internal static class StressOutput
{
    public static void Write(StressRequest request, StressReport report, TextWriter output)
    {
        if (request.Json)
        {
            WriteJson(report, output);
            return;
        }

        string what = $"stress, shape {request.Shape.Name}, {request.Type.ToString().ToLowerInvariant()}";
        string hardware = Hardware.Describe(request.OnMachine, AppContext.BaseDirectory);
        output.WriteLine(request.Markdown ? $"{what}; {hardware}\n\n| | |\n|---|---|" : $"# {what}\n# {hardware}");
        foreach (var (name, value) in Rows(report))
        {
            output.WriteLine(request.Markdown ? $"| {name} | {value} |" : $"{name,-56}{value}");
        }

        foreach (string failure in report.Counts.Failures)
        {
            output.WriteLine(request.Markdown ? $"| **wrong** | {failure} |" : $"wrong: {failure}");
        }
    }

    private static IEnumerable<(string Name, string Value)> Rows(StressReport r) =>
    [
        ("sessions at once", $"{r.Sessions}"),
        ("time", $"{r.Seconds:F1} s"),
        ("texts decoded to their end", $"{r.Counts.Texts:N0}"),
        ("calls whose logits were compared, bit for bit", $"{r.Counts.Calls:N0}, of which {r.Counts.BatchedCalls:N0} in batches"),
        ("calls cancelled", $"{r.Counts.Cancelled:N0}, of which {r.Counts.Resumed:N0} were made again"),
        ("least memory in use, second and last quarter of the run", $"{r.UsedEarlyInBytes >> 20} MiB, {r.UsedLateInBytes >> 20} MiB"),
        ("buffers held after the run, less those before it", $"{r.HeldInBytes / 1048576.0:F1} MiB"),
        ("failures", $"{r.Counts.Failures.Count}"),
    ];

    private static void WriteJson(StressReport r, TextWriter output)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartObject();
            json.WriteNumber("sessions", r.Sessions);
            json.WriteNumber("seconds", r.Seconds);
            json.WriteNumber("texts", r.Counts.Texts);
            json.WriteNumber("calls", r.Counts.Calls);
            json.WriteNumber("batchedCalls", r.Counts.BatchedCalls);
            json.WriteNumber("cancelled", r.Counts.Cancelled);
            json.WriteNumber("resumed", r.Counts.Resumed);
            json.WriteNumber("usedEarlyInBytes", r.UsedEarlyInBytes);
            json.WriteNumber("usedLateInBytes", r.UsedLateInBytes);
            json.WriteNumber("heldInBytes", r.HeldInBytes);
            json.WriteBoolean("hung", r.Hung);
            json.WriteStartArray("failures");
            foreach (string failure in r.Counts.Failures)
            {
                json.WriteStringValue(failure);
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        output.WriteLine(Encoding.UTF8.GetString(bytes.GetBuffer(), 0, (int)bytes.Length));
    }
}
