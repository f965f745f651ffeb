using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// Fits S-PID over depth (<see cref="SPid"/>). The default gains are those of its published code for concepts. All blocks are steered.
/// </summary>
public sealed record SPidFit : FitMethod
{
    /// <summary>k_p, the gain on the error; default 0.5.</summary>
    public double Kp { get; init; } = 0.5;

    /// <summary>k_i, the gain on the sum of the errors; default 0.5.</summary>
    public double Ki { get; init; } = 0.5;

    /// <summary>k_d, the gain on the change of the error; default 0.01.</summary>
    public double Kd { get; init; } = 0.01;

    /// <inheritdoc/>
    public override string Name => "s-pid";

    /// <inheritdoc/>
    public override string Summary => "proportional, integral and derivative feedback over depth, along the feature itself";

    /// <inheritdoc/>
    public override string Source => "the code of arXiv:2604.19018";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.None;

    /// <inheritdoc/>
    public override string PerBlock => "1 sensor, up to 9 terms";

    /// <inheritdoc/>
    public override IReadOnlyList<FitParameter> Parameters =>
    [
        new("kp", "Gain on the error", Kp, x => this with { Kp = x }),
        new("ki", "Gain on the sum of the errors", Ki, x => this with { Ki = x }),
        new("kd", "Gain on the change of the error", Kd, x => this with { Kd = x }),
    ];

    internal override FittedMethod Fit(FitJob job) => new(new SPid(job.Feature, Kp, Ki, job.Feature.L > 1 ? Kd : 0));
}

/// <summary>Fits PID Steering (<see cref="PidSteering"/>): directions are made offline and then added or ablated.</summary>
public sealed record PidSteeringFit : FitMethod
{
    /// <summary>k_p, the gain on the difference.</summary>
    public double Kp { get; init; } = PidSteering.PublishedKp;

    /// <summary>k_i, the gain on the sum of the differences.</summary>
    public double Ki { get; init; } = PidSteering.PublishedKi;

    /// <summary>k_d, the gain on the change of the difference.</summary>
    public double Kd { get; init; } = PidSteering.PublishedKd;

    /// <summary>Whether the directions are ablated at the blocks' inputs; if not, they are added, by default from block 1 on.</summary>
    public bool Ablates { get; init; }

    /// <inheritdoc/>
    public override string Name => Ablates ? "pid-steering-ablation" : "pid-steering";

    /// <inheritdoc/>
    public override string Summary => $"{(Ablates ? "ablates" : "adds")} directions that a PID filter over depth makes of the differences";

    /// <inheritdoc/>
    public override string Source => "arXiv:2510.04309";

    /// <inheritdoc/>
    public override string Lambda => Ablates ? "the share that is removed" : "the multiple that is added";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Layers;

    /// <inheritdoc/>
    public override string PerBlock => Ablates ? "1 sensor, 1 term" : "1 term";

    /// <inheritdoc/>
    public override IReadOnlyList<FitParameter> Parameters =>
    [
        new("kp", "Gain on the difference", Kp, x => this with { Kp = x }),
        new("ki", "Gain on the sum of the differences", Ki, x => this with { Ki = x }),
        new("kd", "Gain on the change of the difference", Kd, x => this with { Kd = x }),
    ];

    internal override LayerSet? StandardLayers(int layers) => Ablates || layers == 1 ? null : new LayerSet(1, layers - 1);

    internal override FittedMethod Fit(FitJob job)
    {
        var directions = PidSteering.Directions(job.Feature, Kp, Ki, Kd);
        return new(Ablates ? new Ablation(directions, job.Layers, Hook.Input) : new OpenLoopAddition(directions, job.Layers));
    }
}
