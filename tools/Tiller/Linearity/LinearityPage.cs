using System.Globalization;
using System.Net;
using System.Text;
using OxyPlot;
using OxyPlot.Axes;
using OxyPlot.Legends;
using OxyPlot.Series;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>The plots of <c>tiller linearity</c> as one page without outside resources: HTML 5 with SVG in it, no scripts.</summary>
internal static class LinearityPage
{
    private const int Width = 720;
    private const int Height = 340;

    public static void Write(Stream stream, string model, IReadOnlyList<string> files, LinearityReport report) =>
        stream.Write(Encoding.UTF8.GetBytes(Of(model, files, report)));

    private static string Of(string model, IReadOnlyList<string> files, LinearityReport report)
    {
        var layers = report.Layers;
        var html = new StringBuilder();
        html.Append($"""
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <title>Local linearity of {Text(model)}</title>
            <style>
            body {"{"} font: 15px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; {"}"}
            svg {"{"} max-width: 100%; height: auto; background: #fff; {"}"}
            </style>
            </head>
            <body>
            <h1>Local linearity of {Text(model)}</h1>
            <p>Prompts: {string.Join(", ", files.Select(f => Text(Path.GetFileName(f))))}.</p>

            """);
        AppendPlot(
            html, "Residual |f(x+δ) − f(x) − Aδ| / |δ|, by |δ|/|x|", logarithmic: true,
            [.. report.Sizes.Select((size, s) => (size.ToString("G3", CultureInfo.InvariantCulture), layers.Select(l => l.Residuals[s])))]);
        AppendPlot(
            html, $"Similarity of Jacobians over their leading {report.Pairs} singular pairs", logarithmic: false,
            [("within a list", layers.Select(l => l.Within)), ("across lists", layers.Select(l => l.Across))]);
        AppendPlot(
            html, "Error of the mean Jacobian's prediction, relative", logarithmic: false,
            [
                ("one step", layers.Select(l => l.OneStep)), ("from the first block", layers.Select(l => l.Horizon)),
                ("one step, steered", layers.Select(l => l.SteeredOneStep)),
                ("from the first block, steered", layers.Select(l => l.SteeredHorizon)),
            ]);
        return html.Append("</body>\n</html>\n").ToString();
    }

    // A line for each name, over the blocks; what was not measured has none.
    private static void AppendPlot(
        StringBuilder html, string caption, bool logarithmic, IReadOnlyList<(string Name, IEnumerable<double> Values)> lines)
    {
        var plot = new PlotModel { Title = caption, TitleFontSize = 13, DefaultFont = "sans-serif" };
        plot.Legends.Add(new Legend { LegendPlacement = LegendPlacement.Outside, LegendPosition = LegendPosition.RightTop });
        plot.Axes.Add(new LinearAxis { Position = AxisPosition.Bottom, Title = "block", MinimumMajorStep = 1, MajorGridlineStyle = LineStyle.Dot });
        plot.Axes.Add(logarithmic
            ? new LogarithmicAxis { Position = AxisPosition.Left, MajorGridlineStyle = LineStyle.Dot }
            : new LinearAxis { Position = AxisPosition.Left, Minimum = 0, MajorGridlineStyle = LineStyle.Dot });
        foreach (var (name, values) in lines)
        {
            var line = new LineSeries { Title = name, MarkerType = MarkerType.Circle, MarkerSize = 2.5 };
            line.Points.AddRange(values.Select((value, k) => new DataPoint(k, value))
                .Where(p => double.IsFinite(p.Y) && (!logarithmic || p.Y > 0)));
            if (line.Points.Count > 0)
            {
                plot.Series.Add(line);
            }
        }

        html.Append("<figure role=\"img\" aria-label=\"").Append(Text(caption)).Append("\">\n")
            .Append(new SvgExporter { Width = Width, Height = Height, IsDocument = false }.ExportToString(plot)).Append("\n</figure>\n");
    }

    private static string Text(string text) => WebUtility.HtmlEncode(text);
}
