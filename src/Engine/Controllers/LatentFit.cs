using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>
/// Fits LA-LQR and WA-LQR, which are one method here (docs/math.md §5). The recursion runs in the p leading directions of the paired differences, and
/// the setpoint is the setpoint of the feature's image there: either β_z = λ |e_z|, or calibrated so that the projection on v itself becomes λ μ.
/// </summary>
public sealed record LatentFit : FitMethod
{
    /// <summary>Whether β_z is calibrated: it then compensates for the part of the projection outside the latent space.</summary>
    public bool Calibrated { get; init; }

    /// <inheritdoc/>
    public override string Name => Calibrated ? "la-lqr-calibrated" : "la-lqr";

    /// <inheritdoc/>
    public override string Summary =>
        $"A-LQR in the leading directions of the paired differences{(Calibrated ? ", its setpoint calibrated to the whole projection" : "")}";

    /// <inheritdoc/>
    public override string Source => "LA-LQR arXiv:2606.04775, WA-LQR arXiv:2607.14943";

    /// <inheritdoc/>
    public override FitInputs Inputs => FitInputs.Gains | FitInputs.Order | FitInputs.Layers | FitInputs.Pairs;

    /// <inheritdoc/>
    public override string PerBlock => "1 sensor, 1 term";

    internal override int? StandardOrder => 64;

    internal override FittedMethod Fit(FitJob job)
    {
        var (feature, layers) = (job.Feature, job.Layers);
        int first = layers.First, horizon = layers.Last - first + 1, order = job.Options.Order!.Value;
        var pairs = Enumerable.Range(first, horizon + 1).Select(k => StatePair.At(k, job.Positive, job.Negative)).ToList();
        var pushed = new Matrix<double>?[horizon];
        Matrix<double> Push(int k, Matrix<double> basis) => pushed[k] ??= job.Push(first + k, basis);
        var bases = ReducedBasis.OfDifferences(order, k => pairs[k].Differences.Transpose(), horizon + 1, Push, job.CancellationToken);
        var cost = new IsotropicCost(job.Options.Weights) { Inputs = layers.From(first) };
        var solution = ReducedRiccati.Solve(bases, Push, cost, job.CancellationToken);

        LatentDirection[] latent =
            [.. bases.Select((basis, k) => LatentDirection.Of(basis, Difference(first + k), pairs[k].All.ColumnSums() / pairs[k].All.RowCount))];
        float[][] v = [.. feature.V.Select(row => new float[row.Length])];
        float[] mu = new float[v.Length], origin = new float[v.Length];
        float[][] w = [.. v.Take(feature.L).Select(row => new float[row.Length])];
        for (int k = 0; k <= horizon; k++)
        {
            (mu[first + k], origin[first + k]) = latent[k].Setpoint(Calibrated);
            v[first + k] = Array.ConvertAll(latent[k].Direction, x => (float)x);
            if (k < horizon)
            {
                w[first + k] = Array.ConvertAll(solution.Gains[k].Apply(latent[k].Direction), x => (float)x);
            }
        }

        var method = new LinearQuadratic(
            new Feature(v, mu, Calibrated ? origin : null), w, Calibrated ? Setpoint.Affine : Setpoint.Published, layers);

        // The share of the feature that the worst layer's space holds.
        return new FittedMethod(method, solution.Report, ("held", latent.Where(l => l.Mu >= Feature.Negligible).Select(l => l.Held).Min()));

        Vector<double> Difference(int k) => Vector<double>.Build.Dense(feature.D, i => (double)feature.V[k][i] * feature.Mu[k]);
    }
}

/// <summary>
/// The image of a feature in the latent space of one layer: e_z = V'E, for a basis V with orthonormal columns and the difference E.
/// </summary>
/// <param name="Direction">V e_z / |e_z|, or 0 // (D).</param>
/// <param name="Length">|e_z|.</param>
/// <param name="Mu">|E|.</param>
/// <param name="Held">ρ = |e_z|²/|E|², the share of E in the latent space; 0 if E or e_z is 0.</param>
/// <param name="Outside">η = v·(I − VV')x̄, the part of the mean state's projection outside the latent space.</param>
internal sealed record LatentDirection(double[] Direction, double Length, double Mu, double Held, double Outside)
{
    /// <summary>Computes the image of a difference.</summary>
    /// <param name="basis">V // (D, p).</param>
    /// <param name="difference">E // (D).</param>
    /// <param name="mean">x̄ over all contrast prompts // (D).</param>
    public static LatentDirection Of(Matrix<double> basis, Vector<double> difference, Vector<double> mean)
    {
        var image = basis.TransposeThisAndMultiply(difference);
        double length = image.L2Norm(), mu = difference.L2Norm();
        if (mu < Feature.Negligible || length < Feature.Negligible)
        {
            return new LatentDirection(new double[difference.Count], 0, mu, 0, 0);
        }

        double outside = difference.DotProduct(mean - (basis * basis.TransposeThisAndMultiply(mean))) / mu;
        return new LatentDirection((basis * image / length).ToArray(), length, mu, length * length / (mu * mu), outside);
    }

    /// <summary>The setpoint β_z = origin + λ μ_z: λ |e_z|, or, calibrated, (λ μ − η)/√ρ.</summary>
    public (float Mu, float Origin) Setpoint(bool calibrated) =>
        Length == 0 ? (0, 0) : calibrated ? ((float)(Mu / Math.Sqrt(Held)), (float)(-Outside / Math.Sqrt(Held))) : ((float)Length, 0);
}
