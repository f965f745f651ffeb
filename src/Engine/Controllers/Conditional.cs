using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// Another method behind a condition on the prompt: it acts on a text if the prompt meets the condition, and leaves the text to the plain model
/// otherwise. λ is the other method's. <see cref="Gated"/> asks token by token.
/// </summary>
public sealed class Conditional : SteeringMethod
{
    /// <summary>Puts the condition before the method.</summary>
    /// <param name="method">What acts on prompts that meet the condition; one without a condition of its own.</param>
    /// <param name="condition">What it asks.</param>
    /// <exception cref="ArgumentException">The condition is for another shape of model, not finite, or the method has one already.</exception>
    public Conditional(SteeringMethod method, PromptCondition condition)
        : base((method ?? throw new ArgumentNullException(nameof(method))).Feature, method.Layers)
    {
        ArgumentNullException.ThrowIfNull(condition);
        if (method is Conditional)
        {
            throw new ArgumentException("The method has a condition already: give one without.", nameof(method));
        }

        condition.Check(Feature.L, Feature.D);
        (Method, Condition) = (method, condition);
    }

    /// <inheritdoc/>
    public override string Name => Method.Name;

    /// <summary>What acts on prompts that meet the condition.</summary>
    public SteeringMethod Method { get; }

    /// <summary>What it asks.</summary>
    public PromptCondition Condition { get; }

    private protected override IEnumerable<double> Parameters =>
    [
        .. Method.OwnParameters, Condition.Threshold, Condition.Above ? 1 : 0,
        .. Condition.Probes.SelectMany(probe => probe.Direction.Select(x => (double)x).Prepend(probe.Layer)),
    ];

    private protected override IEnumerable<int> Steered() => Method.SteeredBlocks;

    private protected override string? IdleGain() => Method.Idle;

    private protected override void Compile(double lambda, LawParts parts)
    {
        Method.CompileInto(lambda, parts);
        parts.Conditions.Add(Condition);
        for (int i = 0; i < parts.Terms.Count; i++)
        {
            parts.Terms[i] = parts.Terms[i] with { Condition = 0 };
        }

        for (int i = 0; i < parts.Edits.Count; i++)
        {
            parts.Edits[i] = parts.Edits[i] with { Condition = 0 };
        }
    }
}
