using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>Fits model-predictive control with a bound on each input (<see cref="PredictiveSteering"/>).</summary>
public sealed record PredictiveFit : FitMethod
{
    /// <summary>
    /// U, the bound on each |u_k|, above 0; null for the median over the steered blocks of |w_k| μ_k, which is A-LQR's |u_k| at an error of μ_k.
    /// </summary>
    public double? Bound { get; init; }

    /// <inheritdoc/>
    public override string Name => "mpc";

    /// <inheritdoc/>
    public override string Summary => "optimal feedback with a bound on each |u|: the first input of the best bounded plan at every block";

    /// <inheritdoc/>
    public override string Source => "Borrelli, Bemporad and Morari, chapters 11 and 12";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Gains | FitInputs.Setpoint | FitInputs.Layers | FitInputs.AllJacobians;

    /// <inheritdoc/>
    public override string PerBlock => "1 sensor, 1 + p terms with curves, p some 10 to 60";

    /// <inheritdoc/>
    public override IReadOnlyList<FitParameter> Parameters =>
    [
        new("bound", "bound on each |u|, above 0; if absent, the median over the blocks of A-LQR's |u| at an error of one μ", Bound,
            x => this with { Bound = x }),
    ];

    internal override (long SizeInBytes, double Flops) Solving(int horizon, int width) =>
        (DenseRiccati.SizeInBytes(width) + CurveCost.SizeInBytes(horizon, width), CurveCost.Flops(horizon, width));

    internal override FittedMethod Fit(FitJob job)
    {
        if (Bound is { } given && !(given > 0 && float.IsNormal((float)given)))
        {
            throw RiccatiException.Range("PredictiveFit.Bound", given, "above 0, and neither too small nor too large for float32");
        }

        if (job.Layers.Ranges.Count > 1)
        {
            throw RiccatiException.Shape("The horizon of mpc", job.Layers.First, "one range of layers", $"{job.Layers}");
        }

        var (a, weights, feature) = (job.Jacobians(), job.Options.Weights, job.Feature);
        var solution = DenseRiccati.Solve(a.Length, k => a[k], new IsotropicCost(weights), job.CancellationToken);
        var solved = InputCurve.SolveAll(
            a, [.. solution.Gains], weights,
            [.. Enumerable.Range(job.Layers.First, a.Length).Select(block => feature.Mu[block] > 0 ? feature.V[block] : null)],
            done => job.ReportSolved(done), job.CancellationToken);
        var curves = new InputCurve?[feature.L];
        solved.CopyTo(curves, job.Layers.First);

        double[] typical =
        [
            .. curves.Select((curve, k) => curve is null ? 0 : feature.Mu[k] * Math.Sqrt(curve.W.Sum(x => (double)x * x)))
                .Where(x => x > 0).Order(),
        ];
        double bound = Bound ?? (typical.Length == 0 ? 1 : typical[typical.Length / 2]);
        return new FittedMethod(
            new PredictiveSteering(feature, curves, bound, job.Options.Setpoint, job.Layers), solution.Report,
            Bound is null ? [("bound", bound)] : []);
    }
}
