using System.Globalization;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>The plots of <c>tiller linearity</c> as one page.</summary>
internal static class LinearityPage
{
    public static void Write(Stream stream, string model, IReadOnlyList<string> files, LinearityReport report)
    {
        var layers = report.Layers;
        var page = new PlotPage($"Local linearity of {model}");
        page.Paragraph($"Prompts: {string.Join(", ", files.Select(Path.GetFileName))}.");
        page.Plot(
            "Residual |f(x+δ) − f(x) − Aδ| / |δ|, by |δ|/|x|", logarithmic: true,
            [
                .. report.Sizes.Select((size, s) =>
                    new PlotLine(size.ToString("G3", CultureInfo.InvariantCulture), layers.Select(l => l.Residuals[s]))),
            ]);
        page.Plot(
            $"Similarity of Jacobians over their leading {report.Pairs} singular pairs", logarithmic: false,
            new PlotLine("within a list", layers.Select(l => l.Within)), new PlotLine("across lists", layers.Select(l => l.Across)));
        page.Plot(
            "Error of the mean Jacobian's prediction, relative", logarithmic: false,
            new PlotLine("one step", layers.Select(l => l.OneStep)),
            new PlotLine("from the first block", layers.Select(l => l.Horizon)),
            new PlotLine("one step, steered", layers.Select(l => l.SteeredOneStep)),
            new PlotLine("from the first block, steered", layers.Select(l => l.SteeredHorizon)));
        page.Write(stream);
    }
}
