using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// Angular Steering: rotates a block's input in the plane of b₁ = v_k and b₂ to the angle θ, x ← x − Px + |Px| (cos θ b₁ + sin θ b₂). The length of x
/// does not change. λ is θ in degrees. In the adaptive form, only inputs with b₁·x above 0 are rotated. The method has no gains;
/// <see cref="AngularSetpoint"/> has the same target and an optimal controller. Layers without a second direction are not steered.
/// </summary>
public sealed class AngularSteering : SteeringMethod
{
    /// <summary>Makes the method of a plane for each block.</summary>
    /// <param name="feature">b₁ = v_k.</param>
    /// <param name="second">
    /// b₂ of each block, of unit length and orthogonal to v_k, or 0 (<see cref="AngularSetpoint.SecondDirection(float[], float[])"/>)
    /// // (L, D).
    /// </param>
    /// <param name="adaptive">Whether only inputs with b₁·x above 0 are rotated.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">Lengths disagree, a number is not finite, or a pair is not orthonormal.</exception>
    public AngularSteering(Feature feature, IReadOnlyList<float[]> second, bool adaptive = false, LayerSet? layers = null)
        : base(feature, layers)
    {
        AngularSetpoint.CheckPlane(feature, second);
        Second = second;
        Adaptive = adaptive;
    }

    /// <inheritdoc/>
    public override string Name => "angular-steering";

    /// <summary>b₂ // (L, D).</summary>
    public IReadOnlyList<float[]> Second { get; }

    /// <summary>Whether only inputs with b₁·x above 0 are rotated.</summary>
    public bool Adaptive { get; }

    private protected override IEnumerable<double> Parameters => [Adaptive ? 1 : 0, .. Second.SelectMany(row => row, (_, x) => (double)x)];

    private protected override IEnumerable<int> Steered() => base.Steered().Where(k => Second[k].AsSpan().ContainsAnyExcept(0));

    private protected override void Compile(double lambda, LawParts parts)
    {
        var (sine, cosine) = Math.SinCos(lambda * Math.PI / 180);
        foreach (int k in Steered())
        {
            int first = parts.Add(Reading(k, Feature.V[k])), second = parts.Add(Reading(k, Second[k]));
            int gate = Adaptive ? parts.Add(Reading(k, Feature.V[k])) : -1;
            parts.Planes.Add(new Plane(first, second, (float)cosine, (float)sine));
            parts.Terms.Add(new Term(k, Feature.V[k], 0, new Feed(first, 1)) { Hook = Hook.Input, Gate = gate });
            parts.Terms.Add(new Term(k, Second[k], 0, new Feed(second, 1)) { Hook = Hook.Input, Gate = gate });
        }

        static Sensor Reading(int k, float[] direction) => new(k, direction, 0f) { Hook = Hook.Input };
    }
}
