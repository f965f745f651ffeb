using System.Globalization;
using System.Text.Json.Serialization;
using Tiller.Bench;

namespace Tiller.Tool;

/// <summary>How <c>tiller bench serve</c> tells what it measured.</summary>
internal static class ServeBenchOutput
{
    /// <summary>Writes a row as a line of JSON.</summary>
    public static void WriteLine(ServeRow row, TextWriter output) => Json.WriteLine(output, row, ServeBenchJsonContext.Default.ServeRow);

    public static void Write(BenchRequest request, ServeReport report, TextWriter output)
    {
        if (request.Json)
        {
            Json.Write(output, report, ServeBenchJsonContext.Default.ServeReport);
            return;
        }

        string what = $"serve, shape {request.Shape.Name}, {request.Type.ToString().ToLowerInvariant()}";
        string hardware = Hardware.Describe(request, AppContext.BaseDirectory);
        var upload = report.Upload;
        string uploaded = string.Create(CultureInfo.InvariantCulture,
            $"A controller of {upload.Bytes:N0} bytes is uploaded in {upload.UploadMs:F2} ms, ")
            + string.Create(CultureInfo.InvariantCulture, $"of which reading, checking and hashing take {upload.ReadMs:F2}.");
        if (request.Markdown)
        {
            output.WriteLine($"{what}; {hardware}\n\n{uploaded}\n");
            output.WriteLine("| streams | load | tok/s | first token, ms: p50, p99 | token to token, ms: p50, p99 | slowest ÷ median | ratio |");
            output.WriteLine("|---|---|---|---|---|---|---|");
        }
        else
        {
            output.WriteLine($"# {what}\n# {hardware}\n# {uploaded}");
            output.WriteLine($"{"streams",7}  {"load",-44}{"tok/s",9}{"first p50",11}{"p99",9}{"gap p50",9}{"p99",9}{"fair",7}  ratio");
        }

        foreach (var r in report.Rows)
        {
            output.WriteLine(request.Markdown
                ? string.Create(CultureInfo.InvariantCulture,
                    $"| {r.Streams} | {r.Load} | {r.TokensPerSecond:G4} | {Both(r.FirstMs)} | {Both(r.GapMs)} | {r.Fairness:F2} | {Ratio(r)} |")
                : string.Create(CultureInfo.InvariantCulture,
                    $"{r.Streams,7}  {r.Load,-44}{r.TokensPerSecond,9:G4}{r.FirstMs?.P50,11:F1}{r.FirstMs?.P99,9:F1}")
                    + string.Create(CultureInfo.InvariantCulture, $"{r.GapMs?.P50,9:F2}{r.GapMs?.P99,9:F1}{r.Fairness,7:F2}  {Ratio(r)}"));
        }
    }

    private static string Both(Quantiles? q) => q is null ? "" : string.Create(CultureInfo.InvariantCulture, $"{q.P50:F2}, {q.P99:F2}");

    private static string Ratio(ServeRow r) => r.Ratio is { } ratio
        ? string.Create(CultureInfo.InvariantCulture, $"{ratio:F3} ({r.RatioP10:F3} to {r.RatioP90:F3}) of {r.RatioOf}")
        : "";
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(ServeReport))]
[JsonSerializable(typeof(ServeRow))]
internal sealed partial class ServeBenchJsonContext : JsonSerializerContext;
