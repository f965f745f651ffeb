using System.Globalization;
using System.Text;

namespace Tiller.Evaluation.Comparing;

/// <summary>A quantity that measures how strongly texts are steered. Methods are compared at equal values of it.</summary>
public enum OperatingAxis
{
    /// <summary>Mean |u|/|x|.</summary>
    Effort,

    /// <summary>The score "kl".</summary>
    Divergence,

    /// <summary>The score "perplexity".</summary>
    Perplexity,
}

/// <summary>A score, averaged over seeds, with its jackknife error over prompts.</summary>
/// <param name="Value">The score; NaN if it is unknown.</param>
/// <param name="Error">Its standard error.</param>
public readonly record struct Estimate(double Value, double Error);

/// <summary>A method at one strength: the mean of its cells over seeds.</summary>
/// <param name="Method">The method's name.</param>
/// <param name="IsControl">Whether the method is a control.</param>
/// <param name="Lambda">The strength; 0 for the plain model.</param>
/// <param name="Effort">Mean |u|/|x|.</param>
/// <param name="Scores">The scores, by the scorer's name.</param>
public sealed record ComparedPoint(string Method, bool IsControl, double Lambda, double Effort, IReadOnlyDictionary<string, Estimate> Scores)
{
    // For each score and text i, the score of all texts but i.
    internal IReadOnlyDictionary<string, double[]> Without { get; private init; } = new Dictionary<string, double[]>(StringComparer.Ordinal);

    internal static ComparedPoint Of(IReadOnlyList<ComparisonCell> seeds)
    {
        var names = seeds[0].Scores.Select(static x => x.Name).ToArray();
        var without = names.ToDictionary(static name => name, name => Mean(seeds, name), StringComparer.Ordinal);
        return new ComparedPoint(
            seeds[0].Method, seeds[0].IsControl, seeds[0].Lambda, seeds.Average(static x => x.Effort),
            names.ToDictionary(
                static name => name,
                name => new Estimate(seeds.Average(cell => Find(cell, name).Value ?? double.NaN), ErrorOf(without[name])), StringComparer.Ordinal))
        {
            Without = without,
        };
    }

    /// <summary>The jackknife error √((n − 1)/n Σ (θ₋ᵢ − θ̄)²).</summary>
    internal static double ErrorOf(IReadOnlyList<double> without) => Score.OfStatistic("", 0, without).Error;

    /// <summary>The point's value on an axis; NaN if the task does not measure it.</summary>
    internal double At(OperatingAxis axis) => axis == OperatingAxis.Effort ? Effort
        : Scores.TryGetValue(NameOf(axis), out var score) ? score.Value
        : double.NaN;

    /// <summary>
    /// The same without text i of n. The effort is that of all texts; so is an axis that is measured on other texts than the score, which then is
    /// taken as known.
    /// </summary>
    internal double At(OperatingAxis axis, int i, int n) =>
        axis != OperatingAxis.Effort && Without.TryGetValue(NameOf(axis), out double[]? without) && without.Length == n ? without[i] : At(axis);

    internal static string NameOf(OperatingAxis axis) => axis switch
    {
        OperatingAxis.Divergence => "kl",
        OperatingAxis.Perplexity => "perplexity",
        _ => "effort",
    };

    private static double[] Mean(IReadOnlyList<ComparisonCell> seeds, string name)
    {
        int n = seeds.Min(cell => Find(cell, name).Without.Count);
        return [.. Enumerable.Range(0, n).Select(i => seeds.Average(cell => Find(cell, name).Without[i] ?? double.NaN))];
    }

    private static CellScore Find(ComparisonCell cell, string name) => cell.Scores.First(score => score.Name == name);
}

/// <summary>The scores of methods at one value of an axis, on one task.</summary>
/// <param name="Axis">The axis.</param>
/// <param name="Level">The value on the axis.</param>
/// <param name="Score">The name of the score.</param>
/// <param name="Methods">
/// Each method's score at the level, interpolated linearly between its strengths; NaN for a method that does not reach the level.
/// </param>
/// <param name="Differences">Each other method's score less the first method's; the error is that of the differences prompt by prompt.</param>
public sealed record OperatingPoint(
    OperatingAxis Axis, double Level, string Score, IReadOnlyDictionary<string, Estimate> Methods, IReadOnlyDictionary<string, Estimate> Differences);

/// <summary>The results of one task.</summary>
public sealed class ComparisonReport
{
    // Methods are compared at this fraction of the way to the level that all of them reach, because most of them then still reach it when a text is
    // left out. If one does not, its error is unknown.
    private const double Share = 0.9;

    private ComparisonReport(string task, ComparedPoint plain, IReadOnlyList<ComparedPoint> points) => (Task, Plain, Points) = (task, plain, points);

    /// <summary>The task's name.</summary>
    public string Task { get; }

    /// <summary>The plain model.</summary>
    public ComparedPoint Plain { get; }

    /// <summary>Methods at their strengths, in the order of the comparison.</summary>
    public IReadOnlyList<ComparedPoint> Points { get; }

    /// <summary>The axes that the task measures, except its own first score.</summary>
    public IReadOnlyList<OperatingAxis> Axes =>
        [.. Enum.GetValues<OperatingAxis>().Where(axis =>
            double.IsFinite(Plain.At(axis)) && ComparedPoint.NameOf(axis) != Plain.Scores.Keys.First())];

