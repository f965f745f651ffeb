using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

// Sign convention: α = β − v·x is the deficit of the projection; every method adds along +α.

/// <summary>The position of the setpoint β_k of the projection v_k·x_k.</summary>
public enum Setpoint
{
    /// <summary>β_k = λ μ_k (arXiv:2604.19018).</summary>
    Published,

    /// <summary>β_k = v_k·mean(x_k | negative) + λ μ_k: λ = 0 is the mean of the negative prompts, λ = 1 the mean of the positive prompts.</summary>
    Affine,
}

/// <summary>
/// A way of steering along a feature. It compiles to the same run-time law as every method (docs/math.md §6) for any λ, without solving anything
/// again. The laws of several features or methods can be added (<see cref="FeedbackLaw.Sum"/>). Layers where the feature is 0 are not steered.
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

    /// <summary>The feature to steer along.</summary>
    public Feature Feature { get; }

    /// <summary>Steered blocks.</summary>
    public LayerSet Layers { get; }

    /// <summary>
    /// The reason why this method moves no state at any λ; null if some λ moves one. Such a method compiles to an empty law, which is the plain model
    /// bit for bit.
    /// </summary>
    public string? Idle =>
        !Steered().Any() ? $"μ is 0 at every block of {Layers}: the positive and the negative prompts are alike there" : IdleGain();

    /// <summary>Compiles the law for strength λ.</summary>
    /// <param name="lambda">Strength λ, finite, in the units of the method.</param>
    /// <param name="maxEffort">Bound on |u_k|; positive infinity for none. A method with a bound of its own keeps the smaller one.</param>
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

        return new FeedbackLaw(
            Feature.L, Feature.D, parts.Sensors, parts.Terms, MathF.Min(maxEffort, parts.MaxEffort), parts.Planes, parts.Edits, parts.Conditions);
    }

    private protected abstract void Compile(double lambda, LawParts parts);

    /// <summary>
    /// The method's own numbers, without those of its feature. Two methods with the same name, layers, feature and numbers are the same.
    /// </summary>
    private protected virtual IEnumerable<double> Parameters => [];

    /// <summary>
    /// w of each block in u_k = (β_k − v_k·x_k) w_k while no bound is met // (L, D), with null where there is none; null for a method without such
    /// feedback on the feature of its own cost.
    /// </summary>
    internal virtual IReadOnlyList<float[]?>? OptimalFeedback => null;

    /// <summary>Whether two methods compile to the same law at every λ: they have the same name, layers, feature and numbers.</summary>
    internal bool SteersAs(SteeringMethod other) =>
        Name == other.Name && Layers.Equals(other.Layers) && Feature.Mu.SequenceEqual(other.Feature.Mu)
        && Feature.V.Count == other.Feature.V.Count && Feature.V.Zip(other.Feature.V).All(pair => pair.First.AsSpan().SequenceEqual(pair.Second))
        && Parameters.SequenceEqual(other.Parameters);

    /// <summary><see cref="Parameters"/>, for a method that contains this one.</summary>
    internal IEnumerable<double> OwnParameters => Parameters;

    /// <summary><see cref="Steered"/>, for a method that contains this one.</summary>
    internal IEnumerable<int> SteeredBlocks => Steered();

    /// <summary><see cref="Compile(double, LawParts)"/>, for a method that contains this one.</summary>
    internal void CompileInto(double lambda, LawParts parts) => Compile(lambda, parts);

    /// <summary>The blocks of <see cref="Layers"/> that are steered: by default those where the feature is not 0.</summary>
    private protected virtual IEnumerable<int> Steered() => Layers.Blocks.Where(k => Feature.Mu[k] > 0);

    /// <summary>The reason why the gains move nothing although the feature is not 0; null if they move something.</summary>
    private protected virtual string? IdleGain() => null;

    /// <summary>Adds the feedback s (β_k − v_k·x_k) w_k at every steered layer.</summary>
    private protected void AddFeedback(LawParts parts, Func<int, double> beta, double s, Func<int, float[]> w, Hook hook = Hook.Output)
    {
        foreach (int k in Steered())
        {
            int sensor = parts.Add(new Sensor(k, Feature.V[k], (float)beta(k)) { Hook = hook });
            parts.Terms.Add(new Term(k, w(k), 0, new Feed(sensor, (float)s)) { Hook = hook });
        }
    }

    /// <summary>Throws unless there is one row of D finite numbers for each block.</summary>
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

    /// <summary>Throws unless the row has D finite numbers.</summary>
    private protected static void CheckRow(Feature feature, float[] row, string name)
    {
        if (row.Length != feature.D)
        {
            throw new ArgumentException($"A row of {name} has {row.Length} numbers; the feature's width is {feature.D}.", name);
        }

        int bad = row.AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
        if (bad >= 0)
        {
            throw new ArgumentException($"A row of {name} is {row[bad]} at {bad}; it must be finite.", name);
        }
    }
}

/// <summary>A setpoint or a gain is too large for float32.</summary>
public sealed class SteeringOverflowException : TillerException
{
    internal SteeringOverflowException(string method, double lambda, string what, int layer)
        : base($"{what} of {method} at layer {layer} overflows float32 with λ = {lambda}: lower λ.")
    {
        Layer = layer;
    }

    /// <summary>The first layer whose number is too large.</summary>
    public int Layer { get; }
}
