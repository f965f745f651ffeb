using System.Globalization;
using System.Text.Json;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary><c>tiller linearity</c>.</summary>
internal static class LinearityRun
{
    public static int Run(Terminal terminal, LinearityRequest request, CancellationToken cancellationToken)
    {
        var destination = request.Page is null ? null : Destination.Of(terminal, "--page", request.Page, isText: true, request.Json);
        terminal = destination?.Rest ?? terminal;
        IReadOnlyList<Prompt>[] lists = [.. request.Prompts.Select(file => Read(file, request, cancellationToken))];
        var controller = request.Controller is null ? null : Controller.Load(request.Controller);
        using var model = Runs.Load(terminal, request.Model, request.Device, request.Strict, cancellationToken);
        controller?.CheckModel(model);
        var options = new LinearityOptions { Law = controller?.ToLaw(request.Lambda) };
        var report = StageBars.Run(terminal, progress => LinearityReport.Measure(
            model, lists, options, new Relay<int>(done => progress.Report(new StageProgress("blocks", done, model.Config.L))), cancellationToken));
        destination?.Write(
            path => OutputFile.Write(path, stream => LinearityPage.Write(stream, model.Name, request.Prompts, report)),
            stream => LinearityPage.Write(stream, model.Name, request.Prompts, report));
        if (request.Json)
        {
            Json.Write(terminal.Output, json => WriteJson(json, model, lists, report));
        }
        else
        {
            WriteText(terminal, model, lists, report);
        }

        return ExitCode.Ok;
    }

    private static Prompt[] Read(string file, LinearityRequest request, CancellationToken cancellationToken)
    {
        var prompts = PromptFile.Read(file, request.Selection, cancellationToken).Take(request.Count);
        return [.. request.Chat ? prompts.Select(p => (Prompt)p.AsChat(request.System)) : prompts];
    }

    private static void WriteText(Terminal terminal, LanguageModel model, IReadOnlyList<Prompt>[] lists, LinearityReport report)
    {
        var output = terminal.Output;
        output.WriteLine($"{"model",-12}{VisibleText.Of(model.Name)}, L {model.Config.L}, D {model.Config.D}");
        output.WriteLine($"{"prompts",-12}{string.Join(" and ", lists.Select(list => list.Count))}");
        output.WriteLine();
        output.WriteLine("residual |f(x+δ) − f(x) − Aδ|/|δ| by |δ|/|x|, with the slope of its logarithm; likeness of Jacobians over their "
            + $"leading {report.Pairs}; error of the mean Jacobian's prediction");
        output.WriteLine($"{"",5}{string.Concat(report.Sizes.Select(size => Size(size).PadLeft(10)))}{"slope",8}{"within",8}{"across",8}{"step",8}"
            + $"{"all",8}{"steered",9}{"all",8}");
        foreach (var layer in report.Layers)
        {
            output.WriteLine($"{layer.Layer,5}{string.Concat(layer.Residuals.Select(r => $"{r,10:E1}"))}{Known(layer.Slope),8}{Known(layer.Within),8}"
                + $"{Known(layer.Across),8}{Known(layer.OneStep),8}{Known(layer.Horizon),8}{Known(layer.SteeredOneStep),9}"
                + $"{Known(layer.SteeredHorizon),8}");
        }
    }

    private static void WriteJson(Utf8JsonWriter json, LanguageModel model, IReadOnlyList<Prompt>[] lists, LinearityReport report)
    {
        json.WriteStartObject();
        json.WriteString("model", model.Name);
        json.WriteStartArray("prompts");
        foreach (var list in lists)
        {
            json.WriteNumberValue(list.Count);
        }

        json.WriteEndArray();
        json.WriteNumber("pairs", report.Pairs);
        json.WriteStartArray("sizes");
        foreach (double size in report.Sizes)
        {
            json.WriteNumberValue(size);
        }

        json.WriteEndArray();
        json.WriteStartArray("layers");
        foreach (var layer in report.Layers)
        {
            json.WriteStartObject();
            json.WriteNumber("layer", layer.Layer);
            json.WriteStartArray("residuals");
            foreach (double residual in layer.Residuals)
            {
                json.WriteNumberValue(residual);
            }

            json.WriteEndArray();
            json.WriteNumberOrNull("slope", layer.Slope);
            json.WriteNumberOrNull("within", layer.Within);
            json.WriteNumberOrNull("across", layer.Across);
            json.WriteNumberOrNull("oneStep", layer.OneStep);
            json.WriteNumberOrNull("horizon", layer.Horizon);
            json.WriteNumberOrNull("steeredOneStep", layer.SteeredOneStep);
            json.WriteNumberOrNull("steeredHorizon", layer.SteeredHorizon);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static string Known(double value) => double.IsNaN(value) ? "" : value.ToString("F3", CultureInfo.InvariantCulture);

    private static string Size(double size) => size.ToString("G3", CultureInfo.InvariantCulture);
}
