using Tiller.Kernels;

namespace Tiller.Tool;

/// <summary><c>tiller kernels</c>.</summary>
internal static class KernelsRun
{
    public static int Run(Terminal terminal, KernelsRequest request, CancellationToken cancellationToken)
    {
        if (request.Compile.Count == 0)
        {
            var inventory = KernelInventory.Take();
            if (request.Json)
            {
                KernelsOutput.WriteJson(terminal, inventory);
            }
            else
            {
                KernelsOutput.WriteText(terminal, inventory);
            }

            return ExitCode.Ok;
        }

        // All names are checked before any work.
        string[] architectures = [.. request.Compile.Select(KernelBuild.Architecture).Distinct(StringComparer.Ordinal)];
        var built = StageBars.Run(terminal, progress => architectures.SelectMany(a => Compile(a, progress, cancellationToken)).ToList());
        if (request.Json)
        {
            KernelsOutput.WriteJson(terminal, built);
        }
        else
        {
            KernelsOutput.WriteText(terminal, built);
        }

        return ExitCode.Ok;
    }

    private static IReadOnlyList<KernelBuilt> Compile(string architecture, IProgress<StageProgress> progress, CancellationToken cancellationToken)
    {
        int files = KernelInventory.SourceCount, done = 0;
        return KernelBuild.Compile(
            architecture, null, new Relay<KernelBuilt>(_ => progress.Report(new StageProgress(architecture, Interlocked.Increment(ref done), files))),
            cancellationToken);
    }
}
