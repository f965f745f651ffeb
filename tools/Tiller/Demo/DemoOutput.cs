using System.Text.Json.Serialization;
using Spectre.Console;

namespace Tiller.Tool;

/// <summary>Prints the result of <c>tiller demo</c>.</summary>
internal static class DemoOutput
{
    private const int TextsShown = 4;

    /// <summary>Prints some texts side by side, then the scores of all texts.</summary>
    public static void WriteTable(Terminal terminal, DemoReport report)
    {
        var (_, lambda, plain, steered) = report;
        var table = new Table().Border(TableBorder.Rounded).ShowRowSeparators().Expand();
        table.AddColumn(new TableColumn("plain")).AddColumn(new TableColumn($"steered: {Aim(report.Task)}, λ {lambda}"));
        for (int i = 0; i < Math.Min(TextsShown, plain.Texts.Count); i++)
        {
            table.AddRow(Cell(plain.Texts[i]), Cell(steered.Texts[i]));
        }

        terminal.StyledOutput.Write(table);
        terminal.Output.WriteLine($"Over {plain.Texts.Count} prompts:");
        WriteRow(terminal, Measure(report.Task), plain.Score.ToString("F2"), steered.Score.ToString("F2"));
        WriteRow(terminal, "perplexity under the plain model", plain.Perplexity.ToString("F2"), steered.Perplexity.ToString("F2"));
        WriteRow(terminal, "tracking error, mean |β − v·x|", "", steered.TrackingError.ToString("G3"));
        WriteRow(terminal, "effort, mean |u|/|x|", "", steered.Effort.ToString("P1"));
    }

    /// <summary>The whole report as one object.</summary>
    public static void WriteJson(Terminal terminal, DemoReport report)
    {
        var (plain, steered) = (report.Plain, report.Steered);
        var told = new DemoJson(
            report.Task.ToString().ToLowerInvariant(),
            new DemoSideJson(plain.Texts, Json.Finite(plain.Score), Json.Finite(plain.Perplexity)),
            new DemoSteeredJson(
                steered.Texts, Json.Finite(steered.Score), Json.Finite(steered.Perplexity), Json.Finite(steered.TrackingError),
                Json.Finite(steered.Effort)));
        Json.Write(terminal.Output, told, DemoJsonContext.Default.DemoJson);
    }

    private static void WriteRow(Terminal terminal, string name, string plain, string steered) =>
        terminal.Output.WriteLine($"  {name,-36}{plain,8}{steered,10}");

    private static string Cell(string text) => Markup.Escape(VisibleText.Of(text));

    private static string Aim(DemoTask task) => task switch
    {
        DemoTask.Topic => "towards the sea",
        DemoTask.Tone => "towards kindness",
        DemoTask.Honesty => "towards the truth",
        DemoTask.Refusal => "towards refusal",
        _ => throw new ArgumentOutOfRangeException(nameof(task), task, "Unknown task."),
    };

    private static string Measure(DemoTask task) => task switch
    {
        DemoTask.Topic => "share of topic words about the sea",
        DemoTask.Tone => "tone, -1 rude to 1 kind",
        DemoTask.Honesty => "share of true answers",
        DemoTask.Refusal => "share of refusals",
        _ => throw new ArgumentOutOfRangeException(nameof(task), task, "Unknown task."),
    };
}

/// <summary>The JSON of <c>demo</c>.</summary>
internal sealed record DemoJson(string Task, DemoSideJson Plain, DemoSteeredJson Steered);

/// <summary>The plain model's texts.</summary>
internal sealed record DemoSideJson(IReadOnlyList<string> Texts, double? Score, double? Perplexity);

/// <summary>The steered texts.</summary>
internal sealed record DemoSteeredJson(IReadOnlyList<string> Texts, double? Score, double? Perplexity, double? TrackingError, double? Effort);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(DemoJson))]
internal sealed partial class DemoJsonContext : JsonSerializerContext;
