using System.Text.Json;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>Golden certificates: of systems with a known answer, of difficult systems, and of closed loops from the golden Jacobians.</summary>
internal static class CertificateChecks
{
    /// <summary>
    /// Largest error of the results for a closed loop: norms, contractions, and P_0, either as a whole or multiplied by the probe vector. Errors of
    /// norms are relative to the largest norm of the table, which is at least the diagonal's 1, because the loop is a small difference if K is nearly
    /// A.
    /// </summary>
    /// <remarks>
    /// By definition, a contraction equals the norm below the diagonal. But for small systems the stored values differ: by 2.9e-8 for the linear
    /// system, and by as much from √(1 − 1/λ_max) of the stored P. Such differences within the file do not count as errors of the engine.
    /// </remarks>
    public static double WorstNorms(TrackingCertificate certificate, GoldenTensor phi, GoldenTensor contraction, double[] start, double[] golden)
    {
        double worst = Verification.RelativeError(start, golden), largest = phi.Values.Max();
        for (int k = 0; k <= certificate.Steps; k++)
        {
            for (int i = 0; i <= k; i++)
            {
                worst = Verification.Worse(worst, Math.Abs(certificate.Norms[k, i] - phi[k][i]) / largest);
            }
        }

        for (int k = 0; k < certificate.Steps; k++)
        {
            double stored = contraction.Values[k], off = Math.Abs(stored - phi[k + 1][k]);
            worst = Verification.Worse(worst, Math.Max(0, Math.Abs(certificate.Contraction[k] - stored) - off) / largest);
        }

        return worst;
    }

    /// <summary>Checks a closed loop on its calibration runs and its held-out runs, all from stored states.</summary>
    public static IEnumerable<VerificationRow> Rollouts(
        string path, string name, IReadOnlyList<Matrix<double>> closed, double[][] nominal, double[] probe, JsonElement values,
        Func<string, GoldenTensor?> tensor, CancellationToken cancellationToken)
    {
        string prefix = $"certificate.{name}.";
        var certificate = new TrackingCertificate(closed, cancellationToken);
        double[] start = (certificate.P[0] * Vector<double>.Build.DenseOfArray(probe)).ToArray();
        double norms = WorstNorms(
            certificate, tensor(prefix + "phi")!, tensor(prefix + "contraction")!, start, tensor(prefix + "P0_probe")!.Values);
        yield return new VerificationRow(path, prefix + "norms", closed.Count, norms, MethodChecks.FromStored);

        var curvatures = certificate.Curvatures(Deviations(tensor(prefix + "calibration_states")!, nominal));
        yield return new VerificationRow(
            path, prefix + "L", closed.Count, WorstOf(curvatures, tensor(prefix + "L")!.Values), MethodChecks.FromStored);

        var expected = tensor(prefix + "held_error_bound_closed")!;
        bool[] inside = [.. values.GetProperty("held_inside").EnumerateArray().Select(x => x.GetBoolean())];
        double worst = 0;
        int runs = 0, different = 0;
        foreach (var deviation in Deviations(tensor(prefix + "held_states")!, nominal))
        {
            var run = certificate.Check(deviation, curvatures);
            double[] ours = [.. run.Error, .. run.Bound, .. run.Closed];
            worst = Verification.Worse(worst, WorstOf(ours, expected[runs].ToArray()));
            different += run.Inside == inside[runs] ? 0 : 1;
            runs++;
        }

        yield return new VerificationRow(path, prefix + "bounds", runs, worst, MethodChecks.FromStored);
        yield return new VerificationRow(path, prefix + "inside", runs, different, 0);
    }

