namespace Tiller.Controllers;

/// <summary>Fits feedback that follows the run of another prompt (<see cref="Trajectory"/>).</summary>
public sealed record TrajectoryFit : FitMethod
{
    /// <inheritdoc/>
    public override string Name => "trajectory";

    /// <inheritdoc/>
    public override string Summary => "optimal feedback that follows the states of another prompt's last token";

    /// <inheritdoc/>
    public override string Source => "arXiv:2604.19018";

    /// <inheritdoc/>
    public override string Lambda => "the share of the correction, 1 as published";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Gains | FitInputs.Cost | FitInputs.Order | FitInputs.Nominal | FitInputs.Layers
        | FitInputs.HeldOut;

    /// <inheritdoc/>
    public override string PerBlock => "p sensors, p terms; D with the dense cost";

    internal override FittedMethod Fit(FitJob job)
    {
        var solution = job.Gains([job.Feature]);
        float[][] record = [.. job.Nominal!.X.Take(job.Feature.L)];
        return new FittedMethod(Trajectory.FromGains(job.Feature, record, solution.Gains, job.Layers), solution.Report)
        {
            Gains = solution.Gains,
        };
    }
}
