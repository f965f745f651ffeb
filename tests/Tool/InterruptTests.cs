using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Tiller.Bench;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>
/// Ctrl-C in every phase of the real program: exit code 130, one line, nothing half-written, the terminal as it was. Each program here would go on
/// for ever: it has more to read, or more to write than a pipe holds that nobody empties. How soon it ends is <c>bench interrupt</c>'s.
/// </summary>
[Platform("Linux", Reason = "env, kill, /proc and script are Linux's")]
public sealed class InterruptTests
{
    // Four blocks of 70 MB: what a process has in memory tells how far it is.
    private const string WideShape = "4,2048,4096,16,4,128,1024";
    private const string SmallShape = "2,64,128,4,2,16,1024";

    // Of the runtime and its scratch, roughly; the phases that are met do not depend on it.
    private const long RuntimeInBytes = 80 << 20;

    private Scratch _scratch = null!;
    private long _weights;

    private string Wide => _scratch["wide"];

    private string Small => _scratch["small"];

    private string[] EndlessText => ["generate", "--model", Small, "--max-tokens", "100000", "--temperature", "1", "One day"];

    private string[] LongPrompt => ["generate", "--model", Wide, "--max-tokens", "100000", "--temperature", "1", "--file", _scratch["long.txt"]];

    [OneTimeSetUp]
    public void Write()
    {
        _scratch = new Scratch();
        _weights = WriteCheckpoint(Wide, WideShape);
        WriteCheckpoint(Small, SmallShape);
        File.WriteAllText(_scratch["long.txt"], string.Concat(Enumerable.Repeat("The gull was there. ", 2000)));
        File.WriteAllLines(_scratch["calibration.txt"], Enumerable.Range(0, 20_000).Select(i => $"The gull was there {i} times."));
    }

    [OneTimeTearDown]
    public void Clean() => _scratch.Dispose();

    [Test]
    public async Task In_load()
    {
        using var program = Program.StartSignalled(Program.Heeded, LongPrompt);
        WaitForResident(program, RuntimeInBytes + (_weights / 3));
        await Interrupt(program);
    }

    [Test]
    public async Task In_prefill()
    {
        using var program = Program.StartSignalled(Program.Heeded, LongPrompt);
        WaitForResident(program, RuntimeInBytes + _weights);
        await Interrupt(program);
    }

    [TestCase("INT")]
    [TestCase("TERM")]
    public async Task In_decode(string signal)
    {
        using var program = Program.StartSignalled(Program.Heeded, EndlessText);
        await ReadFirst(program);
        Assert.That(await Interrupt(program, signal), Does.EndWith("\n"));
    }

    [Test]
    public async Task In_fit()
    {
        using var program = Program.StartSignalled(Program.Heeded, Fit(Directory.CreateDirectory(_scratch["fit"]).FullName));
        WaitForResident(program, RuntimeInBytes + _weights);
        Assert.That(await Interrupt(program), Is.Empty);
        Assert.That(Directory.GetFileSystemEntries(_scratch["fit"]), Is.Empty);
    }

    [Test]
    public async Task While_a_trace_is_kept()
    {
        string controller = _scratch["sea.tiller"];
        var fit = await ToolRun.Of(
            "fit", "--model", Small, "--positive", _scratch.Few("topic.positive"), "--negative", _scratch.Few("topic.negative"), "--cost", "feature",
            "--out", controller);
        Assert.That(fit.Code, Is.Zero, fit.Error);
        string folder = Directory.CreateDirectory(_scratch["trace"]).FullName;
        using var program = Program.StartSignalled(
            Program.Heeded,
            [
                "steer", "--controller", controller, "--lambda", "0.1", "--tokens", "all", "--trace", Path.Combine(folder, "t.jsonl"),
                .. EndlessText[1..],
            ]);
        await ReadFirst(program);
        Assert.That(await Interrupt(program), Does.EndWith("\n"));
        Assert.That(Directory.GetFileSystemEntries(folder), Is.Empty);
    }

    [Test]
    public async Task While_it_waits_for_a_prompt()
    {
        using var program = Program.StartSignalled(Program.Heeded, "generate", "--model", ToolRun.Model);

        // More than a pipe holds: once all of it is written, the program is reading, and there is no end yet.
        await program.StandardInput.WriteAsync(new string('a', 1 << 20)).InTime();
        await program.StandardInput.FlushAsync().InTime();
        Assert.That(await Interrupt(program), Is.Empty);
    }

    // As nohup and scripts leave it to what they start in the background: Ctrl-C is meant for others then.
    [Test]
    public async Task One_that_was_ignored_from_the_start_stays_so()
    {
        using var program = Program.StartSignalled(Program.Ignored, EndlessText);
        await ReadFirst(program);
        var output = program.StandardOutput.ReadToEndAsync();
        await Signal(program, "INT");

        // Were it cancelled, it would write a token, and that it is.
        long before = BytesWritten(program);
        Patience.Until(() => program.HasExited || BytesWritten(program) > before + 500, "the text goes on");
        Assert.That(program.HasExited, Is.False);
        Assert.That(await Interrupt(program, "TERM", output), Does.EndWith("\n"));
    }

