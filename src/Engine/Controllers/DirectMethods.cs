using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// Open-loop addition (ActAdd, arXiv:2308.10248; CAA, arXiv:2312.06681): u_k = λ E_{k+1} at the steered blocks, independent of the state. E_{k+1} is
/// the difference of the means at the block's output, where the input is added.
/// </summary>
public sealed class OpenLoopAddition : SteeringMethod
{
    /// <summary>Makes the method.</summary>
    /// <param name="feature">The difference of means.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    public OpenLoopAddition(Feature feature, LayerSet? layers = null)
        : base(feature, layers)
    {
    }

    /// <inheritdoc/>
    public override string Name => "addition";

    private protected override void Compile(double lambda, LawParts parts)
    {
        // u_k = λ E_{k+1}
        if (lambda != 0)
        {
            parts.Terms.AddRange(Steered().Select(k => new Term(k, Feature.Difference(k + 1), (float)lambda)));
        }
    }

    private protected override IEnumerable<int> Steered() => Layers.Blocks.Where(k => Feature.Mu[k + 1] > 0);
}

/// <summary>Proportional feedback (ActAdd-LFS of arXiv:2604.19018): u_k = k_p (λ μ_k − v_k·x_k) v_k at the steered blocks.</summary>
public sealed class Proportional : SteeringMethod
{
    /// <summary>Makes the method.</summary>
    /// <param name="feature">v and μ.</param>
    /// <param name="gain">k_p, finite; 1 corrects the whole error in one block.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    public Proportional(Feature feature, double gain = 1, LayerSet? layers = null)
        : base(feature, layers)
    {
        if (!float.IsFinite((float)gain))
        {
            throw new ArgumentOutOfRangeException(nameof(gain), gain, "The gain k_p must be finite.");
        }

        Gain = gain;
    }

    /// <inheritdoc/>
    public override string Name => "proportional";

    /// <summary>k_p.</summary>
    public double Gain { get; }

    private protected override IEnumerable<double> Parameters => [Gain];

    private protected override string? IdleGain() => Gain == 0 ? "the gain k_p is 0" : null;

    private protected override void Compile(double lambda, LawParts parts) =>
        AddFeedback(parts, k => lambda * Feature.Mu[k], Gain, k => Feature.V[k]);
}

/// <summary>
/// Directional ablation (arXiv:2406.11717): u_k = −λ (v_k·x_k) v_k. λ is the share that is removed: 1 removes the whole projection of the block's
/// input x_k, 0 leaves the model unchanged. u_k is added to the block's output, as in most methods, or, with <see cref="Hook.Input"/>, to the input
/// before the block reads it.
/// </summary>
public sealed class Ablation : SteeringMethod
{
    /// <summary>Makes the method.</summary>
    /// <param name="feature">v.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <param name="hook">Whether the projection is removed from a block's output or from its input.</param>
    public Ablation(Feature feature, LayerSet? layers = null, Hook hook = Hook.Output)
        : base(feature, layers)
    {
        Hook = hook;
    }

    /// <summary>Whether the projection is removed from a block's output or from its input.</summary>
    public Hook Hook { get; }

    private protected override IEnumerable<double> Parameters => [(double)Hook];

    /// <inheritdoc/>
    public override string Name => "ablation";

    private protected override void Compile(double lambda, LawParts parts)
    {
        if (lambda != 0)
        {
            AddFeedback(parts, _ => 0, lambda, k => Feature.V[k], Hook);
        }
    }
}
