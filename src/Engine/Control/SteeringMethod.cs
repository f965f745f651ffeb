using Tiller.Features;

namespace Tiller.Control;

// Sign convention: α = β − v·x is what the state is short of; every method adds along +α.

/// <summary>Where the setpoint β_k of the projection v_k·x_k lies.</summary>
public enum Setpoint
{
    /// <summary>β_k = λ μ_k (arXiv:2604.19018).</summary>
    Published,

    /// <summary>β_k = v_k·mean(x_k | negative) + λ μ_k: 0 is the negative mean, 1 the positive mean.</summary>
    Affine,
}

/// <summary>Blocks a..b, both included.</summary>
/// <param name="First">First block.</param>
/// <param name="Last">Last block.</param>
public readonly record struct LayerRange(int First, int Last)
{
    /// <summary>Whether block <paramref name="k"/> is in the range.</summary>
    public bool Contains(int k) => k >= First && k <= Last;

    /// <inheritdoc/>
    public override string ToString() => $"{First}-{Last}";
}

/// <summary>
/// A way of steering along a feature. It compiles to the one run-time law (docs/math.md §6) for any λ without solving anything again; the
/// laws of several features or methods add up (<see cref="FeedbackLaw.Sum"/>). Layers where the feature is 0 are not steered.
/// </summary>
public abstract class SteeringMethod
{
    private protected SteeringMethod(Feature feature, LayerRange? layers)
    {
        Feature = feature;
        Layers = layers ?? new LayerRange(0, feature.L - 1);
        if (Layers.First < 0 || Layers.First > Layers.Last || Layers.Last >= feature.L)
        {
            throw new ArgumentOutOfRangeException(nameof(layers), Layers, $"Steered layers must lie in 0-{feature.L - 1}.");
        }
    }

    /// <summary>Name in controller files and reports.</summary>
    public abstract string Name { get; }

    /// <summary>What is steered along.</summary>
    public Feature Feature { get; }

    /// <summary>Blocks whose outputs are moved.</summary>
    public LayerRange Layers { get; }

    /// <summary>The law for strength λ.</summary>
    /// <param name="lambda">Strength; its meaning is the method's. Finite.</param>
    /// <param name="maxEffort">Bound on |u_k|, positive infinity for none.</param>
    /// <exception cref="ArgumentException">λ is not finite or too large for float32, or the bound is not positive.</exception>
    /// <exception cref="SteeringOverflowException">A setpoint or a gain at this λ is too large for float32.</exception>
    public FeedbackLaw Compile(double lambda, float maxEffort = float.PositiveInfinity)
    {
        if (!float.IsFinite((float)lambda))
        {
            throw new ArgumentOutOfRangeException(nameof(lambda), lambda, "λ must be finite and fit in float32.");
        }

        var sensors = new List<Sensor>();
        var terms = new List<Term>();
        Compile(lambda, sensors, terms);
        if (sensors.Find(s => !float.IsFinite(s.Beta)) is { } sensor)
        {
            throw new SteeringOverflowException(Name, lambda, "β", sensor.Layer);
        }

        if (terms.Find(t => !float.IsFinite(t.C) || !float.IsFinite(t.S)) is { } term)
        {
            throw new SteeringOverflowException(Name, lambda, "A gain", term.Layer);
        }

        return new FeedbackLaw(Feature.L, Feature.D, sensors, terms, maxEffort);
    }

    private protected abstract void Compile(double lambda, List<Sensor> sensors, List<Term> terms);

    /// <summary>Steered layers where the feature is not 0.</summary>
    private protected IEnumerable<int> Steered()
    {
        for (int k = Layers.First; k <= Layers.Last; k++)
        {
            if (Feature.Mu[k] > 0)
            {
                yield return k;
            }
        }
    }

    /// <summary>Feedback s (β_k − v_k·x_k) w_k at every steered layer.</summary>
    private protected void AddFeedback(List<Sensor> sensors, List<Term> terms, Func<int, double> beta, double s, Func<int, float[]> w)
    {
        foreach (int k in Steered())
        {
            terms.Add(new Term(k, w(k), 0, (float)s, sensors.Count));
            sensors.Add(new Sensor(k, Feature.V[k], (float)beta(k)));
        }
    }
}

/// <summary>A setpoint or a gain does not fit in float32.</summary>
public sealed class SteeringOverflowException : TillerException
{
    internal SteeringOverflowException(string method, double lambda, string what, int layer)
        : base($"{what} of {method} at layer {layer} overflows float32 with λ = {lambda}: lower λ.")
    {
        Layer = layer;
    }

    /// <summary>First layer whose number does not fit.</summary>
    public int Layer { get; }
}
