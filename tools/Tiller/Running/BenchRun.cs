using Tiller.Bench;
using Tiller.Tool.Output;

namespace Tiller.Tool.Running;

/// <summary><c>tiller bench</c>.</summary>
internal static class BenchRun
{
    public static int Run(Terminal terminal, BenchRequest request, CancellationToken cancellationToken)
    {
        BenchOutput.Write(request, Suite.Run(request, cancellationToken), terminal.Output);
        return ExitCode.Ok;
    }
}
