using Tiller.Tool;

namespace Tiller.Tests.Tool;

public class InspectTests
{
    [Test]
    public async Task A_checkpoint_is_told_without_its_weights()
    {
        var run = await ToolRun.Of("inspect", ToolRun.Model);
        string[] told = ["llama", "L 10 layers, D 128 wide", "1024 tokens", "1,976,960 parameters, 4.0 MB in 1 file", "tied", "none: ", "model.layers.*.mlp.up_proj.weight", "(352, 128)", "BF16"];
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(told, Has.All.Matches<string>(t => run.Output.Contains(t!, StringComparison.Ordinal)), run.Output);
    }

    [TestCase("llama3-bf16", "llama", "llama-3")]
    [TestCase("llama2-f32", "llama", "llama-2")]
    [TestCase("qwen2-bf16", "qwen2", "chatml")]
    [TestCase("gemma2-bf16", "gemma2", "gemma")]
    public async Task Json_names_family_and_chat_format(string golden, string family, string chat)
    {
        var run = await ToolRun.Of("inspect", "--json", Repository.Path("tests", "goldens", golden, "checkpoint"));
        Assert.That(run.Code, Is.Zero, run.Error);
        using (Assert.EnterMultipleScope())
        {
            Assert.That((run.Json.GetProperty("family").GetString(), run.Json.GetProperty("chat").GetString()), Is.EqualTo((family, chat)));
            Assert.That(run.Json.GetProperty("tensors").EnumerateArray().Sum(t => t.GetProperty("sizeInBytes").GetInt64()), Is.EqualTo(run.Json.GetProperty("sizeInBytes").GetInt64()));
            Assert.That(run.Json.GetProperty("fingerprint").GetString(), Has.Length.EqualTo(64));
        }
    }

    // Hostile §2 row 56.
    [Test]
    public async Task Check_counts_what_is_not_finite()
    {
        using var checkpoint = new Model.EditableCheckpoint("llama2-f32");
        string path = checkpoint.Save();
        var sound = await ToolRun.Of("inspect", "--check", path);
        Assert.That((sound.Code, sound.Output.Contains("every weight is finite", StringComparison.Ordinal)), Is.EqualTo((ExitCode.Ok, true)), sound.Error);
        var norm = checkpoint.Tensors["model.norm.weight"];
        float[] values = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(norm.Data.Span).ToArray();
        (values[3], values[5], values[63]) = (float.NaN, float.NegativeInfinity, float.MaxValue);
        checkpoint.Tensors[norm.Name] = Tiller.Checkpoint.TensorData.FromFloat32(norm.Name, norm.Shape, values);
        checkpoint.Save();
        var run = await ToolRun.Of("inspect", "--check", path);
        Assert.That(run.Code, Is.EqualTo(ExitCode.BadInput));
        Assert.That(run.Output, Does.Contain("model.norm.weight: 2 numbers, the first at 3"));
        var json = await ToolRun.Of("inspect", "--check", "--json", path);
        Assert.That(json.Json.GetProperty("nonFinite").EnumerateObject().Select(p => (p.Name, p.Value.GetInt32())), Is.EqualTo(new[] { ("model.norm.weight", 2) }));
        Assert.That((await ToolRun.Of("inspect", "--check", Path.Combine(path, "config.json"))).Code, Is.EqualTo(ExitCode.Usage));
    }

    [Test]
    public async Task A_controller_is_told_layer_by_layer()
    {
        using var scratch = new Scratch();
        var fit = await ToolRun.Of(
            "fit", "--model", ToolRun.Model, "--positive", scratch.Few("tone.positive"), "--negative", scratch.Few("tone.negative"), "--out", scratch["c.tiller"], "--cost", "feature");
        Assert.That(fit.Code, Is.Zero, fit.Error);
        var text = await ToolRun.Of("inspect", scratch["c.tiller"]);
        var json = await ToolRun.Of("inspect", "--json", scratch["c.tiller"]);
        Assert.That(text.Output, Does.Contain("a-lqr, cost feature (factored), blocks 0-9").And.Contain("6 positive").And.Contain("demo, L 10, D 128"));
        var layers = json.Json.GetProperty("layers");
        Assert.That(layers.GetArrayLength(), Is.EqualTo(10));
        var last = layers[9];
        Assert.That(
            new[] { "mu", "w", "open" }.Select(name => last.GetProperty(name).GetDouble()), Has.All.Positive);
        Assert.That(Math.Abs(last.GetProperty("closed").GetDouble()), Is.LessThan(last.GetProperty("open").GetDouble()));
    }

    [Test]
    public async Task What_is_neither_is_bad_input()
    {
        using var scratch = new Scratch();
        await File.WriteAllTextAsync(scratch["text.txt"], "hello");
        foreach (string path in new[] { scratch["text.txt"], scratch["none"], scratch["."] })
        {
            var run = await ToolRun.Of("inspect", path);
            Assert.That((run.Code, run.Output), Is.EqualTo((ExitCode.BadInput, "")));
            Assert.That(run.Error, Does.StartWith("tiller: error: "));
        }
    }
}
