using System.Diagnostics;
using System.Globalization;
using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>Ctrl-C in every phase of the real program: exit code 130, one line, nothing half-written, the terminal as it was.</summary>
[Platform("Linux", Reason = "kill, /proc and script are Linux's")]
public sealed class InterruptTests
{
    // From the signal to the end of the process, on a machine that others may be using; how soon the engine itself stops is CancellationTests'.
    private const double MostMs = 2000;

    // Two blocks as wide as an 8B model's: every phase is long enough to be met.
    private const string Shape = "2,4096,14336,32,8,128,1024";

    private Scratch _scratch = null!;
    private long _weights;

    private string Wide => _scratch["wide"];

    [OneTimeSetUp]
    public void Write()
    {
        _scratch = new Scratch();
        Directory.CreateDirectory(Wide);
        _weights = RandomCheckpoint.Write(Wide, new BenchRequest { Mode = BenchMode.Load, Shape = BenchShape.Parse(Shape), Type = TensorType.BF16, DemoFolder = ToolRun.Model });
        File.WriteAllText(_scratch["long.txt"], string.Concat(Enumerable.Repeat("The gull was there. ", 4000)));
    }

    [OneTimeTearDown]
    public void Clean() => _scratch.Dispose();

    [Test]
    public async Task In_load()
    {
        using var program = Program.Start("generate", "--model", Wide, "--file", _scratch["long.txt"]);
        await WaitForResident(program, _weights / 3);
        await Interrupt(program, output: "");
    }

    [Test]
    public async Task In_prefill()
    {
        using var program = Program.Start("generate", "--model", Wide, "--file", _scratch["long.txt"]);
        await WaitForResident(program, _weights);
        await Task.Delay(TimeSpan.FromMilliseconds(1500));
        await Interrupt(program, output: "");
    }

    [Test]
    public async Task In_decode()
    {
        using var program = Program.Start("generate", "--model", Wide, "--max-tokens", "100000", "--temperature", "1", "One day");
        char[] first = new char[1];
        Assert.That(await program.StandardOutput.ReadAsync(first), Is.EqualTo(1));
        await Task.Delay(TimeSpan.FromMilliseconds(300));
        await Interrupt(program, output: null);
    }

    [TestCase("state")]
    [TestCase("feature")]
    public async Task In_fit(string cost)
    {
        string folder = _scratch[$"fit-{cost}"];
        Directory.CreateDirectory(folder);
        using var program = Program.Start(
            "fit", "--model", Wide, "--positive", _scratch.Few("topic.positive", 40), "--negative", _scratch.Few("topic.negative", 40), "--cost", cost, "--out", Path.Combine(folder, "c.tiller"));
        await WaitForResident(program, _weights);
        await Task.Delay(TimeSpan.FromMilliseconds(2500));
        await Interrupt(program, output: "");
        Assert.That(Directory.GetFileSystemEntries(folder), Is.Empty);
    }

    [Test]
    public async Task While_a_trace_is_kept()
    {
        string controller = _scratch["sea.tiller"];
        var fit = await ToolRun.Of(
            "fit", "--model", ToolRun.Model, "--positive", _scratch.Few("topic.positive"), "--negative", _scratch.Few("topic.negative"), "--cost", "feature", "--out", controller);
        Assert.That(fit.Code, Is.Zero, fit.Error);
        string folder = _scratch["trace"];
        Directory.CreateDirectory(folder);
        using var program = Program.StartWith(
            Program.WithoutVectors, "steer", "--model", ToolRun.Model, "--controller", controller, "--tokens", "all", "--max-tokens", "1000", "--temperature", "0.7",
            "--trace", Path.Combine(folder, "t.jsonl"), "Once upon a time");
        char[] first = new char[1];
        Assert.That(await program.StandardOutput.ReadAsync(first), Is.EqualTo(1));
        await Interrupt(program, output: null);
        Assert.That(Directory.GetFileSystemEntries(folder), Is.Empty);
    }

