using System.Globalization;
using System.Text;
using Tiller.Controllers;
using Tiller.Evaluation.Comparing;

namespace Tiller.Evaluation.Tuning;

/// <summary>What came of a search for a setting.</summary>
public sealed record TuningReport
{
    /// <summary>The task's name.</summary>
    public required string Task { get; init; }

    /// <summary>Name of the score that is to be as good as it can be.</summary>
    public required string Score { get; init; }

    /// <summary>The budget.</summary>
    public required TuningBudget Budget { get; init; }

    /// <summary>Settings that were tried, of every rung: how many, on how many dev prompts.</summary>
    public required IReadOnlyList<(int Settings, int Prompts)> Rungs { get; init; }

    /// <summary>The plain model on the dev prompts.</summary>
    public required ComparedPoint Plain { get; init; }

    /// <summary>Settings of the last rung that no other is both better and cheaper than, on the dev prompts, the cheapest first.</summary>
    public required IReadOnlyList<ComparedPoint> Front { get; init; }

    /// <summary>The best setting within the budget, on the dev prompts; null if none keeps to it.</summary>
    public required ComparedPoint? Recommended { get; init; }

    /// <summary>Its controller.</summary>
    public required Controller? Controller { get; init; }

    /// <summary>On the test prompts, which no setting was chosen by: the plain model, the recommended setting, and asking in words.</summary>
    public required IReadOnlyList<ComparedPoint> Test { get; init; }

    /// <summary>
    /// Recommended setting less what it must beat, on the test prompts, prompt by prompt: asking in words or the plain model, whichever is better
    /// there. Null without a recommended setting.
    /// </summary>
    public required Estimate? Gain { get; init; }

    /// <summary>What it must beat.</summary>
    public required string Rival { get; init; }

    /// <summary>Whether the recommended setting beats its rival by more than two standard errors.</summary>
    public required bool Beats { get; init; }

    /// <summary>What came of it, in a sentence.</summary>
    public string Verdict => Recommended is null ? $"No setting keeps to the budget ({Budget}): raise it, or try weaker strengths."
        : Beats ? $"{Recommended.Method} at λ {Lambda(Recommended)} beats {Rival}: {Score} differs by {ComparisonReport.Text(Gain!.Value)}."
        : $"Nothing beats {Rival}: {Score} of the best setting, {Recommended.Method} at λ {Lambda(Recommended)}, differs by "
            + $"{ComparisonReport.Text(Gain!.Value)}, which is no more than two standard errors in its favour.";

    /// <summary>The report as Markdown.</summary>
    public string ToMarkdown()
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"## {Task}: {Score}, {Budget}\n\n{Verdict}\n\nTried: ");
        text.AppendJoin(", then ", Rungs.Select(static x => $"{x.Settings} settings on {x.Prompts} dev prompts")).Append(".\n");
        Table("Dev prompts, what no other setting is both better and cheaper than", Front.Prepend(Plain));
        if (Test.Count > 0)
        {
            Table("Test prompts", Test);
        }

        return text.ToString();

        void Table(string caption, IEnumerable<ComparedPoint> points)
        {
            string[] names = [.. Plain.Scores.Keys];
            text.Append(CultureInfo.InvariantCulture, $"\n{caption}:\n\n| setting | λ | {string.Join(" | ", names)} | effort |\n");
            text.Append(CultureInfo.InvariantCulture, $"|---|---|{string.Concat(names.Select(static _ => "---|"))}---|\n");
            foreach (var point in points)
            {
                string scores = string.Join(" | ", names.Select(name => ComparisonReport.Text(point.Scores[name])));
                text.Append(CultureInfo.InvariantCulture, $"| {point.Method} | {Lambda(point)} | {scores} | {100 * point.Effort:F1} % |\n");
            }
        }
    }

    private static string Lambda(ComparedPoint point) => point.Lambda == 0 ? "" : point.Lambda.ToString(CultureInfo.InvariantCulture);
}
