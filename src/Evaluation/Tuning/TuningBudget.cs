using Tiller.Evaluation.Comparing;

namespace Tiller.Evaluation.Tuning;

/// <summary>What steering may cost; a setting keeps to all that is given.</summary>
public sealed record TuningBudget
{
    /// <summary>Perplexity of the texts, as a multiple of the plain model's, where no bound is given.</summary>
    public const double StandardPerplexityRatio = 1.5;

    /// <summary>Most perplexity under the plain model; null for no bound.</summary>
    public double? Perplexity { get; init; }

    /// <summary>Most divergence from the plain model, in nats; null for no bound.</summary>
    public double? Divergence { get; init; }

    /// <summary>Most effort, mean |u|/|x|; null for no bound.</summary>
    public double? Effort { get; init; }

    /// <summary>The axis that settings are weighed on: the first that has a bound.</summary>
    public OperatingAxis Axis => Perplexity is not null ? OperatingAxis.Perplexity
        : Divergence is not null ? OperatingAxis.Divergence
        : Effort is not null ? OperatingAxis.Effort
        : OperatingAxis.Perplexity;

    private IEnumerable<(OperatingAxis Axis, double Most)> Bounds => new[]
    {
        (OperatingAxis.Perplexity, Perplexity), (OperatingAxis.Divergence, Divergence), (OperatingAxis.Effort, Effort),
    }.Where(static x => x.Item2 is not null).Select(static x => (x.Item1, x.Item2!.Value));

    /// <summary>The budget, or the standard one if it has no bound.</summary>
    internal TuningBudget OrStandard(ComparedPoint plain) => Bounds.Any() ? this
        : this with { Perplexity = StandardPerplexityRatio * plain.At(OperatingAxis.Perplexity) };

    /// <summary>Refuses a bound on what a task does not measure.</summary>
    /// <exception cref="ComparisonException">It does not.</exception>
    internal void Check(ComparisonReport report)
    {
        foreach (var (axis, _) in Bounds.Append((Axis, 0)))
        {
            if (!double.IsFinite(report.Plain.At(axis)))
            {
                throw new ComparisonException(
                    $"The task {report.Task} does not measure {ComparisonReport.Words(axis)}, which the budget is about: add the scorer "
                    + $"{ComparedPoint.NameOf(axis)} to it, or give another budget.");
            }
        }
    }

    /// <summary>By how much a point is beyond the budget, as a share of it; 0 within it.</summary>
    internal double Excess(ComparedPoint point) => Bounds.Max(bound =>
    {
        double at = point.At(bound.Axis);
        return double.IsFinite(at) ? Math.Max(0, (at - bound.Most) / Math.Max(bound.Most, double.Epsilon)) : double.PositiveInfinity;
    });

    /// <summary>The bounds in words.</summary>
    public override string ToString() => string.Join(
        ", ", Bounds.Select(static x => $"{ComparisonReport.Words(x.Axis)} ≤ {ComparisonReport.Number(x.Most)}"));
}
