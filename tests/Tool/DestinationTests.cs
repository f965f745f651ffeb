using System.Text;
using System.Text.Json;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>Where --out, --trace and --values send their data, standard output among it.</summary>
public sealed class DestinationTests
{
    private static readonly string s_golden = Repository.Path("tests", "goldens", "llama2-f32");

    private Scratch _scratch = null!;

    private string Sea => _scratch["sea.tiller"];

    private string[] Fit =>
        ["fit", "--model", ToolRun.Model, "--positive", _scratch.Few("topic.positive"), "--negative", _scratch.Few("topic.negative"),
            "--cost", "feature"];

    private string[] Steer => ["steer", "--model", ToolRun.Model, "--controller", Sea, "--max-tokens", "8", "Once upon a time"];

    [OneTimeSetUp]
    public async Task FitController()
    {
        _scratch = new Scratch();
        var run = await ToolRun.Of([.. Fit, "--out", Sea]);
        Assert.That(run.Code, Is.Zero, run.Error);
    }

    [OneTimeTearDown]
    public void Clean() => _scratch.Dispose();

    [Test]
    public async Task A_controller_goes_to_standard_output_and_all_else_to_standard_error([Values("-", "/dev/stdout")] string path)
    {
        var run = await ToolRun.Of([.. Fit, "--out", path]);
        Assert.That((run.Code, run.Output), Is.EqualTo((0, "")), run.Error);
        Assert.That(run.Error, Does.Contain("blocks 0-9").And.Contain("written     standard output"));
        Assert.That(run.Data, Is.EqualTo(await File.ReadAllBytesAsync(Sea)));
        Assert.That(File.Exists("-"), Is.False);
    }

    [Test]
    public async Task A_trace_goes_to_standard_output_and_the_texts_to_standard_error()
    {
        var file = await ToolRun.Of([.. Steer, "--trace", _scratch["t.jsonl"], "--compare"]);
        var run = await ToolRun.Of([.. Steer, "--trace", "-", "--compare"]);
        Assert.That((run.Code, run.Output), Is.EqualTo((0, "")), run.Error);
        Assert.That(run.Error, Does.Contain(file.Output.Split('\n')[1]).And.Contain("--- plain\n").And.Contain("--- steered").And.Contain("tok/s"));
        Assert.That(run.Data, Is.EqualTo(await File.ReadAllBytesAsync(_scratch["t.jsonl"])));
        string[] lines = Encoding.UTF8.GetString(run.Data).TrimEnd('\n').Split('\n');
        Assert.That(lines.Select(line => JsonDocument.Parse(line).RootElement.GetProperty("layers").GetArrayLength()),
            Is.EqualTo(Enumerable.Repeat(10, 8)));
        Assert.That(File.Exists("-"), Is.False);
    }

    [Test]
    public async Task Values_go_to_standard_output_and_the_verdict_to_standard_error()
    {
        var run = await ToolRun.Of("verify", s_golden, "--values", "-");
        Assert.That((run.Code, run.Output), Is.EqualTo((0, "")), run.Error);
        Assert.That(run.Error, Does.Contain("hidden states").And.Contain("kinds pass."));
        await File.WriteAllBytesAsync(_scratch["values"], run.Data);
        using var values = SafetensorsFile.Open(_scratch["values"]);
        Assert.That(values.Tensors.Select(t => t.Name), Is.SupersetOf(new[] { "states.0", "logits.0", "jacobian.0" }));
    }

    [TestCase("--out")]
    [TestCase("--trace")]
    [TestCase("--values")]
    public async Task Json_and_data_do_not_share_standard_output(string option)
    {
        string[] command = option switch { "--out" => Fit, "--trace" => Steer, _ => ["verify", s_golden] };
        var run = await ToolRun.Of([.. command, option, "-", "--json"]);
        Assert.That((run.Code, run.Data.Length), Is.EqualTo((ExitCode.Usage, 0)));
        string? message = run.Json.GetProperty("error").GetProperty("message").GetString();
        Assert.That(message, Does.StartWith($"{option} - and --json would both write to standard output"));
    }

    [Test]
    public async Task Binary_data_is_not_shown_at_a_terminal()
    {
        var fit = await ToolRun.Of([.. Fit, "--out", "-"], [], default, outputIsTerminal: true);
        var steer = await ToolRun.Of([.. Steer, "--trace", "-"], [], default, outputIsTerminal: true);
        Assert.That((fit.Code, fit.Data.Length), Is.EqualTo((ExitCode.Usage, 0)));
        Assert.That(fit.Error, Does.Contain("--out - would write binary data to a terminal"));
        Assert.That((steer.Code, steer.Data.Length > 0), Is.EqualTo((0, true)), steer.Error);
    }

