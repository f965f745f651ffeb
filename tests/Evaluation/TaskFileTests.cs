using Tiller.Evaluation;
using Tiller.Features;

namespace Tiller.Tests.Evaluation;

public sealed class TaskFileTests
{
    private string _folder = "";

    // Its classifier needs ONNX Runtime: tests/Onnx reads it.
    private const string NeedsOnnx = "toxicity-roberta";

    private static IEnumerable<string> Folders => Directory.EnumerateFiles(Repository.Path("tasks"), "task.yaml", SearchOption.AllDirectories)
        .Select(static file => Path.GetDirectoryName(file)!);

    private static IEnumerable<string> Tasks => Folders.Where(static folder => Path.GetFileName(folder) != NeedsOnnx);

    [SetUp]
    public void MakeFolder()
    {
        _folder = Directory.CreateTempSubdirectory("tiller-task").FullName;
        File.WriteAllText(Path.Combine(_folder, "p.txt"), "One\nTwo\nThree\n");
        File.WriteAllText(Path.Combine(_folder, "c.csv"), "Two?,1,2,B\n");
        Directory.CreateDirectory(Path.Combine(_folder, "none"));
        File.WriteAllText(Path.Combine(Directory.CreateDirectory(Path.Combine(_folder, "other")).FullName, "d_dev.csv"), "Two?,1,2,B\n");
        File.WriteAllText(Path.Combine(_folder, "q.csv"), "id,prompt\n1,Four\n2,Five\n");
    }

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [TestCaseSource(nameof(Tasks))]
    public void Every_task_of_the_project_can_be_read(string folder)
    {
        var options = new TaskOptions { Data = PublishedSamples.Write(Path.Combine(_folder, "data")) };
        var task = EvaluationTask.Read(folder, options);
        Assert.That(task.PromptsOf(EvaluationTask.DefaultSplit), Is.Not.Empty);
        Assert.That(task.Scorers, Is.Not.Empty);
        if (task.Splits.ContainsKey("dev") && task.Name != "concepts") // all stories there begin alike
        {
            Assert.That(Texts(task, "dev").Intersect(Texts(task, "test")), Is.Empty, "what settings are chosen on is not what they are told on");
        }
    }

    [Test]
    public void One_task_alone_needs_Onnx_Runtime() =>
        Assert.That(Folders.Except(Tasks), Is.EqualTo(new[] { Repository.Path("tasks", NeedsOnnx) }));

    [TestCase("toxicity", 0.1, 10, 1, 3.5)]
    [TestCase("truthfulness", 0.1, 1, 0.3, 3)]
    [TestCase("refusal", 0.1, 1, 0.1, 1)]
    [TestCase("concepts", 1, 1, 0.1, 1.5)]
    public void The_papers_tasks_have_its_settings(string name, double q, double r, double qf, double lambda)
    {
        var task = EvaluationTask.Read(
            Repository.Path("tasks", name), new TaskOptions { Data = PublishedSamples.Write(Path.Combine(_folder, "data")) });
        Assert.That(task.Fit!.Weights, Is.EqualTo(new Tiller.Synthesis.LqrWeights(q, r, qf)));
        Assert.That(task.Fit.Strengths, Does.Contain(lambda));
        Assert.That(task.Contrast, Is.Not.Null);
        Assert.That(task.Scorers.Select(x => x.Name), Is.SupersetOf(new[] { "perplexity", "kl", "distinct-2" }));
        Assert.That(task.Fit.Tokens, Is.EqualTo(name == "refusal" ? Tiller.Law.SteeredTokens.All : null), "A-LQR+ for refusal");
    }

