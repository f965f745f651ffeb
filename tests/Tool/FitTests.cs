using Tiller.Control;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

public class FitTests
{
    [TestCase("state", null, null, "dense", 128)]
    [TestCase("feature", null, null, "factored", 10)]
    [TestCase("state", "4", null, "reduced, order 4", 4)]
    [TestCase("feature", "4", "2-7", "reduced, order 4", 4)]
    [TestCase("feature", null, "0-8", "factored", 9)]
    public async Task A_fit_writes_a_controller_and_tells_how_well(string cost, string? order, string? layers, string solve, int rank)
    {
        using var scratch = new Scratch();
        List<string> args = [.. Fit(scratch, 3), "--cost", cost, "--q", "0.03", .. order is null ? [] : new[] { "--order", order }, .. layers is null ? [] : new[] { "--layers", layers }];
        var run = await ToolRun.Of([.. args]);
        Assert.That(run.Code, Is.Zero, run.Error);
        string[] told = [solve, "3 positive, 3 negative; Jacobians averaged over 6", "q 0.03, r 1, q_f 1", "linearisation", "residual", $"rank {rank}", "closed loop", $"blocks {layers ?? "0-9"}"];
        Assert.That(told, Has.All.Matches<string>(t => run.Output.Contains(t!, StringComparison.Ordinal)), run.Output);
        var controller = Controller.Load(scratch["c.tiller"]);
        Assert.That((controller.Source.Cost, controller.Method.Layers.ToString()), Is.EqualTo((cost, layers ?? "0-9")));
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
            Assert.That(run.Json.GetProperty("closedLoopGain").GetDouble(), Is.LessThan(run.Json.GetProperty("openLoopGain").GetDouble()).And.Positive);
            Assert.That(run.Json.GetProperty("elapsedMs").GetProperty("activations").GetDouble(), Is.Positive);
        }
    }

    [Test]
    public async Task A_failed_fit_leaves_nothing()
    {
        using var scratch = new Scratch();
        await File.WriteAllTextAsync(scratch["empty.txt"], "\n\n");
        await File.WriteAllTextAsync(scratch["long.txt"], string.Concat(Enumerable.Repeat("Once upon a time. ", 400)));
        string[] good = Fit(scratch, 2);
        await ExpectError([.. good[..^4], "--negative", scratch["empty.txt"], "--out", scratch["c.tiller"]], ExitCode.BadInput, "at least one");
        await ExpectError([.. good[..^4], "--negative", scratch["none.txt"], "--out", scratch["c.tiller"]], ExitCode.BadInput, "none.txt");
        await ExpectError([.. good[..^4], "--negative", scratch["long.txt"], "--out", scratch["c.tiller"]], ExitCode.BadInput, "context of 1024");
        await ExpectError([.. good[..^2], "--out", scratch["no/folder/c.tiller"]], ExitCode.BadInput, "there is no folder");
        await ExpectError([.. good[..^2], "--out", scratch["."]], ExitCode.BadInput, "is a folder");
        await ExpectError([.. good, "--layers", "4-10"], ExitCode.Usage, "0-9");
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
        string[] args = ["fit", "--model", ToolRun.Model, "--positive", scratch.Few("topic.positive", 3), "--negative", scratch.Few("topic.negative", 3), "--plan"];
        int before = scratch.Files.Length;
        var run = await ToolRun.Of([.. args, "--order", "4"]);
        Assert.That(run.Code, Is.Zero, run.Error);
        string[] told = ["L 10, D 128", "weights as stored", "averaged over 6", "reduced, order 4", "GiB", "fits into", "linearisation", "seconds", "GFLOP/s float64"];
        Assert.That(told, Has.All.Matches<string>(t => run.Output.Contains(t!, StringComparison.Ordinal)), run.Output);
        Assert.That(scratch.Files, Has.Length.EqualTo(before));

        var json = await ToolRun.Of([.. args, "--json"]);
        Assert.That(json.Json.GetProperty("solve").GetString(), Is.EqualTo("dense"));
        Assert.That(json.Json.GetProperty("sizeInBytes").EnumerateObject().Sum(m => m.Value.GetInt64()), Is.EqualTo(json.Json.GetProperty("peakInBytes").GetInt64()));
        Assert.That(json.Json.GetProperty("stages").EnumerateArray().Select(s => s.GetProperty("seconds").GetDouble()), Is.All.Positive);
    }

    [Test]
    public async Task A_plan_needs_no_more_of_a_checkpoint_than_its_config()
    {
        using var scratch = new Scratch();
        string folder = Directory.CreateDirectory(scratch["shape"]).FullName;
        File.Copy(Path.Combine(ToolRun.Model, "config.json"), Path.Combine(folder, "config.json"));
        var run = await ToolRun.Of(["fit", "--model", folder, "--positive", scratch.Few("topic.positive", 3), "--negative", scratch.Few("topic.negative", 3), "--plan"]);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Output, Does.Contain("if stored as bf16").And.Contain("about"));
    }

    [Test]
    public async Task A_plan_of_a_named_shape_compares_the_ways_to_solve()
    {
        var run = await ToolRun.Of(["bench", "fit", "--plan", "--shape", "llama-3-8b", "--context", "32", "--json"]);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Json.EnumerateArray().Select(p => p.GetProperty("solve").GetString()), Is.EqualTo(new[] { "dense", "factored", "reduced, order 64" }));
        Assert.That(run.Json.EnumerateArray().Select(p => p.GetProperty("peakInBytes").GetInt64()), Is.All.LessThan(24L << 30).And.All.GreaterThan(16_000_000_000));
    }

    private static string[] Fit(Scratch scratch, int count) =>
        ["fit", "--model", ToolRun.Model, "--positive", scratch.Few("topic.positive", count), "--negative", scratch.Few("topic.negative", count), "--out", scratch["c.tiller"]];
}
