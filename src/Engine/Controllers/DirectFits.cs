using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// Fits open-loop addition (<see cref="OpenLoopAddition"/>), as ActAdd and CAA do: by default one vector, added at the middle block.
/// </summary>
public sealed record AdditionFit : FitMethod
{
    internal AdditionFit(string name, string source) => (Name, Source) = (name, source);

    /// <inheritdoc/>
    public override string Name { get; }

    /// <inheritdoc/>
    public override string Summary => "adds the difference of the means at one block (by default the middle one), independent of the state";

    /// <inheritdoc/>
    public override string Source { get; }

    /// <inheritdoc/>
    public override string Lambda => "the multiple that is added";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Layers;

    /// <inheritdoc/>
    public override string PerBlock => "1 term";

    internal override LayerSet? StandardLayers(int layers) => new(layers / 2, layers / 2);

    internal override FittedMethod Fit(FitJob job) => new(new OpenLoopAddition(job.Feature, job.Layers));
}

/// <summary>Fits proportional feedback (<see cref="Proportional"/>), ActAdd-LFS.</summary>
public sealed record ProportionalFit : FitMethod
{
    /// <summary>k_p.</summary>
    public double Gain { get; init; } = 1;

    /// <inheritdoc/>
    public override string Name => "actadd-lfs";

    /// <inheritdoc/>
    public override string Summary => "proportional feedback along the feature itself";

    /// <inheritdoc/>
    public override string Source => "arXiv:2604.19018";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Layers;

    /// <inheritdoc/>
    public override string PerBlock => "1 sensor, 1 term";

    /// <inheritdoc/>
    public override IReadOnlyList<FitParameter> Parameters => [new("kp", "Gain on the error", Gain, x => this with { Gain = x })];

    internal override FittedMethod Fit(FitJob job) => new(new Proportional(job.Feature, Gain, job.Layers));
}

/// <summary>Fits directional ablation (<see cref="Ablation"/>).</summary>
public sealed record AblationFit : FitMethod
{
    /// <summary>Whether the projection is removed from a block's output, the default, or from its input.</summary>
    public Hook Hook { get; init; }

    /// <inheritdoc/>
    public override string Name => Hook == Hook.Input ? "ablation-input" : "ablation";

    /// <inheritdoc/>
    public override string Summary => $"removes the feature's projection from the {(Hook == Hook.Input ? "input" : "output")} of every block";

    /// <inheritdoc/>
    public override string Source => "arXiv:2406.11717";

    /// <inheritdoc/>
    public override string Lambda => "the share that is removed";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Layers;

    /// <inheritdoc/>
    public override string PerBlock => "1 sensor, 1 term";

    internal override FittedMethod Fit(FitJob job) => new(new Ablation(job.Feature, job.Layers, Hook));
}

/// <summary>Fits clamps, floors and caps (<see cref="Clamp"/>).</summary>
public sealed record ClampFit : FitMethod
{
    /// <summary>Lower end in units of λ μ_k; null for none. If both ends are null, both are 1, and the projection is set to λ μ_k.</summary>
    public double? Low { get; init; }

    /// <summary>Upper end in units of λ μ_k; null for none. If both ends are null, both are 1, and the projection is set to λ μ_k.</summary>
    public double? High { get; init; }

    /// <inheritdoc/>
    public override string Name => "clamp";

    /// <inheritdoc/>
    public override string Summary => "keeps the projection in an interval (a floor, a cap or both), or at one value if no end is given";

    /// <inheritdoc/>
    public override string Source => "feature clamping of sparse autoencoders";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Layers;

    /// <inheritdoc/>
    public override string PerBlock => "1 sensor, 1 term";

    /// <inheritdoc/>
    public override IReadOnlyList<FitParameter> Parameters =>
    [
        new("low", "Lower end of the interval in units of λ μ_k", Low, x => this with { Low = x }),
        new("high", "Upper end of the interval in units of λ μ_k", High, x => this with { High = x }),
    ];

    internal override string? Contradiction => Low > High
        ? $"ClampFit.Low must be at most ClampFit.High, the ends of an interval, got {Low:G} and {High:G}."
        : null;

    internal override FittedMethod Fit(FitJob job)
    {
        var (low, high) = Low is null && High is null ? (1, 1) : (Low, High);
        return new(new Clamp(job.Feature, low, high, job.Layers));
    }
}
