using System.Text;
using System.Text.Json;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>Many prompts of a file: the texts that each would get alone, in a file that an interrupted run leaves to the next one.</summary>
public class ManyPromptsTests
{
    private static readonly string[] s_prompts = ["Once upon a time", "The sea was", "A guest wrote.", "One day", "In the morning", "He said",
        "She had a cat.", "It was late"];
    private Scratch _scratch = null!;

    private string Prompts => _scratch["prompts.csv"];

    private string Sea => _scratch["sea.tiller"];

    [OneTimeSetUp]
    public async Task Prepare()
    {
        _scratch = new Scratch();
        await File.WriteAllTextAsync(Prompts, "id,prompt\r\n" + string.Join("\r\n", s_prompts.Select((x, i) => $"{i},\"{x}\"")));
        var fit = await ToolRun.Of(
            "fit", "--model", ToolRun.Model, "--positive", _scratch.Few("topic.positive", 8), "--negative", _scratch.Few("topic.negative", 8),
            "--out", Sea, "--cost", "feature");
        Assert.That(fit.Code, Is.Zero, fit.Error);
    }

    [OneTimeTearDown]
    public void Clean() => _scratch.Dispose();

    [TestCase("1")]
    [TestCase("3")]
    [TestCase("20")]
    public async Task Each_text_is_the_one_that_its_prompt_gets_alone(string batch)
    {
        string[] how = ["--model", ToolRun.Model, "--temperature", "0.8", "--max-tokens", "24", "--stop", "."];
        string file = _scratch[$"plain-{batch}.jsonl"];
        var run = await ToolRun.Of(["generate", .. how, "--seed", "5", "--prompts", Prompts, "--out", file, "--batch", batch]);
        Assert.That((run.Code, run.Output), Is.EqualTo((0, "")), run.Error);
        Assert.That(run.Error, Does.StartWith($"tiller: {s_prompts.Length} texts in {file}; "));
        JsonElement[] lines = Lines(file);
        Assert.That(lines.Select(x => x.GetProperty("prompt").GetString()), Is.EqualTo(s_prompts));
        for (int i = 0; i < s_prompts.Length; i++)
        {
            var alone = await ToolRun.Of(["generate", .. how, "--seed", $"{5 + i}", "--json", s_prompts[i]]);
            JsonElement plain = alone.Json.GetProperty("plain");
            Assert.That(lines[i].GetProperty("text").GetString(), Is.EqualTo(plain.GetProperty("text").GetString()), s_prompts[i]);
            Assert.That(lines[i].GetProperty("tokens").GetInt32(), Is.EqualTo(plain.GetProperty("ids").GetArrayLength()), s_prompts[i]);
            Assert.That(lines[i].GetProperty("stop").GetString(), Is.EqualTo(plain.GetProperty("stop").GetString()), s_prompts[i]);
            Assert.That(lines[i].GetProperty("seed").GetUInt64(), Is.EqualTo(plain.GetProperty("seed").GetUInt64()));
        }
    }

    [Test]
    public async Task Steered_texts_are_those_of_each_prompt_alone()
    {
        string[] how = ["steer", "--model", ToolRun.Model, "--controller", Sea, "--lambda", "1.5", "--max-tokens", "16"];
        var run = await ToolRun.Of([.. how, "--prompts", Prompts, "--out", _scratch["steered.jsonl"], "--json"]);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That((run.Json.GetProperty("texts").GetInt32(), run.Json.GetProperty("before").GetInt32()), Is.EqualTo((s_prompts.Length, 0)));
        JsonElement[] lines = Lines(_scratch["steered.jsonl"]);
        for (int i = 0; i < s_prompts.Length; i += 3)
        {
            var alone = await ToolRun.Of([.. how, "--json", s_prompts[i]]);
            Assert.That(lines[i].GetProperty("text").GetString(), Is.EqualTo(alone.Json.GetProperty("steered").GetProperty("text").GetString()));
        }
    }

