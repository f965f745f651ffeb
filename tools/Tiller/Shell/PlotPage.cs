using System.Net;
using System.Text;
using OxyPlot;
using OxyPlot.Axes;
using OxyPlot.Legends;
using OxyPlot.Series;

namespace Tiller.Tool;

/// <summary>A line of a plot: a value for each block from <paramref name="First"/> on. What is not finite is left out.</summary>
/// <param name="Name">Its name in the legend.</param>
/// <param name="Values">Its values.</param>
/// <param name="First">The block of the first value.</param>
internal sealed record PlotLine(string Name, IEnumerable<double> Values, int First = 0);

/// <summary>A page of plots over the blocks of a model, without outside resources: HTML 5 with SVG in it, no scripts.</summary>
internal sealed class PlotPage
{
    private const int Width = 720;
    private const int Height = 340;

    private readonly StringBuilder _html = new();

    public PlotPage(string title) => _html.Append($$"""
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <title>{{Text(title)}}</title>
        <style>
        body { font: 15px/1.5 system-ui, sans-serif; max-width: 50em; margin: 2em auto; padding: 0 1em; }
        svg { max-width: 100%; height: auto; background: #fff; }
        </style>
        </head>
        <body>
        <h1>{{Text(title)}}</h1>

        """);

    public void Heading(string text) => _html.Append("<h2>").Append(Text(text)).Append("</h2>\n");

    public void Paragraph(string text) => _html.Append("<p>").Append(Text(text)).Append("</p>\n");

    /// <summary>Appends a plot of lines over the blocks; a line without a value is left out.</summary>
    /// <param name="caption">The title.</param>
    /// <param name="logarithmic">Whether the scale is logarithmic, which values up to 0 are left out of.</param>
    /// <param name="lines">The lines.</param>
    public void Plot(string caption, bool logarithmic, params IReadOnlyList<PlotLine> lines)
    {
        var plot = new PlotModel { Title = caption, TitleFontSize = 13, DefaultFont = "sans-serif" };
        plot.Legends.Add(new Legend { LegendPlacement = LegendPlacement.Outside, LegendPosition = LegendPosition.RightTop });
        plot.Axes.Add(new LinearAxis { Position = AxisPosition.Bottom, Title = "block", MinimumMajorStep = 1, MajorGridlineStyle = LineStyle.Dot });
        plot.Axes.Add(logarithmic
            ? new LogarithmicAxis { Position = AxisPosition.Left, MajorGridlineStyle = LineStyle.Dot }
            : new LinearAxis { Position = AxisPosition.Left, Minimum = 0, MajorGridlineStyle = LineStyle.Dot });
        foreach (var (name, values, first) in lines)
        {
            var line = new LineSeries { Title = name, MarkerType = MarkerType.Circle, MarkerSize = 2.5 };
            line.Points.AddRange(values.Select((value, k) => new DataPoint(first + k, value))
                .Where(p => double.IsFinite(p.Y) && (!logarithmic || p.Y > 0)));
            if (line.Points.Count > 0)
            {
                plot.Series.Add(line);
            }
        }

        _html.Append("<figure role=\"img\" aria-label=\"").Append(Text(caption)).Append("\">\n")
            .Append(new SvgExporter { Width = Width, Height = Height, IsDocument = false }.ExportToString(plot)).Append("\n</figure>\n");
    }

    public void Write(Stream stream) => stream.Write(Encoding.UTF8.GetBytes($"{_html}</body>\n</html>\n"));

    private static string Text(string text) => WebUtility.HtmlEncode(text);
}
