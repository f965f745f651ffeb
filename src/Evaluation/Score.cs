namespace Tiller.Evaluation;

/// <summary>The score of all texts, by one scorer.</summary>
/// <param name="Name">The scorer's name.</param>
/// <param name="Value">The score; NaN if no text can be scored.</param>
/// <param name="Error">
/// Standard error by the jackknife, √((n − 1)/n Σ (θ₋ᵢ − θ̄)²) over the scores θ₋ᵢ without text i (Quenouille 1956, Tukey 1958); NaN for fewer than
/// two texts.
/// </param>
/// <param name="Count">The number n of texts.</param>
public sealed record Score(string Name, double Value, double Error, int Count)
{
    /// <summary>For each text i, the score of all texts but i.</summary>
    public IReadOnlyList<double> Without { get; private init; } = [];

    /// <summary>Makes the score of any statistic of the texts.</summary>
    /// <param name="name">The scorer's name.</param>
    /// <param name="value">The statistic of all texts.</param>
    /// <param name="without">For each text i, the statistic of all texts but i.</param>
    public static Score OfStatistic(string name, double value, IReadOnlyList<double> without)
    {
        ArgumentNullException.ThrowIfNull(without);
        int n = without.Count;
        double mean = n == 0 ? double.NaN : without.Average();
        double error = n < 2 ? double.NaN : Math.Sqrt((n - 1.0) / n * without.Sum(x => (x - mean) * (x - mean)));
        return new Score(name, value, error, n) { Without = without };
    }

    /// <summary>Makes the score of a mean, or of a function of a quotient of sums: f(Σ aᵢ / Σ bᵢ).</summary>
    /// <param name="name">The scorer's name.</param>
    /// <param name="parts">The pair (aᵢ, bᵢ) for each text; for a mean, every bᵢ is 1.</param>
    /// <param name="of">The function f; null for the quotient itself.</param>
    public static Score OfQuotient(string name, IReadOnlyList<(double Numerator, double Denominator)> parts, Func<double, double>? of = null)
    {
        ArgumentNullException.ThrowIfNull(parts);
        double numerator = parts.Sum(x => x.Numerator), denominator = parts.Sum(x => x.Denominator);
        return OfStatistic(
            name, Quotient(numerator, denominator),
            [.. parts.Select(x => Quotient(numerator - x.Numerator, denominator - x.Denominator))]);

        double Quotient(double a, double b)
        {
            double quotient = b == 0 ? double.NaN : a / b;
            return of is null ? quotient : of(quotient);
        }
    }
}