    // Killed between any two bytes: after whole lines, and within the next one.
    [Test]
    public async Task A_file_that_a_run_left_anywhere_is_continued_to_the_same_bytes()
    {
        string[] command = ["generate", "--model", ToolRun.Model, "--temperature", "0.8", "--max-tokens", "8", "--prompts", Prompts, "--batch", "3",
            "--out", _scratch["whole.jsonl"]];
        Assert.That((await ToolRun.Of(command)).Code, Is.Zero);
        byte[] whole = await File.ReadAllBytesAsync(_scratch["whole.jsonl"]);
        int first = Array.IndexOf(whole, (byte)'\n') + 1;
        foreach (int length in (int[])[first, first + 1, (first + whole.Length) / 2, whole.Length - 1, whole.Length])
        {
            await File.WriteAllBytesAsync(_scratch["whole.jsonl"], whole[..length]);
            var run = await ToolRun.Of(command);
            Assert.That(run.Code, Is.Zero, run.Error);
            Assert.That(await File.ReadAllBytesAsync(_scratch["whole.jsonl"]), Is.EqualTo(whole), $"{length} of {whole.Length} bytes");
            Assert.That(run.Error, Does.Contain("of which were there"));
        }
    }

    [Test]
    public void A_line_torn_within_a_character_is_taken_away_and_nothing_else_is()
    {
        string file = _scratch["torn.jsonl"];
        byte[] whole = Encoding.UTF8.GetBytes("{\"index\":0,\"text\":\"é🚢\",\"run\":\"r\"}\n");
        byte[] next = Encoding.UTF8.GetBytes("{\"index\":1,\"text\":\"é🚢\",\"run\":\"r\"}");
        for (int length = 0; length <= next.Length; length++)
        {
            File.WriteAllBytes(file, [.. whole, .. next[..length]]);
            using (var lines = ContinuedLines.Open(file, "r", 2))
            {
                Assert.That(lines.Count, Is.EqualTo(1));
                Assert.That(() => ContinuedLines.Open(file, "r", 2), Throws.InstanceOf<IOException>(), "another run writes it");
            }

            Assert.That(File.ReadAllBytes(file), Is.EqualTo(whole), $"{length} bytes");
        }

        foreach (string other in new[] { "notes", "\ufeff{\"index\":0", "{\"index\":1," })
        {
            byte[] bytes = Encoding.UTF8.GetBytes(other);
            File.WriteAllBytes(file, bytes);
            Assert.That(() => ContinuedLines.Open(file, "r", 2), Throws.TypeOf<UsageException>(), other);
            Assert.That(File.ReadAllBytes(file), Is.EqualTo(bytes));
        }
    }

