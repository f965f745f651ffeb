using Tiller.Checkpoint;
using Tiller.Decode;
using Tiller.Evaluation;
using Tiller.Evaluation.Onnx;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tests.Evaluation;
using Tiller.Tokens;

namespace Tiller.Tests.Onnx;

/// <summary>ONNX classifiers as scorers, on graphs whose logits are means over tokens and are computed here by hand.</summary>
public sealed class OnnxScorerTests
{
    private const string TwoLabels = """{"id2label": {"0": "neutral", "1": "toxic"}, "pad_token_id": 0}""";

    // [CLS] and [SEP], the → 4, sea → 5, ##side → 6, is → 7, calm → 8, you → 9, fool → 10, ! → 11, else [UNK] → 1.
    private static readonly (string Text, int[] Ids)[] s_texts =
    [
        ("The sea is calm", [2, 4, 5, 7, 8, 3]),
        ("You fool!", [2, 9, 10, 11, 3]),
        ("seaside", [2, 5, 6, 3]),
        ("", [2, 3]),
        ("you [SEP] xyz", [2, 9, 3, 1, 3]), // the published pipeline takes it for a special token
        ("the the the the the the the the", [2, 4, 4, 4, 4, 4, 4, 4, 4, 3]),
    ];

    private string _folder = "";

    private string Graph => Path.Combine(_folder, "model.onnx");

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("tiller-onnx").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [TestCase("toxic", 1)]
    [TestCase("neutral", 0)]
    [TestCase("1", 1)]
    public void The_score_is_the_labels_probability(string label, int column)
    {
        Write(Tiny(labels: 2), TinyTokenizer.WordPiece, TwoLabels);
        using var scorer = new OnnxScorer("toxicity", Options(label));
        var told = scorer.Of([.. s_texts.Select(static x => x.Text)]);
        Assert.That(told, Is.EqualTo(s_texts.Select(x => Softmax(Mean(Tiny(2), x.Ids))[column])).Within(1e-6));
        Assert.That(told.Distinct().Count(), Is.EqualTo(s_texts.Length), "the texts differ in it");
    }

    [Test]
    public void The_share_is_of_texts_whose_likeliest_label_it_is()
    {
        Write(Tiny(labels: 3), TinyTokenizer.WordPiece);
        using var scorer = new OnnxScorer("x", Options("2") with { Score = LabelScore.Share });
        double[] has = [.. s_texts.Select(static x => Mean(Tiny(3), x.Ids) is var z && z[2] >= z.Max() ? 1.0 : 0)];
        Assert.That(has, Does.Contain(0).And.Contain(1));
        Assert.That(scorer.Of([.. s_texts.Select(static x => x.Text)]), Is.EqualTo(has));
    }

    [Test]
    public void Bpe_with_Robertas_special_tokens_is_classified_too()
    {
        var graph = new OnnxFile { Table = Table(TinyTokenizer.BpeSize, 2) };
        Write(graph, TinyTokenizer.Bpe, """{"id2label": {"0": "neutral", "1": "toxic"}, "pad_token_id": 1}""");
        using var scorer = new OnnxScorer("x", Options("toxic"));
        (string Text, int[] Ids)[] texts = [("ab a", [0, 6, 7, 2]), ("a ab ab", [0, 3, 8, 8, 2]), ("", [0, 2])];
        Assert.That(
            scorer.Of([.. texts.Select(static x => x.Text)]), Is.EqualTo(texts.Select(x => Softmax(Mean(graph, x.Ids))[1])).Within(1e-6));
    }