    [Test]
    [Platform("Linux", Reason = "devices and links as Linux has them")]
    public async Task What_cannot_be_written_is_told_before_any_work()
    {
        File.CreateSymbolicLink(_scratch["loop"], _scratch["loop"]);
        foreach (string[] command in new[] { (string[])[.. Fit, "--out"], [.. Steer, "--trace"], ["verify", s_golden, "--values"] })
        {
            var loop = await ToolRun.Of([.. command, _scratch["loop"]]);
            var folder = await ToolRun.Of([.. command, _scratch["."]]);
            Assert.That((loop.Code, loop.Output, folder.Code, folder.Output), Is.EqualTo((ExitCode.BadInput, "", ExitCode.BadInput, "")));
            Assert.That(loop.Error, Does.StartWith($"tiller: error: {command[^1]}: ").And.Contain("symbolic links"));
            Assert.That(folder.Error, Does.StartWith($"tiller: error: {command[^1]}: ").And.Contain("is a folder"));
        }
    }

    [Test]
    [Platform("Linux", Reason = "links as Linux has them")]
    public async Task What_a_command_reads_is_not_replaced_by_its_result()
    {
        string prompts = _scratch.Few("tone.positive"), kept = _scratch["0.5.jacobians"];
        File.CreateSymbolicLink(_scratch["link"], Sea);
        string[] fit = [.. Fit, "--out", _scratch["new.tiller"]];
        string[] linearity = ["linearity", "--model", ToolRun.Model, "--prompts", prompts, "--controller", Sea];
        string[] eval = ["eval", "--model", ToolRun.Model, "--task", Repository.Path("tasks", "demo", "topic"), "--controller", Sea];
        foreach (var (command, option, path) in new (string[] Command, string Option, string Path)[]
        {
            (Fit, "--out", Fit[4]),
            ([.. Fit, "--calibration", prompts], "--out", prompts),
            ([.. Fit, "--jacobians", kept], "--out", kept),
            ([.. Fit, "--jacobians", kept, "--q", "0.5", "1"], "--out", _scratch["{q}.jacobians"]),
            ([.. fit, "--certify", prompts], "--page", prompts),
            ([.. fit, "--certify", prompts, "--jacobians", kept], "--page", kept),
            (Steer, "--trace", Sea),
            (Steer, "--trace", _scratch["link"]),
            ([.. Steer[..^1], "--file", prompts], "--trace", prompts),
            (eval, "--out", Sea),
            (linearity, "--page", prompts),
            (linearity, "--page", Sea),
            (["inspect", Sea], "--page", _scratch["link"]),
            (["convert", Sea], "--out", Sea),
        })
        {
            string[] before = [.. Directory.GetFiles(_scratch["."]).Order(StringComparer.Ordinal)];
            byte[][] bytes = Array.ConvertAll(before, File.ReadAllBytes);
            var run = await ToolRun.Of([.. command, option, path]);
            string told = $"{option} {path.Replace("{q}", "0.5", StringComparison.Ordinal)} would replace a file that the command reads";
            Assert.That((run.Code, run.Error.Contains(told, StringComparison.Ordinal)), Is.EqualTo((ExitCode.Usage, true)), told + run.Error);
            Assert.That(Directory.GetFiles(_scratch["."]).Order(StringComparer.Ordinal), Is.EqualTo(before), told);
            Assert.That(Array.ConvertAll(before, File.ReadAllBytes), Is.EqualTo(bytes), told);
        }

        // What is no file of its own is not replaced.
        var nowhere = await ToolRun.Of([.. Steer[..^1], "--file", "/dev/null", "--trace", "/dev/null"]);
        Assert.That(nowhere.Error, Does.Not.Contain("would replace"));
    }

    // What a shell does, standard output being a file that others write to as well.
    [TestCase("-")]
    [TestCase("/dev/stdout")]
    [Platform("Linux", Reason = "needs a shell and /dev/stdout")]
    public async Task The_program_adds_to_what_its_standard_output_is(string path)
    {
        string tool = Path.Combine(AppContext.BaseDirectory, "tiller.dll");
        string command = string.Join(' ', Steer.Select(word => $"'{word}'"));
        string script = $"{{ echo before; dotnet '{tool}' {command} --trace {path} 2>/dev/null; echo after; }} > '{_scratch["all"]}'\n";
        await File.WriteAllTextAsync(_scratch["script"], script);
        using var shell = System.Diagnostics.Process.Start("bash", [_scratch["script"]]);
        await shell.WaitForExitAsync();
        string[] lines = await File.ReadAllLinesAsync(_scratch["all"]);
        Assert.That((lines.Length, lines[0], lines[^1]), Is.EqualTo((10, "before", "after")));
        Assert.That(lines[1..^1], Has.All.StartsWith("{\"position\":"));
    }

    [Test]
    public async Task The_programs_standard_output_is_the_controller_byte_for_byte()
    {
        using var program = Program.Start([.. Fit, "--out", "-"]);
        using var output = new MemoryStream();
        var error = program.StandardError.ReadToEndAsync();
        await program.StandardOutput.BaseStream.CopyToAsync(output);
        await program.WaitForExitAsync();
        Assert.That(program.ExitCode, Is.Zero, await error);
        await File.WriteAllBytesAsync(_scratch["piped.tiller"], output.ToArray());
        Assert.That(Controller.Load(_scratch["piped.tiller"]).L, Is.EqualTo(10));
    }
}
