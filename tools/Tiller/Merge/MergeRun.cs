using Tiller.Evaluation.Comparing;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary><c>tiller merge</c>.</summary>
internal static class MergeRun
{
    public static async Task<int> Run(Terminal terminal, MergeRequest request, CancellationToken cancellationToken)
    {
        if (request.Parts.Any(ShardFiles.AreIn))
        {
            return await End(terminal, request, cancellationToken);
        }

        if (request.Page is not null)
        {
            throw new UsageException("--page is for the plots of linearity and of a certificate: leave it out. A comparison has report.html.");
        }

        if (request.Device != new DeviceRequest(null, 0))
        {
            throw new UsageException("--device and --threads are for a fit and for linearity: leave them out; a comparison runs no model.");
        }

        if (request.Out is null && request.Parts.Count > 1)
        {
            throw new UsageException("Expected --out: the parts are in several folders.");
        }

        string folder = request.Out ?? request.Parts[0];
        var (plan, cells) = ComparisonPlan.Gather(request.Parts);
        plan.Write(folder, cells);
        CompareRun.Write(terminal, folder, request.Json, plan.Model, cells);
        return ExitCode.Ok;
    }

    // The command that the shards were given is given once more, with what they measured in place of the model's passes.
    private static async Task<int> End(Terminal terminal, MergeRequest request, CancellationToken cancellationToken)
    {
        var shards = ShardSet.Open(request.Parts);
        var command = ShardedCommand.Read(shards.Work.Request, shards.Origins);
        bool fits = shards.Work.Kind == "fit";
        if (fits && request.Out is null)
        {
            throw new UsageException("Expected --out FILE, the controller file of the fit.");
        }

        if (!fits && request.Out is not null)
        {
            throw new UsageException("These shards are of linearity, whose table is printed: leave --out out. --page FILE writes the plots.");
        }

        TillerCommand[] commands =
        [
            new FitCommand((fit, token) => Task.FromResult(FitRun.Run(
                terminal, fit.In(command) with { Device = request.Device, Shards = request.Parts }, token))),
            new LinearityCommand((linearity, token) => Task.FromResult(LinearityRun.Run(
                terminal, linearity.In(command) with { Device = request.Device, Shards = request.Parts }, token))),
        ];
        List<string> words = [shards.Work.Kind, .. command.Words];
        if (fits)
        {
            words.Add($"--out={request.Out}");
        }

        if (request.Page is not null)
        {
            words.Add($"--page={request.Page}");
        }

        if (request.Json)
        {
            words.Add("--json");
        }

        return await CommandLine.RunAsync(commands, [.. words], terminal, cancellationToken);
    }
}
