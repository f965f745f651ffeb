using Tiller.Controllers;

namespace Tiller.Tool;

/// <summary>The plots of certificates as one page, for <c>tiller fit --certify</c> and <c>tiller inspect</c>.</summary>
internal static class CertificatePage
{
    /// <summary>Writes a page.</summary>
    /// <param name="stream">Where it goes.</param>
    /// <param name="controllers">The controllers, each with a certificate, and the names of their files.</param>
    public static void Write(Stream stream, IReadOnlyList<(string Name, Controller Controller)> controllers)
    {
        var page = new PlotPage($"Certificate of the tracking error on {controllers[0].Controller.Source.ModelName}");
        page.Paragraph(
            "The evidence is the share of held-out prompts inside the bound, and how loose the bound is. The contraction is below 1 for every system "
            + "and proves nothing alone. Each state before a block is measured in the norm P of its own.");
        foreach (var (name, controller) in controllers)
        {
            var source = controller.Source;
            var certificate = source.Certificate!;
            int steps = certificate.Propagation.Count;
            PlotLine Line(string label, Func<int, double> value) => new(label, Enumerable.Range(0, steps).Select(value), certificate.First);
            page.Heading(name);
            page.Paragraph($"{controller.Method.Name}, blocks {controller.Method.Layers}"
                + $"{(source.Weights is { } weights ? $", {FitOutput.Text(weights)}" : "")}: {CertificateOutput.Text(certificate)}.");
            page.Plot("Share of held-out prompts inside the bound", logarithmic: false, Line("inside", certificate.ShareInside));
            page.Plot(
                "How loose the bound is: bound / error, over the held-out prompts", logarithmic: true,
                Line("median", certificate.LoosenessBefore), new PlotLine("1 is tight", Enumerable.Repeat(1.0, steps), certificate.First));
            page.Plot(
                "Error |δx| and its bound, over the held-out prompts", logarithmic: true,
                Line("error, mean", k => certificate.Error.Average(run => run[k])), Line("error, largest", k => certificate.Error.Max(run => run[k])),
                Line("bound, mean", k => certificate.Bound.Average(run => run[k])),
                Line("bound, largest", k => certificate.Bound.Max(run => run[k])));
            page.Plot(
                "Contraction of each block, and what is left of the first error", logarithmic: false,
                new PlotLine("contraction", certificate.Contraction, certificate.First), Line("propagation", k => certificate.Propagation[k]));
        }

        page.Write(stream);
    }
}
