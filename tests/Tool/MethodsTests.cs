using Tiller.Controllers;
using Tiller.Features;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary><c>tiller methods</c>, and what <c>tiller fit</c> makes of a method's name and numbers.</summary>
public sealed class MethodsTests
{
    [Test]
    public async Task Every_method_and_direction_is_listed_with_what_it_needs_and_costs()
    {
        var text = await ToolRun.Of("methods");
        var json = (await ToolRun.Of("methods", "--json")).Json;
        Assert.That(text.Code, Is.Zero);
        var listed = json.GetProperty("methods").EnumerateArray().ToDictionary(m => m.GetProperty("name").GetString()!);
        Assert.That(listed.Keys, Is.EqualTo(FitMethod.All.Select(m => m.Name)));
        Assert.That(json.GetProperty("directions").EnumerateArray().Select(d => d.GetProperty("name").GetString()),
            Is.EqualTo(DirectionRule.All.Select(d => d.Name)));
        foreach (var method in FitMethod.All)
        {
            string[] told = [method.Name, method.Summary, method.Source, method.Lambda, method.PerBlock];
            Assert.That(told, Has.All.Matches<string>(t => text.Output.Contains(t!, StringComparison.Ordinal)));
            Assert.That(listed[method.Name].GetProperty("numbers").EnumerateObject().Select(p => p.Name),
                Is.EqualTo(method.Parameters.Select(p => p.Name)));
            Assert.That(listed[method.Name].GetProperty("needs").GetArrayLength(), Is.Positive);
        }
    }

