using System.Text.Json;
using System.Text.Json.Serialization;
using Tiller.Bench;

namespace Tiller.Stress;

/// <summary>Prints a stress run as lines for people, as a Markdown table, or as an object for machines.</summary>
internal static class StressOutput
{
    public static void Write(StressRequest request, StressReport report, TextWriter output)
    {
        if (request.Json)
        {
            WriteJson(report, output);
            return;
        }

        WriteRows(request, WhatOf(request), Rows(report), report.Counts.Failures, output);
    }

    public static void Write(StressRequest request, ServeStormReport report, TextWriter output)
    {
        if (request.Json)
        {
            output.WriteLine(JsonSerializer.Serialize(report, StressJsonContext.Default.ServeStormReport));
        }
        else
        {
            WriteRows(request, "stress over HTTP", Rows(request, report), report.Failures, output);
        }
    }

    public static void Write(StressRequest request, StormReport report, TextWriter output)
    {
        if (!request.Json)
        {
            WriteRows(request, WhatOf(request), Rows(request, report), report.Failures, output);
            return;
        }

        var told = new StormJson(
            request.Sessions, report.Texts, report.Moved, report.Cancelled, report.Dropped, report.Refused, report.PrefixHits, report.HeldInBytes,
            report.Failures);
        output.WriteLine(JsonSerializer.Serialize(told, StressJsonContext.Default.StormJson));
    }

    private static string WhatOf(StressRequest request) => $"stress, shape {request.Shape.Name}, {request.Type.ToString().ToLowerInvariant()}";

    private static void WriteRows(StressRequest request, string what, IEnumerable<(string Name, string Value)> rows, IReadOnlyList<string> failures,
        TextWriter output)
    {
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

    private static IEnumerable<(string Name, string Value)> Rows(StressRequest request, ServeStormReport r) =>
    [
        ("streams at once", $"{request.Sessions}"),
        ("answers read to their end, as a session alone", $"{r.Answers:N0}, of which {r.Moved:N0} with λ moved on the way"),
        ("streams whose client left", $"{r.Cancelled:N0}"),
        ("clients that did not read, and were dropped", $"{r.Dropped:N0}"),
        ("answers whose reader was late, and was dropped", $"{r.Late:N0}"),
        ("times that the queue was full", $"{r.Refused:N0}"),
        ("texts taken, all of which ended", $"{r.Texts:N0}, of {r.Tokens:N0} tokens"),
        ("texts that took over another's prompt, or its beginning", $"{r.PrefixHits:N0}"),
        ("buffers held after the run, less those before it", $"{r.HeldInBytes / 1048576.0:F1} MiB"),
        ("sockets open after the run, less those before it", $"{r.HeldSockets}"),
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

    private static void WriteJson(StressReport r, TextWriter output)
    {
        var c = r.Counts;
        var told = new StressJson(
            r.Sessions, r.Seconds, c.Texts, c.Calls, c.BatchedCalls, c.Cancelled, c.Resumed, r.UsedEarlyInBytes, r.UsedLateInBytes, r.HeldInBytes,
            r.Hung, c.Failures);
        output.WriteLine(JsonSerializer.Serialize(told, StressJsonContext.Default.StressJson));
    }
}

/// <summary>The JSON of a run of sessions.</summary>
internal sealed record StressJson(
    int Sessions, double Seconds, long Texts, long Calls, long BatchedCalls, long Cancelled, long Resumed, long UsedEarlyInBytes,
    long UsedLateInBytes, long HeldInBytes, bool Hung, IReadOnlyList<string> Failures);

/// <summary>The JSON of a run of readers.</summary>
internal sealed record StormJson(
    int Readers, long Texts, long Moved, long Cancelled, long Dropped, long Refused, long PrefixHits, long HeldInBytes,
    IReadOnlyList<string> Failures);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = true)]
[JsonSerializable(typeof(StressJson))]
[JsonSerializable(typeof(StormJson))]
[JsonSerializable(typeof(ServeStormReport))]
internal sealed partial class StressJsonContext : JsonSerializerContext;
