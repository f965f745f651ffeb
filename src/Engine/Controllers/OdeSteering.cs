using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// ODESteer: a block's output follows, for a time λ, the field of a function that is larger at positive prompts: a logistic probe on features of a
/// <see cref="CountSketch"/>, so that the way bends as the state moves. λ is the length of the way where it does not bend.
/// </summary>
public sealed class OdeSteering : SteeringMethod
{
    /// <summary>Flows at these blocks.</summary>
    /// <param name="feature">The difference between the prompts.</param>
    /// <param name="sketch">The features.</param>
    /// <param name="weights">Weights of the features, all 0 at blocks that are left alone // (L, m).</param>
    /// <param name="steps">Euler steps.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">Lengths disagree, or a number is not finite.</exception>
    public OdeSteering(Feature feature, CountSketch sketch, IReadOnlyList<float[]> weights, int steps, LayerSet? layers = null)
        : base(feature, layers)
    {
        ArgumentNullException.ThrowIfNull(sketch);
        if (weights.Count != feature.L || sketch.Width != feature.D || sketch.Components > FlowEdit.MaxComponents || steps < 1
            || weights.Any(row => row.Length != sketch.Components || row.AsSpan().ContainsAnyExceptInRange(float.MinValue, float.MaxValue)))
        {
            throw new ArgumentException(
                $"A flow needs {feature.L} rows of {sketch.Components} finite weights, at most {FlowEdit.MaxComponents} of them, a sketch of width "
                + $"{feature.D} and at least one step, got {weights.Count} rows, the width {sketch.Width} and {steps} steps.",
                nameof(weights));
        }

        (Sketch, Weights, Steps) = (sketch, weights, steps);
    }

    /// <inheritdoc/>
    public override string Name => "ode-steer";

    /// <summary>The features.</summary>
    public CountSketch Sketch { get; }

    /// <summary>Weights of the features // (L, m).</summary>
    public IReadOnlyList<float[]> Weights { get; }

    /// <summary>Euler steps.</summary>
    public int Steps { get; }

    private protected override IEnumerable<double> Parameters =>
    [
        Steps, Sketch.Gamma, Sketch.Constant, .. Sketch.Places.ToArray().Select(place => (double)place),
        .. Sketch.Signs.ToArray().Select(sign => (double)sign), .. Weights.SelectMany(row => row, (_, x) => (double)x),
    ];

    private protected override IEnumerable<int> Steered() => Layers.Blocks.Where(k => Weights[k].AsSpan().ContainsAnyExcept(0));

    private protected override void Compile(double lambda, LawParts parts)
    {
        if (lambda != 0)
        {
            parts.Edits.AddRange(Steered().Select(k => new FlowEdit(k, EditPoint.Output, (float)lambda, Sketch, Weights[k], Steps)));
        }
    }
}
