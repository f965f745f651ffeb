using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>A condition on the state of each token: Direction·x is above Threshold at the input of block Layer.</summary>
/// <param name="Layer">The block whose input is read. At earlier blocks, the state of the previous steered token decides.</param>
/// <param name="Direction">The direction, for example the weights of a probe // (D).</param>
/// <param name="Threshold">The threshold of the projection. For a probe w·x + b > t, it is t − b.</param>
public sealed record TokenGate(int Layer, float[] Direction, float Threshold);

/// <summary>
/// Another method behind a gate: the method steers only tokens whose state meets the condition. λ has the meaning of the other method.
/// </summary>
public sealed class Gated : SteeringMethod
{
    /// <summary>Puts a gate before a method.</summary>
    /// <param name="method">The method that acts while the gate is open. It must have no gate.</param>
    /// <param name="gate">The condition that opens the gate.</param>
    /// <exception cref="ArgumentException">The gate is for a model of another shape or not finite, or the method already has a gate.</exception>
    public Gated(SteeringMethod method, TokenGate gate)
        : base((method ?? throw new ArgumentNullException(nameof(method))).Feature, method.Layers)
    {
        ArgumentNullException.ThrowIfNull(gate);
        if (method is Gated or Conditional or AngularSteering { Adaptive: true })
        {
            throw new ArgumentException(
                "The method has a gate or a condition already, and a term has one gate: give a method without (AngularSteering with "
                + "Adaptive = false), and put the gate inside the condition.",
                nameof(method));
        }

        CheckRow(Feature, gate.Direction, nameof(gate));
        if ((uint)gate.Layer >= (uint)Feature.L || !float.IsFinite(gate.Threshold))
        {
            throw new ArgumentOutOfRangeException(
                nameof(gate), $"{gate.Layer}, {gate.Threshold}", $"A gate needs a layer of 0-{Feature.L - 1} and a finite threshold.");
        }

        Method = method;
        Gate = gate;
    }

    /// <inheritdoc/>
    public override string Name => Method.Name;

    /// <summary>The method that acts while the gate is open.</summary>
    public SteeringMethod Method { get; }

    /// <summary>The condition that opens the gate.</summary>
    public TokenGate Gate { get; }

    private protected override IEnumerable<double> Parameters =>
        [.. Method.OwnParameters, Gate.Layer, Gate.Threshold, .. Gate.Direction.Select(x => (double)x)];

    private protected override IEnumerable<int> Steered() => Method.SteeredBlocks;

    private protected override string? IdleGain() => Method.Idle;

    private protected override void Compile(double lambda, LawParts parts)
    {
        Method.CompileInto(lambda, parts);
        if (parts.Terms.Count > 0 || parts.Edits.Count > 0)
        {
            // The gate of what acts at a block's input reads the input before it is moved.
            var hook = parts.Terms.Any(t => t.Hook == Hook.Input) || parts.Edits.Any(e => e.Point == EditPoint.Input) ? Hook.Input : Hook.Output;
            int gate = parts.Add(new Sensor(Gate.Layer, Gate.Direction, Gate.Threshold) { Hook = hook });
            for (int i = 0; i < parts.Terms.Count; i++)
            {
                parts.Terms[i] = parts.Terms[i] with { Gate = gate };
            }

            for (int i = 0; i < parts.Edits.Count; i++)
            {
                parts.Edits[i] = parts.Edits[i] with { Gate = gate };
            }
        }
    }
}
