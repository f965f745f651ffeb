using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Real;

/// <summary>A way of fitting, and the strengths it is tried at.</summary>
/// <param name="Name">How a row tells it.</param>
/// <param name="Options">How to fit.</param>
/// <param name="Lambdas">Strengths.</param>
internal sealed record StudyMethod(string Name, FitOptions Options, double[] Lambdas);

/// <summary>What came of one controller at one strength.</summary>
/// <param name="Score">The task's score: a mean mood, or a share of replies or answers.</param>
/// <param name="Error">Its standard error.</param>
/// <param name="Scored">Replies or answers that say something.</param>
/// <param name="Perplexity">Of replies to neutral requests, under the plain model.</param>
/// <param name="Effort">Mean |u|/|x| over their tokens and the steered layers; 0 if plain.</param>
/// <param name="Variety">Different words among all words of those replies.</param>
/// <param name="Seconds">Time of all that.</param>
/// <param name="Reply">Reply to the first neutral request, where it may be shown.</param>
internal sealed record StudyRow(double Score, double Error, int Scored, double Perplexity, double Effort, double Variety, double Seconds,
    string? Reply);

/// <summary>Fits and steers a model on several tasks and records what comes, a line of JSON for each controller and strength.</summary>
internal static class Study
{
    private const int NewTokens = 32;
    private const int AtOnce = 16;

    // The Jacobians of so many prompts stand for all: as published, the mean goes over the contrast prompts.
    private const int CalibrationPrompts = 8;

    private static readonly string[] s_tasks = ["sentiment", "refusal", "compliance", "answers", "answers-harmless", "sycophancy", "truthfulness"];

    /// <summary>Runs the tasks.</summary>
    /// <param name="folder">The checkpoint.</param>
    /// <param name="data">Folder of the published data sets.</param>
    /// <param name="output">Gets a line of JSON for each row as soon as it is there.</param>
    /// <param name="tasks">Names of tasks; none for all.</param>
    /// <exception cref="ArgumentException">There is no task of that name.</exception>
    public static void Run(string folder, string data, string output, string[] tasks)
    {
        using var model = LanguageModel.Load(folder);
        using var lines = new StreamWriter(output) { AutoFlush = true };
        foreach (string name in tasks.Length > 0 ? tasks : s_tasks)
        {
            var task = name switch
            {
                "sentiment" => StudyTask.Sentiment(),
                "refusal" => StudyTask.Refusal(data),
                "compliance" => StudyTask.Compliance(data),
                "answers" => StudyTask.Answers(model, data, harmful: true),
                "answers-harmless" => StudyTask.Answers(model, data, harmful: false),
                "sycophancy" => StudyTask.Sycophancy(model, data),
                "truthfulness" => StudyTask.Truthfulness(model, data),
                _ => throw new ArgumentException($"There is no task {name}; expected {string.Join(", ", s_tasks)}.", nameof(tasks)),
            };
            Write(lines, task.Name, "plain", 0, 0, Measure(model, task, null));
            foreach (var method in Methods(task, model.Config.L))
            {
                long begin = Stopwatch.GetTimestamp();
                var controller = ControllerFit.Run(model, task.Contrast, method.Options).Controller;
                double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
                foreach (double lambda in method.Lambdas)
                {
                    Write(lines, task.Name, method.Name, lambda, seconds, Measure(model, task, controller.ToLaw(lambda)));
                }
            }
        }
    }

    private static StudyMethod[] Methods(StudyTask task, int layers)
    {
        IReadOnlyList<Prompt> calibration = [.. task.Contrast.Positive.Take(CalibrationPrompts / 2),
            .. task.Contrast.Negative.Take(CalibrationPrompts / 2)];
        var middle = new LayerSet(layers / 4, layers - 2);
        return
        [
            new("feature, q 0.1", new FitOptions { Cost = FitCost.Feature, Calibration = calibration }, task.Lambdas),
            new($"feature, q 0.1, blocks {middle}", new FitOptions { Cost = FitCost.Feature, Layers = middle, Calibration = calibration },
                task.Lambdas[..2]),
            new("dense, q 0.03", new FitOptions { Weights = new LqrWeights(0.03, 1, 1), Calibration = calibration }, task.Lambdas[..2]),
        ];
    }

