using System.Text.Json.Nodes;
using Tiller.Tokens;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>A vocabulary that lacks a byte: what the text loses is told once, or the text is refused.</summary>
public class LostTextTests
{
    private Scratch _scratch = null!;

    private string Model => _scratch["model"];

    // The demo model without a token for the tilde, which no merge needs.
    [OneTimeSetUp]
    public void TakeTheTildeOut()
    {
        _scratch = new Scratch();
        Directory.CreateDirectory(Model);
        foreach (string file in Directory.GetFiles(ToolRun.Model))
        {
            File.Copy(file, Path.Combine(Model, Path.GetFileName(file)));
        }

        string path = Path.Combine(Model, "tokenizer.json");
        JsonNode json = JsonNode.Parse(File.ReadAllText(path))!;
        Assert.That(json["model"]!["vocab"]!.AsObject().Remove("~"));
        File.WriteAllText(path, json.ToJsonString());
    }

    [OneTimeTearDown]
    public void Clean() => _scratch.Dispose();

    [Test]
    public async Task What_a_prompt_loses_is_told_and_the_rest_goes_on()
    {
        var lossy = await ToolRun.Of("generate", "--model", Model, "--max-tokens", "4", "Once~ upon~ a time");
        var plain = await ToolRun.Of("generate", "--model", Model, "--max-tokens", "4", "Once upon a time");
        Assert.That((lossy.Code, lossy.Output), Is.EqualTo((0, plain.Output)), lossy.Error);
        Assert.That(lossy.Error, Does.Contain("left out").And.Contain("~~").And.Contain("--strict"));
        Assert.That(plain.Error, Does.Not.Contain("left out"));
    }

    [Test]
    public async Task It_is_told_once_for_all_prompts_of_a_fit()
    {
        string[] positive = ["The sea~ is", "The gull~ is", "A wave~ is"];
        string[] negative = ["The dog~ is", "The cow~ is", "A barn~ is"];
        await File.WriteAllLinesAsync(_scratch["positive.txt"], positive);
        await File.WriteAllLinesAsync(_scratch["negative.txt"], negative);
        string[] fit = ["fit", "--model", Model, "--positive", _scratch["positive.txt"], "--negative", _scratch["negative.txt"], "--out",
            _scratch["sea.tiller"], "--cost", "feature"];
        var run = await ToolRun.Of(fit);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Error.Split("left out, as the published tokenizer does"), Has.Length.EqualTo(2));

        var strict = await ToolRun.Of([.. fit, "--strict"]);
        Assert.That(strict.Code, Is.Not.Zero);
        Assert.That(strict.Error, Does.Contain("~").And.Contain("--strict").And.Not.Contain("LoadOptions"));
    }

    [Test]
    public async Task A_strict_run_refuses_such_a_prompt_and_takes_any_other()
    {
        var refused = await ToolRun.Of("generate", "--strict", "--model", Model, "--max-tokens", "4", "Once~ upon");
        var taken = await ToolRun.Of("generate", "--strict", "--model", Model, "--max-tokens", "4", "Once upon");
        Assert.That((refused.Code, refused.Output), Is.EqualTo((ExitCode.BadInput, "")), refused.Error);
        Assert.That(refused.Error, Does.Contain($"[{TokenizerError.MissingByte}]").And.Contain("--strict"));
        Assert.That(taken.Code, Is.Zero, taken.Error);
    }
}
