using Tiller.Controllers;

namespace Tiller.Tool;

/// <summary>Prints a certificate, for <c>tiller fit --certify</c> and <c>tiller inspect</c>.</summary>
internal static class CertificateOutput
{
    private const int BarLength = 40;

    /// <summary>The significant numbers in a line.</summary>
    public static string Text(ControllerCertificate certificate) =>
        $"{certificate.Inside} of {certificate.HeldOut.Count} held-out prompts inside the bound, which is {certificate.Looseness:G3} times the error "
        + "after the last block";

    /// <summary>A row for each step, with the mean error and bound of the held-out prompts as bars on a logarithmic scale.</summary>
    public static void WriteTable(Terminal terminal, ControllerCertificate certificate)
    {
        int steps = certificate.Propagation.Count;
        double[] error = [.. Enumerable.Range(0, steps).Select(k => certificate.Error.Average(run => run[k]))];
        double[] bound = [.. Enumerable.Range(0, steps).Select(k => certificate.Bound.Average(run => run[k]))];
        double[] positive = [.. error.Concat(bound).Where(x => x > 0)];
        double least = positive.Length == 0 ? 1 : positive.Min(), most = positive.Length == 0 ? 1 : positive.Max();
        terminal.Output.WriteLine();
        terminal.Output.WriteLine($"{"before",6}{"contraction",13}{"propagation",13}{"L",12}{"error",12}{"bound",12}  # error, + up to the bound");
        for (int k = 0; k < steps; k++)
        {
            bool last = k == steps - 1;
            double? contraction = last ? null : certificate.Contraction[k], curvature = last ? null : certificate.Curvature[k];
            int done = Bar(error[k]), allowed = Bar(bound[k]);
            string bar = new string('#', done) + new string('+', Math.Max(0, allowed - done));
            terminal.Output.WriteLine(
                $"{certificate.First + k,6}{contraction,13:F4}{certificate.Propagation[k],13:F4}{curvature,12:G3}{error[k],12:G4}"
                + $"{bound[k],12:G4}  {bar}");
        }

        int Bar(double x) => x <= 0 ? 0 : most == least ? BarLength
            : 1 + (int)Math.Round((BarLength - 1) * Math.Log(x / least) / Math.Log(most / least));
    }
}
