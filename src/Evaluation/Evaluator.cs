using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Scheduling;

namespace Tiller.Evaluation;

/// <summary>How a task is run.</summary>
public sealed record EvaluationOptions
{
    /// <summary>Which split; default <see cref="EvaluationTask.DefaultSplit"/>.</summary>
    public string Split { get; init; } = EvaluationTask.DefaultSplit;

    /// <summary>Takes the first prompts of the split alone; null (default) for all.</summary>
    public int? Limit { get; init; }

    /// <summary>
    /// Texts that are decoded at once; default 8. Up to eight, a text is bit for bit that of the prompt alone.
    /// </summary>
    public int Batch { get; init; } = 8;

    /// <summary>Steers the texts; null (default) for the plain model.</summary>
    public FeedbackLaw? Law { get; init; }

    /// <summary>Which tokens the law moves.</summary>
    public SteeredTokens Tokens { get; init; } = SteeredTokens.Last;

    /// <summary>Seed of the first prompt, in place of the task's; null (default) for that.</summary>
    public ulong? Seed { get; init; }
}

/// <summary>How far an evaluation is.</summary>
/// <param name="Stage">Name of what is done: "texts", or a scorer.</param>
/// <param name="Done">Texts or scorers done.</param>
/// <param name="Total">Of so many.</param>
public readonly record struct EvaluationProgress(string Stage, int Done, int Total);

/// <summary>What came of a task.</summary>
/// <param name="Task">The task's name.</param>
/// <param name="Split">Which of its prompts.</param>
/// <param name="Texts">The texts, in the order of the prompts.</param>
/// <param name="Scores">A score of each scorer, in the task's order.</param>
/// <param name="Effort">Mean |u|/|x| over steered tokens and layers; null if plain.</param>
/// <param name="TrackingError">Mean |e| over steered tokens and sensors; null if plain.</param>
/// <param name="Decoding">Time from the first prompt to the last token.</param>
public sealed record EvaluationReport(
    string Task, string Split, IReadOnlyList<EvaluatedText> Texts, IReadOnlyList<Score> Scores, double? Effort, double? TrackingError,
    TimeSpan Decoding)
{
    /// <summary>New tokens per second, prompts included.</summary>
    public double TokensPerSecond => Decoding > TimeSpan.Zero ? Texts.Sum(static x => x.Ids.Count) / Decoding.TotalSeconds : 0;
}

/// <summary>Runs tasks.</summary>
public static class Evaluator
{
    /// <summary>Continues the prompts of a task and scores the texts.</summary>
    /// <param name="model">The model.</param>
    /// <param name="task">The task.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="progress">Told how far it is, by one thread at a time.</param>
    /// <param name="cancellationToken">Checked between steps and texts.</param>
    /// <exception cref="ArgumentException">The task has no such split, or an option is out of range.</exception>
    /// <exception cref="TillerException">A prompt does not fit, the law is for another model, or a text could not go on.</exception>
    public static async Task<EvaluationReport> RunAsync(
        LanguageModel model, EvaluationTask task, EvaluationOptions? options = null, IProgress<EvaluationProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(task);
        options ??= new EvaluationOptions();
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.Batch);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.Limit ?? 1);
        Prompt[] prompts = [.. task.PromptsOf(options.Split).Take(options.Limit ?? int.MaxValue)];
        int[][] ids = PromptEncoder.Of(model).Encode(task.Name, prompts, cancellationToken);
        var clock = TimeProvider.System;
        long begin = clock.GetTimestamp();
        var (texts, steering) = await Decode(model, task, options, prompts, ids, progress, cancellationToken).ConfigureAwait(false);
        var decoding = clock.GetElapsedTime(begin);
        var evaluated = new EvaluatedTexts(model, options.Law, options.Tokens, texts);
        var scores = new List<Score>();
        foreach (var scorer in task.Scorers)
        {
            progress?.Report(new EvaluationProgress(scorer.Name, scores.Count, task.Scorers.Count));
            scores.Add(scorer.Measure(evaluated, cancellationToken));
        }

        return new EvaluationReport(task.Name, options.Split, texts, scores, steering?.Effort, steering?.TrackingError, decoding);
    }

    private static async Task<(EvaluatedText[] Texts, SteeringSummary? Steering)> Decode(
        LanguageModel model, EvaluationTask task, EvaluationOptions options, Prompt[] prompts, int[][] ids, IProgress<EvaluationProgress>? progress,
        CancellationToken cancellationToken)
    {
        int mostNew = task.Generation.MaxNewTokens;
        int positions = Math.Min(model.Config.MaxPositions, ids.Max(static x => x.Length) + mostNew);
        using var scheduler = new Scheduler(model, new SchedulerOptions
        {
            MaxSequences = options.Batch,
            MaxQueued = prompts.Length,
            MaxKvBytes = options.Batch * KvCache.SizeInBytesFor(model.Config, positions),

            // The texts are read when they have ended.
            ReaderBuffer = Math.Min(mostNew, model.Config.MaxPositions) + 1,
        });
        var running = new List<ScheduledText>();
        for (int i = 0; i < prompts.Length; i++)
        {
            var sampling = task.Generation.Sampling;
            cancellationToken.ThrowIfCancellationRequested();
            running.Add(scheduler.Submit(ids[i], task.Generation with
            {
                Sampling = sampling with { Seed = (options.Seed ?? sampling.Seed ?? 0) + (ulong)i },
                Law = options.Law,
                SteeredTokens = options.Tokens,
            }));
        }

        await using var cancel = cancellationToken.Register(() => running.ForEach(static text => text.Cancel())).ConfigureAwait(false);
        var texts = new EvaluatedText[prompts.Length];
        var steering = options.Law is null ? null : new SteeringSummary(options.Law);
        for (int i = 0; i < prompts.Length; i++)
        {
            var result = await running[i].Completion.ConfigureAwait(false);
            cancellationToken.ThrowIfCancellationRequested();
            if (result.Error is { } error)
            {
                throw error;
            }

            if (result.Steering is { } one)
            {
                steering!.Add(one);
            }

            texts[i] = Text(prompts[i], ids[i], running[i]);
            progress?.Report(new EvaluationProgress("texts", i + 1, prompts.Length));
        }

        return (texts, steering);
    }

    private static EvaluatedText Text(Prompt prompt, int[] promptIds, ScheduledText scheduled)
    {
        var ids = new List<int>();
        var text = new System.Text.StringBuilder();
        var stop = StopReason.MaxTokens;
        while (scheduled.TryRead(out var token))
        {
            ids.Add(token.Id);
            text.Append(token.Text);
            stop = token.StopReason ?? stop;
        }

        string shown = prompt switch
        {
            TextPrompt plain => plain.Text,
            ChatPrompt { Messages: [.., var last] } => last.Content ?? "",
            _ => "",
        };
        return new EvaluatedText(shown, promptIds, ids, text.ToString(), stop);
    }
}
