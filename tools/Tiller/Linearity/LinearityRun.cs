using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json.Serialization;
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
        string?[] read = [.. request.Prompts, request.Controller];
        var destination = request.Page is null ? null : Destination.Of(terminal, "--page", request.Page, isText: true, request.Json, read);
        terminal = destination?.Rest ?? terminal;
        IReadOnlyList<Prompt>[] lists = [.. request.Prompts.Select(file => Read(file, request, cancellationToken))];
        var controller = request.Controller is null ? null : Controller.Load(request.Controller);
        using var model = Runs.Load(terminal, request.Model, request.Device, request.Strict, cancellationToken);
        controller?.CheckModel(model);
        var options = new LinearityOptions { Law = controller?.ToLaw(request.Lambda), Shards = request.Shards };
        if (request.Shard is { } shard)
        {
            var command = request.Command! with { Files = request.Controller is null ? [] : [DigestOf(request.Controller)] };
            var part = LinearityShard.Of(model, lists, options, shard, command.ToString(), command.Directory, cancellationToken);
            ShardOutput.Begin(terminal, shard, part.Prompts, part.AllPrompts, part.SizeInBytes, request.Out!);
            StageBars.Run(terminal, progress =>
            {
                part.Measure(request.Out!, ToStages(progress, model.Config.L), cancellationToken);
                return true;
            });
            ShardOutput.End(terminal, shard, $"tiller merge {request.Out}");
            return ExitCode.Ok;
        }

        var report = StageBars.Run(terminal, progress => LinearityReport.Measure(
            model, lists, options, ToStages(progress, model.Config.L), cancellationToken));
        destination?.Write(stream => LinearityPage.Write(stream, model.Name, request.Prompts, report));
        if (request.Json)
        {
            Json.Write(terminal.Output, new LinearityJson(model.Name, lists, report), LinearityJsonContext.Default.LinearityJson);
        }
        else
        {
            WriteText(terminal, model, lists, report);
        }

        return ExitCode.Ok;
    }

    private static Relay<int> ToStages(IProgress<StageProgress> progress, int blocks) =>
        new(done => progress.Report(new StageProgress("blocks", done, blocks)));

    private static string DigestOf(string file)
    {
        using var stream = File.OpenRead(file);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
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

    private static string Known(double value) => double.IsNaN(value) ? "" : value.ToString("F3", CultureInfo.InvariantCulture);

    private static string Size(double size) => size.ToString("G3", CultureInfo.InvariantCulture);
}

/// <summary>What <c>linearity</c> prints.</summary>
internal sealed record LinearityJson
{
    public LinearityJson(string model, IReadOnlyList<Prompt>[] lists, LinearityReport report)
    {
        (Model, Prompts, Pairs, Sizes) = (model, [.. lists.Select(static list => list.Count)], report.Pairs, report.Sizes);
        Layers = [.. report.Layers.Select(static layer => new LinearityLayerJson(layer))];
    }

    public string Model { get; }

    public IReadOnlyList<int> Prompts { get; }

    public int Pairs { get; }

    public IReadOnlyList<double> Sizes { get; }

    public IReadOnlyList<LinearityLayerJson> Layers { get; }
}

/// <summary>A block's linearity; null is what was not measured.</summary>
internal sealed record LinearityLayerJson
{
    public LinearityLayerJson(LinearityLayer layer)
    {
        (Layer, Residuals, Slope) = (layer.Layer, layer.Residuals, Json.Finite(layer.Slope));
        (Within, Across) = (Json.Finite(layer.Within), Json.Finite(layer.Across));
        (OneStep, Horizon) = (Json.Finite(layer.OneStep), Json.Finite(layer.Horizon));
        (SteeredOneStep, SteeredHorizon) = (Json.Finite(layer.SteeredOneStep), Json.Finite(layer.SteeredHorizon));
    }

    public int Layer { get; }

    public IReadOnlyList<double> Residuals { get; }

    public double? Slope { get; }

    public double? Within { get; }

    public double? Across { get; }

    public double? OneStep { get; }

    public double? Horizon { get; }

    public double? SteeredOneStep { get; }

    public double? SteeredHorizon { get; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(LinearityJson))]
internal sealed partial class LinearityJsonContext : JsonSerializerContext;
