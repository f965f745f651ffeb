using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>
/// The bound on the tracking error (docs/math.md §7), checked for the gains of a controller. The gains follow the run of the first positive prompt,
/// the remainders are measured on the prompts that were linearised, and the bound is compared with prompts that were not part of the fit. The
/// contraction is below 1 for every system and proves nothing; the evidence is the number of held-out prompts inside the bound, and how loose the
/// bound is.
/// </summary>
public sealed record ControllerCertificate
{
    /// <summary>Checks and stores a certificate.</summary>
    /// <param name="first">The block of step 0.</param>
    /// <param name="contraction">‖Â_k‖ from P_k to P_{k+1} // (steps).</param>
    /// <param name="propagation">‖Φ(k,0)‖ // (steps + 1).</param>
    /// <param name="curvature">L_k of the calibration prompts // (steps).</param>
    /// <param name="heldOut">The held-out prompts.</param>
    /// <param name="error">|δx_k| of each held-out prompt, measured in P_k // (prompts, steps + 1).</param>
    /// <param name="bound">The bound on each error // (prompts, steps + 1).</param>
    /// <exception cref="ArgumentException">Lengths disagree, or a number is negative or not finite.</exception>
    public ControllerCertificate(
        int first, IReadOnlyList<double> contraction, IReadOnlyList<double> propagation, IReadOnlyList<double> curvature, PromptSet heldOut,
        IReadOnlyList<IReadOnlyList<double>> error, IReadOnlyList<IReadOnlyList<double>> bound)
    {
        ArgumentNullException.ThrowIfNull(heldOut);
        int steps = contraction.Count;
        if (first < 0 || steps == 0 || propagation.Count != steps + 1 || curvature.Count != steps || heldOut.Count == 0
            || error.Count != heldOut.Count || bound.Count != heldOut.Count || error.Concat(bound).Any(row => row.Count != steps + 1))
        {
            throw new ArgumentException(
                $"A certificate of {steps} steps needs as many contractions and curvatures, and one number more of the propagation and of each error "
                + $"and bound, for each of {heldOut.Count} held-out prompts, of which there is at least one.",
                nameof(contraction));
        }

        var all = contraction.Concat(propagation).Concat(curvature).Concat(error.Concat(bound).SelectMany(row => row));
        if (!all.All(x => x >= 0 && double.IsFinite(x)))
        {
            throw new ArgumentException("A certificate holds a number that is negative or not finite.", nameof(contraction));
        }

        (First, Contraction, Propagation, Curvature, HeldOut, Error, Bound) = (first, contraction, propagation, curvature, heldOut, error, bound);
    }

    /// <summary>The block of step 0.</summary>
    public int First { get; }

    /// <summary>The norm of Â_k from P_k to P_{k+1}, the contraction of each step // (steps).</summary>
    public IReadOnlyList<double> Contraction { get; }

    /// <summary>‖Φ(k,0)‖, the largest share of an error at step 0 that is left at step k // (steps + 1).</summary>
    public IReadOnlyList<double> Propagation { get; }

    /// <summary>L_k, the largest curvature on the calibration prompts // (steps).</summary>
    public IReadOnlyList<double> Curvature { get; }

    /// <summary>The prompts that were held out of the fit.</summary>
    public PromptSet HeldOut { get; }

    /// <summary>|δx_k| of each held-out prompt, measured in P_k // (prompts, steps + 1).</summary>
    public IReadOnlyList<IReadOnlyList<double>> Error { get; }

    /// <summary>The bound on each error // (prompts, steps + 1).</summary>
    public IReadOnlyList<IReadOnlyList<double>> Bound { get; }

    /// <summary>Number of held-out prompts whose error is within the bound at every layer.</summary>
    public int Inside => Runs.Count(run => run.Inside);

    /// <summary>How loose the bound is: the median over the held-out prompts of the bound divided by the error after the last step.</summary>
    public double Looseness => LoosenessBefore(Contraction.Count);

    private IEnumerable<TrackingRun> Runs => Error.Zip(Bound, (error, bound) => new TrackingRun(error, bound, bound));

    /// <summary>Share of the held-out prompts whose error is within the bound before one step.</summary>
    /// <param name="step">Steps from 0; the number of steps is after the last.</param>
    public double ShareInside(int step) => Runs.Count(run => run.IsInside(step)) / (double)HeldOut.Count;

    /// <summary>
    /// How loose the bound is before one step: the median over the held-out prompts of bound divided by error. NaN or infinite if the median error
    /// is 0.
    /// </summary>
    /// <param name="step">Steps from 0; the number of steps is after the last.</param>
    public double LoosenessBefore(int step)
    {
        double[] all = [.. Error.Zip(Bound, (error, bound) => bound[step] / error[step]).Order()];
        return (all[(all.Length - 1) / 2] + all[all.Length / 2]) / 2;
    }

    /// <summary>Certifies gains.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="layers">Steered blocks.</param>
    /// <param name="jacobians">A_k of the horizon // (steps).</param>
    /// <param name="gains">K_0..K_{L-1}, 0 at blocks that are not steered.</param>
    /// <param name="nominal">The run that the gains follow.</param>
    /// <param name="feature">The feature of the controller.</param>
    /// <param name="calibration">Token ids of the prompts on which the remainders are measured.</param>
    /// <param name="heldOut">Token ids of the prompts that are compared with the bound.</param>
    /// <param name="set">Hash and number of the held-out prompts.</param>
    /// <param name="report">Gets the number of prompts that were run, and of all, after every pass over a prompt.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    internal static ControllerCertificate Of(
        LanguageModel model, LayerSet layers, IReadOnlyList<Matrix<double>> jacobians, IReadOnlyList<Gain> gains, PromptState nominal,
        Feature feature, IReadOnlyList<int[]> calibration, IReadOnlyList<int[]> heldOut, PromptSet set, Action<int, int> report,
        CancellationToken cancellationToken)
    {
        int first = layers.First, steps = jacobians.Count, done = 0, total = calibration.Count + heldOut.Count;
        var closed = jacobians.Select((a, i) =>
        {
            var (left, right) = gains[first + i].Factors();
            return a - DenseAlgebra.Multiply(left, right.Transpose(), cancellationToken);
        });
        var certificate = new TrackingCertificate([.. closed], cancellationToken);
        var law = Trajectory.FromGains(feature, [.. nominal.X.Take(feature.L)], gains, layers).Compile(1);
        var curvature = certificate.Curvatures(calibration.Select(Deviation));
        TrackingRun[] runs = [.. heldOut.Select(ids => certificate.Check(Deviation(ids), curvature))];
        return new ControllerCertificate(
            first, certificate.Contraction, [.. Enumerable.Range(0, steps + 1).Select(k => certificate.Norms[k, 0])], curvature, set,
            [.. runs.Select(run => run.Error)], [.. runs.Select(run => run.Bound)]);

        IReadOnlyList<double[]> Deviation(int[] ids)
        {
            float[][] x = BlockProbe.Steered(model, ids, law, SteeredTokens.Last, () => report(done, total), cancellationToken);
            report(++done, total);
            return [.. Enumerable.Range(first, steps + 1).Select(k => x[k].Zip(nominal.X[k], (a, b) => (double)a - b).ToArray())];
        }
    }
}