    /// <summary>Makes a report for each task.</summary>
    /// <param name="cells">The result of <see cref="Comparison.RunAsync"/>.</param>
    public static IReadOnlyList<ComparisonReport> Of(IReadOnlyList<ComparisonCell> cells)
    {
        ArgumentNullException.ThrowIfNull(cells);
        return [.. cells.GroupBy(static x => x.Task, StringComparer.Ordinal).Select(static task =>
        {
            ComparedPoint[] points = [.. task.GroupBy(static x => (x.Method, x.Lambda)).Select(static seeds => ComparedPoint.Of([.. seeds]))];
            return new ComparisonReport(task.Key, points[0], points[1..]);
        })];
    }

    /// <summary>
    /// Compares methods at equal effort, divergence or perplexity. It uses the plain model and the positive strengths, or, if there are none, the
    /// negative strengths.
    /// </summary>
    /// <param name="axis">The axis.</param>
    /// <param name="level">
    /// The value on the axis. Null for the value nine tenths of the way from the plain model to the largest value that all methods, except controls,
    /// reach.
    /// </param>
    /// <param name="score">The name of the score to compare.</param>
    /// <returns>Null if the task does not measure the axis, or if the level is not above that of the plain model.</returns>
    public OperatingPoint? At(OperatingAxis axis, string score, double? level = null)
    {
        double sign = Points.Any(static x => x.Lambda > 0) ? 1 : -1;
        var curves = Points.GroupBy(static x => x.Method, StringComparer.Ordinal)
            .Select(method => (
                Name: method.Key, Curve: method.Where(x => x.Lambda * sign > 0).Prepend(Plain).OrderBy(static x => Math.Abs(x.Lambda)).ToArray()))
            .Where(static method => method.Curve.Length > 1).ToArray();
        double[] reached = [.. curves.Where(static method => !method.Curve[1].IsControl).Select(method => method.Curve.Max(x => x.At(axis)))];
        double plain = Plain.At(axis);
        double at = level ?? (reached.Length == 0 ? double.NaN : plain + (Share * (reached.Min() - plain)));
        if (!(at > plain))
        {
            return null;
        }

        int n = Plain.Without[score].Length;
        var values = curves.ToDictionary(
            static method => method.Name,
            method => (Value: Interpolate(method.Curve, at, x => x.At(axis), x => x.Scores[score].Value),
                Without: Enumerable.Range(0, n)
                    .Select(i => Interpolate(method.Curve, at, x => x.At(axis, i, n), x => x.Without[score][i])).ToArray()),
            StringComparer.Ordinal);
        var first = values[curves[0].Name];
        return new OperatingPoint(
            axis, at, score,
            values.ToDictionary(
                static x => x.Key, static x => new Estimate(x.Value.Value, ComparedPoint.ErrorOf(x.Value.Without)), StringComparer.Ordinal),
            values.Skip(1).ToDictionary(
                static x => x.Key,
                x => new Estimate(
                    x.Value.Value - first.Value, ComparedPoint.ErrorOf([.. x.Value.Without.Zip(first.Without, static (a, b) => a - b)])),
                StringComparer.Ordinal));
    }

    /// <summary>The report as Markdown: a table of all points, then a sentence for each operating point.</summary>
    public string ToMarkdown()
    {
        var text = new StringBuilder();
        string[] names = [.. Plain.Scores.Keys];
        text.Append(CultureInfo.InvariantCulture, $"## {Task}\n\n| method | λ | {string.Join(" | ", names)} | effort |\n");
        text.Append(CultureInfo.InvariantCulture, $"|---|---|{string.Concat(names.Select(static _ => "---|"))}---|\n");
        foreach (var point in Points.Prepend(Plain))
        {
            string strength = point.Lambda == 0 ? "" : point.Lambda.ToString(CultureInfo.InvariantCulture);
            text.Append(CultureInfo.InvariantCulture, $"| {point.Method} | {strength} | ");
            text.AppendJoin(" | ", names.Select(name => Text(point.Scores[name])));
            text.Append(CultureInfo.InvariantCulture, $" | {100 * point.Effort:F1} % |\n");
        }

        foreach (string line in OperatingLines())
        {
            text.Append(CultureInfo.InvariantCulture, $"\n{line}\n");
        }

        return text.ToString();
    }

    /// <summary>A sentence for each axis that has an operating point.</summary>
    internal IEnumerable<string> OperatingLines()
    {
        string score = Plain.Scores.Keys.First();
        foreach (var axis in Axes)
        {
            if (At(axis, score) is { } at)
            {
                var methods = at.Methods.Select(x => $"{x.Key} {Text(x.Value)}" + (at.Differences.TryGetValue(x.Key, out var difference)
                    ? $" (difference {Text(difference)})" : ""));
                yield return $"At equal {Words(axis)} ({Number(at.Level)}), {score}: {string.Join("; ", methods)}.";
            }
        }
    }

    // Interpolates y at x = level, on the first segment of the curve that contains the level.
    private static double Interpolate(
        IReadOnlyList<ComparedPoint> curve, double level, Func<ComparedPoint, double> x, Func<ComparedPoint, double> y)
    {
        for (int i = 1; i < curve.Count; i++)
        {
            double a = x(curve[i - 1]), b = x(curve[i]);
            if ((a <= level && level <= b) || (b <= level && level <= a))
            {
                double share = a == b ? 0 : (level - a) / (b - a);
                return y(curve[i - 1]) + (share * (y(curve[i]) - y(curve[i - 1])));
            }
        }

        return double.NaN;
    }

    internal static string Words(OperatingAxis axis) => axis switch
    {
        OperatingAxis.Effort => "effort",
        OperatingAxis.Divergence => "KL",
        _ => "perplexity",
    };

    internal static string Text(Estimate estimate) => $"{Number(estimate.Value)} ± {Number(estimate.Error)}";

    internal static string Number(double value) => double.IsFinite(value) ? value.ToString("F3", CultureInfo.InvariantCulture) : "–";
}
