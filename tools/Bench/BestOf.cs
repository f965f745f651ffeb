namespace Tiller.Bench;

/// <summary>
/// A rate that is the best of several ways to reach it. No single way is the limit of every machine: one reads fastest in wide vectors, another from
/// several places at once. The first measurement tries all ways, and later ones only those that came out best.
/// </summary>
/// <param name="ways">Each measures its rate.</param>
internal sealed class BestOf(IReadOnlyList<Func<double>> ways)
{
    /// <summary>Number of ways that later measurements try.</summary>
    public const int Kept = 3;

    private const int FirstRounds = 2;

    private IReadOnlyList<Func<double>>? _best;

    /// <summary>Measures the best rate of this moment.</summary>
    public double Measure()
    {
        _best ??= [.. ways
            .Select(way => (Way: way, Rate: Enumerable.Range(0, FirstRounds).Max(_ => way())))
            .OrderByDescending(tried => tried.Rate)
            .Take(Kept)
            .Select(tried => tried.Way)];
        return _best.Max(way => way());
    }
}
