using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>
/// Fits H∞ gains (<see cref="HInfinityRiccati"/>), which bound the effect of the worst disturbance, as feedback on the feature's projection.
/// </summary>
public sealed record HInfinityFit : FitMethod
{
    /// <summary>γ in units of γ*, above 1; default <see cref="HInfinityRiccati.Margin"/>.</summary>
    public double Margin { get; init; } = HInfinityRiccati.Margin;

    /// <inheritdoc/>
    public override string Name => "h-infinity";

    /// <inheritdoc/>
    public override string Summary => "feedback that guards against the worst disturbance (γ* by bisection; 1/γ* is the robustness)";

    /// <inheritdoc/>
    public override string Source => "Başar and Bernhard, chapter 3";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Gains | FitInputs.Setpoint | FitInputs.Layers | FitInputs.AllJacobians | FitInputs.HeldOut;

    /// <inheritdoc/>
    public override string PerBlock => "1 sensor, 1 term";

    /// <inheritdoc/>
    public override IReadOnlyList<FitParameter> Parameters =>
        [new("margin", "γ of the gains in units of the smallest that is feasible; above 1", Margin, x => this with { Margin = x })];

    // γ* takes about forty solves, each with a dozen products.
    internal override (long SizeInBytes, double Flops) Solving(int horizon, int width) =>
        (8 * DenseRiccati.SizeInBytes(width), 40 * 12 * 2.0 * horizon * width * width * width);

    internal override FittedMethod Fit(FitJob job)
    {
        if (!(Margin > 1 && double.IsFinite(Margin)))
        {
            throw RiccatiException.Range("HInfinityFit.Margin", Margin, "finite and above 1; at γ* itself the gains grow without bound");
        }

        if (job.Layers.Ranges.Count > 1)
        {
            throw RiccatiException.Shape("The horizon of h-infinity", job.Layers.First, "one range of layers", $"{job.Layers}");
        }

        var plant = DisturbedPlant.Isotropic(job.Jacobians(), job.Options.Weights);
        double least = HInfinityRiccati.LeastGamma(plant, 1e-9, job.CancellationToken), used = Margin * least;
        var gains = HInfinityRiccati.TrySolve(plant, used, job.CancellationToken)
            ?? throw RiccatiException.Range("HInfinityFit.Margin", Margin, $"larger: γ = {used} is not feasible next to γ* = {least}");
        var feature = job.Feature;
        Gain[] all = [.. Enumerable.Range(0, feature.L).Select(k =>
            job.Layers.Contains(k) ? (Gain)new DenseGain(gains[k - job.Layers.First]) : new ZeroGain(feature.D))];
        return new FittedMethod(
            LinearQuadratic.FromGains(feature, all, job.Options.Setpoint, job.Layers), new RiccatiReport([]),
            ("gamma", used), ("gamma.least", least), ("robustness", 1 / least))
        {
            Gains = all,
        };
    }
}
