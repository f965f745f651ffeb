using Spectre.Console;

namespace Tiller.Tool;

/// <summary>How far a stage of a long command is.</summary>
/// <param name="Stage">Name shown beside the bar; a new name begins a new bar.</param>
/// <param name="Done">Units done.</param>
/// <param name="Total">Units in all; 0 if not known.</param>
internal readonly record struct StageProgress(string Stage, long Done, long Total);

/// <summary>A bar with the time left for each stage on stderr, while that is a terminal; otherwise <see cref="Terminal.OnStage"/> is told.</summary>
internal static class StageBars
{
    /// <summary>Runs the work, redrawing the bars as it reports.</summary>
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