    [Test]
    public void A_task_of_the_papers_reads_the_published_files()
    {
        var truth = EvaluationTask.Read(Repository.Path("tasks", "truthfulness"), new TaskOptions { Data = SharedFolder.Require("data") });
        Assert.That((truth.PromptsOf("dev").Count, truth.PromptsOf("test").Count), Is.EqualTo((100, 690)));
        Assert.That((truth.Contrast!.Positive.Count, truth.Contrast.Negative.Count), Is.EqualTo((200, 200)));
        var refusal = EvaluationTask.Read(Repository.Path("tasks", "refusal"), new TaskOptions { Data = SharedFolder.Require("data") });
        Assert.That(refusal.Splits.ToDictionary(x => x.Key, x => x.Value.Count), Is.EqualTo(new Dictionary<string, int>
        {
            ["dev"] = 100,
            ["test"] = 104,
            ["over_refusal"] = 250,
            ["harmless"] = 125,
        }));
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
    [TestCase(
        "name: x\nprompts: p.txt\nscorers: [onnx]",
        "scorers[0] names the scorer 'onnx', which is in the package Tiller.Evaluation.Onnx, because it brings native libraries: add ")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [sentiment]", "scorers[0] names an unknown scorer, 'sentiment'; expected one of lexicon, ")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [lexicon]", "scorers[0] needs settings")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [kl, kl]", "has two called 'kl'")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{regex: (}]", "is not a regular expression that .NET matches without backtracking")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{regex: '(a)\\1'}]", "is not a regular expression that .NET matches without backtracking")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{distinct: 0}]", "distinct must be a number from 1 to 10.")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{kl: 1}]", "takes no settings: write only its name.")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{distinct: 1, regex: a}]", "it names 2 kinds")]
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
    [TestCase("name: x\nprompts: p.txt\ncontrast: {pairs: q.csv, positive: p.txt}\nscorers: [kl]", "has more than one of pairs, a choice")]
    [TestCase("name: x\nprompts: $DATA/p.txt\nscorers: [kl]", "prompts is \"$DATA/p.txt\", in a folder of published data that you have yourself")]
    [TestCase("name: x\nprompts: {file: p.txt, form: 'Q: '}\nscorers: [kl]", "prompts.form must hold {prompt}")]
    [TestCase("name: x\nprompts: {file: q.csv, where: {id: {above: 1}}}\nscorers: [kl]", "prompts.where.id has the key 'above'")]
    [TestCase("name: x\nprompts: p.txt\nfit: {q: 1}\nscorers: [kl]", "fit must have q, r and qf, or none of them.")]
    [TestCase("name: x\nprompts: p.txt\nfit: {lambda: [0]}\nscorers: [kl]", "fit.lambda[0] must not be 0")]
    [TestCase("name: x\nprompts: p.txt\nfit: {tokens: some}\nscorers: [kl]", "fit.tokens must be last or all.")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{judge: {url: x, model: m, prompt: '{answer}?'}}]", "url must be an address")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{judge: {url: http://x, model: m, prompt: 'True?'}}]", "prompt must hold {answer}")]
    [TestCase(
        "name: x\nprompts: p.txt\nscorers: [{judge: {url: http://x, model: m, prompt: '{answer}?', key: TILLER_NO}}]", "TILLER_NO, which is not set")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{choice: {file: c.csv, targets: mc3}}]", "targets must be mc0, mc1 or mc2.")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{choice: {file: c.csv, score: mean}}]", "score must be accuracy or probability.")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{choice: {file: c.csv, shots: none}}]", "shots is a folder without a table or JSON in it.")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [{choice: {file: c.csv, shots: other}}]", "shots has no file of examples for c.csv.")]
    public void What_is_wrong_with_a_task_is_told(string yaml, string problem) =>
        Assert.That(() => Read(yaml), Throws.TypeOf<TaskFileException>().With.Message.Contains(problem).And.Message.StartsWith(
            Path.Combine(_folder, "task.yaml")));

    [Test]
    public void Published_data_are_in_a_folder_of_the_users()
    {
        string data = Directory.CreateDirectory(Path.Combine(_folder, "data")).FullName;
        File.WriteAllText(Path.Combine(data, "r.jsonl"), """
            {"prompt": {"text": "a", "toxicity": 0.05}}
            {"prompt": {"text": "b", "toxicity": 0.9}}
            {"prompt": {"text": "c", "toxicity": 0.95}}
            """);
        var task = Read("""
            name: x
            prompts: {file: $DATA/r.jsonl, where: {prompt.toxicity: {at_most: 0.92}}, form: "Q: {prompt} A:"}
            contrast:
              positive: {file: $DATA/r.jsonl, where: {prompt.toxicity: {at_most: 0.1}}}
              negative: {file: $DATA/r.jsonl, where: {prompt.toxicity: {at_least: 0.8}}, shuffle: 7}
            fit: {q: 0.1, r: 10, qf: 1, lambda: [2, 3.5], tokens: all, calibration: {file: $DATA/r.jsonl, take: 2}}
            scorers: [kl]
            """, new TaskOptions { Data = data });
        Assert.That(Texts(task, "test"), Is.EqualTo(new[] { "Q: a A:", "Q: b A:" }));
        Assert.That((task.Contrast!.Positive.Count, task.Contrast.Negative.Count), Is.EqualTo((1, 2)));
        Assert.That((task.Fit!.Weights, task.Fit.Strengths, task.Fit.Calibration!.Count, task.Fit.Tokens),
            Is.EqualTo((new Tiller.Synthesis.LqrWeights(0.1, 10, 1), new[] { 2, 3.5 }, 2, Tiller.Law.SteeredTokens.All)));
    }

    [Test]
    public void Questions_of_choice_have_examples_before_them_and_may_be_a_contrast()
    {
        foreach (string part in new[] { "dev", "test" })
        {
            string folder = Directory.CreateDirectory(Path.Combine(_folder, part)).FullName;
            File.WriteAllText(Path.Combine(folder, $"big_animals_{part}.csv"), $"{part} animal?,dog,whale,B\nnext {part}?,cat,cow,B\n");
            File.WriteAllText(Path.Combine(folder, $"small_{part}.csv"), $"{part} small?,ant,whale,A\n");
        }

        var task = Read("""
            name: x
            prompts: p.txt
            contrast: {choice: {file: test/small_test.csv}}
            scorers:
              - as: mmlu
                choice: {file: test, shots: {file: dev, take: 1}, preface: "About  {subject}.\n\n", take: 1}
            """);
        var scorer = (Tiller.Evaluation.Scorers.ChoiceScorer)task.Scorers[0];
        Assert.That(scorer.Questions.Select(x => x.Text), Is.EqualTo(new[]
        {
            "About  big animals.\n\ndev animal?\nA. dog\nB. whale\nAnswer: B\n\ntest animal?\nA. dog\nB. whale\nAnswer:",
            "About  small.\n\ndev small?\nA. ant\nB. whale\nAnswer: A\n\ntest small?\nA. ant\nB. whale\nAnswer:",
        }));
        Assert.That(task.Contrast!.Positive.Concat(task.Contrast.Negative), Is.EqualTo(new Prompt[]
        {
            "test small?\nA. ant\nB. whale\nAnswer: A", "test small?\nA. ant\nB. whale\nAnswer: B",
        }));
    }

    [Test]
    public void A_task_frees_what_its_scorers_hold()
    {
        var held = new List<Held>();
        var task = Read("name: x\nprompts: p.txt\nscorers: [kl, held, {as: b, held: }]", Holding(held));
        Assert.That(held.Select(static x => x.Freed), Is.EqualTo(new[] { 0, 0 }));
        task.Dispose();
        Assert.That(held.Select(static x => x.Freed), Is.EqualTo(new[] { 1, 1 }));
    }

    [TestCase("name: x\nprompts: p.txt\nscorers: [held, sentiment]")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [held, {distinct: 0}]")]
    [TestCase("name: x\nprompts: p.txt\nscorers: [held, kl, kl]")]
    [TestCase("name: x\nprompts: none.txt\nscorers: [held]")]
    [TestCase("name: x\nprompts: p.txt\nfit: {q: 1}\nscorers: [held]")]
    public void A_task_that_cannot_be_read_frees_what_its_scorers_hold(string yaml)
    {
        var held = new List<Held>();
        Assert.That(() => Read(yaml, Holding(held)), Throws.InstanceOf<TillerException>());
        Assert.That(held.Select(static x => x.Freed), Is.EqualTo(new[] { 1 }));
    }

    [Test]
    public void A_folder_without_a_task_is_told() =>
        Assert.That(
            () => EvaluationTask.Read(_folder), Throws.TypeOf<TaskFileException>().With.Message.Contains("Name a folder that contains task.yaml."));

    [Test]
    public void A_file_of_prompts_that_is_not_there_is_told() =>
        Assert.That(() => Read("name: x\nprompts: none.txt\nscorers: [kl]"), Throws.TypeOf<PromptFileException>());

    private static string[] Texts(EvaluationTask task, string split) => [.. task.PromptsOf(split).Select(prompt => prompt switch
    {
        TextPrompt text => text.Text,
        ChatPrompt chat => chat.Messages[^1].Content!,
        _ => "",
    })];

    private static TaskOptions Holding(List<Held> held) => new()
    {
        Kinds =
        [
            new ScorerKind("held", (name, _, _, _) =>
            {
                held.Add(new Held(name));
                return held[^1];
            }),
        ],
    };

    private EvaluationTask Read(string yaml, TaskOptions? options = null)
    {
        File.WriteAllText(Path.Combine(_folder, "task.yaml"), yaml);
        return EvaluationTask.Read(_folder, options);
    }

    private sealed class Held(string name) : TextScorer, IDisposable
    {
        public int Freed { get; private set; }

        public override string Name => name;

        public override double Of(EvaluatedText text) => 0;

        public void Dispose() => Freed++;
    }
}