    private static StudyRow Measure(LanguageModel model, StudyTask task, FeedbackLaw? law)
    {
        long begin = Stopwatch.GetTimestamp();
        int[][] neutral = Encode(model, StudyTask.Neutral);
        var effort = law is null ? null : new SteeringSummary(law);
        int[][] replies = Reply(model, neutral, law, effort);
        string[] texts = [.. replies.Select(ids => model.Tokenizer.Decode(ids, skipSpecial: true))];
        double logProbability = neutral.Zip(replies).Sum(pair => Likelihood.LogProbability(model, pair.First, pair.Second));
        double[] scores = task.Choices is { } choices ? [.. choices.Select(choice => Chooses(model, choice, law))]
            : [.. Texts(task, texts).Select(task.Score!).OfType<double>()];
        double mean = scores.Length > 0 ? scores.Average() : double.NaN;
        double variance = scores.Length > 1 ? scores.Sum(s => (s - mean) * (s - mean)) / (scores.Length - 1) : double.NaN;
        string[] words = [.. texts.SelectMany(StudyTask.Words)];
        return new StudyRow(
            mean, Math.Sqrt(variance / scores.Length), scores.Length, Math.Exp(-logProbability / Math.Max(1, replies.Sum(r => r.Length))),
                effort?.Effort ?? 0,
            words.Length > 0 ? (double)words.Distinct(StringComparer.Ordinal).Count() / words.Length : 0,
                Stopwatch.GetElapsedTime(begin).TotalSeconds,
            task.MayBeShown ? texts[0] : null);

        string[] Texts(StudyTask task, string[] neutralReplies) => ReferenceEquals(task.Replies, StudyTask.Neutral) ? neutralReplies
            : [.. Reply(model, Encode(model, task.Replies!), law, null).Select(ids => model.Tokenizer.Decode(ids, skipSpecial: true))];
    }

    private static int[][] Encode(LanguageModel model, IReadOnlyList<string> requests) =>
        [.. requests.Select(text => model.Chat.Encode(new TextPrompt(text).AsChat().Messages))];

    // The likeliest tokens of all prompts, some at once, up to an end of text or to the limit.
    private static int[][] Reply(LanguageModel model, int[][] prompts, FeedbackLaw? law, SteeringSummary? effort)
    {
        var replies = prompts.Select(_ => new List<int>()).ToArray();
        foreach (int[] some in Enumerable.Range(0, prompts.Length).Chunk(AtOnce))
        {
            using var batch = new SessionBatch(model);
            var rows = some.ToDictionary(i => i, _ => new BatchRow(new Session(model, law), new Sampler(new SamplingOptions(), model.Config.V)));
            foreach (int i in some)
            {
                rows[i].Session.Append(prompts[i]);
            }

            for (int[] live = some; live.Length > 0;)
            {
                int[] ids = new int[live.Length];
                batch.Draw([.. live.Select(i => rows[i])], ids);
                var next = live.Zip(ids).Where(pair => !model.EndIds.Contains(pair.Second) && replies[pair.First].Count < NewTokens).ToArray();
                foreach (var (i, id) in next)
                {
                    replies[i].Add(id);
                }

                live = [.. next.Select(pair => pair.First)];
                if (live.Length > 0)
                {
                    batch.Step([.. live.Select(i => rows[i])], [.. next.Select(pair => pair.Second)]);
                    foreach (int i in live)
                    {
                        effort?.Add(rows[i].Session.Steering!);
                    }
                }
            }

            foreach (var row in rows.Values)
            {
                row.Session.Dispose();
            }
        }

        return [.. replies.Select(ids => ids.ToArray())];
    }

    private static double Chooses(LanguageModel model, Choice choice, FeedbackLaw? law)
    {
        using var session = new Session(model, law);
        session.Append(choice.Prompt);
        return session.Logits[choice.Matching] > session.Logits[choice.Other] ? 1 : 0;
    }

    private static void Write(StreamWriter lines, string task, string method, double lambda, double fitSeconds, StudyRow row)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes,
            new JsonWriterOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteString("task", task);
            json.WriteString("method", method);
            json.WriteNumber("lambda", lambda);
            Number("score", row.Score);
            Number("error", row.Error);
            json.WriteNumber("scored", row.Scored);
            Number("perplexity", row.Perplexity);
            Number("effort", row.Effort);
            Number("variety", row.Variety);
            Number("fitSeconds", fitSeconds);
            Number("seconds", row.Seconds);
            if (row.Reply is not null)
            {
                json.WriteString("reply", row.Reply);
            }

            json.WriteEndObject();

            void Number(string name, double value)
            {
                if (double.IsFinite(value))
                {
                    json.WriteNumber(name, Math.Round(value, 4));
                }
                else
                {
                    json.WriteNull(name);
                }
            }
        }

        lines.WriteLine(System.Text.Encoding.UTF8.GetString(bytes.ToArray()));
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{task,-30} {method,-32} {lambda,5:0.0} score {row.Score,6:0.00} ± {row.Error:0.00} of {row.Scored,2} ")
            + string.Create(
                CultureInfo.InvariantCulture, $"perplexity {row.Perplexity,8:0.00} effort {row.Effort:0.000} variety {row.Variety:0.00}"));
    }
}
