using Tiller.Chat;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Tests.Model;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

public class FitTests
{
    [TestCase("state", null, null, "dense", 128)]
    [TestCase("feature", null, null, "factored", 10)]
    [TestCase("state", "4", null, "reduced, order 4", 4)]
    [TestCase("feature", "4", "2-7", "reduced, order 4", 4)]
    [TestCase("feature", null, "0-8", "factored", 9)]
    [TestCase("feature", null, "1-3,8-9", "factored", 9)]
    [TestCase("state", "4", "1-3,8-9", "reduced, order 4", 4)]
    public async Task A_fit_writes_a_controller_and_tells_how_well(string cost, string? order, string? layers, string solve, int rank)
    {
        using var scratch = new Scratch();
        List<string> args =
        [
            .. Fit(scratch, 3), "--cost", cost, "--q", "0.03", .. order is null ? [] : new[] { "--order", order },
            .. layers is null ? [] : new[] { "--layers", layers },
        ];
        var run = await ToolRun.Of([.. args]);
        Assert.That(run.Code, Is.Zero, run.Error);
        string[] told = [solve, "3 positive, 3 negative; Jacobians averaged over 6", "q 0.03, r 1, q_f 1", "linearisation", "residual",
            $"rank {rank}", "closed loop", $"blocks {layers ?? "0-9"}"];
        Assert.That(told, Has.All.Matches<string>(t => run.Output.Contains(t!, StringComparison.Ordinal)), run.Output);
        var controller = Controller.Load(scratch["c.tiller"]);
        Assert.That((FitOutput.Name(controller.Source.Cost), controller.Method.Layers.ToString()), Is.EqualTo((cost, layers ?? "0-9")));
    }

