using System.Globalization;
using System.Net;
using System.Text;
using OxyPlot;
using OxyPlot.Axes;
using OxyPlot.Legends;
using OxyPlot.Series;

namespace Tiller.Evaluation.Comparing;

/// <summary>
/// Reports as one page without external resources. For each task it has a table, and plots of the first score against perplexity, KL and effort.
/// </summary>
public static class ComparisonPage
{
    private const int Width = 620;
    private const int Height = 400;

    private const string Style =
        """
        body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; }
        table { border-collapse: collapse; margin: 1em 0; }
        th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd; }
        th:first-child, td:first-child { text-align: left; }
        svg { max-width: 100%; height: auto; background: #fff; }
        """;

    // Colours that people with common colour blindness can distinguish (Okabe and Ito). Markers distinguish methods too.
    private static readonly OxyColor[] s_colors =
    [
        OxyColor.FromRgb(0, 114, 178), OxyColor.FromRgb(213, 94, 0), OxyColor.FromRgb(0, 158, 115), OxyColor.FromRgb(204, 121, 167),
        OxyColor.FromRgb(230, 159, 0), OxyColor.FromRgb(86, 180, 233),
    ];

    private static readonly MarkerType[] s_markers =
        [MarkerType.Circle, MarkerType.Square, MarkerType.Triangle, MarkerType.Diamond, MarkerType.Cross, MarkerType.Plus, MarkerType.Star];

    /// <summary>Makes the page, in HTML 5.</summary>
    /// <param name="title">The heading.</param>
    /// <param name="reports">One report for each task.</param>
    public static string Of(string title, IReadOnlyList<ComparisonReport> reports)
    {
        ArgumentNullException.ThrowIfNull(reports);
        var html = new StringBuilder();
        html.Append($"""
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <title>{Text(title)}</title>
            <style>
            {Style}
            </style>
            </head>
            <body>
            <h1>{Text(title)}</h1>

            """);
        foreach (var report in reports)
        {
            html.Append("<h2>").Append(Text(report.Task)).Append("</h2>\n");
            AppendTable(html, report);
            foreach (var axis in report.Axes)
            {
                AppendPlot(html, report, axis);
            }
        }

        return html.Append("</body>\n</html>\n").ToString();
    }

    private static void AppendTable(StringBuilder html, ComparisonReport report)
    {
        string[] names = [.. report.Plain.Scores.Keys];
        html.Append("<table>\n<thead><tr><th>method</th><th>λ</th>").AppendJoin("", names.Select(name => $"<th>{Text(name)}</th>"))
            .Append("<th>effort</th></tr></thead>\n<tbody>\n");
        foreach (var point in report.Points.Prepend(report.Plain))
        {
            string strength = point.Lambda == 0 ? "" : point.Lambda.ToString(CultureInfo.InvariantCulture);
            html.Append("<tr><td>").Append(Text(point.Method)).Append("</td><td>").Append(strength).Append("</td>")
                .AppendJoin("", names.Select(name => $"<td>{ComparisonReport.Text(point.Scores[name])}</td>"))
                .Append(CultureInfo.InvariantCulture, $"<td>{100 * point.Effort:F1} %</td></tr>\n");
        }

        html.Append("</tbody>\n</table>\n");
        foreach (string line in report.OperatingLines())
        {
            html.Append("<p>").Append(Text(line)).Append("</p>\n");
        }
    }

    // Plots the score over the axis: a point with an error bar for each strength and for the plain model, joined in the order of λ.
    private static void AppendPlot(StringBuilder html, ComparisonReport report, OperatingAxis axis)
    {
        string score = report.Plain.Scores.Keys.First();
        string caption = $"{report.Task}: {score} against {ComparisonReport.Words(axis)}";
        var model = new PlotModel { Title = caption, TitleFontSize = 13, DefaultFont = "sans-serif" };
        model.Legends.Add(new Legend { LegendPlacement = LegendPlacement.Outside, LegendPosition = LegendPosition.RightTop });
        model.Axes.Add(new LinearAxis { Position = AxisPosition.Bottom, Title = ComparisonReport.Words(axis), MajorGridlineStyle = LineStyle.Dot });
        model.Axes.Add(new LinearAxis { Position = AxisPosition.Left, Title = score, MajorGridlineStyle = LineStyle.Dot });
        int number = 0;
        foreach (var method in report.Points.GroupBy(static x => x.Method, StringComparer.Ordinal))
        {
            var curve = method.Any(static x => x.Lambda != 0) ? method.Append(report.Plain).OrderBy(static x => x.Lambda) : method.AsEnumerable();
            var color = s_colors[number % s_colors.Length];
            var line = new LineSeries { Color = color, StrokeThickness = 1 };
            var points = new ScatterErrorSeries
            {
                Title = method.Key,
                MarkerType = s_markers[number % s_markers.Length],
                MarkerFill = color,
                MarkerStroke = color,
                ErrorBarColor = color,
            };
            foreach (var point in curve.Where(x => double.IsFinite(x.At(axis)) && double.IsFinite(x.Scores[score].Value)))
            {
                line.Points.Add(new DataPoint(point.At(axis), point.Scores[score].Value));
                points.Points.Add(new ScatterErrorPoint(
                    point.At(axis), point.Scores[score].Value, 0, double.IsFinite(point.Scores[score].Error) ? 2 * point.Scores[score].Error : 0));
            }

            model.Series.Add(line);
            model.Series.Add(points);
            number++;
        }

        html.Append("<figure role=\"img\" aria-label=\"").Append(Text(caption)).Append("\">\n")
            .Append(new SvgExporter { Width = Width, Height = Height, IsDocument = false }.ExportToString(model))
            .Append("\n<figcaption>Bars are one standard error to either side.</figcaption>\n</figure>\n");
    }

    private static string Text(string text) => WebUtility.HtmlEncode(text);
}
