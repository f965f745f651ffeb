using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Scheduling;

namespace Tiller.Evaluation;

/// <summary>Options of an evaluation.</summary>
public sealed record EvaluationOptions
{
    /// <summary>The split of the task; default <see cref="EvaluationTask.DefaultSplit"/>.</summary>
    public string Split { get; init; } = EvaluationTask.DefaultSplit;

    /// <summary>Number of prompts to use, from the beginning of the split; null (default) for all.</summary>
    public int? Limit { get; init; }

    /// <summary>
    /// Number of texts that are decoded together; default 8. Up to 8, every text is bit for bit the same as if its prompt were decoded alone.
    /// </summary>
    public int Batch { get; init; } = 8;

    /// <summary>The law that steers the texts; null (default) for the plain model.</summary>
    public FeedbackLaw? Law { get; init; }

    /// <summary>The tokens that the law steers.</summary>
    public SteeredTokens Tokens { get; init; } = SteeredTokens.Last;

    /// <summary>Seed of the first prompt, which replaces the task's seed; null (default) for the task's.</summary>
    public ulong? Seed { get; init; }
}

/// <summary>The progress of an evaluation or a comparison.</summary>
/// <param name="Stage">
/// What is being done: "texts" or the name of a scorer; in a comparison "cells", and "contrast", "Jacobians" or "gains" while a controller is
/// fitted, or "waiting for Jacobians" while another process measures them.
/// </param>
/// <param name="Done">Number of texts, scorers, cells, prompts or blocks that are done.</param>
/// <param name="Total">Number of all texts, scorers, cells, prompts or blocks; 0 if that is unknown.</param>
public readonly record struct EvaluationProgress(string Stage, int Done, int Total);

/// <summary>The result of a task.</summary>
/// <param name="Task">The task's name.</param>
/// <param name="Split">The split of the task.</param>
/// <param name="Texts">The texts, in the order of the prompts.</param>
/// <param name="Scores">One score for each scorer, in the task's order.</param>
/// <param name="Effort">Mean |u|/|x| over steered tokens and layers; null for the plain model.</param>
/// <param name="TrackingError">Mean |e| over steered tokens and sensors; null for the plain model.</param>
/// <param name="Decoding">Time from the first prompt to the last token.</param>
public sealed record EvaluationReport(
    string Task, string Split, IReadOnlyList<EvaluatedText> Texts, IReadOnlyList<Score> Scores, double? Effort, double? TrackingError,
    TimeSpan Decoding)
{
    /// <summary>New tokens per second of decoding time, which includes the prompts' time.</summary>
    public double TokensPerSecond => Decoding > TimeSpan.Zero ? Texts.Sum(static x => x.Ids.Count) / Decoding.TotalSeconds : 0;
}

/// <summary>Evaluates models on tasks.</summary>
public static class Evaluator
{
    /// <summary>Continues the prompts of a task and scores the texts.</summary>
    /// <param name="model">The model.</param>
    /// <param name="task">The task.</param>
    /// <param name="options">The options; null for the defaults.</param>
    /// <param name="progress">Receives the progress, from one thread at a time; may be null.</param>
    /// <param name="cancellationToken">Checked between steps and texts.</param>
    /// <exception cref="ArgumentException">The task does not have the split, or an option is out of range.</exception>
    /// <exception cref="TillerException">A prompt is too long, the law is for another model, or a text cannot be continued.</exception>
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
            MaxKvBytes = options.Batch * model.KvBytesFor(positions),

            // Texts are read only after they have ended, so the buffer must hold all tokens of a text.
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
