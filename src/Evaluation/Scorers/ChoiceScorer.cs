using Tiller.Checkpoint;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Evaluation.Scorers;

/// <summary>What a question of multiple choice counts.</summary>
public enum ChoiceMeasure
{
    /// <summary>1 if the likeliest answer is a right one, else 0: MC0, MC1, the letters of MMLU.</summary>
    Accuracy,

    /// <summary>Share of the right answers in the probability of all answers: MC2.</summary>
    Probability,
}

/// <summary>
/// Multiple choice by log-likelihood: log p(answer | question), summed over the answer's tokens, under the model as it is steered. The questions are
/// the scorer's own, whatever the task's prompts.
/// </summary>
/// <param name="name">What results call it.</param>
/// <param name="questions">At least one.</param>
/// <param name="measure">What a question counts.</param>
/// <param name="chat">Whether a question is a user's message in the checkpoint's chat format, and the answer begins the reply.</param>
public sealed class ChoiceScorer(string name, IReadOnlyList<ChoiceQuestion> questions, ChoiceMeasure measure, bool chat = false) : Scorer
{
    private const string Subject = "{subject}";
    private const int StandardShots = 5;

    private static readonly string[] s_parts = ["_dev", "_val", "_test"];

    private readonly string _identity = IdentityOf(questions);

    /// <inheritdoc/>
    public override string Name => name;

    /// <inheritdoc/>
    public override string Identity => $"{name} choice {measure} {chat} {_identity}{(System is null ? "" : $" asked {System}")}";

    /// <summary>The questions.</summary>
    public IReadOnlyList<ChoiceQuestion> Questions => questions;

    // What a system message asks for before every question.
    private string? System { get; init; }

    /// <inheritdoc/>
    public override Score Measure(EvaluatedTexts texts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(texts);
        var encoder = PromptEncoder.Of(texts.Model);
        return Score.OfQuotient(Name, [.. questions.Select((question, i) => (One(texts, encoder, question, i, cancellationToken), 1.0))]);
    }

    internal override Scorer AskedFor(string words) => chat
        ? new ChoiceScorer(name, questions, measure, chat) { System = words }
        : new ChoiceScorer(name, [.. questions.Select(question => question with { Text = words + question.Text })], measure);

    private double One(EvaluatedTexts texts, PromptEncoder encoder, ChoiceQuestion question, int index, CancellationToken cancellationToken)
    {
        var (prompt, answers) = chat ? Chat(texts.Model, encoder, question, cancellationToken) : Raw(encoder, question, index, cancellationToken);
        double[] logs = Likelihood.LogProbabilities(texts.Model, prompt, answers, texts.Law, texts.Tokens, cancellationToken);
        return Of(logs, [.. question.Answers.Select(static x => x.IsTrue)], measure);
    }

    /// <summary>What a question counts.</summary>
    /// <param name="logs">log p of each answer.</param>
    /// <param name="isTrue">Of each, whether it is right.</param>
    /// <param name="measure">What counts.</param>
    internal static double Of(double[] logs, bool[] isTrue, ChoiceMeasure measure)
    {
        double right = logs.Where((_, i) => isTrue[i]).Max(), wrong = logs.Where((_, i) => !isTrue[i]).Max();
        if (measure == ChoiceMeasure.Accuracy)
        {
            return right > wrong ? 1 : 0;
        }

        double largest = Math.Max(right, wrong);
        return logs.Where((_, i) => isTrue[i]).Sum(x => Math.Exp(x - largest)) / logs.Sum(x => Math.Exp(x - largest));
    }

    // All answers follow the same tokens: those that the question begins with, whichever answer comes after it.
    private (int[] Prompt, int[][] Answers) Raw(PromptEncoder encoder, ChoiceQuestion question, int index, CancellationToken cancellationToken)
    {
        int[] alone = encoder.Encode(name, [new TextPrompt(question.Text)], cancellationToken)[0];
        int[][] whole = encoder.Encode(name, [.. question.Answers.Select(x => new TextPrompt(question.Text + x.Text))], cancellationToken);
        int common = whole.Min(ids => Math.Min(ids.Length - 1, alone.AsSpan().CommonPrefixLength(ids)));
        return common > 0
            ? (alone[..common], [.. whole.Select(ids => ids[common..])])
            : throw new ContrastSetException($"Question {index + 1} of {name} has no token of its own before its answers; give it some text.");
    }

