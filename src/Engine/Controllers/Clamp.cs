using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// Keeps the projection in an interval: u_k = (clip(v_k·x_k, low λ μ_k, high λ μ_k) − v_k·x_k) v_k. A projection inside the interval is not changed,
/// so that the model is not disturbed where it is already right. Without a low end the interval is a cap, without a high end a floor. Equal ends are
/// the clamp of feature steering, which sets every projection to one value.
/// </summary>
public sealed class Clamp : SteeringMethod
{
    /// <summary>Makes the clamp.</summary>
    /// <param name="feature">v and μ.</param>
    /// <param name="low">Lower end in units of λ μ_k; null for none.</param>
    /// <param name="high">Upper end in units of λ μ_k, at least <paramref name="low"/>; null for none.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">An end is not finite, both ends are missing, or they are reversed.</exception>
    public Clamp(Feature feature, double? low, double? high, LayerSet? layers = null)
        : base(feature, layers)
    {
        if (low is null && high is null)
        {
            throw new ArgumentException("A clamp needs a low or a high end.", nameof(low));
        }

        if (!float.IsFinite((float)(low ?? 0)) || !float.IsFinite((float)(high ?? 0)) || low > high)
        {
            throw new ArgumentOutOfRangeException(nameof(low), $"{low}, {high}",
                "The ends of a clamp must be finite, the low one no more than the high one.");
        }

        Low = low;
        High = high;
    }

    /// <inheritdoc/>
    public override string Name => "clamp";

    /// <summary>Lower end in units of λ μ_k; null for none.</summary>
    public double? Low { get; }

    /// <summary>Upper end in units of λ μ_k; null for none.</summary>
    public double? High { get; }

    private protected override IEnumerable<double> Parameters => [Low ?? double.NegativeInfinity, High ?? double.PositiveInfinity];

    private protected override void Compile(double lambda, LawParts parts)
    {
        // A negative λ reverses the interval: the ends change places, and a floor becomes a cap.
        var (low, high) = lambda < 0 ? (High, Low) : (Low, High);
        foreach (int k in Steered())
        {
            float lowest = low is { } a ? End(a, k) : float.NegativeInfinity, highest = high is { } b ? End(b, k) : float.PositiveInfinity;
            int sensor = parts.Add(new Sensor(k, Feature.V[k], lowest, highest));
            parts.Terms.Add(new Term(k, Feature.V[k], 0, new Feed(sensor, 1)));
        }

        float End(double end, int k)
        {
            float value = (float)(lambda * end * Feature.Mu[k]);
            return float.IsFinite(value) ? value : throw new SteeringOverflowException(Name, lambda, "An end", k);
        }
    }
}
