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

        WriteRows(request, Rows(report), report.Counts.Failures, output);
    }

    public static void Write(StressRequest request, StormReport report, TextWriter output)
    {
        if (!request.Json)
        {
            WriteRows(request, Rows(request, report), report.Failures, output);
            return;
        }

        WriteObject(output, json =>
        {
            json.WriteNumber("readers", request.Sessions);
            json.WriteNumber("texts", report.Texts);
            json.WriteNumber("moved", report.Moved);
            json.WriteNumber("cancelled", report.Cancelled);
            json.WriteNumber("dropped", report.Dropped);
            json.WriteNumber("refused", report.Refused);
            json.WriteNumber("prefixHits", report.PrefixHits);
            json.WriteNumber("heldInBytes", report.HeldInBytes);
            WriteFailures(json, report.Failures);
        });
    }

    private static void WriteRows(StressRequest request, IEnumerable<(string Name, string Value)> rows, IReadOnlyList<string> failures,
        TextWriter output)
    {
        string what = $"stress, shape {request.Shape.Name}, {request.Type.ToString().ToLowerInvariant()}";
        string hardware = Hardware.Describe(request.OnMachine, AppContext.BaseDirectory);
        output.WriteLine(request.Markdown ? $"{what}; {hardware}\n\n| | |\n|---|---|" : $"# {what}\n# {hardware}");
        foreach (var (name, value) in rows)
        {
            output.WriteLine(request.Markdown ? $"| {name} | {value} |" : $"{name,-56}{value}");
        }

        foreach (string failure in failures)
        {
            output.WriteLine(request.Markdown ? $"| **wrong** | {failure} |" : $"wrong: {failure}");
        }
    }

    private static IEnumerable<(string Name, string Value)> Rows(StressRequest request, StormReport r) =>
    [
        ("readers at once", $"{request.Sessions}"),
        ("texts read to their end, token for token as alone", $"{r.Texts:N0}, of which {r.Moved:N0} with another λ on the way"),
        ("texts cancelled on the way", $"{r.Cancelled:N0}"),
        ("texts dropped for their reader", $"{r.Dropped:N0}"),
        ("times that the queue was full", $"{r.Refused:N0}"),
        ("prompts that took over another's beginning", $"{r.PrefixHits:N0}"),
        ("buffers held after the run, less those before it", $"{r.HeldInBytes / 1048576.0:F1} MiB"),
        ("failures", $"{r.Failures.Count}"),
    ];

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

    private static void WriteJson(StressReport r, TextWriter output) => WriteObject(output, json =>
    {
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
        WriteFailures(json, r.Counts.Failures);
    });

    private static void WriteFailures(Utf8JsonWriter json, IReadOnlyList<string> failures)
    {
        json.WriteStartArray("failures");
        foreach (string failure in failures)
        {
            json.WriteStringValue(failure);
        }

        json.WriteEndArray();
    }

    private static void WriteObject(TextWriter output, Action<Utf8JsonWriter> write)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes, new JsonWriterOptions { Indented = true }))
        {
            json.WriteStartObject();
            write(json);
            json.WriteEndObject();
        }

        output.WriteLine(Encoding.UTF8.GetString(bytes.GetBuffer(), 0, (int)bytes.Length));
    }
}
