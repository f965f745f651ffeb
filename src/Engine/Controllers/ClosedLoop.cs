using Tiller.Features;

namespace Tiller.Controllers;

/// <summary>How much of the feature's direction one block carries to the next layer.</summary>
/// <param name="Layer">Block k.</param>
/// <param name="Open">v_{k+1}·A_k v_k, the gain along the feature in the plain model.</param>
/// <param name="Closed">v_{k+1}·(A_k v_k − w_k), the gain with the controller. The nearer it is to 0, the sooner an error is forgotten.</param>
/// <param name="Effort">|w_k|, the effort per unit of error.</param>
public sealed record FeatureGain(int Layer, double Open, double Closed, double Effort);

/// <summary>Open- and closed-loop gain along the feature, layer by layer (Â_k = A_k − K_k, docs/math.md §7).</summary>
/// <param name="Layers">One entry per block, k = 0..L-1.</param>
public sealed record ClosedLoop(IReadOnlyList<FeatureGain> Layers)
{
    /// <summary>Geometric mean of |Open| over the layers that carry the feature; 0 if none does.</summary>
    public double MeanOpen => GeometricMean(Layers.Select(g => g.Open));

    /// <summary>Geometric mean of |Closed| over the layers that carry the feature; 0 if none does.</summary>
    public double MeanClosed => GeometricMean(Layers.Select(g => g.Closed));

    /// <summary>Computes the gains along the feature with a method and without it.</summary>
    /// <param name="method">v_k and w_k; w counts as 0 outside its layers.</param>
    /// <param name="open">a_k = v_{k+1}·A_k v_k // (L).</param>
    /// <exception cref="ArgumentException">Lengths disagree.</exception>
    public static ClosedLoop Of(LinearQuadratic method, IReadOnlyList<double> open)
    {
        var feature = method.Feature;
        if (open.Count != feature.L)
        {
            throw new ArgumentException($"{open.Count} open-loop gains for {feature.L} blocks.", nameof(open));
        }

        var gains = new FeatureGain[feature.L];
        for (int k = 0; k < gains.Length; k++)
        {
            bool steered = method.Layers.Contains(k) && feature.Mu[k] > 0;
            double along = steered ? Feature.Dot(feature.V[k + 1], method.W[k]) : 0;
            double effort = steered ? Math.Sqrt(Feature.Dot(method.W[k], method.W[k])) : 0;
            gains[k] = new FeatureGain(k, open[k], open[k] - along, effort);
        }

        return new ClosedLoop(gains);
    }

    private static double GeometricMean(IEnumerable<double> values)
    {
        double[] sizes = [.. values.Select(Math.Abs).Where(x => x > 0)];
        return sizes.Length == 0 ? 0 : Math.Exp(sizes.Average(Math.Log));
    }
}
