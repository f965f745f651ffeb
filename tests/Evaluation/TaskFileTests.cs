using Tiller.Evaluation;
using Tiller.Features;

namespace Tiller.Tests.Evaluation;

public sealed class TaskFileTests
{
    private string _folder = "";

    private static IEnumerable<string> Tasks => Directory.EnumerateFiles(Repository.Path("tasks"), "task.yaml", SearchOption.AllDirectories);

    [SetUp]
    public void MakeFolder()
    {
        _folder = Directory.CreateTempSubdirectory("tiller-task").FullName;
        File.WriteAllText(Path.Combine(_folder, "p.txt"), "One\nTwo\nThree\n");
        File.WriteAllText(Path.Combine(_folder, "q.csv"), "id,prompt\n1,Four\n2,Five\n");
    }

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [TestCaseSource(nameof(Tasks))]
    public void Every_task_of_the_project_can_be_read(string file)
    {
        var task = EvaluationTask.Read(Path.GetDirectoryName(file)!);
        Assert.That(task.PromptsOf(EvaluationTask.DefaultSplit), Is.Not.Empty);
        Assert.That(task.Scorers, Is.Not.Empty);
    }

    [Test]
    public void A_task_has_what_its_file_says()
    {
        var task = Read("""
            name: all of it
            about: Says everything.
            chat: true
            system: Be brief.
            contrast: {positive: p.txt, negative: {file: q.csv, column: prompt}}
            prompts:
              dev: {file: p.txt, take: 2}
              test: {file: p.txt, skip: 2}
              more: {file: q.csv, column: prompt}
            generation: {max_tokens: 7, temperature: 0.5, top_k: 3, top_p: 0.9, min_p: 0.1, seed: 18446744073709551615, stop: ["\n\n"]}
            scorers:
              - perplexity
              - as: one
                lexicon: {words: [a]}
              - regex: "^Yes"
              - distinct: 2
            """);
        Assert.That((task.Name, task.About), Is.EqualTo(("all of it", "Says everything.")));
        Assert.That(Texts(task, "dev"), Is.EqualTo(new[] { "One", "Two" }));
        Assert.That(Texts(task, "test"), Is.EqualTo(new[] { "Three" }));
        Assert.That(Texts(task, "more"), Is.EqualTo(new[] { "Four", "Five" }));
        Assert.That(task.PromptsOf("dev").OfType<ChatPrompt>().Select(x => x.System), Is.All.EqualTo("Be brief."));
        Assert.That((task.Contrast!.Positive.Count, task.Contrast.Negative.Count), Is.EqualTo((3, 2)));
        Assert.That(task.Contrast.Positive, Is.All.InstanceOf<ChatPrompt>());
        var g = task.Generation;
        Assert.That((g.MaxNewTokens, g.Sampling.Temperature, g.Sampling.TopK, g.Sampling.TopP, g.Sampling.MinP, g.Sampling.Seed, g.StopStrings.Count),
            Is.EqualTo((7, 0.5f, 3, 0.9f, 0.1f, (ulong?)ulong.MaxValue, 1)));
        Assert.That(task.Scorers.Select(x => x.Name), Is.EqualTo(new[] { "perplexity", "one", "regex", "distinct-2" }));
        Assert.That(() => task.PromptsOf("train"), Throws.ArgumentException.With.Message.Contains("dev, test, more"));
    }

    [TestCase("- 1", "the task must be a mapping of keys to values.")]
    [TestCase("name: x\nprompts: p.txt", "the task lacks the key 'scorers'.")]
    [TestCase("name: x\nprompts: p.txt\nscorers: []", "line 3: scorers must have at least one entry.")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [perplexity]\ntemperature: 1", "the task has the key 'temperature', which means nothing here;")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [sentiment]", "scorers[0] names an unknown scorer, 'sentiment'; expected one of lexicon, ")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [lexicon]", "scorers[0] needs settings")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [kl, kl]", "has two called 'kl'")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{regex: (}]", "is not a regular expression that .NET matches without backtracking")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{regex: '(a)\\1'}]", "is not a regular expression that .NET matches without backtracking")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{distinct: 0}]", "distinct must be a number from 1 to 10.")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{kl: 1}]", "takes no settings: write only its name.")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{distinct: 1, regex: a}]", "it has 2 kinds")]
    [TestCase("name: x\nsystem: y\nprompts: p.txt\nscorers: [kl]", "line 2: system needs \"chat: true\"")]
    [TestCase("name: x\nprompts: {file: p.txt, skip: 3}\nscorers: [kl]", "prompts has no prompt left: skip fewer, or name a file with more prompts.")]
    [TestCase("name: x\nprompts: p.txt\ngeneration: {max_tokens: 0}\nscorers: [kl]", "generation.max_tokens must be a number from 1 to")]
    [TestCase("name: x\nprompts: p.txt\ngeneration: {temperature: NaN}\nscorers: [kl]", "generation.temperature must be a number from 0 to 100.")]
    [TestCase("name: x\nprompts: p.txt\nchat: yes\nscorers: [kl]", "chat must be true or false.")]
    [TestCase("name: x\nname: y\nprompts: p.txt\nscorers: [kl]", "the task has the key 'name' twice.")]
    [TestCase("name: x\nprompts: {dev: p.txt, dev: p.txt}\nscorers: [kl]", "prompts has the key 'dev' twice.")]
    [TestCase("name: [", "this is not YAML")]
    [TestCase("", "expected one document, got 0")]
    [TestCase("name: x\n---\nname: y\n", "expected one document, got 2")]
    [TestCase("? [a]\n: b", "has a key that is not a text.")]
    [TestCase("name: x\nprompts: p.txt\ncontrast: {pairs: q.csv, positive: p.txt}\nscorers: [kl]", "has \"pairs\" and also \"positive\"")]
    public void What_is_wrong_with_a_task_is_told(string yaml, string problem) =>
        Assert.That(() => Read(yaml), Throws.TypeOf<TaskFileException>().With.Message.Contains(problem).And.Message.StartsWith(
            Path.Combine(_folder, "task.yaml")));

    [Test]
    public void A_folder_without_a_task_is_told() =>
        Assert.That(
            () => EvaluationTask.Read(_folder), Throws.TypeOf<TaskFileException>().With.Message.Contains("Name a folder that holds task.yaml."));

    [Test]
    public void A_file_of_prompts_that_is_not_there_is_told() =>
        Assert.That(() => Read("name: x\nprompts: none.txt\nscorers: [kl]"), Throws.TypeOf<PromptFileException>());

    private static string[] Texts(EvaluationTask task, string split) => [.. task.PromptsOf(split).Select(prompt => prompt switch
    {
        TextPrompt text => text.Text,
        ChatPrompt chat => chat.Messages[^1].Content!,
        _ => "",
    })];

    private EvaluationTask Read(string yaml)
    {
        File.WriteAllText(Path.Combine(_folder, "task.yaml"), yaml);
        return EvaluationTask.Read(_folder);
    }
}
