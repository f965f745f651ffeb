using System.Globalization;
using System.Net;
using System.Text;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>The plots of <c>tiller linearity</c> as one page: HTML with SVG in it, no scripts and nothing from elsewhere.</summary>
internal static class LinearityPage
{
    private const int Width = 640;
    private const int Height = 300;
    private const int Margin = 55;

    private static readonly string[] s_colours = ["#1b6ca8", "#c0392b", "#27864a", "#8e5ea2", "#b8860b"];

    public static void Write(Stream stream, string model, IReadOnlyList<string> files, LinearityReport report)
    {
        using var writer = new StreamWriter(stream, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false), leaveOpen: true) { NewLine = "\n" };
        var layers = report.Layers;
        writer.WriteLine("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">");
        writer.WriteLine($"<title>Local linearity of {Text(model)}</title>");
        writer.WriteLine("<style>body{font:16px sans-serif;max-width:720px;margin:2em auto}svg text{font:12px sans-serif}</style>\n</head>\n<body>");
        writer.WriteLine($"<h1>Local linearity of {Text(model)}</h1>");
        writer.WriteLine($"<p>Prompts: {string.Join(", ", files.Select(f => Text(Path.GetFileName(f))))}.</p>");
        Plot(writer, "Residual |f(x+δ) − f(x) − Aδ| / |δ|, by |δ|/|x|", logarithmic: true,
            [.. report.Sizes.Select((size, s) => (size.ToString("G3", CultureInfo.InvariantCulture), layers.Select(l => l.Residuals[s]).ToArray()))]);
        Plot(writer, $"Likeness of Jacobians over their leading {report.Pairs} singular pairs", logarithmic: false,
            [("within a list", [.. layers.Select(l => l.Within)]), ("across lists", [.. layers.Select(l => l.Across)])]);
        Plot(writer, "Error of the mean Jacobian's prediction, relative", logarithmic: false,
        [
            ("one step", [.. layers.Select(l => l.OneStep)]), ("from the first block", [.. layers.Select(l => l.Horizon)]),
            ("one step, steered", [.. layers.Select(l => l.SteeredOneStep)]), ("from the first block, steered", [.. layers.Select(l => l.SteeredHorizon)]),
        ]);
        writer.WriteLine("</body>\n</html>");
    }

    private static void Plot(TextWriter writer, string title, bool logarithmic, IReadOnlyList<(string Name, double[] Values)> lines)
    {
        var shown = lines.Where(line => line.Values.Any(IsShown)).ToList();
        double[] all = [.. shown.SelectMany(line => line.Values).Where(IsShown).Select(Scaled)];
        if (all.Length == 0)
        {
            return;
        }

        double least = logarithmic ? Math.Floor(all.Min()) : 0, most = logarithmic ? Math.Ceiling(all.Max()) : Math.Max(1, all.Max());
        most = most > least ? most : least + 1;
        int count = shown[0].Values.Length;
        writer.WriteLine($"<h2>{Text(title)}</h2>");
        writer.WriteLine($"<svg viewBox=\"0 0 {Width} {Height + (18 * shown.Count)}\" role=\"img\" aria-label=\"{Text(title)}\">");
        writer.WriteLine(
            $"<rect x=\"{Margin}\" y=\"10\" width=\"{Width - Margin - 10}\" height=\"{Height - Margin}\" fill=\"none\" stroke=\"#999\"/>");
        int ticks = logarithmic ? (int)(most - least) : 5;
        for (int i = 0; i <= ticks; i++)
        {
            double at = least + ((most - least) * i / ticks);
            string label = logarithmic ? $"1e{at:F0}" : at.ToString("F2", CultureInfo.InvariantCulture);
            writer.WriteLine($"<text x=\"{Margin - 6}\" y=\"{Number(Y(at) + 4)}\" text-anchor=\"end\">{label}</text>");
        }

        for (int k = 0; k < count; k += Math.Max(1, (count + 9) / 10))
        {
            writer.WriteLine($"<text x=\"{Number(X(k))}\" y=\"{Height - 28}\" text-anchor=\"middle\">{k}</text>");
        }

        for (int i = 0; i < shown.Count; i++)
        {
            string colour = s_colours[i % s_colours.Length];
            var points = shown[i].Values.Select((value, k) => (Value: value, K: k)).Where(p => IsShown(p.Value))
                .Select(p => $"{Number(X(p.K))},{Number(Y(Scaled(p.Value)))}");
            writer.WriteLine($"<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{string.Join(' ', points)}\"/>");
            writer.WriteLine($"<text x=\"{Margin}\" y=\"{Height + (18 * i)}\" fill=\"{colour}\">{Text(shown[i].Name)}</text>");
        }

        writer.WriteLine("</svg>");

        bool IsShown(double value) => double.IsFinite(value) && (!logarithmic || value > 0);
        double Scaled(double value) => logarithmic ? Math.Log10(value) : value;
        double X(int k) => Margin + 10 + ((Width - Margin - 30) * (count == 1 ? 0.5 : k / (count - 1.0)));
        double Y(double value) => 10 + ((Height - Margin) * (1 - ((value - least) / (most - least))));
    }

    private static string Number(double value) => value.ToString("F1", CultureInfo.InvariantCulture);

    private static string Text(string text) => WebUtility.HtmlEncode(text);
}
