using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>
/// Model-predictive control with a bound U on each |u_k|, in receding horizon (docs/math.md §3): u_k is the first input of the best plan over the
/// blocks that are left, from the error e = β_k − v_k·x_k. As e is one number, a fit solves the plans beforehand (<see cref="InputCurve"/>), and a
/// token costs a sensor and some terms whose strengths are curves of e. While no bound is met, it is A-LQR. The law has the bound U too, against
/// rounding. λ sets β_k.
/// </summary>
public sealed class PredictiveSteering : SteeringMethod
{
    /// <summary>Makes the method of curves that are already computed.</summary>
    /// <param name="feature">v, μ and, for affine setpoints, the origin.</param>
    /// <param name="curves">The curve of each block, for the bound 1; null where K v is 0 // (L).</param>
    /// <param name="bound">U, the bound on each |u_k|; above 0.</param>
    /// <param name="setpoint">The position of the setpoint β.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">
    /// Lengths disagree, a number is not finite, the bound is not above 0 or too large for float32, or an affine setpoint has no origin.
    /// </exception>
    public PredictiveSteering(
        Feature feature, IReadOnlyList<InputCurve?> curves, double bound, Setpoint setpoint = Setpoint.Published, LayerSet? layers = null)
        : base(feature, layers)
    {
        ArgumentNullException.ThrowIfNull(curves);
        if (curves.Count != feature.L)
        {
            throw new ArgumentException($"There must be {feature.L} curves, one per block, got {curves.Count}.", nameof(curves));
        }

        if (!(bound > 0 && float.IsNormal((float)bound)))
        {
            throw new ArgumentOutOfRangeException(
                nameof(bound), bound, "The bound on |u| must be above 0, and neither too small nor too large for float32.");
        }

        if (setpoint == Setpoint.Affine && feature.Origin is null)
        {
            throw new ArgumentException("An affine setpoint needs the feature's origin, v·mean(negative), which was not measured.", nameof(setpoint));
        }

        (Curves, Bound, Setpoint) = (curves, bound, setpoint);
        _feeds = [.. curves.Select(curve => curve is null ? [] : Feeds(curve))];
    }

    private readonly ErrorCurve[][] _feeds; // (L, p_k + 1)

    /// <inheritdoc/>
    public override string Name => "mpc";

    /// <summary>The curve of each block, for the bound 1; null where K v is 0 // (L).</summary>
    public IReadOnlyList<InputCurve?> Curves { get; }

    /// <inheritdoc/>
    internal override IReadOnlyList<float[]?> OptimalFeedback => [.. Curves.Select(curve => curve?.W)];

    /// <summary>U, the bound on each |u_k|.</summary>
    public double Bound { get; }

    /// <summary>The position of the setpoint β.</summary>
    public Setpoint Setpoint { get; }

    private protected override IEnumerable<double> Parameters =>
    [
        Bound,
        .. Setpoint == Setpoint.Affine ? Feature.Origin!.Select(x => (double)x) : [],
        .. Curves.SelectMany(curve => curve is null ? [] : new[] { [curve.Knee], curve.W, curve.Nodes }
            .Concat(curve.Directions).Concat(curve.Values).Concat(curve.Slopes).SelectMany(row => row, (_, x) => (double)x)),
    ];

    private protected override string? IdleGain() =>
        Steered().All(k => Curves[k] is null) ? $"w = K v is 0 at every block of {Layers} that has a feature" : null;

    private protected override void Compile(double lambda, LawParts parts)
    {
        parts.MaxEffort = (float)Bound;
        foreach (int k in Steered().Where(k => Curves[k] is not null))
        {
            var curve = Curves[k]!;
            double beta = (Setpoint == Setpoint.Affine ? Feature.Origin![k] : 0) + (lambda * Feature.Mu[k]);
            int sensor = parts.Add(new Sensor(k, Feature.V[k], (float)beta));
            for (int j = 0; j < _feeds[k].Length; j++)
            {
                float[] direction = j == 0 ? curve.W : curve.Directions[j - 1];
                parts.Terms.Add(new Term(k, direction, 0, new Feed(sensor, 1) { Curve = _feeds[k][j] }));
            }
        }
    }

    private ErrorCurve[] Feeds(InputCurve curve)
    {
        CheckRow(Feature, curve.W, nameof(curve));
        foreach (float[] direction in curve.Directions)
        {
            CheckRow(Feature, direction, nameof(curve));
        }

        if (curve.Values.Count != curve.Directions.Count + 1 || curve.Slopes.Count != curve.Values.Count)
        {
            throw new ArgumentException(
                $"A curve along w and {curve.Directions.Count} directions needs a row more of values and of slopes, got {curve.Values.Count} and "
                + $"{curve.Slopes.Count}.",
                nameof(curve));
        }

        return [.. curve.Values.Zip(curve.Slopes, (values, slopes) => new ErrorCurve(curve.Nodes, values, slopes, curve.Knee, (float)Bound))];
    }
}
