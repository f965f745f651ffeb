using System.Text.Json.Serialization;

namespace Tiller.Tool;

/// <summary>Prints the rows of <c>tiller verify</c>.</summary>
internal static class VerifyOutput
{
    public static void WriteRow(Terminal terminal, VerificationRow row, bool first)
    {
        if (first)
        {
            terminal.Output.WriteLine(VisibleText.Of(row.Folder));
            terminal.Output.WriteLine($"  {"kind",-26}{"count",8}{"worst",10}{"bound",10}");
        }

        string note = row.Note.Length == 0 ? "" : $"  {row.Note}";
        terminal.Output.WriteLine(
            $"  {row.Kind,-26}{row.Count,8}{Number(row.Worst),10}{Number(row.Bound),10}  {(row.Passed ? "pass" : "FAIL")}{note}");
    }

    public static void WriteTotal(Terminal terminal, IReadOnlyList<VerificationRow> rows)
    {
        int failed = rows.Count(r => !r.Passed);
        terminal.Output.WriteLine(failed == 0 ? $"All {rows.Count} kinds pass." : $"{failed} of {rows.Count} kinds FAIL.");
    }

    /// <summary>An array of {folder, kind, count, worst, bound, passed}; worst is null if the error is infinite or NaN.</summary>
    public static void WriteJson(Terminal terminal, IReadOnlyList<VerificationRow> rows) => Json.Write(
        terminal.Output,
        [.. rows.Select(static x => new VerifiedJson(
            x.Folder, x.Kind, x.Count, Json.Finite(x.Worst), x.Bound, x.Passed, x.Note.Length > 0 ? x.Note : null))],
        VerifyJsonContext.Default.VerifiedJsonArray);

    // Errors of kinds that must be exact are numbers of cases.
    private static string Number(double value) => value == Math.Floor(value) && value < 1e6 ? value.ToString("F0") : value.ToString("E1");
}

/// <summary>The JSON of <c>verify</c> for one kind of values.</summary>
internal sealed record VerifiedJson(
    string Folder, string Kind, int Count, double? Worst, double Bound, bool Passed,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Note);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(VerifiedJson[]))]
internal sealed partial class VerifyJsonContext : JsonSerializerContext;