    /// <summary>Checks systems with a known answer.</summary>
    public static IEnumerable<VerificationRow> Systems(string path, JsonElement values, Func<string, GoldenTensor?> tensor,
        CancellationToken cancellationToken)
    {
        var closed = GoldenMethods.Matrices(tensor("certificate.linear.Ahat")!);
        var certificate = new TrackingCertificate(closed, cancellationToken);
        double[] p = [.. certificate.P.SelectMany(m => m.ToRowMajorArray())];
        yield return new VerificationRow(
            path, "certificate of a linear system", closed.Length,
            WorstNorms(
                certificate, tensor("certificate.linear.phi")!, tensor("certificate.linear.contraction")!, p, tensor("certificate.linear.P")!.Values),
            MethodChecks.FromStored);

        // The run from the worst start meets the bound at its end.
        double[] none = new double[closed.Length];
        var worst = certificate.Check(Run(closed, null, 0, tensor("certificate.linear.worst_x0")!.Values), none);
        var expected = tensor("certificate.linear.error_bound")!;
        yield return new VerificationRow(
            path, "bound of a linear system", 2,
            Verification.Worse(WorstOf(worst.Error, expected[0].ToArray()), WorstOf(worst.Bound, expected[1].ToArray())), MethodChecks.FromStored);
        yield return new VerificationRow(path, "a linear bound is tight", 1, Math.Abs(worst.Looseness - 1), 1e-12);

        // L_k = c |g_k|_{P_{k+1}} / λ_min(P_k)
        double c = values.GetProperty("c").GetDouble();
        var g = tensor("certificate.quadratic.g")!;
        double[] curvatures = [.. Enumerable.Range(0, closed.Length).Select(k =>
            c * certificate.Length(k + 1, g[k]) / certificate.P[k].Evd(Symmetricity.Symmetric).EigenValues[0].Real)];
        yield return new VerificationRow(
            path, "L of a quadratic system", closed.Length, WorstOf(curvatures, tensor("certificate.quadratic.L")!.Values), MethodChecks.FromStored);

        var starts = tensor("certificate.quadratic.first_starts")!;
        var errors = tensor("certificate.quadratic.first_end_error")!;
        double worstError = 0;
        int outside = 0;
        for (int i = 0; i < starts.Shape[0]; i++)
        {
            var run = certificate.Check(Run(closed, g, c, starts[i].ToArray()), curvatures);
            double[] golden = [.. Enumerable.Range(0, closed.Length + 1).Select(k => errors[k][i])];
            worstError = Verification.Worse(worstError, WorstOf(run.Error, golden));
            outside += run.Inside ? 0 : 1;
        }

        yield return new VerificationRow(path, "errors of a quadratic system", starts.Shape[0], worstError, MethodChecks.FromStored);
        yield return new VerificationRow(path, "quadratic runs outside the bound", starts.Shape[0], outside, 0);

        // If the remainder is fifty times as large as claimed, runs leave the bound as often as the golden values say.
        var violated = values.GetProperty("violated");
        var many = tensor("certificate.violated.starts")!;
        int pairs = Enumerable.Range(0, many.Shape[0]).Sum(i =>
        {
            var run = certificate.Check(Run(closed, g, violated.GetProperty("c").GetDouble(), many[i].ToArray()), curvatures);
            return Enumerable.Range(1, closed.Length).Count(k => !run.IsInside(k));
        });
        yield return new VerificationRow(
            path, "violations that are seen", many.Shape[0],
            Math.Abs(pairs - violated.GetProperty("layer_and_start_pairs_outside").GetInt32()), 0, $"{pairs} layers of runs outside");
    }

    /// <summary>Largest error relative to the value itself. Two infinite values are equal.</summary>
    public static double WorstOf(IEnumerable<double> ours, double[] expected)
    {
        double worst = 0;
        int count = 0;
        foreach (double value in ours)
        {
            double other = expected[count++];
            worst = Verification.Worse(worst, value.Equals(other) ? 0 : Math.Abs(value - other) / Math.Abs(other));
        }

        return count == expected.Length ? worst : double.PositiveInfinity;
    }

    // x⁺ = Âx + (c/2) |x|² g_k
    private static double[][] Run(IReadOnlyList<Matrix<double>> closed, GoldenTensor? g, double c, double[] start)
    {
        var states = new double[closed.Count + 1][];
        states[0] = start;
        for (int k = 0; k < closed.Count; k++)
        {
            states[k + 1] = (closed[k] * Vector<double>.Build.DenseOfArray(states[k])).ToArray();
            double square = states[k].Sum(x => x * x);
            for (int i = 0; g is not null && i < start.Length; i++)
            {
                states[k + 1][i] += c / 2 * square * g[k][i];
            }
        }

        return states;
    }

    private static IEnumerable<IReadOnlyList<double[]>> Deviations(GoldenTensor states, double[][] nominal)
    {
        int width = states.Shape[2];
        for (int run = 0; run < states.Shape[0]; run++)
        {
            double[] all = states[run].ToArray();
            yield return [.. nominal.Select((x, k) => all[(k * width)..((k + 1) * width)].Zip(x, (a, b) => a - b).ToArray())];
        }
    }
}