    [TestCase("single_label_classification", 2, LogitFunction.Softmax)]
    [TestCase("multi_label_classification", 2, LogitFunction.Sigmoid)]
    [TestCase("regression", 2, LogitFunction.None)]
    [TestCase("single_label_classification", 1, LogitFunction.Sigmoid)]
    [TestCase("multi_label_classification", 1, LogitFunction.Sigmoid)]
    [TestCase("regression", 1, LogitFunction.None)]
    [TestCase(null, 2, LogitFunction.Softmax)]
    [TestCase(null, 1, LogitFunction.Sigmoid)]
    public void The_problem_type_says_what_the_logits_become(string? type, int labels, LogitFunction function)
    {
        Write(Tiny(labels), TinyTokenizer.WordPiece, type is null ? null : $$"""{"problem_type": "{{type}}", "pad_token_id": 0}""");
        float[] logits = Mean(Tiny(labels), s_texts[0].Ids);
        using var scorer = new OnnxScorer("x", Options("0"));
        Assert.That(scorer.Of([s_texts[0].Text])[0], Is.EqualTo(Applied(function)).Within(1e-6));
        foreach (var other in Enum.GetValues<LogitFunction>())
        {
            using var asked = new OnnxScorer("x", Options("0") with { Function = other });
            Assert.That(asked.Of([s_texts[0].Text])[0], Is.EqualTo(Applied(other)).Within(1e-6));
        }

        double Applied(LogitFunction f) =>
            f switch { LogitFunction.Softmax => Softmax(logits)[0], LogitFunction.Sigmoid => 1 / (1 + Math.Exp(-logits[0])), _ => logits[0] };
    }

    [Test]
    public void With_a_sigmoid_a_text_has_a_label_that_is_likelier_than_not()
    {
        Write(Tiny(labels: 2), TinyTokenizer.WordPiece);
        using var scorer = new OnnxScorer("x", Options("1") with { Function = LogitFunction.Sigmoid, Score = LabelScore.Share });
        double[] has = [.. s_texts.Select(static x => Mean(Tiny(2), x.Ids)[1] > 0 ? 1.0 : 0)];
        Assert.That(has, Does.Contain(0).And.Contain(1));
        Assert.That(scorer.Of([.. s_texts.Select(static x => x.Text)]), Is.EqualTo(has));
    }

    [TestCase(true, TwoLabels)]
    [TestCase(true, null)]
    [TestCase(false, TwoLabels)]
    public void A_batch_gives_what_each_text_gives_alone(bool hasMask, string? config)
    {
        Write(Tiny(2) with { HasMask = hasMask }, TinyTokenizer.WordPiece, config);
        string[] texts = [.. Enumerable.Range(0, 40).Select(static i => string.Join(' ', Enumerable.Repeat("the sea you", 1 + (i * 7 % 11)))), ""];
        using var one = new OnnxScorer("x", Options("1") with { Batch = 1 });
        using var many = new OnnxScorer("x", Options("1") with { Batch = 8 });
        Assert.That(many.Of(texts), Is.EqualTo(texts.Select(text => one.Of([text])[0])).Within(1e-6));
        Assert.That(many.Of([]), Is.Empty);
    }

    [Test]
    public void Without_a_token_to_fill_up_with_texts_of_one_length_are_classified_together()
    {
        string nameless = TinyTokenizer.WordPiece.Replace("[PAD]", "[NIL]", StringComparison.Ordinal);
        Write(Tiny(2), nameless);
        using var scorer = new OnnxScorer("x", Options("1"));
        Assert.That(
            scorer.Of([.. s_texts.Select(static x => x.Text)]), Is.EqualTo(s_texts.Select(x => Softmax(Mean(Tiny(2), x.Ids))[1])).Within(1e-6));
    }

    [Test]
    public void Inputs_that_the_graph_does_not_take_are_not_given()
    {
        foreach (bool hasMask in new[] { true, false })
        {
            foreach (float[]? zero in new[] { null, new float[] { 0.75f, -0.5f } })
            {
                var graph = Tiny(2) with { HasMask = hasMask, TypeZero = zero };
                Write(graph, TinyTokenizer.WordPiece);
                using var scorer = new OnnxScorer("x", Options("1"));
                Assert.That(
                    scorer.Of([s_texts[0].Text, s_texts[1].Text]),
                    Is.EqualTo(new[] { Softmax(Mean(graph, s_texts[0].Ids))[1], Softmax(Mean(graph, s_texts[1].Ids))[1] }).Within(1e-6));
            }
        }
    }

