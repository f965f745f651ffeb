using System.Runtime.InteropServices;
using System.Text;
using Tiller.Evaluation;

namespace Tiller.Tool;

/// <summary>The process of a tool: its streams and its signals.</summary>
internal static class ToolProcess
{
    /// <summary>Runs the command line.</summary>
    /// <param name="args">The arguments, without the program's name.</param>
    /// <param name="kinds">Kinds of scorers that tasks may name besides those of Tiller.Evaluation.</param>
    /// <returns>The exit code.</returns>
    public static async Task<int> RunAsync(string[] args, IReadOnlyList<ScorerKind> kinds)
    {
        Console.OutputEncoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);
        using var stop = new CancellationTokenSource();
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Cancel);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Cancel);
        var terminal = Terminal.OfProcess();
        return await CommandLine.RunAsync(Runs.Commands(terminal, kinds, args), args, terminal, stop.Token);

        // The first signal ends the work in order; the second has its usual effect and ends the process. If SIGINT was ignored when the program
        // began, as in a background job of a script, it stays ignored (the runtime installs no handler), because Ctrl-C is then meant for another
        // program. SIGTERM always works.
        void Cancel(PosixSignalContext signal)
        {
            signal.Cancel = !stop.IsCancellationRequested;
            stop.Cancel();
        }
    }
}
