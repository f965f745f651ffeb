namespace Tiller.Controllers;

/// <summary>Fits A-LQR (<see cref="LinearQuadratic"/>), with the cost of the whole state or of the feature, in full or in a reduced basis.</summary>
public sealed record LqrFit : FitMethod
{
    /// <inheritdoc/>
    public override string Name => "a-lqr";

    /// <inheritdoc/>
    public override string Summary => "optimal feedback on the feature's projection; with every prompt token steered it is A-LQR+";

    /// <inheritdoc/>
    public override string Source => "arXiv:2604.19018";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Gains | FitInputs.Cost | FitInputs.Order | FitInputs.Setpoint | FitInputs.Layers
        | FitInputs.HeldOut;

    /// <inheritdoc/>
    public override string PerBlock => "1 sensor, 1 term";

    internal override FittedMethod Fit(FitJob job)
    {
        if (job.KeepsGains)
        {
            var solution = job.Gains([job.Feature]);
            return new FittedMethod(
                LinearQuadratic.FromGains(job.Feature, solution.Gains, job.Options.Setpoint, job.Layers), solution.Report)
            {
                Gains = solution.Gains,
            };
        }

        var (products, report) = job.Products([job.Feature], job.Feature.V);
        return new FittedMethod(new LinearQuadratic(job.Feature, products[0], job.Options.Setpoint, job.Layers), report);
    }
}
