using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary><c>tiller linearity</c>.</summary>
public sealed class LinearityTests
{
    [Test]
    public async Task It_tells_a_table_json_and_a_page()
    {
        using var scratch = new Scratch();
        string[] args = ["linearity", "--model", ToolRun.Model, "--prompts", scratch.Few("topic.positive", 3), "--prompts",
            scratch.Few("tone.positive", 2),
            "--count", "2"];
        var text = await ToolRun.Of([.. args, "--page", scratch["page.html"]]);
        Assert.That(text.Code, Is.Zero, text.Error);
        Assert.That(text.Output, Does.Contain("prompts     2 and 2").And.Contain("0.001").And.Contain("leading 6"));
        Assert.That(text.Output.Split('\n').Count(line => line.Length > 5 && int.TryParse(line[..5], out _)), Is.EqualTo(10));

        string page = await File.ReadAllTextAsync(scratch["page.html"]);
        Assert.That(page.Split("<svg ").Length - 1, Is.EqualTo(3), "a plot each of residuals, similarity and predictions");
        Assert.That(page, Does.Contain("Local linearity of demo").And.Contain("across lists").And.Contain("from the first block"));
        Assert.That(page, Does.Not.Contain("<script").And.Not.Contain(", steered"), "nothing was steered");

        var json = (await ToolRun.Of([.. args, "--json"])).Json;
        var layers = json.GetProperty("layers").EnumerateArray().ToList();
        Assert.That(layers, Has.Count.EqualTo(10));
        Assert.That(layers[3].GetProperty("residuals").GetArrayLength(), Is.EqualTo(4));
        Assert.That(layers[3].GetProperty("across").GetDouble(), Is.InRange(0, 1));
        Assert.That(layers[3].GetProperty("steeredOneStep").ValueKind, Is.EqualTo(System.Text.Json.JsonValueKind.Null));
    }

    [Test]
    public async Task A_controllers_states_are_predicted_too_and_lambda_alone_is_refused()
    {
        using var scratch = new Scratch();
        string prompts = scratch.Few("topic.positive", 3);
        var fit = await ToolRun.Of("fit", "--model", ToolRun.Model, "--positive", prompts, "--negative", scratch.Few("topic.negative", 3), "--out",
            scratch["c.tiller"], "--cost", "feature");
        Assert.That(fit.Code, Is.Zero, fit.Error);
        string[] args = ["linearity", "--model", ToolRun.Model, "--prompts", prompts, "--count", "1", "--json"];
        var json = (await ToolRun.Of([.. args, "--controller", scratch["c.tiller"], "--lambda", "0.5"])).Json;
        Assert.That(json.GetProperty("layers")[9].GetProperty("steeredHorizon").GetDouble(), Is.Positive);
        var refused = await ToolRun.Of([.. args, "--lambda", "0.5"]);
        Assert.That(refused.Code, Is.EqualTo(ExitCode.Usage));
        Assert.That(refused.Output + refused.Error, Does.Contain("--controller"));
    }
}
