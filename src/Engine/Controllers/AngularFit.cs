namespace Tiller.Controllers;

/// <summary>
/// Fits <see cref="AngularSetpoint"/>, A-LQR with an angle as the setpoint, in the plane of the feature and an alternative feature.
/// </summary>
public sealed record AngularFit : FitMethod
{
    /// <inheritdoc/>
    public override string Name => "angular";

    /// <inheritdoc/>
    public override string Summary => "optimal feedback to an angle in the plane of two features";

    /// <inheritdoc/>
    public override string Source => "arXiv:2604.19018";

    /// <inheritdoc/>
    public override string Lambda => "the angle to the feature in degrees";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Gains | FitInputs.Cost | FitInputs.Order | FitInputs.Alternative | FitInputs.Layers;

    /// <inheritdoc/>
    public override string PerBlock => "2 sensors, 2 terms";

    internal override FittedMethod Fit(FitJob job)
    {
        var (feature, other) = (job.Feature, job.Alternative!);
        float[][] second = AngularSetpoint.SecondDirections(feature, other);
        var (products, report) = job.Products([feature, other], feature.V, second);
        return new FittedMethod(new AngularSetpoint(feature, second, products[0], products[1], job.Layers), report);
    }
}
