using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>A condition on the state, token by token: it holds where Direction·x is above Threshold at the input of block Layer.</summary>
/// <param name="Layer">Block whose input is read. For blocks before it the token before decides.</param>
/// <param name="Direction">Such as the weights of a probe // (D).</param>
/// <param name="Threshold">For a probe w·x + b above t this is t − b.</param>
public sealed record TokenGate(int Layer, float[] Direction, float Threshold);

/// <summary>Another method behind a gate: what it adds is added to the tokens alone whose state meets the condition. λ is the other
/// method's.</summary>
public sealed class Gated : SteeringMethod
{
    /// <summary>Puts the gate before the method.</summary>
    /// <param name="method">What acts while the gate is open; one without a gate of its own.</param>
    /// <param name="gate">When that is.</param>
    /// <exception cref="ArgumentException">The gate is for another shape of model, not finite, or the method has a gate already.</exception>
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
                nameof(gate), $"{gate.Layer}, {gate.Threshold}", $"A gate reads one of the blocks 0-{Feature.L - 1} against a finite threshold.");
        }

        Method = method;
        Gate = gate;
    }

    /// <inheritdoc/>
    public override string Name => Method.Name;

    /// <summary>What acts while the gate is open.</summary>
    public SteeringMethod Method { get; }

    /// <summary>When that is.</summary>
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
            // What acts at a block's input asks what that input was before it is moved.
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
