using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

// Sign convention: α = β − v·x is what the state is short of; every method adds along +α.

/// <summary>Where the setpoint β_k of the projection v_k·x_k lies.</summary>
public enum Setpoint
{
    /// <summary>β_k = λ μ_k (arXiv:2604.19018).</summary>
    Published,

    /// <summary>β_k = v_k·mean(x_k | negative) + λ μ_k: 0 is the negative mean, 1 the positive mean.</summary>
    Affine,
}

/// <summary>
/// A way of steering along a feature. It compiles to the one run-time law (docs/math.md §6) for any λ without solving anything again; the
/// laws of several features or methods add up (<see cref="FeedbackLaw.Sum"/>). Layers where the feature is 0 are not steered.
/// </summary>
public abstract class SteeringMethod
{
    private protected SteeringMethod(Feature feature, LayerSet? layers)
    {
        Feature = feature;
        Layers = layers ?? new LayerSet(0, feature.L - 1);
        if (Layers.Last >= feature.L)
        {
            throw new ArgumentOutOfRangeException(nameof(layers), Layers, $"Steered layers must lie in 0-{feature.L - 1}.");
        }
    }

    /// <summary>Name in controller files and reports.</summary>
    public abstract string Name { get; }

    /// <summary>What is steered along.</summary>
    public Feature Feature { get; }

    /// <summary>Blocks whose outputs are moved.</summary>
    public LayerSet Layers { get; }

    /// <summary>
    /// Why no λ makes this method move a state; null where some λ does. Its law is then empty, which is the plain model bit for bit.
    /// </summary>
    public string? Idle =>
        !Steered().Any() ? $"μ is 0 at every block of {Layers}: the positive and the negative prompts are alike there" : IdleGain();

    /// <summary>The law for strength λ.</summary>
    /// <param name="lambda">Strength; its meaning is the method's. Finite.</param>
    /// <param name="maxEffort">Bound on |u_k|, positive infinity for none.</param>
    /// <exception cref="ArgumentException">λ is not finite or too large for float32, or the bound is not positive.</exception>
    /// <exception cref="LawCombinationException">There is a bound, and the method edits activations.</exception>
    /// <exception cref="SteeringOverflowException">A setpoint or a gain at this λ is too large for float32.</exception>
    public FeedbackLaw Compile(double lambda, float maxEffort = float.PositiveInfinity)
    {
        if (!float.IsFinite((float)lambda))
        {
            throw new ArgumentOutOfRangeException(nameof(lambda), lambda, "λ must be finite and fit in float32.");
        }

        var parts = new LawParts();
        if (Idle is null)
        {
            Compile(lambda, parts);
        }

        if (parts.Sensors.Find(s => !(s.Low < float.PositiveInfinity && s.High > float.NegativeInfinity)) is { } sensor)
        {
            throw new SteeringOverflowException(Name, lambda, "β", sensor.Layer);
        }

        if (parts.Terms.Find(t => !float.IsFinite(t.C) || t.Feeds.Any(feed => !float.IsFinite(feed.Gain))) is { } term)
        {
            throw new SteeringOverflowException(Name, lambda, "A gain", term.Layer);
        }

        return new FeedbackLaw(Feature.L, Feature.D, parts.Sensors, parts.Terms, maxEffort, parts.Planes, parts.Edits, parts.Conditions);
    }

    private protected abstract void Compile(double lambda, LawParts parts);

    /// <summary>The method's own numbers, as against its feature's: with the same ones two methods of a name are the same.</summary>
    private protected virtual IEnumerable<double> Parameters => [];

    /// <summary>Whether two methods steer alike at every λ: the same name, layers, feature and numbers.</summary>
    internal bool SteersAs(SteeringMethod other) =>
        Name == other.Name && Layers.Equals(other.Layers) && Feature.Mu.SequenceEqual(other.Feature.Mu)
        && Feature.V.Count == other.Feature.V.Count && Feature.V.Zip(other.Feature.V).All(pair => pair.First.AsSpan().SequenceEqual(pair.Second))
        && Parameters.SequenceEqual(other.Parameters);

    /// <summary><see cref="Parameters"/>, for a method that holds another.</summary>
    internal IEnumerable<double> OwnParameters => Parameters;

    /// <summary><see cref="Steered"/>, for a method that holds another.</summary>
    internal IEnumerable<int> SteeredBlocks => Steered();

    /// <summary><see cref="Compile(double, LawParts)"/>, for a method that holds another.</summary>
    internal void CompileInto(double lambda, LawParts parts) => Compile(lambda, parts);

    /// <summary>Layers of <see cref="Layers"/> where the feature is not 0.</summary>
    private protected virtual IEnumerable<int> Steered() => Layers.Blocks.Where(k => Feature.Mu[k] > 0);

    /// <summary>Why the gains move nothing although the feature is there; null where they do.</summary>
    private protected virtual string? IdleGain() => null;

    /// <summary>Feedback s (β_k − v_k·x_k) w_k at every steered layer.</summary>
    private protected void AddFeedback(LawParts parts, Func<int, double> beta, double s, Func<int, float[]> w, Hook hook = Hook.Output)
    {
        foreach (int k in Steered())
        {
            int sensor = parts.Add(new Sensor(k, Feature.V[k], (float)beta(k)) { Hook = hook });
            parts.Terms.Add(new Term(k, w(k), 0, new Feed(sensor, (float)s)) { Hook = hook });
        }
    }

    /// <summary>Refuses rows that are not one of D finite numbers for each block.</summary>
    private protected static void CheckRows(Feature feature, IReadOnlyList<float[]> rows, string name)
    {
        if (rows.Count != feature.L)
        {
            throw new ArgumentException($"{name} must be {feature.L} rows, one per block, got {rows.Count}.", name);
        }

        foreach (float[] row in rows)
        {
            CheckRow(feature, row, name);
        }
    }

    /// <summary>Refuses a row that is not of D finite numbers.</summary>
    private protected static void CheckRow(Feature feature, float[] row, string name)
    {
        if (row.Length != feature.D)
        {
            throw new ArgumentException($"A row of {name} has {row.Length} numbers, the feature's width is {feature.D}.", name);
        }

        int bad = row.AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
        if (bad >= 0)
        {
            throw new ArgumentException($"A row of {name} is {row[bad]} at {bad}; it must be finite.", name);
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