    [TestCase(null, null, 512)]
    [TestCase("""{"model_max_length": 1000000000000000019884624838656}""", null, 512)]
    [TestCase("""{"model_max_length": 9}""", null, 9)]
    [TestCase("""{"model_max_length": 9}""", 6, 6)]
    public void A_long_text_loses_its_end_and_keeps_its_last_special_token(string? tokens, int? asked, int most)
    {
        Write(Tiny(2), TinyTokenizer.WordPiece);
        if (tokens is not null)
        {
            File.WriteAllText(Path.Combine(_folder, "tokenizer_config.json"), tokens);
        }

        using var scorer = new OnnxScorer("x", Options("1") with { MaxTokens = asked });
        string kept = string.Join(' ', Enumerable.Repeat("sea", most - 2));
        int[] ids = [2, .. Enumerable.Repeat(5, most - 2), 3];
        var told = scorer.Of([kept, $"{kept} fool", $"{kept} fool fool you you"]);
        Assert.That(told, Is.All.EqualTo(Softmax(Mean(Tiny(2), ids))[1]).Within(1e-6));
        Assert.That(scorer.Of([$"fool {kept}"])[0], Is.Not.EqualTo(told[0]).Within(1e-6), "the beginning counts");
    }

    [Test]
    public void The_files_may_be_in_the_folder_above_the_graphs()
    {
        Write(Tiny(2), TinyTokenizer.WordPiece, TwoLabels);
        string inner = Path.Combine(Directory.CreateDirectory(Path.Combine(_folder, "onnx")).FullName, "model.onnx");
        File.Move(Graph, inner);
        using var scorer = new OnnxScorer("x", Options("toxic") with { File = inner });
        Assert.That(scorer.Of([s_texts[0].Text])[0], Is.EqualTo(Softmax(Mean(Tiny(2), s_texts[0].Ids))[1]).Within(1e-6));
    }

    [Test]
    public void The_files_above_belong_to_a_graph_in_a_folder_called_onnx_alone()
    {
        Write(Tiny(2), TinyTokenizer.WordPiece, TwoLabels);
        string inner = Path.Combine(Directory.CreateDirectory(Path.Combine(_folder, "classifier")).FullName, "model.onnx");
        File.Move(Graph, inner);
        Assert.That(
            () => new OnnxScorer("x", Options("toxic") with { File = inner }),
            Throws.TypeOf<TokenizerException>().With.Message.Contain(Path.Combine(_folder, "classifier")));
        string root = Path.GetPathRoot(_folder)!;
        Assert.That(
            () => new OnnxScorer("x", Options("toxic") with { File = root }),
            Throws.TypeOf<OnnxScorerException>().With.Message.StartWith($"{root}: this is a folder: "));
    }

    [Test]
    public void Another_graph_tokenizer_or_setting_is_another_identity()
    {
        var identities = new List<string>();
        Write(Tiny(2), TinyTokenizer.WordPiece, TwoLabels);
        Add(Options("toxic"));
        Add(Options("neutral"));
        Add(Options("toxic") with { Score = LabelScore.Share });
        Add(Options("toxic") with { Function = LogitFunction.Sigmoid });
        Add(Options("toxic") with { MaxTokens = 8 });
        File.WriteAllText(Path.Combine(_folder, "tokenizer.json"), TinyTokenizer.WordPiece.Replace("\"calm\"", "\"wild\"", StringComparison.Ordinal));
        Add(Options("toxic"));
        Write(Tiny(2) with { TypeZero = [0, 0] }, TinyTokenizer.WordPiece, TwoLabels);
        Add(Options("toxic"));
        var outside = Tiny(2) with { TableFile = "weights.bin" };
        Write(outside, TinyTokenizer.WordPiece, TwoLabels);
        byte[] graph = File.ReadAllBytes(Graph);
        Add(Options("toxic"));
        outside = outside with { Table = [.. outside.Table.Select(static row => Array.ConvertAll(row, static x => 2 * x))] };
        Write(outside, TinyTokenizer.WordPiece, TwoLabels);
        Assert.That(File.ReadAllBytes(Graph), Is.EqualTo(graph), "only its external data differs");
        Add(Options("toxic"));
        Assert.That(identities, Is.Unique);
        Write(Tiny(2), TinyTokenizer.WordPiece, TwoLabels);
        Add(Options("1") with { Batch = 3 });
        Assert.That(identities[^1], Is.EqualTo(identities[0]), "neither the label's name nor the batch nor another file beside it matters");

        void Add(OnnxScorerOptions options)
        {
            using var scorer = new OnnxScorer("x", options);
            identities.Add(scorer.Identity);
        }
    }

