using Tiller.Checkpoint;
using Tiller.Evaluation;
using Tiller.Model;
using Tiller.Tokens;

namespace Tiller.Tool;

/// <summary>The commands of tiller, each with the code that runs it.</summary>
internal static class Runs
{
    /// <summary>All commands, or the one that is named first in a command line: a short command need not make the options of all others.</summary>
    /// <param name="terminal">What they read from and write to.</param>
    /// <param name="kinds">Kinds of scorers that tasks may name besides those of Tiller.Evaluation; null for none.</param>
    /// <param name="args">A command line; null for all commands, which are also given if it names none.</param>
    public static IReadOnlyList<TillerCommand> Commands(Terminal terminal, IReadOnlyList<ScorerKind>? kinds = null, string[]? args = null)
    {
        (string Name, Func<TillerCommand> Make)[] all =
        [
            ("demo", () => new DemoCommand((request, token) => Task.FromResult(DemoRun.Run(terminal, request, token)))),
            ("methods", () => new MethodsCommand((request, _) => Task.FromResult(MethodsRun.Run(terminal, request)))),
            ("fit", () => new FitCommand((request, token) => Task.FromResult(FitRun.Run(terminal, request, token)))),
            ("steer", () => new SteerCommand((request, token) => SteerRun.Run(terminal, request, token))),
            ("generate", () => new GenerateCommand((request, token) => GenerateRun.Run(terminal, request, token))),
            ("compare", () => new CompareCommand((request, token) => Task.FromResult(CompareRun.Run(terminal, request, kinds ?? [], token)))),
            ("tune", () => new TuneCommand((request, token) => Task.FromResult(TuneRun.Run(terminal, request, kinds ?? [], token)))),
            ("merge", () => new MergeCommand((request, token) => MergeRun.Run(terminal, request, token))),
            ("eval", () => new EvalCommand((request, token) => Task.FromResult(EvalRun.Run(terminal, request, kinds ?? [], token)))),
            ("serve", () => new ServeCommand((request, token) => ServeRun.Run(terminal, request, token))),
            ("pull", () => new PullCommand((request, token) => Task.FromResult(PullRun.Run(terminal, request, token)))),
            ("linearity", () => new LinearityCommand((request, token) => Task.FromResult(LinearityRun.Run(terminal, request, token)))),
            ("inspect", () => new InspectCommand((request, token) => Task.FromResult(InspectRun.Run(terminal, request, token)))),
            ("convert", () => new ConvertCommand((request, token) => Task.FromResult(ConvertRun.Run(terminal, request, token)))),
            ("verify", () => new VerifyCommand((request, token) => Task.FromResult(VerifyRun.Run(terminal, request, token)))),
            ("bench", () => new BenchCommand((request, token) => BenchRun.Run(terminal, request, token))),
            ("devices", () => new DevicesCommand((request, _) => Task.FromResult(DevicesRun.Run(terminal, request)))),
            ("kernels", () => new KernelsCommand((request, token) => Task.FromResult(KernelsRun.Run(terminal, request, token)))),
        ];
        string? named = args is null ? null : CommandLine.NameIn(args);
        int one = Array.FindIndex(all, command => command.Name == named);
        return one >= 0 ? [all[one].Make()] : Array.ConvertAll(all, command => command.Make());
    }

    /// <summary>Loads a model with a progress bar and prints its warnings. Later it warns once if a text loses characters.</summary>
    /// <param name="terminal">Receives progress and warnings.</param>
    /// <param name="directory">The checkpoint's folder, or the model's name in the cache.</param>
    /// <param name="device">The device that runs the model.</param>
    /// <param name="strict">Whether to refuse a text that would lose characters.</param>
    /// <param name="cancellationToken">Cancels loading.</param>
    public static LanguageModel Load(Terminal terminal, string directory, DeviceRequest device, bool strict, CancellationToken cancellationToken)
    {
        long total;
        using (var folder = CheckpointFolder.Open(directory))
        {
            total = folder.SizeInBytes;
        }

        var model = StageBars.Run(terminal, progress => LanguageModel.Load(
            directory, device.ToLoadOptions() with
            {
                Strict = strict,
                Progress = new Relay<long>(done => progress.Report(new StageProgress("weights", done, total))),
            }, cancellationToken));
        foreach (string warning in model.Warnings)
        {
            terminal.Warn(warning);
        }

        model.Tokenizer.Lost = text =>
        {
            model.Tokenizer.Lost = null;
            terminal.Warn(LossOf(text));
        };
        return model;
    }

    private static string LossOf(EncodedText text) =>
        "The vocabulary has no token for bytes of these characters of a prompt. They are left out, as the published tokenizer does: "
        + $"{TokenizerException.Escape(text.Dropped)} (shown once; --strict refuses such a prompt).";
}
