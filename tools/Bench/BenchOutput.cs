using System.Text.Json;
using System.Text.Json.Serialization;

namespace Tiller.Bench;

/// <summary>Prints rows: as a table for people, as a Markdown table, or for machines as an array or one line each.</summary>
internal static class BenchOutput
{
    /// <summary>Writes the rows as they come, each as a complete and flushed line; a JSON array is written at the end.</summary>
    public static void Write(BenchRequest request, IEnumerable<BenchRow> rows, TextWriter output)
    {
        if (request.Json)
        {
            WriteJson(rows, output);
            return;
        }

        // The heading waits for the first row, so that a refused request prints nothing.
        bool headed = false;
        foreach (var row in rows)
        {
            if (!headed && !request.JsonLines)
            {
                WriteHeading(request, output);
                headed = true;
            }

            output.WriteLine(
                request.JsonLines ? JsonSerializer.Serialize(row, BenchJsonContext.Default.BenchRow)
                : request.Markdown ? MarkdownLine(row)
                : TextLine(row));
            output.Flush();
        }
    }

    private static void WriteHeading(BenchRequest request, TextWriter output)
    {
        string hardware = Hardware.Describe(request, AppContext.BaseDirectory);
        string what = $"{request.Mode.ToString().ToLowerInvariant()}, shape {request.Shape.Name}, {request.Type.ToString().ToLowerInvariant()}";
        if (request.Markdown)
        {
            output.WriteLine($"{what}; {hardware}");
            output.WriteLine();
            output.WriteLine("| row | median | p10 | p90 | rate | bytes | FLOPs | of ceiling | ceiling | ratio |");
            output.WriteLine("|---|---|---|---|---|---|---|---|---|---|");
        }
        else
        {
            output.WriteLine($"# {what}");
            output.WriteLine($"# {hardware}");
            output.WriteLine($"{"row",-48}{"median",13}{"p10",11}{"p90",11}  {"rate",-20}{"bytes",9}{"FLOPs",9}{"%",7}  ceiling");
        }
    }

    private static string MarkdownLine(BenchRow r) =>
        $"| {r.Name} | {Time(r.Median)} {r.Unit} | {Time(r.P10)} | {Time(r.P90)} | {Scaled(r.Rate)} {r.RateUnit} | {Scaled(r.Bytes)} "
        + $"| {Scaled(r.Flops)} "
        + $"| {r.PercentOfCeiling:0.0} % | {r.Ceiling:0.0} {r.CeilingUnit}, {r.CeilingName} "
        + $"| {(r.Ratio is { } ratio ? $"{ratio:0.000} [{r.RatioP10:0.000}, {r.RatioP90:0.000}] ({r.RatioOf})" : "")} |";

    private static string TextLine(BenchRow r) =>
        $"{r.Name,-48}{$"{Time(r.Median)} {r.Unit}",13}{Time(r.P10),11}{Time(r.P90),11}  {$"{Scaled(r.Rate)} {r.RateUnit}",-20}"
        + $"{Scaled(r.Bytes),9}{Scaled(r.Flops),9}{r.PercentOfCeiling,7:0.0}  {r.Ceiling:0.0} {r.CeilingUnit}, {r.CeilingName}"
        + $"{(r.Ratio is { } ratio ? $"; ratio {ratio:0.000} [{r.RatioP10:0.000}, {r.RatioP90:0.000}] ({r.RatioOf})" : "")}";

    private static void WriteJson(IEnumerable<BenchRow> rows, TextWriter output)
    {
        output.WriteLine(JsonSerializer.Serialize([.. rows], BenchJsonContext.Indented.BenchRowArray));
        output.Flush();
    }

    private static string Time(double value) => value >= 100 ? $"{value:0.0}" : value >= 1 ? $"{value:0.000}" : $"{value:0.00000}";

    private static string Scaled(double value) => value switch
    {
        >= 1e12 => $"{value / 1e12:0.00}T",
        >= 1e9 => $"{value / 1e9:0.00}G",
        >= 1e6 => $"{value / 1e6:0.00}M",
        >= 1e4 => $"{value / 1e3:0.00}k",
        >= 10 => $"{value:0.0}",
        _ => $"{value:0.000}",
    };
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(BenchRow[]))]
internal sealed partial class BenchJsonContext : JsonSerializerContext
{
    public static BenchJsonContext Indented { get; } = new(
        new JsonSerializerOptions { PropertyNamingPolicy = JsonNamingPolicy.CamelCase, WriteIndented = true });
}