    [Test]
    public async Task A_numerical_failure_of_one_prompt_is_told_as_one()
    {
        var run = await ToolRun.Of(["steer", "--model", ToolRun.Model, "--controller", Sea, "--lambda", "1e30", "--prompts", Prompts, "--out",
            _scratch["infinite.jsonl"]]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Numerical), run.Error);
        Assert.That(run.Error, Does.Contain("Prompt "));
    }

    [Test]
    public async Task A_cancelled_run_leaves_whole_lines_and_the_next_one_goes_on()
    {
        string file = _scratch["cancelled.jsonl"];
        string[] command = ["generate", "--model", ToolRun.Model, "--max-tokens", "8", "--prompts", Prompts, "--batch", "2", "--out", file];
        using var cancellation = new CancellationTokenSource();
        var run = await ToolRun.Of(command, [], cancellation.Token, onStage: progress =>
        {
            if (progress is { Stage: "texts", Done: > 2 })
            {
                cancellation.Cancel();
            }
        });
        Assert.That(run.Code, Is.EqualTo(ExitCode.Cancelled), run.Error);
        int before = Lines(file).Length;
        Assert.That(before, Is.InRange(3, s_prompts.Length - 1));
        var rest = await ToolRun.Of([.. command, "--json"]);
        Assert.That(rest.Json.GetProperty("before").GetInt32(), Is.EqualTo(before));
        Assert.That(Lines(file), Has.Length.EqualTo(s_prompts.Length));
    }

    [TestCase("--max-tokens", "9")]
    [TestCase("--temperature", "0.5")]
    [TestCase("--stop", "x")]
    [TestCase("--prompts", "other")]
    public async Task A_file_of_another_run_is_refused_and_left_as_it_is(string option, string value)
    {
        string file = _scratch[$"refused{option}.jsonl"];
        await File.WriteAllLinesAsync(_scratch["other"], ["Another."]);
        string[] command = ["generate", "--model", ToolRun.Model, "--out", file];
        Assert.That((await ToolRun.Of([.. command, "--prompts", Prompts, "--max-tokens", "4"])).Code, Is.Zero);
        byte[] before = await File.ReadAllBytesAsync(file);
        string[] changed = option switch
        {
            "--prompts" => ["--prompts", _scratch[value], "--max-tokens", "4"],
            "--max-tokens" => ["--prompts", Prompts, option, value],
            _ => ["--prompts", Prompts, "--max-tokens", "4", option, value],
        };
        var run = await ToolRun.Of([.. command, .. changed]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Usage), run.Error);
        Assert.That(run.Error, Does.Contain("--out").And.Contain("line 1"));
        Assert.That(await File.ReadAllBytesAsync(file), Is.EqualTo(before));
    }

    [TestCase("Not JSON at all\n")]
    [TestCase("{\"index\":0,\"run\":7}\n")]
    [TestCase("[1]\n")]
    public async Task A_file_that_is_something_else_is_refused_and_left_as_it_is(string content)
    {
        string file = _scratch["else.jsonl"];
        await File.WriteAllTextAsync(file, content);
        var run = await ToolRun.Of("generate", "--model", ToolRun.Model, "--out", file, "--prompts", Prompts);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Usage), run.Error);
        Assert.That(await File.ReadAllTextAsync(file), Is.EqualTo(content));
    }

    [Test]
    public async Task Another_seed_is_refused_and_the_same_one_goes_on()
    {
        string file = _scratch["seed.jsonl"];
        string[] command = ["generate", "--model", ToolRun.Model, "--temperature", "1", "--max-tokens", "4", "--prompts", Prompts, "--out", file];
        Assert.That((await ToolRun.Of([.. command, "--seed", "7"])).Code, Is.Zero);
        Assert.That((await ToolRun.Of([.. command, "--seed", "7"])).Code, Is.Zero);
        var other = await ToolRun.Of([.. command, "--seed", "8"]);
        Assert.That(other.Code, Is.EqualTo(ExitCode.Usage));
        Assert.That(other.Error, Does.Contain("seed 7"));
    }

    [TestCase("--prompts needs --out", "--prompts", "p")]
    [TestCase("--prompts needs --out", "--prompts", "p", "--out", "-")]
    [TestCase("name it with --prompts", "--out", "o")]
    [TestCase("name it with --prompts", "--column", "1", "text")]
    [TestCase("leave the prompt", "--prompts", "p", "--out", "o", "text")]
    public async Task What_does_not_go_together_is_told_before_anything_runs(string says, params string[] arguments)
    {
        var run = await ToolRun.Of(["generate", "--model", "nowhere", .. arguments]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Usage), run.Error);
        Assert.That(run.Error, Does.Contain(says));
    }

    [Test]
    public async Task A_column_is_asked_for_in_the_command_lines_words()
    {
        string table = _scratch["claims.csv"];
        await File.WriteAllTextAsync(table, "id,claim\n1,It rains\n");
        string[] command = ["generate", "--model", ToolRun.Model, "--max-tokens", "2", "--prompts", table, "--out", _scratch["claims.jsonl"]];
        var asked = await ToolRun.Of(command);
        Assert.That(asked.Code, Is.EqualTo(ExitCode.BadInput));
        Assert.That(asked.Error, Does.Contain("--column").And.Contain("claim").And.Not.Contain("PromptSelection"));
        Assert.That((await ToolRun.Of([.. command, "--column", "claim"])).Code, Is.Zero);
    }

    [Test]
    public async Task A_fit_takes_pairs_or_two_fields_of_a_file()
    {
        string pairs = _scratch["pairs.json"], one = _scratch["one.tiller"], two = _scratch["two.tiller"];
        await File.WriteAllTextAsync(pairs, """[{"positive":"The sea is","negative":"The barn is"},{"positive":"A wave is","negative":"A """
            + """cow is"}]""");
        string[] fit = ["fit", "--model", ToolRun.Model, "--cost", "feature"];
        var first = await ToolRun.Of([.. fit, "--pairs", pairs, "--out", one]);
        var second = await ToolRun.Of([.. fit, "--positive", pairs, "--field", "positive", "--negative", pairs, "--field", "negative", "--out", two]);
        Assert.That((first.Code, second.Code), Is.EqualTo((0, 0)), first.Error + second.Error);
        Assert.That(await File.ReadAllBytesAsync(one), Is.EqualTo(await File.ReadAllBytesAsync(two)));
        var both = await ToolRun.Of([.. fit, "--pairs", pairs, "--positive", pairs, "--out", one]);
        Assert.That(both.Code, Is.EqualTo(ExitCode.Usage));
        Assert.That(both.Error, Does.Contain("--pairs has both sides"));
    }

    private static JsonElement[] Lines(string file) => [.. File.ReadAllLines(file).Select(static line =>
    {
        using var json = JsonDocument.Parse(line);
        return json.RootElement.Clone();
    })];
}
