using System.Globalization;
using System.Text.Json.Serialization;
using Tiller.Hub;

namespace Tiller.Tool;

/// <summary><c>tiller pull</c>.</summary>
internal static class PullRun
{
    public static int Run(Terminal terminal, PullRequest request, CancellationToken cancellationToken)
    {
        var options = new HubPullOptions { Revision = request.Revision, Folder = request.To };
        var model = StageBars.Run(terminal, progress => HubPull.RunAsync(
            request.Model, options, new Relay<HubPullProgress>(p => progress.Report(new StageProgress(Stage(p), p.Done, p.Total))),
                cancellationToken).GetAwaiter().GetResult());
        foreach (var file in model.Files.Where(f => !f.IsVerified))
        {
            terminal.Warn($"The hub gives no hash of {file.Name}: only its length was checked.");
        }

        if (request.Json)
        {
            WriteJson(terminal, model);
        }
        else
        {
            WriteText(terminal, request, model);
        }

        return ExitCode.Ok;
    }

    private static string Stage(HubPullProgress progress) => progress.Stage switch
    {
        HubPullStage.Waiting => $"{progress.File}, waiting for another download of it",
        HubPullStage.Checking => $"{progress.File}, checking",
        _ => progress.File,
    };

    private static void WriteText(Terminal terminal, PullRequest request, PulledModel model)
    {
        foreach (var file in model.Files)
        {
            Row(file.IsNew ? "new" : "there", $"{file.Name,-34} {file.SizeInBytes.ToString("N0", CultureInfo.InvariantCulture),15} bytes");
        }

        Row("commit", model.Commit);
        Row("folder", model.Folder);
        string name = request.To
            ?? (request.Revision is { } revision && !request.Model.Contains('@', StringComparison.Ordinal) ? $"{request.Model}@{revision}"
            : request.Model);
        terminal.Error.WriteLine($"Use it as --model {VisibleText.Of(name)}");

        void Row(string name, string value) => terminal.Output.WriteLine($"{name,-8}{VisibleText.Of(value)}");
    }

    private static void WriteJson(Terminal terminal, PulledModel model)
    {
        PulledFileJson[] files = [.. model.Files.Select(static x => new PulledFileJson(x.Name, x.SizeInBytes, x.IsVerified, x.IsNew))];
        Json.Write(
            terminal.Output, new PulledJson(model.Repository, model.Commit, model.Folder, files), PullJsonContext.Default.PulledJson);
    }
}

/// <summary>The JSON of <c>pull</c>.</summary>
internal sealed record PulledJson(string Model, string Commit, string Folder, IReadOnlyList<PulledFileJson> Files);

/// <summary>A file of the model.</summary>
internal sealed record PulledFileJson(string Name, long Bytes, bool Verified, bool New);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(PulledJson))]
internal sealed partial class PullJsonContext : JsonSerializerContext;
