using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Evaluation;
using Tiller.Evaluation.Comparing;
using Tiller.Features;

namespace Tiller.Tool;

/// <summary><c>tiller compare</c>.</summary>
internal static class CompareRun
{
    private static readonly string[] s_demoTasks = ["topic", "tone", "refusal"];

    public static int Run(
        Terminal terminal, CompareRequest request, IReadOnlyList<ScorerKind> kinds, CancellationToken cancellationToken)
    {
        var reading = new TaskOptions { Data = request.Data, Kinds = kinds };
        var read = new List<EvaluationTask>();
        try
        {
            foreach (string folder in request.Model is null ? s_demoTasks.Select(TaskFolder) : request.Tasks)
            {
                read.Add(EvaluationTask.Read(folder, reading, cancellationToken));
            }

            return Run(terminal, request, read, cancellationToken);
        }
        finally
        {
            read.ForEach(static task => task.Dispose());
        }
    }

    private static int Run(Terminal terminal, CompareRequest request, List<EvaluationTask> read, CancellationToken cancellationToken)
    {
        bool demo = request.Model is null;
        if (request.Splits.FirstOrDefault(split => !read.Exists(task => task.Splits.ContainsKey(split))) is { } unknown)
        {
            throw new UsageException(
                $"--split must be one of {string.Join(", ", read.SelectMany(static x => x.Splits.Keys).Distinct())}, those of the tasks, "
                + $"got '{unknown}'.");
        }

        EvaluationTask[] tasks = [.. read.SelectMany(task => request.Splits.Where(task.Splits.ContainsKey).Select(split => Part(task, split)))];
        var comparison = new Comparison
        {
            Tasks = tasks,
            Methods = [.. request.Methods.Select(method => Fitted(method, demo)), .. request.Controls ? Controls(tasks, demo) : []],
            Strengths = request.Strengths,
            Seeds = request.Seeds,
            Shard = request.Shard,
            Evaluation = new EvaluationOptions { Limit = request.Limit, Batch = request.Batch },
        };
        using var model = Runs.Load(terminal, request.Model ?? DemoRun.ModelFolder, request.Device, strict: false, cancellationToken);
        var cells = StageBars.Run(terminal, progress =>
        {
            var told = new Relay<EvaluationProgress>(p => progress.Report(new StageProgress(p.Stage, p.Done, p.Total)));
            return comparison.RunAsync(model, request.Out, told, cancellationToken).GetAwaiter().GetResult();
        });
        if (request.Shard is { } shard)
        {
            terminal.Error.WriteLine(
                $"tiller: {cells.Count} cells, shard {shard}, in {request.Out}; when all shards have ended: tiller merge {request.Out}");
            return ExitCode.Ok;
        }

        Write(terminal, request.Out, request.Json, model.Name, cells);
        return ExitCode.Ok;
    }

    /// <summary>Writes the reports of all cells, into the folder and to standard output.</summary>
    public static void Write(Terminal terminal, string folder, bool json, string model, IReadOnlyList<ComparisonCell> cells)
    {
        var reports = ComparisonReport.Of(cells);
        string markdown = string.Join('\n', reports.Select(static x => x.ToMarkdown()));
        Write(folder, "report.md", markdown);
        Write(folder, "report.html", ComparisonPage.Of($"Methods on {model}", reports));
        if (json)
        {
            CompareOutput.WriteJson(terminal, reports);
        }
        else
        {
            terminal.Output.Write(markdown);
        }

        terminal.Error.WriteLine($"tiller: {cells.Count} cells in {folder}, with report.html and report.md");
    }

    // The controllers of a task's splits are the same, and so are its settings.
    private static EvaluationTask Part(EvaluationTask task, string split) => split == EvaluationTask.DefaultSplit ? task : task with
    {
        Name = $"{task.Name}, {split}",
        Splits = new Dictionary<string, IReadOnlyList<Prompt>>(StringComparer.Ordinal)
        {
            [EvaluationTask.DefaultSplit] = task.PromptsOf(split),
        },
    };

    private static ComparedFit Fitted(FitMethod method, bool demo)
    {
        var options = new FitOptions { Method = method };
        return new ComparedFit(method.Name, demo && method.Takes(FitInputs.Gains) ? options with { Weights = DemoSetting.Weights } : options);
    }

    private static IEnumerable<ComparedMethod> Controls(EvaluationTask[] tasks, bool demo)
    {
        yield return new RandomDirection();
        yield return Fitted(FitMethod.Lqr, demo) with { Title = "shuffled labels", ShuffleSeed = 0 };
        if (tasks.All(static task => task.Prompting is not null))
        {
            yield return new PromptingAlone();
        }
    }

    private static string TaskFolder(string name) => Path.Combine(AppContext.BaseDirectory, "tasks", "demo", name);

    private static void Write(string folder, string name, string text) => OutputFile.Write(
        Path.Combine(folder, name), stream => stream.Write(System.Text.Encoding.UTF8.GetBytes(text)));
}
