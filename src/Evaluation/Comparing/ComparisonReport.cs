using System.Globalization;
using System.Text;

namespace Tiller.Evaluation.Comparing;

/// <summary>What methods are compared at: a quantity that says how strongly a text was steered.</summary>
public enum OperatingAxis
{
    /// <summary>Mean |u|/|x|.</summary>
    Effort,

    /// <summary>The score "kl".</summary>
    Divergence,

    /// <summary>The score "perplexity".</summary>
    Perplexity,
}

/// <summary>A score with its jackknife error, over prompts; seeds are averaged before.</summary>
/// <param name="Value">The score; NaN where it cannot be told.</param>
/// <param name="Error">Its standard error.</param>
public readonly record struct Estimate(double Value, double Error);

/// <summary>A method at a strength: the mean of its cells over seeds.</summary>
/// <param name="Method">The method.</param>
/// <param name="IsControl">Whether it is a control.</param>
/// <param name="Lambda">Its strength; 0 for the plain model.</param>
/// <param name="Effort">Mean |u|/|x|.</param>
/// <param name="Scores">By the scorer's name.</param>
public sealed record ComparedPoint(string Method, bool IsControl, double Lambda, double Effort, IReadOnlyDictionary<string, Estimate> Scores)
{
    // Scores without text i, for each text.
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

    /// <summary>√((n − 1)/n Σ (θ₋ᵢ − θ̄)²).</summary>
    internal static double ErrorOf(IReadOnlyList<double> without) => Score.OfStatistic("", 0, without).Error;

    /// <summary>Where the point is on an axis; NaN if the task does not measure it.</summary>
    internal double At(OperatingAxis axis) => axis == OperatingAxis.Effort ? Effort
        : Scores.TryGetValue(NameOf(axis), out var score) ? score.Value
        : double.NaN;

    /// <summary>The same without text i. The effort is that of all texts.</summary>
    internal double At(OperatingAxis axis, int i) => axis == OperatingAxis.Effort ? Effort
        : Without.TryGetValue(NameOf(axis), out double[]? without) ? without[i]
        : double.NaN;

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

/// <summary>Methods at one point of an axis, on one task.</summary>
/// <param name="Axis">The axis.</param>
/// <param name="Level">The point.</param>
/// <param name="Score">Name of the score.</param>
/// <param name="Methods">Each method's score there, interpolated linearly between its strengths; NaN for one that does not come so far.</param>
/// <param name="Differences">Less the first method's, prompt by prompt.</param>
public sealed record OperatingPoint(
    OperatingAxis Axis, double Level, string Score, IReadOnlyDictionary<string, Estimate> Methods, IReadOnlyDictionary<string, Estimate> Differences);

/// <summary>The results of one task.</summary>
public sealed class ComparisonReport
{
    // Of the way to what all reach, so that most reach it without one of the texts as well; where one does not, the error is not known.
    private const double Share = 0.9;

    private ComparisonReport(string task, ComparedPoint plain, IReadOnlyList<ComparedPoint> points) => (Task, Plain, Points) = (task, plain, points);

    /// <summary>The task's name.</summary>
    public string Task { get; }

    /// <summary>The plain model.</summary>
    public ComparedPoint Plain { get; }

    /// <summary>Methods at their strengths, in the order of the comparison.</summary>
    public IReadOnlyList<ComparedPoint> Points { get; }

    /// <summary>What the task measures of how strongly a text was steered, but for its own first score.</summary>
    public IReadOnlyList<OperatingAxis> Axes =>
        [.. Enum.GetValues<OperatingAxis>().Where(axis =>
            double.IsFinite(Plain.At(axis)) && ComparedPoint.NameOf(axis) != Plain.Scores.Keys.First())];

    /// <summary>The reports of all tasks.</summary>
    /// <param name="cells">What <see cref="Comparison.RunAsync"/> gave.</param>
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
    /// Methods at equal effort, divergence or perplexity, on the way from the plain model to rising strengths; to falling ones where none is above 0.
    /// </summary>
    /// <param name="axis">What is equal.</param>
    /// <param name="level">
    /// At which value; null for nine tenths of the way from the plain model to what every method reaches, controls apart.
    /// </param>
    /// <param name="score">Name of the score that is compared.</param>
    /// <returns>Null if the task does not measure the axis, or no level is reached by all.</returns>
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
                Without: Enumerable.Range(0, n).Select(i => Interpolate(method.Curve, at, x => x.At(axis, i), x => x.Without[score][i])).ToArray()),
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

    /// <summary>The report as Markdown: every point, then operating points.</summary>
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

    /// <summary>A sentence for each axis that there is an operating point of.</summary>
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

    // Along the curve, the first stretch that holds the level.
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

    private static string Number(double value) => double.IsFinite(value) ? value.ToString("F3", CultureInfo.InvariantCulture) : "–";
}