    // script(1) makes a terminal; the byte 3 typed there is Ctrl-C, which the terminal's own driver turns into the signal.
    [Test]
    public async Task On_a_terminal_cursor_and_settings_come_back()
    {
        string[] fit =
        [
            "dotnet", Path.Combine(AppContext.BaseDirectory, "tiller.dll"), "fit", "--model", Wide,
            "--positive", _scratch.Few("tone.positive", 40), "--negative", _scratch.Few("tone.negative", 40), "--out", _scratch["c.tiller"],
        ];
        string command = $"trap : INT; stty -g; {string.Join(' ', fit.Select(word => $"'{word}'"))}; echo code $?; stty -g";
        var start = new ProcessStartInfo("script", ["-q", "-e", "-f", "-c", command, "/dev/null"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            UseShellExecute = false,
        };
        start.Environment["TERM"] = "xterm-256color";
        start.Environment.Remove("NO_COLOR");
        using var terminal = Process.Start(start)!;
        var shown = new System.Text.StringBuilder();
        await ReadUntil(terminal.StandardOutput, shown, "activations");
        await terminal.StandardInput.WriteAsync("\u0003");
        await terminal.StandardInput.FlushAsync();
        await ReadUntil(terminal.StandardOutput, shown, "code ");
        string rest = await terminal.StandardOutput.ReadToEndAsync().WaitAsync(TimeSpan.FromSeconds(30));
        await terminal.WaitForExitAsync();
        string text = shown.Append(rest).ToString();
        string[] lines = [.. text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)];
        using (Assert.EnterMultipleScope())
        {
            Assert.That(text, Does.Contain("\u001b[?25l"), "the bars hide the cursor");
            Assert.That(text.LastIndexOf("\u001b[?25h", StringComparison.Ordinal), Is.GreaterThan(text.LastIndexOf("\u001b[?25l", StringComparison.Ordinal)), "and it is shown again");
            Assert.That(text, Does.Contain("tiller: error: cancelled."));
            Assert.That(text, Does.Contain("code 130"));
            Assert.That(lines[^1], Is.EqualTo(lines[0]), "stty");
            Assert.That(File.Exists(_scratch["c.tiller"]), Is.False);
        }
    }

    /// <summary>Sends SIGINT and holds the program to its promise.</summary>
    /// <param name="program">Under way.</param>
    /// <param name="output">What it must have written by its end; null for text that ends with a line break.</param>
    private static async Task Interrupt(Process program, string? output)
    {
        var written = program.StandardOutput.ReadToEndAsync();
        var error = program.StandardError.ReadToEndAsync();
        Assert.That(program.HasExited, Is.False, "the program is still at it");
        long at = Stopwatch.GetTimestamp();
        using var kill = Process.Start("kill", ["-INT", program.Id.ToString(CultureInfo.InvariantCulture)]);
        await program.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(30));
        double elapsedMs = Stopwatch.GetElapsedTime(at).TotalMilliseconds;
        TestContext.Out.WriteLine($"ended {elapsedMs:F0} ms after the signal");
        using (Assert.EnterMultipleScope())
        {
            Assert.That((program.ExitCode, await error), Is.EqualTo((ExitCode.Cancelled, "tiller: error: cancelled.\n")));
            Assert.That(await written, output is null ? Does.EndWith("\n") : Is.EqualTo(output));
            Assert.That(elapsedMs, Is.LessThan(MostMs));
        }
    }

    /// <summary>Waits until the process holds so many bytes: how far its load is.</summary>
    private static async Task WaitForResident(Process program, long bytes)
    {
        var clock = Stopwatch.StartNew();
        string status = $"/proc/{program.Id}/status";
        while (!program.HasExited && (ProcFile.Kilobytes(status, "VmRSS") ?? 0) * 1024 < bytes)
        {
            Assert.That(clock.Elapsed, Is.LessThan(TimeSpan.FromSeconds(60)), "the load comes so far");
            await Task.Delay(TimeSpan.FromMilliseconds(2));
        }
    }

    private static async Task ReadUntil(StreamReader reader, System.Text.StringBuilder shown, string text)
    {
        char[] block = new char[4096];
        while (!shown.ToString().Contains(text, StringComparison.Ordinal))
        {
            int read = await reader.ReadAsync(block).AsTask().WaitAsync(TimeSpan.FromSeconds(60));
            Assert.That(read, Is.Positive, shown.ToString());
            shown.Append(block, 0, read);
        }
    }
}
