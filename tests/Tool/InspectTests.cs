using Tiller.Tests.Model;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

public class InspectTests
{
    [Test]
    public async Task A_checkpoint_is_told_without_its_weights()
    {
        var run = await ToolRun.Of("inspect", ToolRun.Model);
        string[] told = ["llama", "L 10 layers, D 128 wide", "1024 tokens", "1,976,960 parameters, 4.0 MB in 1 file", "tied", "none: ",
            "model.layers.*.mlp.up_proj.weight", "(352, 128)", "BF16"];
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(told, Has.All.Matches<string>(t => run.Output.Contains(t!, StringComparison.Ordinal)), run.Output);
    }

    // docs/hostile-inputs.md §2, row 56.
    [Test]
    public async Task Check_counts_what_is_not_finite_in_each_tensor()
    {
        using var checkpoint = new EditableCheckpoint("qwen2-bf16");
        var clean = await ToolRun.Of("inspect", "--check", checkpoint.Save());
        Assert.That(clean.Code, Is.Zero);
        Assert.That(clean.Output, Does.Match("\nvalues +all [0-9,]+ are finite\n"));

        const string Name = "model.layers.1.self_attn.q_proj.bias";
        var tensor = checkpoint.Tensors[Name];
        byte[] data = tensor.Data.ToArray();
        (data[0], data[1], data[6], data[7]) = (0x80, 0x7F, 0x81, 0xFF);
        checkpoint.Tensors[Name] = tensor with { Data = data };
        string folder = checkpoint.Save();
        var text = await ToolRun.Of("inspect", folder, "--check");
        var json = await ToolRun.Of("inspect", folder, "--check", "--json");
        var unread = await ToolRun.Of("inspect", folder, "--json");
        using (Assert.EnterMultipleScope())
        {
            Assert.That((text.Code, json.Code, unread.Code), Is.EqualTo((ExitCode.BadInput, ExitCode.BadInput, 0)));
            Assert.That(text.Output, Does.Match($"\nvalues +2 of [0-9,]+ are NaN or infinite:\n +2 of {data.Length / 2} in {Name}\n"));
            foreach (var row in json.Json.GetProperty("tensors").EnumerateArray())
            {
                Assert.That(row.GetProperty("nonFinite").GetInt64(), Is.EqualTo(row.GetProperty("name").GetString() == Name ? 2 : 0));
            }

            Assert.That((await ToolRun.Of("inspect", "--check", Path.Combine(folder, "config.json"))).Code, Is.EqualTo(ExitCode.Usage));
            Assert.That(unread.Json.GetProperty("tensors")[0].TryGetProperty("nonFinite", out _), Is.False);
        }
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
            Assert.That(run.Json.GetProperty("tensors").EnumerateArray().Sum(t => t.GetProperty("sizeInBytes").GetInt64()),
                Is.EqualTo(run.Json.GetProperty("sizeInBytes").GetInt64()));
            Assert.That(run.Json.GetProperty("fingerprint").GetString(), Has.Length.EqualTo(64));
        }
    }

    [Test]
    public async Task A_controller_is_told_layer_by_layer()
    {
        using var scratch = new Scratch();
        var fit = await ToolRun.Of(
            "fit", "--model", ToolRun.Model, "--positive", scratch.Few("tone.positive"), "--negative", scratch.Few("tone.negative"), "--out",
            scratch["c.tiller"], "--cost", "feature");
        Assert.That(fit.Code, Is.Zero, fit.Error);
        var text = await ToolRun.Of("inspect", scratch["c.tiller"]);
        var json = await ToolRun.Of("inspect", "--json", scratch["c.tiller"]);
        Assert.That(text.Output,
            Does.Contain("a-lqr, cost feature (factored), blocks 0-9").And.Contain("6 positive").And.Contain("demo, L 10, D 128"));
        Assert.That(text.Output, Does.Match("form +raw text\n"));
        Assert.That(json.Json.GetProperty("form").GetString(), Is.EqualTo("raw"));
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
