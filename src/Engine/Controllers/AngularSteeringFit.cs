namespace Tiller.Controllers;

/// <summary>Fits Angular Steering (<see cref="AngularSteering"/>) in the plane of the feature and an alternative feature.</summary>
public sealed record AngularSteeringFit : FitMethod
{
    /// <summary>Whether only inputs that point along the feature are rotated.</summary>
    public bool Adaptive { get; init; }

    /// <inheritdoc/>
    public override string Name => Adaptive ? "angular-steering-adaptive" : "angular-steering";

    /// <inheritdoc/>
    public override string Summary =>
        $"rotates a block's input to an angle in the plane of two features{(Adaptive ? ", if it points along the first" : "")}";

    /// <inheritdoc/>
    public override string Source => "arXiv:2510.26243";

    /// <inheritdoc/>
    public override string Lambda => "the angle to the feature in degrees";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Alternative | FitInputs.Layers;

    /// <inheritdoc/>
    public override string PerBlock => Adaptive ? "3 sensors, 2 terms" : "2 sensors, 2 terms";

    internal override FittedMethod Fit(FitJob job)
    {
        var (feature, other) = (job.Feature, job.Alternative!);
        float[][] second = AngularSetpoint.SecondDirections(feature, other);
        return new(new AngularSteering(feature, second, Adaptive, job.Layers));
    }
}
