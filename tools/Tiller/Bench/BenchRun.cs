using Tiller.Bench;

namespace Tiller.Tool;

/// <summary><c>tiller bench</c>.</summary>
internal static class BenchRun
{
    public static async Task<int> Run(Terminal terminal, BenchRequest request, CancellationToken cancellationToken)
    {
        if (request.Plan)
        {
            PlanOutput.Write(terminal, request.Json, PlanRun.OfShape(request, cancellationToken));
            return ExitCode.Ok;
        }

        if (request.Mode == BenchMode.Serve)
        {
            var report = await ServeBench.Run(
                request, request.JsonLines ? row => ServeBenchOutput.WriteLine(row, terminal.Output) : null, cancellationToken);
            if (!request.JsonLines)
            {
                ServeBenchOutput.Write(request, report, terminal.Output);
            }

            return ExitCode.Ok;
        }

        var check = new CeilingCheck();
        BenchOutput.Write(request, Rows(request, cancellationToken).Select(check.Pass), terminal.Output);
        check.End();
        return ExitCode.Ok;
    }

    /// <summary>Measures the rows of a mode that has such, one by one as they are enumerated.</summary>
    public static IEnumerable<BenchRow> Rows(BenchRequest request, CancellationToken cancellationToken) =>
        request.Mode == BenchMode.Eval ? EvalBench.Run(request, cancellationToken) : Suite.Run(request, cancellationToken);
}
