using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// Directional ablation as published (arXiv:2406.11717): one direction, that of block <see cref="Block"/>, is removed wherever the model could write
/// it: from every block's input, and from what attention and the feed-forward part add. λ is the share that is removed. <see cref="Ablation"/>
/// removes each block's own direction at one place.
/// </summary>
public sealed class DirectionalAblation : SteeringMethod
{
    /// <summary>Ablates at these blocks.</summary>
    /// <param name="feature">v.</param>
    /// <param name="block">k of the direction v_k.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">The feature has no such block.</exception>
    public DirectionalAblation(Feature feature, int block, LayerSet? layers = null)
        : base(feature, layers)
    {
        if ((uint)block >= (uint)feature.L)
        {
            throw new ArgumentOutOfRangeException(nameof(block), block, $"The direction must be that of one of the blocks 0-{feature.L - 1}.");
        }

        Block = block;
    }

    /// <inheritdoc/>
    public override string Name => "directional-ablation";

    /// <summary>k of the direction.</summary>
    public int Block { get; }

    private protected override IEnumerable<double> Parameters => [Block];

    private protected override IEnumerable<int> Steered() => Feature.Mu[Block] > 0 ? Layers.Blocks : [];

    private protected override void Compile(double lambda, LawParts parts)
    {
        if (lambda == 0)
        {
            return;
        }

        float[] direction = Feature.V[Block];
        foreach (int k in Steered())
        {
            int sensor = parts.Add(new Sensor(k, direction, 0f) { Hook = Hook.Input });
            parts.Terms.Add(new Term(k, direction, 0, new Feed(sensor, (float)lambda)) { Hook = Hook.Input });
            parts.Edits.Add(new AblationEdit(k, EditPoint.Attention, (float)lambda, direction));
            parts.Edits.Add(new AblationEdit(k, EditPoint.FeedForward, (float)lambda, direction));
        }
    }
}

/// <summary>Directional ablation as published (<see cref="DirectionalAblation"/>).</summary>
public sealed record DirectionalAblationFit : FitMethod
{
    /// <summary>Block whose direction is removed; null for the middle one.</summary>
    public double? Block { get; init; }

    /// <inheritdoc/>
    public override string Name => "directional-ablation";

    /// <inheritdoc/>
    public override string Summary => "removes one direction from every block's input and from what attention and the feed-forward part add";

    /// <inheritdoc/>
    public override string Source => "arXiv:2406.11717";

    /// <inheritdoc/>
    public override string Lambda => "the share that is removed";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Layers;

    /// <inheritdoc/>
    public override string PerBlock => "1 sensor, 1 term, 2 edits";

    /// <inheritdoc/>
    public override IReadOnlyList<FitParameter> Parameters =>
        [new("block", "Block whose direction is removed; the middle one, if none is named", Block, x => this with { Block = x })];

    internal override FittedMethod Fit(FitJob job)
    {
        double block = Block ?? job.Model.Config.L / 2;
        if (block != Math.Floor(block) || block < 0 || block >= job.Model.Config.L)
        {
            throw new ControllerException(
                ControllerFault.Range,
                $"DirectionalAblationFit.Block must be one of the blocks 0-{job.Model.Config.L - 1}, whose direction is removed, got {block:G}.");
        }

        return new(new DirectionalAblation(job.Feature, (int)block, job.Layers));
    }
}