    [Test]
    public async Task Json_tells_the_same_for_machines()
    {
        using var scratch = new Scratch();
        await File.WriteAllTextAsync(scratch["cal.txt"], "Once upon a time\nOne day\n");
        var run = await ToolRun.Of([.. Fit(scratch, 3), "--json", "--cost", "feature", "--setpoint", "affine", "--calibration", scratch["cal.txt"]]);
        Assert.That(run.Code, Is.Zero, run.Error);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Json.GetProperty("calibration").GetInt32(), Is.EqualTo(2));
            Assert.That(run.Json.GetProperty("setpoint").GetString(), Is.EqualTo("affine"));
            Assert.That(run.Json.GetProperty("residual").GetDouble(), Is.LessThan(1e-9));
            Assert.That(run.Json.GetProperty("closedLoopGain").GetDouble(),
                Is.LessThan(run.Json.GetProperty("openLoopGain").GetDouble()).And.Positive);
            Assert.That(run.Json.GetProperty("elapsedMs").GetProperty("activations").GetDouble(), Is.Positive);
        }
    }

    [Test]
    public async Task Jacobians_in_a_file_are_measured_once()
    {
        using var scratch = new Scratch();
        string[] fit = [.. Fit(scratch, 2), "--jacobians", scratch["jacobians"]];
        var first = await ToolRun.Of(fit);
        Assert.That(first.Code, Is.Zero, first.Error);
        byte[] controller = await File.ReadAllBytesAsync(scratch["c.tiller"]), kept = await File.ReadAllBytesAsync(scratch["jacobians"]);
        var second = await ToolRun.Of([.. fit, "--json"]);
        Assert.That(second.Code, Is.Zero, second.Error);
        Assert.That(await File.ReadAllBytesAsync(scratch["c.tiller"]), Is.EqualTo(controller));
        Assert.That(await File.ReadAllBytesAsync(scratch["jacobians"]), Is.EqualTo(kept));
        Assert.That((await ToolRun.Of(Fit(scratch, 2))).Code, Is.Zero);
        Assert.That(await File.ReadAllBytesAsync(scratch["c.tiller"]), Is.EqualTo(controller), "without the file");

        var other = await ToolRun.Of([.. Fit(scratch, 3), "--jacobians", scratch["jacobians"]]);
        Assert.That((other.Code, other.Output), Is.EqualTo((ExitCode.BadInput, "")));
        Assert.That(other.Error, Does.Contain("another calibration prompts").And.Contain("--calibration names none"));
        var same = await ToolRun.Of([.. Fit(scratch, 2), "--jacobians", scratch["c.tiller"]]);
        Assert.That((same.Code, same.Error.Contains("would replace a file", StringComparison.Ordinal)), Is.EqualTo((ExitCode.Usage, true)));
    }

    [Test]
    public async Task Several_weights_give_a_controller_for_each_combination()
    {
        using var scratch = new Scratch();
        string[] fit = Fit(scratch, 2), weights = ["--q", "0.03", "1", "--r", "2", "--r", "0.5", "--cost", "feature"];
        var run = await ToolRun.Of([.. fit[..^1], scratch["c-{q}-{r}.tiller"], .. weights, "--json"]);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Json.EnumerateArray().Select(fitted => (fitted.GetProperty("q").GetDouble(), fitted.GetProperty("r").GetDouble())),
            Is.EqualTo(new[] { (0.03, 2.0), (0.03, 0.5), (1.0, 2.0), (1.0, 0.5) }));
        Assert.That(scratch.Files.Where(f => f.EndsWith(".tiller", StringComparison.Ordinal)),
            Is.EquivalentTo(new[] { "c-0.03-2.tiller", "c-0.03-0.5.tiller", "c-1-2.tiller", "c-1-0.5.tiller" }));
        Assert.That(Controller.Load(scratch["c-1-0.5.tiller"]).Source.Weights, Is.EqualTo(new Tiller.Synthesis.LqrWeights(1, 0.5, 1)));

        var unnamed = await ToolRun.Of([.. fit, .. weights]);
        Assert.That((unnamed.Code, unnamed.Error.Contains("put {q} in the name", StringComparison.Ordinal)), Is.EqualTo((ExitCode.Usage, true)));
        var dense = await ToolRun.Of([.. fit[..^1], scratch["d-{q}.tiller"], "--q", "1", "2"]);
        Assert.That((dense.Code, dense.Error.Contains("--jacobians FILE", StringComparison.Ordinal)), Is.EqualTo((ExitCode.Usage, true)));
    }

    [Test]
    public async Task A_failed_fit_leaves_nothing()
    {
        using var scratch = new Scratch();
        await File.WriteAllTextAsync(scratch["empty.txt"], "\n\n");
        await File.WriteAllTextAsync(scratch["long.txt"], string.Concat(Enumerable.Repeat("Once upon a time. ", 400)));
        string[] good = Fit(scratch, 2);
        await File.WriteAllLinesAsync(scratch["alike.txt"], File.ReadLines(good[4]).Select(line => "One day " + line));
        await ExpectError([.. good[..^4], "--negative", scratch["empty.txt"], "--out", scratch["c.tiller"]], ExitCode.BadInput, "at least one");
        await ExpectError([.. good[..^4], "--negative", scratch["none.txt"], "--out", scratch["c.tiller"]], ExitCode.BadInput, "none.txt");
        await ExpectError([.. good[..^4], "--negative", scratch["long.txt"], "--out", scratch["c.tiller"]], ExitCode.BadInput, "context of 1024");
        const string Long = "Calibration prompt 1 (\"Once upon a time. Once upon a time. Once …\"): ";
        await ExpectError([.. good, "--calibration", scratch["long.txt"]], ExitCode.BadInput, Long);
        await ExpectError([.. good, "--plan", "--calibration", scratch["long.txt"]], ExitCode.BadInput, Long);
        await File.WriteAllTextAsync(scratch["table.txt"], "id,prompt\n1,One day\n");
        await File.WriteAllTextAsync(scratch["array.txt"], "[\"One day\"]");
        await File.WriteAllTextAsync(scratch["chats.json"], "[[{\"role\":\"user\",\"content\":\"One day\"}]]");
        await ExpectError([.. good, "--calibration", scratch["table.txt"]], ExitCode.BadInput, "looks like CSV");
        await ExpectError([.. good, "--calibration", scratch["array.txt"]], ExitCode.BadInput, "is a JSON array");
        await ExpectError([.. good, "--calibration", scratch["chats.json"]], ExitCode.BadInput, "chats.json: prompt 1 is a chat");
        await ExpectError([.. good, "--chat"], ExitCode.BadInput, "has no chat template");
        await ExpectError([.. good[..^2], "--out", scratch["no/folder/c.tiller"]], ExitCode.BadInput, "there is no folder");
        await ExpectError([.. good[..^2], "--out", scratch["."]], ExitCode.BadInput, "is a folder");
        await ExpectError([.. good, "--layers", "4-10"], ExitCode.Usage, "0-9");
        await ExpectError([.. good, "--layers", "1-3,8-10"], ExitCode.Usage, "0-9");
        await ExpectError([.. good, "--q", "0.3", "--qf", "0", "--layers", "3-3"], ExitCode.BadInput, "w = K v is 0");
        await ExpectError([.. good[..^4], "--negative", scratch["alike.txt"], "--out", scratch["c.tiller"], "--layers", "0-0"], ExitCode.BadInput,
            "every block of 0-0");
        await ExpectError([.. good, "--order", "129"], ExitCode.Usage, "128");
        await ExpectError(["fit", "--model", scratch["."], .. good[3..]], ExitCode.BadInput, "model.safetensors");
        await ExpectError([.. good[..^4], "--negative", good[4], "--out", scratch["c.tiller"]], ExitCode.BadInput, "give prompts that differ");
        Assert.That(scratch.Files, Has.None.Contain(".tiller"));

        async Task ExpectError(string[] args, int expected, string says)
        {
            var run = await ToolRun.Of(args);
            Assert.That(run.Code, Is.EqualTo(expected), run.Error);
            Assert.That(run.Error, Does.StartWith("tiller: error: ").And.Contain(says));
            Assert.That(run.Output, Is.Empty);
        }
    }

    [Test]
    public async Task A_chat_fit_is_read_where_the_answer_begins_and_says_so_in_its_file()
    {
        const string System = "Be brief.";
        using var scratch = new Scratch();
        string[] positive = ["The sea is wide.", "A gull cried."], negative = ["The dog slept.", "A car stood still."];
        await File.WriteAllLinesAsync(scratch["p.txt"], positive);
        await File.WriteAllTextAsync(
            scratch["n.json"], $$"""[{"prompt":"{{negative[0]}}"},{"messages":[{"role":"user","content":"{{negative[1]}}"}]}]""");
        string[] args = Chats(scratch, "p.txt", "n.json");
        var run = await ToolRun.Of([.. args, "--chat", "--system", System]);
        Assert.That(run.Code, Is.Zero, run.Error);
        var model = TestModels.Load("qwen2-bf16");
        var system = new ChatMessage("system", System);
        int[][] Ids(string[] texts) => [.. texts.Select(text => model.Chat.Encode([system, new ChatMessage("user", text)]))];
        var expected = (LinearQuadratic)ControllerFit.Run(model, new ContrastSet(Ids(positive), Ids(negative))).Controller.Method;
        var controller = Controller.Load(scratch["c.tiller"]);
        var told = await ToolRun.Of("inspect", scratch["c.tiller"]);
        var json = await ToolRun.Of("inspect", "--json", scratch["c.tiller"]);
        var plan = await ToolRun.Of([.. args, "--chat", "--system", System, "--plan", "--json"]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(((LinearQuadratic)controller.Method).W, Is.EqualTo(expected.W));
            Assert.That(controller.Source.Form, Is.EqualTo(new ChatForm { TemplateSha256 = model.Chat.TemplateSha256, System = System }));
            string form = $"chat, template {model.Chat.TemplateSha256[..12]}, system \"{System}\"";
            Assert.That(run.Output, Does.Match($"form +{form}\n"));
            Assert.That(told.Output, Does.Match($"form +{form}\n"));
            Assert.That(json.Json.GetProperty("form").GetString(), Is.EqualTo("chat"));
            Assert.That(json.Json.GetProperty("templateSha256").GetString(), Is.EqualTo(model.Chat.TemplateSha256));
            Assert.That(json.Json.GetProperty("system").GetString(), Is.EqualTo(System));
            Assert.That(plan.Json.GetProperty("tokens").GetInt64(), Is.EqualTo(Ids(positive).Concat(Ids(negative)).Sum(ids => ids.Length)));
        }
    }

    [Test]
    public async Task Chats_in_a_file_are_a_chat_fit_without_an_option_and_keep_their_system_message()
    {
        using var scratch = new Scratch();
        await File.WriteAllTextAsync(scratch["p.jsonl"], """{"messages":[{"role":"system","content":"A"},{"role":"user","content":"The sea."}]}""");
        await File.WriteAllTextAsync(scratch["n.jsonl"], """{"messages":[{"role":"user","content":"The dog."}]}""");
        string[] args = [.. Chats(scratch, "p.jsonl", "n.jsonl"), "--json", "--cost", "feature"];
        var run = await ToolRun.Of(args);
        var second = await ToolRun.Of([.. args, "--chat", "--system", "B"]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.Zero, run.Error);
            Assert.That((run.Json.GetProperty("form").GetString(), run.Json.GetProperty("systemVaries").GetBoolean()), Is.EqualTo(("chat", true)));
            Assert.That(second.Code, Is.EqualTo(ExitCode.BadInput));
            Assert.That(second.Error, Does.Contain("p.jsonl: prompt 1 is a chat with a system message of its own: leave --system out"));
        }
    }

    [TestCase("state", "dense")]
    [TestCase("feature", "factored")]
    public async Task A_long_fit_says_what_it_needs_before_it_starts(string cost, string solve)
    {
        using var scratch = new Scratch();
        await File.WriteAllLinesAsync(scratch["cal.txt"], Enumerable.Range(0, 10_000).Select(i => $"The gull was there {i} times."));
        using var stop = new CancellationTokenSource();
        string[] args = [.. Fit(scratch, 3), "--cost", cost, "--calibration", scratch["cal.txt"]];
        var run = await ToolRun.Of(args, [], stop.Token, onStage: progress =>
        {
            if (progress.Stage == "activations")
            {
                stop.Cancel();
            }
        });
        Assert.That(run.Code, Is.EqualTo(ExitCode.Cancelled));
        Assert.That(run.Error,
            Does.Match($"^tiller: this {solve} fit needs about \\d+\\.\\d GiB and [\\d,]+ (s|minutes) on [^\n]*\n.*tiller: error: cancelled"));
    }

    [TestCase("weights")]
    [TestCase("activations")]
    [TestCase("riccati")]
    public async Task A_cancelled_fit_leaves_the_old_controller(string stage)
    {
        using var scratch = new Scratch();
        await File.WriteAllTextAsync(scratch["c.tiller"], "old");
        using var stop = new CancellationTokenSource();
        string[] args = [.. Fit(scratch, 3)];
        int before = scratch.Files.Length;
        var run = await ToolRun.Of(args, [], stop.Token, onStage: progress =>
        {
            if (progress.Stage == stage)
            {
                stop.Cancel();
            }
        });
        Assert.That((run.Code, run.Error), Is.EqualTo((ExitCode.Cancelled, "tiller: error: cancelled.\n")));
        Assert.That(await File.ReadAllTextAsync(scratch["c.tiller"]), Is.EqualTo("old"));
        Assert.That(scratch.Files, Has.Length.EqualTo(before));
    }

    [Test]
    public async Task A_plan_tells_memory_and_time_and_writes_nothing()
    {
        using var scratch = new Scratch();
        string[] args = ["fit", "--model", ToolRun.Model, "--positive", scratch.Few("topic.positive", 3), "--negative",
            scratch.Few("topic.negative", 3), "--plan"];
        int before = scratch.Files.Length;
        var run = await ToolRun.Of([.. args, "--order", "4"]);
        Assert.That(run.Code, Is.Zero, run.Error);
        string[] told = ["L 10, D 128", "weights as stored", "averaged over 6", "reduced, order 4", "GiB", "fits into", "linearisation", "seconds",
            "GFLOP/s float64"];
        Assert.That(told, Has.All.Matches<string>(t => run.Output.Contains(t!, StringComparison.Ordinal)), run.Output);
        Assert.That(scratch.Files, Has.Length.EqualTo(before));

        var json = await ToolRun.Of([.. args, "--json"]);
        Assert.That(json.Json.GetProperty("solve").GetString(), Is.EqualTo("dense"));
        Assert.That(json.Json.GetProperty("sizeInBytes").EnumerateObject().Sum(m => m.Value.GetInt64()),
            Is.EqualTo(json.Json.GetProperty("peakInBytes").GetInt64()));
        Assert.That(json.Json.GetProperty("stages").EnumerateArray().Select(s => s.GetProperty("seconds").GetDouble()), Is.All.Positive);
    }

    [Test]
    public async Task A_plan_needs_no_more_of_a_checkpoint_than_its_config()
    {
        using var scratch = new Scratch();
        string folder = Directory.CreateDirectory(scratch["shape"]).FullName;
        File.Copy(Path.Combine(ToolRun.Model, "config.json"), Path.Combine(folder, "config.json"));
        var run = await ToolRun.Of(["fit", "--model", folder, "--positive", scratch.Few("topic.positive", 3), "--negative",
            scratch.Few("topic.negative", 3), "--plan"]);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Output, Does.Contain("if stored as bf16").And.Contain("about"));
    }

    [Test]
    public async Task A_plan_of_a_named_shape_compares_the_ways_to_solve()
    {
        var run = await ToolRun.Of(["bench", "fit", "--plan", "--shape", "llama-3-8b", "--context", "32", "--json"]);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Json.EnumerateArray().Select(p => p.GetProperty("solve").GetString()),
            Is.EqualTo(new[] { "dense", "factored", "reduced, order 64" }));
        Assert.That(run.Json.EnumerateArray().Select(p => p.GetProperty("peakInBytes").GetInt64()),
            Is.All.LessThan(24L << 30).And.All.GreaterThan(16_000_000_000));
    }

    private static string[] Chats(Scratch scratch, string positive, string negative) =>
    [
        "fit", "--model", TestModels.Folder("qwen2-bf16"), "--positive", scratch[positive], "--negative", scratch[negative], "--out",
        scratch["c.tiller"],
    ];

    private static string[] Fit(Scratch scratch, int count) =>
        ["fit", "--model", ToolRun.Model, "--positive", scratch.Few("topic.positive", count), "--negative", scratch.Few("topic.negative", count),
            "--out", scratch["c.tiller"]];
}