    // script(1) makes a terminal; the byte 3 typed there is Ctrl-C, which the terminal's own driver turns into the signal.
    [Test]
    public async Task On_a_terminal_cursor_and_settings_come_back()
    {
        string folder = Directory.CreateDirectory(_scratch["terminal"]).FullName;
        string command = $"trap : INT; stty -g; {string.Join(' ', Program.Words(Fit(folder)).Select(word => $"'{word}'"))}; echo code $?; stty -g";
        var start = new ProcessStartInfo("env", [Program.Heeded, "script", "-q", "-e", "-f", "-c", command, "/dev/null"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            UseShellExecute = false,
        };
        start.Environment["TERM"] = "xterm-256color";
        start.Environment.Remove("NO_COLOR");
        using var terminal = Process.Start(start)!;
        var shown = new StringBuilder();
        await ReadUntil(terminal.StandardOutput, shown, "activations");
        await terminal.StandardInput.WriteAsync("\u0003");
        await terminal.StandardInput.FlushAsync();
        await ReadUntil(terminal.StandardOutput, shown, "code ");
        string rest = await terminal.StandardOutput.ReadToEndAsync().InTime();
        await terminal.WaitForExitAsync().InTime();
        string text = shown.Append(rest).ToString();
        string[] lines = [.. text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)];
        using (Assert.EnterMultipleScope())
        {
            Assert.That(text, Does.Contain("\u001b[?25l"), "the bars hide the cursor");
            Assert.That(text.LastIndexOf("\u001b[?25h", StringComparison.Ordinal),
                Is.GreaterThan(text.LastIndexOf("\u001b[?25l", StringComparison.Ordinal)), "and it is shown again");
            Assert.That(text, Does.Contain("tiller: error: cancelled."));
            Assert.That(text, Does.Contain("code 130"));
            Assert.That(lines[^1], Is.EqualTo(lines[0]), "stty");
            Assert.That(Directory.GetFileSystemEntries(folder), Is.Empty);
        }
    }

    /// <summary>A random checkpoint whose texts have no end.</summary>
    private static long WriteCheckpoint(string folder, string shape)
    {
        Directory.CreateDirectory(folder);
        long weights = RandomCheckpoint.Write(folder, new BenchRequest
        {
            Mode = BenchMode.Load,
            Shape = BenchShape.Parse(shape),
            DemoFolder = ToolRun.Model,
        });
        foreach (var (file, change) in new (string, Action<JsonObject>)[]
        {
            ("config.json", json => json["eos_token_id"] = new JsonArray()),
            ("tokenizer_config.json", json => json.Remove("eos_token")),
        })
        {
            string path = Path.Combine(folder, file);
            var json = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
            change(json);
            File.WriteAllText(path, json.ToJsonString());
        }

        return weights;
    }

    private string[] Fit(string folder) =>
    [
        "fit", "--model", Wide, "--positive", _scratch.Few("topic.positive"), "--negative", _scratch.Few("topic.negative"),
        "--calibration", _scratch["calibration.txt"], "--out", Path.Combine(folder, "c.tiller"),
    ];

    /// <summary>Sends the signal and holds the program to its promise.</summary>
    /// <param name="program">Under way.</param>
    /// <param name="signal">Its name.</param>
    /// <param name="output">What it writes, if that is being read already.</param>
    /// <returns>What it has written.</returns>
    private static async Task<string> Interrupt(Process program, string signal = "INT", Task<string>? output = null)
    {
        Assert.That(program.HasExited, Is.False, "the program is still at it");
        var error = program.StandardError.ReadToEndAsync();
        await Signal(program, signal);
        output ??= program.StandardOutput.ReadToEndAsync();
        await program.WaitForExitAsync().InTime();
        Assert.That((program.ExitCode, await error.InTime()), Is.EqualTo((ExitCode.Cancelled, "tiller: error: cancelled.\n")));
        return await output.InTime();
    }

    private static async Task Signal(Process program, string signal)
    {
        using var kill = Process.Start("kill", [$"-{signal}", program.Id.ToString(CultureInfo.InvariantCulture)]);
        await kill.WaitForExitAsync().InTime();
        Assert.That(kill.ExitCode, Is.Zero);
    }

    private static async Task ReadFirst(Process program) =>
        Assert.That(await program.StandardOutput.ReadAsync(new char[1]).AsTask().InTime(), Is.EqualTo(1));

    /// <summary>Waits until the process holds so many bytes: how far its load or its prompts are.</summary>
    private static void WaitForResident(Process program, long bytes)
    {
        string status = $"/proc/{program.Id}/status";
        Patience.Until(() => program.HasExited || (ProcFile.Kilobytes(status, "VmRSS") ?? 0) * 1024 >= bytes, $"{bytes} bytes in memory");
    }

    // proc(5): by write(2), to whatever.
    private static long BytesWritten(Process program) => long.Parse(ProcFile.Text($"/proc/{program.Id}/io", "wchar")!, CultureInfo.InvariantCulture);

    private static async Task ReadUntil(StreamReader reader, StringBuilder shown, string text)
    {
        char[] block = new char[4096];
        while (!shown.ToString().Contains(text, StringComparison.Ordinal))
        {
            int read = await reader.ReadAsync(block).AsTask().InTime();
            Assert.That(read, Is.Positive, shown.ToString());
            shown.Append(block, 0, read);
        }
    }
}
