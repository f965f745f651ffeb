using Tiller.Evaluation.Comparing;

namespace Tiller.Tool;

/// <summary><c>tiller merge</c>.</summary>
internal static class MergeRun
{
    public static int Run(Terminal terminal, MergeRequest request)
    {
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
}
