using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>
/// A-LQR: u_k = (β_k − v_k·x_k) w_k with w_k = K_k v_k (arXiv:2604.19018; docs/math.md §6). λ sets β_k. To steer several features at once, make a
/// method for each feature from the same gains and sum their laws.
/// </summary>
public sealed class LinearQuadratic : SteeringMethod
{
    /// <summary>Makes the method of directions that are already computed.</summary>
    /// <param name="feature">v, μ and, for affine setpoints, the origin.</param>
    /// <param name="w">w_k = K_k v_k // (L, D).</param>
    /// <param name="setpoint">The position of the setpoint β.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">Lengths disagree, a w is not finite, or an affine setpoint has no origin.</exception>
    public LinearQuadratic(Feature feature, IReadOnlyList<float[]> w, Setpoint setpoint = Setpoint.Published, LayerSet? layers = null)
        : base(feature, layers)
    {
        if (w.Count != feature.L || w.Any(row => row.Length != feature.D))
        {
            throw new ArgumentException($"w must be {feature.L} rows of {feature.D} numbers, one per block.", nameof(w));
        }

        for (int k = 0; k < w.Count; k++)
        {
            int bad = w[k].AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
            if (bad >= 0)
            {
                throw new ArgumentException($"w at layer {k} is {w[k][bad]} at {bad}; it must be finite.", nameof(w));
            }
        }

        if (setpoint == Setpoint.Affine && feature.Origin is null)
        {
            throw new ArgumentException("An affine setpoint needs the feature's origin, v·mean(negative), which was not measured.", nameof(setpoint));
        }

        W = w;
        Setpoint = setpoint;
    }

    /// <inheritdoc/>
    public override string Name => "a-lqr";

    /// <summary>w_k = K_k v_k // (L, D).</summary>
    public IReadOnlyList<float[]> W { get; }

    /// <inheritdoc/>
    internal override IReadOnlyList<float[]?> OptimalFeedback => W;

    /// <summary>The position of the setpoint β.</summary>
    public Setpoint Setpoint { get; }

    /// <summary>Computes w_k = K_k v_k from solved gains.</summary>
    /// <param name="feature">v, μ and, for affine setpoints, the origin.</param>
    /// <param name="gains">K_0..K_{L-1}, from any of the solvers.</param>
    /// <param name="setpoint">Where β lies.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">Lengths disagree, a w does not fit in float32, or an affine setpoint has no origin.</exception>
    public static LinearQuadratic FromGains(
        Feature feature, IReadOnlyList<Gain> gains, Setpoint setpoint = Setpoint.Published, LayerSet? layers = null)
    {
        if (gains.Count != feature.L)
        {
            throw new ArgumentException($"{gains.Count} gains for a feature of {feature.L} blocks.", nameof(gains));
        }

        float[][] w = [.. gains.Select((gain, k) => Array.ConvertAll(gain.Apply(feature.V[k]), x => (float)x))];
        return new LinearQuadratic(feature, w, setpoint, layers);
    }

    private protected override IEnumerable<double> Parameters =>
        W.SelectMany(row => row, (_, x) => (double)x).Concat(Setpoint == Setpoint.Affine ? Feature.Origin!.Select(x => (double)x) : []);

    private protected override string? IdleGain() =>
        Steered().All(k => !W[k].AsSpan().ContainsAnyExcept(0)) ? $"w = K v is 0 at every block of {Layers} that has a feature" : null;

    private protected override void Compile(double lambda, LawParts parts)
    {
        // β_k = [v_k·mean(negative)] + λ μ_k
        double Beta(int k) => (Setpoint == Setpoint.Affine ? Feature.Origin![k] : 0) + (lambda * Feature.Mu[k]);
        AddFeedback(parts, Beta, 1, k => W[k]);
    }
}
