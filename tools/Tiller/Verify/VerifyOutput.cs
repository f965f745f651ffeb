
namespace Tiller.Tool;

/// <summary>How <c>tiller verify</c> tells its rows.</summary>
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

    /// <summary>An array of {folder, kind, count, worst, bound, passed}; worst is null where the error is infinite or not a number.</summary>
    public static void WriteJson(Terminal terminal, IReadOnlyList<VerificationRow> rows) => Json.Write(terminal.Output, json =>
    {
        json.WriteStartArray();
        foreach (var row in rows)
        {
            json.WriteStartObject();
            json.WriteString("folder", row.Folder);
            json.WriteString("kind", row.Kind);
            json.WriteNumber("count", row.Count);
            json.WriteNumberOrNull("worst", row.Worst);
            json.WriteNumber("bound", row.Bound);
            json.WriteBoolean("passed", row.Passed);
            if (row.Note.Length > 0)
            {
                json.WriteString("note", row.Note);
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
    });

    // Exact kinds count cases that differ.
    private static string Number(double value) => value == Math.Floor(value) && value < 1e6 ? value.ToString("F0") : value.ToString("E1");
}
