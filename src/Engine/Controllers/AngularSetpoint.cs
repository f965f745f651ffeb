using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>
/// A-LQR with an angle as the setpoint (arXiv:2604.19018; docs/math.md §2). Px is the projection of the state on the plane of b₁ = v_k and b₂. The
/// target has the length of Px and the angle θ to b₁: e = |Px| (cos θ b₁ + sin θ b₂) − Px. The input u_k = K_k e = e₁ K b₁ + e₂ K b₂ has rank two. λ
/// is θ in degrees: at 0, all of Px lies along the feature. Layers without a second direction are not steered.
/// </summary>
public sealed class AngularSetpoint : SteeringMethod
{
    /// <summary>Makes the method of directions that are already computed.</summary>
    /// <param name="feature">b₁ = v_k.</param>
    /// <param name="second">b₂ of each block, of unit length and orthogonal to v_k, or 0 // (L, D).</param>
    /// <param name="w1">K_k b₁ // (L, D).</param>
    /// <param name="w2">K_k b₂ // (L, D).</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">Lengths disagree, a number is not finite, or a pair is not orthonormal.</exception>
    public AngularSetpoint(
        Feature feature, IReadOnlyList<float[]> second, IReadOnlyList<float[]> w1, IReadOnlyList<float[]> w2, LayerSet? layers = null)
        : base(feature, layers)
    {
        CheckPlane(feature, second);
        CheckRows(feature, w1, nameof(w1));
        CheckRows(feature, w2, nameof(w2));
        Second = second;
        W1 = w1;
        W2 = w2;
    }

    /// <inheritdoc/>
    public override string Name => "angular";

    /// <summary>b₂ // (L, D).</summary>
    public IReadOnlyList<float[]> Second { get; }

    /// <summary>K_k b₁ // (L, D).</summary>
    public IReadOnlyList<float[]> W1 { get; }

    /// <summary>K_k b₂ // (L, D).</summary>
    public IReadOnlyList<float[]> W2 { get; }

    /// <summary>Computes K b₁ and K b₂ of the plane of two features from solved gains.</summary>
    /// <param name="feature">b₁ = v_k.</param>
    /// <param name="other">The feature that gives b₂: its v_k without the part along b₁ (<see cref="SecondDirection(float[], float[])"/>).</param>
    /// <param name="gains">K_0..K_{L-1}, from any of the solvers.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">Lengths disagree, or a product does not fit in float32.</exception>
    public static AngularSetpoint FromGains(Feature feature, Feature other, IReadOnlyList<Gain> gains, LayerSet? layers = null)
    {
        if (gains.Count != feature.L || other.L != feature.L || other.D != feature.D)
        {
            throw new ArgumentException(
                $"{gains.Count} gains and features of {feature.L} and {other.L} blocks; these numbers must be equal, and both features of one width.",
                nameof(gains));
        }

        float[][] second = SecondDirections(feature, other);
        return new AngularSetpoint(feature, second, Products(feature.V), Products(second), layers);

        float[][] Products(IReadOnlyList<float[]> directions) =>
            [.. gains.Select((gain, k) => Array.ConvertAll(gain.Apply(directions[k]), x => (float)x))];
    }

    /// <summary>
    /// Computes b₂: the part of a direction that is orthogonal to b₁, scaled to unit length; 0 if only rounding errors would be left.
    /// </summary>
    /// <param name="first">b₁, of unit length, or 0 // (D).</param>
    /// <param name="other">A unit vector, or 0 // (D).</param>
    public static float[] SecondDirection(float[] first, float[] other)
    {
        var second = SecondDirection(Array.ConvertAll(first, x => (double)x), Array.ConvertAll(other, x => (double)x));
        return Array.ConvertAll(second, x => (float)x);
    }

    /// <summary>b₂ of every block, from two features // (L, D).</summary>
    internal static float[][] SecondDirections(Feature feature, Feature other) =>
        [.. Enumerable.Range(0, feature.L).Select(k => SecondDirection(feature.V[k], other.V[k]))];

    /// <summary>Throws if a second direction and the feature's direction are not orthonormal; a second direction may be 0.</summary>
    internal static void CheckPlane(Feature feature, IReadOnlyList<float[]> second)
    {
        CheckRows(feature, second, nameof(second));
        for (int k = 0; k < feature.L; k++)
        {
            double length = Math.Sqrt(Feature.Dot(second[k], second[k])), along = Feature.Dot(second[k], feature.V[k]);
            if (length != 0 && !(Math.Abs(length - 1) < 1e-5 && Math.Abs(along) < 1e-5))
            {
                throw new ArgumentException(
                    $"The second direction at layer {k} has length {length} and projection {along} on the first; "
                    + "it must be of unit length and orthogonal, or 0.",
                    nameof(second));
            }
        }
    }

    /// <summary>Computes b₂ in float64.</summary>
    internal static double[] SecondDirection(double[] first, double[] other)
    {
        double square = first.Sum(x => x * x), along = square > 0 ? first.Zip(other, (b, x) => b * x).Sum() / square : 0;
        double[] rest = [.. other.Zip(first, (x, b) => x - (along * b))];
        double length = square > 0 ? Math.Sqrt(rest.Sum(x => x * x)) : 0;
        return length < Feature.Negligible ? new double[other.Length] : Array.ConvertAll(rest, x => x / length);
    }

    private protected override IEnumerable<double> Parameters =>
        Second.Concat(W1).Concat(W2).SelectMany(row => row, (_, x) => (double)x);

    private protected override IEnumerable<int> Steered() => base.Steered().Where(k => Second[k].AsSpan().ContainsAnyExcept(0));

    private protected override string? IdleGain() =>
        Steered().All(k => !W1[k].AsSpan().ContainsAnyExcept(0) && !W2[k].AsSpan().ContainsAnyExcept(0))
            ? $"K b₁ and K b₂ are 0 at every block of {Layers} that has a plane" : null;

    private protected override void Compile(double lambda, LawParts parts)
    {
        var (sine, cosine) = Math.SinCos(lambda * Math.PI / 180);
        foreach (int k in Steered())
        {
            int first = parts.Add(new Sensor(k, Feature.V[k], 0f)), second = parts.Add(new Sensor(k, Second[k], 0f));
            parts.Planes.Add(new Plane(first, second, (float)cosine, (float)sine));
            parts.Terms.Add(new Term(k, W1[k], 0, new Feed(first, 1)));
            parts.Terms.Add(new Term(k, W2[k], 0, new Feed(second, 1)));
        }
    }
}
