using Tiller.Bench;

namespace Tiller.Tool;

/// <summary><c>tiller bench</c>.</summary>
internal static class BenchRun
{
    public static int Run(Terminal terminal, BenchRequest request, CancellationToken cancellationToken)
    {
        if (request.Plan)
        {
            PlanOutput.Write(terminal, request.Json, PlanRun.OfShape(request, cancellationToken));
            return ExitCode.Ok;
        }

        BenchOutput.Write(request, Suite.Run(request, cancellationToken), terminal.Output);
        return ExitCode.Ok;
    }
}