    [Test]
    public void A_file_that_is_no_graph_is_refused()
    {
        Write(Tiny(2), TinyTokenizer.WordPiece, TwoLabels);
        byte[] whole = File.ReadAllBytes(Graph);
        foreach (byte[] broken in new[] { [], whole[..(whole.Length / 2)], "<html>"u8.ToArray(), new byte[64] })
        {
            File.WriteAllBytes(Graph, broken);
            Refused("ONNX Runtime cannot load it: ", Options("toxic"));
        }

        File.Delete(Graph);
        Refused("ONNX Runtime cannot load it: ", Options("toxic"));
    }

    [Test]
    public void A_graph_that_is_no_text_classifiers_is_refused()
    {
        Check("the graph takes \"pixels\", Int64 (-1, -1); expected input_ids, ", Tiny(2) with { IdsName = "pixels" });
        Check("the graph takes \"input_ids\", Int32 (-1, -1); expected ", Tiny(2) with { IdsType = OnnxFile.Int32 });
        Check("the graph takes \"input_ids\", Int64 (-1, 128); expected ", Tiny(2) with { Length = 128 });
        Check("the graph takes no input_ids: ", Tiny(2) with { IdsName = "token_type_ids", HasMask = false });
        Check("the graph gives \"logits\", Float (-1, -1, 2); expected logits in Float, ", Tiny(2) with { Averages = false });
        Check("the graph gives \"logits\", ONNX_TYPE_SEQUENCE; expected logits in Float, ", Tiny(2) with { GivesSequence = true });
        Check(
            "the graph takes \"attention_mask\", ONNX_TYPE_SEQUENCE; expected input_ids, ",
            Tiny(2) with { HasMask = false, SequenceName = "attention_mask" });
        Check("the graph gives \"probabilities\", \"count\", and none of them is called logits", Tiny(2) with
        {
            OutputName = "probabilities",
            GivesCount = true,
        });
        Write(Tiny(2) with { OutputName = "probabilities" }, TinyTokenizer.WordPiece);
        using var only = new OnnxScorer("x", Options("1"));
        Assert.That(only.Of([s_texts[0].Text])[0], Is.EqualTo(Softmax(Mean(Tiny(2), s_texts[0].Ids))[1]).Within(1e-6), "the only output");

        void Check(string problem, OnnxFile graph)
        {
            Write(graph, TinyTokenizer.WordPiece);
            Refused(problem, Options("1"));
        }
    }

