using Spectre.Console;

namespace Tiller.Tool;

/// <summary>Progress of a stage of a long command.</summary>
/// <param name="Stage">Name beside the progress bar. A new name begins a new bar.</param>
/// <param name="Done">Number of units done.</param>
/// <param name="Total">Total number of units; 0 if unknown.</param>
internal readonly record struct StageProgress(string Stage, long Done, long Total);

/// <summary>
/// Shows a progress bar with the remaining time for each stage if stderr is a terminal; otherwise calls <see cref="Terminal.OnStage"/>.
/// </summary>
internal static class StageBars
{
    /// <summary>Runs the work, and redraws the bars as it reports.</summary>
    public static T Run<T>(Terminal terminal, Func<IProgress<StageProgress>, T> work)
    {
        if (!terminal.ErrorIsLive)
        {
            return work(new Relay<StageProgress>(progress => terminal.OnStage?.Invoke(progress)));
        }

        return terminal.StyledError.Progress()
            .AutoClear(true)
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(),
                new RemainingTimeColumn())
            .Start(context => work(new Bars(context)));
    }

    private sealed class Bars(ProgressContext context) : IProgress<StageProgress>
    {
        private readonly Dictionary<string, ProgressTask> _tasks = new(StringComparer.Ordinal);
        private readonly Lock _gate = new();

        public void Report(StageProgress value)
        {
            lock (_gate)
            {
                if (!_tasks.TryGetValue(value.Stage, out var task))
                {
                    task = context.AddTask(Markup.Escape(value.Stage));
                    _tasks.Add(value.Stage, task);
                }

                task.IsIndeterminate = value.Total <= 0;
                task.MaxValue = Math.Max(value.Total, 1);
                task.Value = value.Done;
            }
        }
    }
}
