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

    /// <summary>Computes the gains along the feature with a method and without it. With a bound on |u| they hold while it is not met.</summary>
    /// <param name="method">v_k and w_k; w counts as 0 outside its layers. A-LQR or model-predictive control.</param>
    /// <param name="open">a_k = v_{k+1}·A_k v_k // (L).</param>
    /// <exception cref="ArgumentException">Lengths disagree, or the method has no such feedback.</exception>
    public static ClosedLoop Of(SteeringMethod method, IReadOnlyList<double> open)
    {
        ArgumentNullException.ThrowIfNull(method);
        ArgumentNullException.ThrowIfNull(open);
        var feature = method.Feature;
        var feedback = method.OptimalFeedback
            ?? throw new ArgumentException($"The gains are those of A-LQR or of model-predictive control; {method.Name} has none.", nameof(method));
        if (open.Count != feature.L)
        {
            throw new ArgumentException($"{open.Count} open-loop gains for {feature.L} blocks.", nameof(open));
        }

        var gains = new FeatureGain[feature.L];
        for (int k = 0; k < gains.Length; k++)
        {
            float[]? w = method.Layers.Contains(k) && feature.Mu[k] > 0 ? feedback[k] : null;
            double along = w is null ? 0 : Feature.Dot(feature.V[k + 1], w);
            double effort = w is null ? 0 : Math.Sqrt(Feature.Dot(w, w));
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
