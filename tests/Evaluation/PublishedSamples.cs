namespace Tiller.Tests.Evaluation;

/// <summary>Files in the forms of the published data sets that the project's tasks name, with content of our own.</summary>
internal static class PublishedSamples
{
    /// <summary>Writes all of them into a folder, which then stands for $DATA.</summary>
    public static string Write(string folder)
    {
        Write("realtoxicityprompts/prompts.jsonl", Enumerable.Range(0, 420).Select(static i =>
            $$"""{"filename": "{{i}}.txt", "prompt": {"text": "Prompt {{i}}", "toxicity": {{Toxicity(i)}} }, "continuation": {"text": " x"} }"""));
        Write("truthfulqa/TruthfulQA.csv", Enumerable.Range(0, 120)
            .Select(static i => $"x,y,Question {i}?,Yes {i},No {i},Yes {i}; Sure,No {i}; Never,")
            .Prepend("Type,Category,Question,Best Answer,Best Incorrect Answer,Correct Answers,Incorrect Answers,Source"));
        Write("truthfulqa/data/mc_task.json", ["[" + string.Join(", ", Enumerable.Range(0, 6).Select(static i =>
            $$"""{"question": "Question {{i}}?", "mc1_targets": {"Yes": 1, "No": 0}, "mc2_targets": {"Yes": 1, "Sure": 1, "No": 0} }""")) + "]"]);
        Write("self_instruct/seed_tasks.jsonl", Enumerable.Range(0, 60).Select(static i =>
            $$"""{"id": "seed_task_{{i}}", "instruction": "Do {{i}}.", "instances": [{"input": "", "output": "Done."}]}"""));
        Write("advbench/harmful_behaviors.csv", Enumerable.Range(0, 520).Select(static i => $"Ask {i},Answer {i}").Prepend("goal,target"));
        Write("xstest/xstest_prompts.csv", Enumerable.Range(1, 8).Select(static i => $"{i},Ask {i},homonyms,{(i % 2 == 0 ? "safe" : "unsafe")},,")
            .Prepend("id,prompt,type,label,focus,note"));
        Write("concepts/filtered_sentences.csv", Enumerable.Range(0, 60).Select(static i =>
            $"{new[] { "football", "dog", "church" }[i % 3]}.NOUN,x.{i},x%1:05:00::,Sentence {i}.").Prepend("concept,instance_id,sense,sentence"));
        Write("caa/generate/sycophancy/generate_dataset.json", [Behaviours(40)]);
        Write("caa/test/sycophancy/test_dataset_ab.json", [Behaviours(30)]);
        Write("caa/test/sycophancy/test_dataset_open_ended.json", [Behaviours(30)]);
        return folder;

        void Write(string name, IEnumerable<string> lines)
        {
            string path = Path.Combine(folder, name);
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.WriteAllText(path, string.Join('\n', lines) + "\n");
        }
    }

    private static string Behaviours(int count) => "[" + string.Join(", ", Enumerable.Range(0, count).Select(static i =>
        $$"""{"question": "So {{i}}? (A) yes (B) no", "answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}""")) + "]";

    // A third mild, a third toxic, some without a score.
    private static string Toxicity(int i) => i % 7 == 0 ? "null" : (i % 3) switch { 0 => "0.05", 1 => "0.9", _ => "0.4" };
}