    [Test]
    public async Task A_method_is_fitted_by_its_name_with_its_numbers()
    {
        using var scratch = new Scratch();
        var run = await ToolRun.Of([.. Fit(scratch), "--method", "clamp", "--low", "-0.5", "--layers", "2-4", "--direction", "pca"]);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Output, Does.Contain("clamp, blocks 2-4").And.Contain("direction pca, low -0.5").And.Not.Contain("residual"));
        var controller = Controller.Load(scratch["c.tiller"]);
        var clamp = (Clamp)controller.Method;
        Assert.That((clamp.Low, clamp.High, clamp.Layers.ToString()), Is.EqualTo((-0.5, (double?)null, "2-4")));
        var told = await ToolRun.Of("inspect", scratch["c.tiller"]);
        Assert.That(told.Output, Does.Contain("clamp, direction pca, low -0.5"));
        var json = await ToolRun.Of([.. Fit(scratch), "--method", "angular", "--alternative", scratch.Few("tone.positive", 3), "--cost", "feature",
            "--json"]);
        Assert.That(json.Code, Is.Zero, json.Error);
        Assert.That(json.Json.GetProperty("settings").GetProperty("method").GetString(), Is.EqualTo("angular"));
        Assert.That(json.Json.TryGetProperty("setpoint", out _), Is.False);
        Assert.That(json.Json.GetProperty("residual").GetDouble(), Is.LessThan(1e-9));
        var followed = await ToolRun.Of([.. Fit(scratch), "--method", "trajectory", "--nominal", "Once upon a time", "--cost", "feature"]);
        Assert.That(followed.Code, Is.Zero, followed.Error);
        Assert.That(Controller.Load(scratch["c.tiller"]).Method, Is.InstanceOf<Trajectory>());
    }

    [Test]
    public async Task A_certificate_is_told_kept_and_shown()
    {
        using var scratch = new Scratch();
        await File.WriteAllLinesAsync(scratch["held.txt"], File.ReadLines(ToolRun.Contrast("topic.positive")).Skip(3).Take(4));
        string[] fit = [.. Fit(scratch), "--cost", "feature", "--certify", scratch["held.txt"]];
        var text = await ToolRun.Of(fit);
        Assert.That(text.Code, Is.Zero, text.Error);
        Assert.That(text.Output, Does.Match(@"certificate [0-4] of 4 held-out prompts inside the bound, which is [0-9.E+]+ times the error"));
        var kept = Controller.Load(scratch["c.tiller"]).Source.Certificate!;
        Assert.That((kept.HeldOut.Count, kept.Contraction.Count, kept.First), Is.EqualTo((4, 10, 0)));
        Assert.That(kept.Contraction, Has.All.InRange(0, 1).And.All.LessThan(1));
        var shown = await ToolRun.Of("inspect", scratch["c.tiller"]);
        var json = (await ToolRun.Of("inspect", scratch["c.tiller"], "--json")).Json.GetProperty("certificate");
        Assert.That(shown.Output, Does.Contain($"{kept.Inside} of 4 held-out").And.Contain("# error, + up to the bound"));
        Assert.That(
            json.GetProperty("bound").EnumerateArray().Select(run => run.EnumerateArray().Select(x => x.GetDouble())), Is.EqualTo(kept.Bound));
        Assert.That(json.GetProperty("inside").GetInt32(), Is.EqualTo(kept.Inside));
        var refused = await ToolRun.Of([.. Fit(scratch), "--method", "clamp", "--certify", scratch["held.txt"]]);
        Assert.That((refused.Code, refused.Error), Is.EqualTo((ExitCode.Usage, refused.Error)));
        Assert.That(refused.Error, Does.Contain("--method clamp does not use --certify"));
    }

    [Test]
    public async Task A_certificate_is_plotted_by_fit_and_by_inspect_without_outside_resources()
    {
        using var scratch = new Scratch();
        await File.WriteAllLinesAsync(scratch["held.txt"], File.ReadLines(ToolRun.Contrast("topic.positive")).Skip(3).Take(4));
        string[] fit = [.. Fit(scratch), "--cost", "feature", "--certify", scratch["held.txt"]];
        var made = await ToolRun.Of([.. fit, "--page", scratch["fit.html"]]);
        Assert.That(made.Code, Is.Zero, made.Error);
        var shown = await ToolRun.Of("inspect", scratch["c.tiller"], "--page", scratch["inspect.html"]);
        var piped = await ToolRun.Of("inspect", scratch["c.tiller"], "--page", "-");
        string page = await File.ReadAllTextAsync(scratch["fit.html"]);
        var certificate = Controller.Load(scratch["c.tiller"]).Source.Certificate!;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(await File.ReadAllTextAsync(scratch["inspect.html"]), Is.EqualTo(page), "one page of one certificate");
            Assert.That(piped.Data, Is.EqualTo(ToolRun.Bytes(page)));
            Assert.That(piped.Error, Does.Contain("held-out prompts inside the bound"), "what else is said");
            Assert.That(shown.Output, Does.Contain("held-out prompts inside the bound"));
            Assert.That(page.Split("<svg ").Length - 1, Is.EqualTo(4), "shares, looseness, errors and bounds, contractions");
            Assert.That(page, Does.Contain($"{certificate.Inside} of 4 held-out prompts inside the bound").And.Contain("<h2>c.tiller</h2>"));
            string[] lines = ["inside", "median", "error, mean", "error, largest", "bound, mean", "bound, largest", "contraction", "propagation"];
            Assert.That(lines, Has.All.Matches<string>(line => page.Contains($">{line}</text>", StringComparison.Ordinal)), "each has a legend");
            Assert.That(page.Replace("http://www.w3.org/", "", StringComparison.Ordinal),
                Does.Not.Contain("<script").And.Not.Contain("href=").And.Not.Contain("src=").And.Not.Contain("://"), "no outside resources");
        }

        var several = await ToolRun.Of(
            [.. fit.Select(x => x == scratch["c.tiller"] ? scratch["c-{q}.tiller"] : x), "--q", "0.1", "1", "--page", scratch["fit.html"]]);
        Assert.That(several.Code, Is.Zero, several.Error);
        page = await File.ReadAllTextAsync(scratch["fit.html"]);
        Assert.That(page, Does.Contain("<h2>c-0.1.tiller</h2>").And.Contain("<h2>c-1.tiller</h2>").And.Contain("q 1, r 1, q_f 1"));
        Assert.That(page.Split("<svg ").Length - 1, Is.EqualTo(8));
    }

    [Test]
    public async Task A_page_without_a_certificate_or_in_another_files_place_is_refused()
    {
        using var scratch = new Scratch();
        string[] fit = [.. Fit(scratch), "--cost", "feature"];
        Assert.That((await ToolRun.Of(fit)).Code, Is.Zero);
        File.Copy(ToolRun.Contrast("topic.positive"), scratch["held.txt"]);
        byte[] before = await File.ReadAllBytesAsync(scratch["c.tiller"]);
        string[] certified = [.. fit, "--certify", scratch["held.txt"], "--page"];
        foreach (var (args, told) in new (string[] Args, string Told)[]
        {
            ([.. fit, "--page", scratch["p.html"]], "--page plots the certificate that --certify FILE measures"),
            ([.. certified, scratch["p.html"], "--plan"], "leave --page out"),
            ([.. certified, scratch["c.tiller"]], "--page and --out name the same place"),
            ([.. certified, "-", "--json"], "--page - and --json would both write to standard output"),
            (["inspect", scratch["c.tiller"], "--page", scratch["p.html"]], "has no certificate to plot: fit it with --certify FILE"),
            (["inspect", ToolRun.Model, "--page", scratch["p.html"]], "name a controller file"),
        })
        {
            var run = await ToolRun.Of(args);
            Assert.That(run.Code, Is.EqualTo(ExitCode.Usage), told);
            Assert.That(run.Error + run.Output, Does.Contain(told));
        }

        Assert.That(File.Exists(scratch["p.html"]), Is.False);
        Assert.That(await File.ReadAllBytesAsync(scratch["c.tiller"]), Is.EqualTo(before));
    }

    [TestCase("--method none", "--method must be one of a-lqr, angular")]
    [TestCase("--direction none", "--direction must be one of mean, pca")]
    [TestCase("--method clamp --low 2 --high 1", "--low must be at most --high, the ends of an interval, got 2 and 1")]
    [TestCase("--method clamp --q 1", "--method clamp does not use --q")]
    [TestCase("--method clamp --cost feature", "--method clamp does not use --cost")]
    [TestCase("--method clamp --calibration x", "--method clamp does not use --calibration")]
    [TestCase("--method s-pid --layers 1-2", "--method s-pid does not use --layers")]
    [TestCase("--method clamp --kp 1", "--kp is not a parameter of --method clamp, which has --low, --high")]
    [TestCase("--low 1", "--low is not a parameter of --method a-lqr, which has none")]
    [TestCase("--method angular", "--method angular needs --alternative")]
    [TestCase("--method trajectory", "--method trajectory needs --nominal")]
    [TestCase("--nominal x", "--method a-lqr does not use --nominal")]
    [TestCase("--method s-pid --kp 1e99", "--kp must be a number that fits in float32")]
    public async Task What_does_not_go_together_is_refused_before_anything_runs(string options, string told)
    {
        using var scratch = new Scratch();
        var run = await ToolRun.Of([.. Fit(scratch), .. options.Split(' ')]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Usage));
        Assert.That(run.Error, Does.Contain(told));
        Assert.That(File.Exists(scratch["c.tiller"]), Is.False);
    }

    private static string[] Fit(Scratch scratch) =>
        ["fit", "--model", ToolRun.Model, "--positive", scratch.Few("topic.positive", 3), "--negative", scratch.Few("topic.negative", 3), "--out",
            scratch["c.tiller"]];
}