    private (int[] Prompt, int[][] Answers) Chat(
        LanguageModel model, PromptEncoder encoder, ChoiceQuestion question, CancellationToken cancellationToken) =>
        (encoder.Encode(name, [new TextPrompt(question.Text).AsChat(System)], cancellationToken)[0],
            [
                .. question.Answers.Select(
                    x => model.Tokenizer.Encode(x.Text.TrimStart(' '), addSpecial: false, cancellationToken: cancellationToken)),
            ]);

    internal static ChoiceScorer Read(string name, TaskNode node, TaskFiles files)
    {
        if (!node.IsMapping)
        {
            var all = ChoiceQuestion.Read(files.PathOf(node), cancellationToken: files.CancellationToken);
            return new ChoiceScorer(name, all, ChoiceMeasure.Accuracy);
        }

        node.CheckKeys(["file", "targets", "form", "score", "preface", "shots", "chat", .. TaskFiles.PickKeys]);
        var (targets, form) = Reading(node);
        string preface = node.Find("preface")?.Text() ?? "";
        var questions = new List<ChoiceQuestion>();
        foreach (string file in FilesOf(files.PathOf(node["file"]), node["file"]))
        {
            string told = preface.Replace(Subject, SubjectOf(file), StringComparison.Ordinal) + Shots(node.Find("shots"), file, files, form);
            questions.AddRange(TaskFiles.Pick(node, ChoiceQuestion.Read(file, targets, form, files.CancellationToken))
                .Select(question => question with { Text = told + question.Text }));
        }

        return new ChoiceScorer(
            name, questions,
            node.Find("score")?.Text() switch
            {
                null => targets == ChoiceTargets.All ? ChoiceMeasure.Probability : ChoiceMeasure.Accuracy,
                "accuracy" => ChoiceMeasure.Accuracy,
                "probability" => ChoiceMeasure.Probability,
                _ => throw node["score"].Fail("must be accuracy or probability."),
            },
            node.Find("chat")?.Truth() ?? false);
    }

    /// <summary>Which answers are read, and how questions are asked.</summary>
    internal static (ChoiceTargets Targets, string Form) Reading(TaskNode node) => (
        node.Find("targets")?.Text() switch
        {
            "mc0" => ChoiceTargets.Pair,
            null or "mc1" => ChoiceTargets.One,
            "mc2" => ChoiceTargets.All,
            _ => throw node["targets"].Fail("must be mc0, mc1 or mc2."),
        },
        TaskFiles.Form(node.Find("form"), "{question}") ?? ChoiceQuestion.StandardForm);

    // Examples with their right answers, a blank line after each.
    private static string Shots(TaskNode? node, string file, TaskFiles files, string form)
    {
        if (node is null)
        {
            return "";
        }

        TaskNode named = node;
        int count = StandardShots;
        if (node.IsMapping)
        {
            node.CheckKeys("file", "take");
            (named, count) = (node["file"], node.Find("take")?.Number(1, 1000) ?? StandardShots);
        }

        string path = files.PathOf(named);
        if (Directory.Exists(path))
        {
            string subject = SubjectOf(file);
            path = FilesOf(path, named).FirstOrDefault(x => SubjectOf(x) == subject)
                ?? throw named.Fail($"has no file of examples for {Path.GetFileName(file)}.");
        }

        return string.Concat(ChoiceQuestion.Read(path, ChoiceTargets.One, form, files.CancellationToken).Take(count)
            .Select(static x => $"{x.Text}{x.Answers.First(static answer => answer.IsTrue).Text}\n\n"));
    }

    // MMLU has a file for each subject.
    private static string[] FilesOf(string path, TaskNode node)
    {
        if (!Directory.Exists(path))
        {
            return [path];
        }

        string[] files = [.. Directory.EnumerateFiles(path)
            .Where(static x => Path.GetExtension(x) is ".csv" or ".tsv" or ".parquet" or ".json" or ".jsonl").Order(StringComparer.Ordinal)];
        return files.Length > 0 ? files : throw node.Fail("is a folder without a table or JSON in it.");
    }

    // high_school_physics_test.csv is about high school physics.
    private static string SubjectOf(string file)
    {
        string name = Path.GetFileNameWithoutExtension(file);
        string? part = Array.Find(s_parts, x => name.EndsWith(x, StringComparison.Ordinal));
        return name[..^(part?.Length ?? 0)].Replace('_', ' ');
    }

    private static string IdentityOf(IReadOnlyList<ChoiceQuestion> questions)
    {
        using var hash = new IdentityHash();
        foreach (var question in questions)
        {
            hash.Add(question.Text).Add([question.Answers.Count]);
            foreach (var answer in question.Answers)
            {
                hash.Add(answer.Text).Add([answer.IsTrue ? 1 : 0]);
            }
        }

        return hash.End();
    }
}