    [Test]
    public void What_does_not_fit_the_graph_is_refused()
    {
        Write(Tiny(2), TinyTokenizer.WordPiece, TwoLabels);
        Refused("the classifier has no label \"Toxic\"; expected one of \"neutral\", \"toxic\", or 0 to 1.", Options("Toxic"));
        Refused("the classifier has no label \"2\"; ", Options("2"));
        Refused("a text may have 2 tokens, of which 2 are special: ", Options("1") with { MaxTokens = 2 });
        Refused(
            "the classifier gives a number, not probabilities, ", Options("1") with { Function = LogitFunction.None, Score = LabelScore.Share });
        Assert.Throws<ArgumentOutOfRangeException>(() => new OnnxScorer("x", Options("1") with { Batch = 0 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => new OnnxScorer("x", Options("1") with { MaxTokens = 0 }));

        Write(Tiny(2), TinyTokenizer.WordPiece, """{"id2label": {"0": "a", "1": "b", "2": "c"}}""");
        Refused("the graph has 2 labels, and config.json names 3", Options("a"));
        File.WriteAllText(Path.Combine(_folder, "config.json"), """{"problem_type": "translation"}""");
        Assert.That(() => new OnnxScorer("x", Options("1")), Throws.TypeOf<ConfigException>().With.Message.Contain("problem_type"));
        File.Delete(Path.Combine(_folder, "tokenizer.json"));
        Assert.That(() => new OnnxScorer("x", Options("1")), Throws.TypeOf<TokenizerException>().With.Message.Contain("tokenizer.json"));
    }

    [Test]
    public void A_graph_that_fails_on_a_text_says_so()
    {
        float[][] table = Table(TinyTokenizer.WordPieceSize, 2);
        table[10][0] = float.NaN; // fool
        Write(new OnnxFile { Table = table }, TinyTokenizer.WordPiece);
        using (var scorer = new OnnxScorer("x", Options("1")))
        {
            Assert.That(() => scorer.Of(["you fool"]), Throws.TypeOf<OnnxScorerException>().With.Message.Contain("a logit is not finite"));
            Assert.That(scorer.Of(["you"])[0], Is.InRange(0, 1), "it serves on");
        }

        Write(new OnnxFile { Table = table[..8] }, TinyTokenizer.WordPiece); // a vocabulary of another model
        using var small = new OnnxScorer("x", Options("1"));
        Assert.That(
            () => small.Of(["you fool"]),
            Throws.TypeOf<OnnxScorerException>().With.Message.Contain("ONNX Runtime cannot run the graph on 1 texts of at most 4 tokens"));
    }

    [Test]
    public void It_is_cancelled_between_batches()
    {
        Write(Tiny(2), TinyTokenizer.WordPiece);
        using var scorer = new OnnxScorer("x", Options("1"));
        using var stop = new CancellationTokenSource();
        stop.Cancel();
        Assert.Throws<OperationCanceledException>(() => scorer.Of(["the sea"], stop.Token));
    }

    [Test]
    public async Task A_task_names_it_and_its_score_is_the_mean_with_an_error()
    {
        Write(Tiny(2), TinyTokenizer.WordPiece, TwoLabels);
        WriteTask("{file: model.onnx, label: toxic, score: mean, function: sigmoid, max_tokens: 16, batch: 2}");
        var task = EvaluationTask.Read(_folder, new TaskOptions { Kinds = [OnnxScorer.Kind] });
        using var model = LanguageModel.Load(Repository.Path("models", "demo"));
        var report = await Evaluator.RunAsync(model, task);
        using var scorer = new OnnxScorer("toxicity", Options("toxic") with { Function = LogitFunction.Sigmoid, MaxTokens = 16, Batch = 2 });
        double[] told = [.. scorer.Of([.. report.Texts.Select(static x => x.Text)])];
        Assert.That(task.Scorers[0].Identity, Is.EqualTo(scorer.Identity));
        Assert.That((report.Scores[0].Name, report.Scores[0].Count), Is.EqualTo(("toxicity", 3)));
        Assert.That(report.Scores[0].Value, Is.EqualTo(told.Average()).Within(1e-12));
        double spread = told.Sum(x => Math.Pow(x - told.Average(), 2));
        Assert.That(report.Scores[0].Error, Is.EqualTo(Math.Sqrt(spread / (3 * 2))).Within(1e-12), "of a mean the jackknife gives s/√n");

        // The prompt is not classified.
        var text = new EvaluatedText("You fool!", [], [], "The sea is calm", StopReason.MaxTokens);
        var score = scorer.Measure(new EvaluatedTexts(model, null, SteeredTokens.Last, [text]), CancellationToken.None);
        Assert.That(score.Value, Is.EqualTo(scorer.Of(["The sea is calm"])[0]));
    }

    [TestCase("{file: none.onnx, label: toxic}", "scorers[0].onnx names a classifier that cannot be used: ")]
    [TestCase("{file: model.onnx, label: rude}", "the classifier has no label \"rude\"; expected one of \"neutral\", \"toxic\"")]
    [TestCase("{file: model.onnx}", "scorers[0].onnx lacks the key 'label'")]
    [TestCase("{label: toxic}", "scorers[0].onnx lacks the key 'file'")]
    [TestCase("{file: model.onnx, label: toxic, score: median}", "scorers[0].onnx.score must be mean or share.")]
    [TestCase("{file: model.onnx, label: toxic, function: relu}", "scorers[0].onnx.function must be softmax, sigmoid or none.")]
    [TestCase("{file: model.onnx, label: toxic, max_tokens: 0}", "scorers[0].onnx.max_tokens must be a number from 1 to ")]
    [TestCase("{file: model.onnx, label: toxic, batch: 5000}", "scorers[0].onnx.batch must be a number from 1 to 4096.")]
    [TestCase("{file: model.onnx, label: toxic, device: gpu}", "scorers[0].onnx has the key 'device', which means nothing here")]
    [TestCase("", "scorers[0].onnx must be a mapping of keys to values.")]
    public void A_task_that_names_it_wrongly_is_refused(string settings, string problem)
    {
        Write(Tiny(2), TinyTokenizer.WordPiece, TwoLabels);
        WriteTask(settings);
        Assert.That(
            () => EvaluationTask.Read(_folder, new TaskOptions { Kinds = [OnnxScorer.Kind] }),
            Throws.TypeOf<TaskFileException>().With.Message.Contain(problem));
    }

    [Test]
    public void The_papers_toxicity_is_scored_by_its_classifier_where_the_user_has_it()
    {
        string data = PublishedSamples.Write(Path.Combine(_folder, "data"));
        var plain = EvaluationTask.Read(Repository.Path("tasks", "toxicity"), new TaskOptions { Data = data });
        string folder = Directory.CreateDirectory(Path.Combine(data, "roberta_toxicity_classifier")).FullName;
        new OnnxFile { Table = Table(TinyTokenizer.BpeSize, 2) }.Write(Path.Combine(folder, "model.onnx"));
        File.WriteAllText(Path.Combine(folder, "tokenizer.json"), TinyTokenizer.Bpe);
        var task = EvaluationTask.Read(Repository.Path("tasks", "toxicity-roberta"), new TaskOptions { Data = data, Kinds = [OnnxScorer.Kind] });
        Assert.That(task.Scorers[0], Is.InstanceOf<OnnxScorer>());
        Assert.That(task.Scorers.Skip(1).Select(static x => x.Identity), Is.EqualTo(plain.Scorers.Skip(1).Select(static x => x.Identity)));
        foreach (string split in new[] { "dev", "test" })
        {
            Assert.That(Of(task.PromptsOf(split)), Is.EqualTo(Of(plain.PromptsOf(split))), "all else is as in tasks/toxicity");
        }

        Assert.That(Of(task.Contrast!.Positive), Is.EqualTo(Of(plain.Contrast!.Positive)));
        Assert.That(Of(task.Contrast.Negative), Is.EqualTo(Of(plain.Contrast.Negative)));
        Assert.That(Of(task.Fit!.Calibration!), Is.EqualTo(Of(plain.Fit!.Calibration!)));
        Assert.That((task.Fit.Weights, task.Generation.MaxNewTokens), Is.EqualTo((plain.Fit.Weights, plain.Generation.MaxNewTokens)));
        Assert.That(task.Fit.Strengths, Is.EqualTo(plain.Fit.Strengths));
        Assert.That(task.Generation.Sampling, Is.EqualTo(plain.Generation.Sampling));

        static IEnumerable<string> Of(IEnumerable<Prompt> prompts) => prompts.Select(static x => x.Identity);
    }

    private static OnnxFile Tiny(int labels) => new() { Table = Table(TinyTokenizer.WordPieceSize, labels) };

    // Numbers of both signs, no two rows alike.
    private static float[][] Table(int rows, int labels) =>
        [.. Enumerable.Range(0, rows).Select(i => Enumerable.Range(0, labels).Select(j => ((((i + 3) * (j + 2) * 7) % 23) - 11) * 0.25f).ToArray())];

    private static float[] Mean(OnnxFile graph, int[] ids) =>
        [.. Enumerable.Range(0, graph.Table[0].Length).Select(j => ids.Average(id => graph.Table[id][j]) + (graph.TypeZero?[j] ?? 0))];

    private static double[] Softmax(float[] logits) => [.. logits.Select(z => Math.Exp(z) / logits.Sum(static x => Math.Exp(x)))];

    private OnnxScorerOptions Options(string label) => new() { File = Graph, Label = label };

    private void Write(OnnxFile graph, string tokenizer, string? config = null)
    {
        graph.Write(Graph);
        File.WriteAllText(Path.Combine(_folder, "tokenizer.json"), tokenizer);
        string path = Path.Combine(_folder, "config.json");
        File.Delete(path);
        if (config is not null)
        {
            File.WriteAllText(path, config);
        }
    }

    private void WriteTask(string settings)
    {
        File.WriteAllLines(Path.Combine(_folder, "prompts.txt"), ["Once upon a time", "A guest wrote.", "One day"]);
        File.WriteAllText(
            Path.Combine(_folder, "task.yaml"),
            $"name: tiny\nprompts: prompts.txt\ngeneration: {{max_tokens: 6}}\nscorers:\n  - as: toxicity\n    onnx: {settings}\n");
    }

    private void Refused(string problem, OnnxScorerOptions options) => Assert.That(
        () => new OnnxScorer("x", options),
        Throws.TypeOf<OnnxScorerException>().With.Message.StartWith($"{Graph}: {problem}")
            .And.Property(nameof(OnnxScorerException.Path)).EqualTo(Graph));
}
