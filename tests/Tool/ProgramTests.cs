using System.Diagnostics;
using Tiller.Checkpoint;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>The program as a process of its own.</summary>
internal static class Program
{
    /// <summary>Makes every kernel do without vectors.</summary>
    public const string WithoutVectors = "DOTNET_EnableHWIntrinsic=0";

    /// <summary>For <see cref="StartSignalled"/>: Ctrl-C and kill(1) have their usual effect.</summary>
    public const string Heeded = "--default-signal=INT,TERM";

    /// <summary>For <see cref="StartSignalled"/>: Ctrl-C is ignored.</summary>
    public const string Ignored = "--ignore-signal=INT";

    public static Process Start(params string[] args) => StartWith(null, args);

    /// <summary>Starts with one more environment variable, NAME=value.</summary>
    public static Process StartWith(string? variable, params string[] args)
        => StartIn(variable?.Split('=') is [var name, var value] ? [(name, value)] : [], args);

    /// <summary>Starts with more environment variables.</summary>
    public static Process StartIn((string Name, string Value)[] variables, params string[] args) => Start(variables, [], null, Words(args));

    /// <summary>
    /// Starts with the signals as the test wants them, whatever it has inherited: a shell ignores SIGINT for what it runs in the background, and so
    /// do that and its children.
    /// </summary>
    /// <param name="signals">An option of env(1), such as <see cref="Heeded"/>.</param>
    /// <param name="args">Arguments.</param>
    public static Process StartSignalled(string signals, params string[] args) => Start([], ["env", signals], null, Words(args));

    /// <summary>Starts in a folder.</summary>
    public static Process StartAt(string folder, params string[] args) => Start([], [], folder, Words(args));

    /// <summary>Starts a sample in a folder.</summary>
    public static Process StartSample(string sample, string folder) => Start([], [], folder, WordsOf(sample, []));

    /// <summary>Starts another of the tools.</summary>
    public static Process StartTool(string tool, params string[] args) => Start([], [], null, WordsOf(tool, args));

    /// <summary>Waits until a process ends. Both of its outputs are read meanwhile, so that it does not wait for one of them to be read.</summary>
    public static async Task<(int Code, string Output, string Error)> Ended(Process process)
    {
        using var guard = Patience.Guard();
        var (output, error) = (process.StandardOutput.ReadToEndAsync(guard.Token), process.StandardError.ReadToEndAsync(guard.Token));
        await process.WaitForExitAsync(guard.Token);
        return (process.ExitCode, await output, await error);
    }

    /// <summary>The words that start the program.</summary>
    public static IReadOnlyList<string> Words(params string[] args) => WordsOf("tiller", args);

    private static IReadOnlyList<string> WordsOf(string program, string[] args)
    {
        string host = Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "dotnet" ? path : "dotnet";
        return [host, Path.Combine(AppContext.BaseDirectory, $"{program}.dll"), .. args];
    }

    private static Process Start((string Name, string Value)[] variables, string[] before, string? folder, IReadOnlyList<string> program)
    {
        string[] words = [.. before, .. program];
        var start = new ProcessStartInfo(words[0], words[1..])
        {
            UseShellExecute = false,
            WorkingDirectory = folder ?? "",
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var (name, value) in variables)
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }
}

public class ProgramTests
{
    [Test]
    public async Task Text_arrives_while_it_is_made()
    {
        using var stop = new CancellationTokenSource();
        await using var output = new Shown(stop.Cancel) { NewLine = "\n" };
        await using var error = new StringWriter { NewLine = "\n" };
        var terminal = new Terminal(Stream.Null, inputIsTerminal: false, output, outputIsLive: false, error, errorIsLive: false);
        string[] args = ["generate", "--model", ToolRun.Model, "--max-tokens", "900", "--temperature", "0.7", "Once upon a time"];
        int code = await CommandLine.RunAsync(Runs.Commands(terminal), args, terminal, stop.Token);
        Assert.That(code, Is.EqualTo(ExitCode.Cancelled), error.ToString());
        Assert.That(output.First, Is.Not.Empty);
        Assert.That(output.ToString(), Is.EqualTo(output.First + "\n"), "one token of 900 when the first was shown");
    }

    [Test]
    public async Task Every_instruction_set_gives_the_golden_values_and_those_of_the_others()
    {
        using var scratch = new Scratch();

        // The widest vectors there are, 256 bits, without AVX2's, halves of them, and plain C#; X=1 changes nothing.
        string[] paths = ["X=1", "DOTNET_EnableAVX512=0", "DOTNET_EnableAVX2=0", "DOTNET_EnableAVX=0", Program.WithoutVectors];
        foreach (string path in paths)
        {
            using var program = Program.StartWith(path, "verify", Repository.Path("tests", "goldens", "qwen2-bf16"), "--json", "--values",
                scratch[path]);
            using var rows = await System.Text.Json.JsonDocument.ParseAsync(program.StandardOutput.BaseStream);
            await program.WaitForExitAsync();
            Assert.That(program.ExitCode, Is.Zero, path);
            foreach (var row in rows.RootElement.EnumerateArray().Where(r => r.GetProperty("kind").GetString() is "hidden states" or "logits"))
            {
                Assert.That(row.GetProperty("worst").GetDouble(), Is.LessThan(3e-6), $"{path} {row}");
            }
        }

        foreach (var (one, other) in paths.SelectMany(path => paths.TakeWhile(p => p != path), (path, other) => (path, other)))
        {
            // A block from the same input, and all of them one after another, each from what its own path came to.
            var (block, all) = Distance(scratch[one], scratch[other]);
            TestContext.Out.WriteLine($"{one}, {other}: {block:E2} after a block, {all:E2} at the end");
            Assert.That(block, Is.LessThan(1e-6), $"{one}, {other}");
            Assert.That(all, Is.LessThan(2e-6), $"{one}, {other}");
        }
    }

    /// <summary>What stood there when it was first flushed.</summary>
    private sealed class Shown(Action then) : StringWriter
    {
        public string First { get; private set; } = "";

        public override void Flush()
        {
            if (First.Length == 0)
            {
                First = ToString();
                then();
            }
        }
    }

    // Largest distance of two rows, of the row's length: of the first block's results, and of all.
    private static (double Block, double All) Distance(string one, string two)
    {
        using var a = SafetensorsFile.Open(one);
        using var b = SafetensorsFile.Open(two);
        Assert.That(a.Tensors.Select(t => t.Name),
            Is.EqualTo(b.Tensors.Select(t => t.Name)).And.SupersetOf(new[] { "states.0", "logits.0", "jacobian.0" }));
        var (block, all) = (0.0, 0.0);
        foreach (var tensor in a.Tensors)
        {
            // states hold what enters each block, Jacobians begin with that of the first.
            int slices = tensor.Name.Split('.')[0] switch { "states" => 2, "jacobian" => 1, _ => 0 };
            int first = slices * (int)(tensor.ElementCount / tensor.Shape[0]);
            int columns = (int)tensor.Shape[^1];
            var (x, y) = (a.ReadFloat64(tensor), b.ReadFloat64(b.Find(tensor.Name)));
            all = Verification.Worse(all, Verification.WorstRow(x, y, columns));
            block = Verification.Worse(block, Verification.WorstRow(x.AsSpan(0, first), y.AsSpan(0, first), columns));
        }

        return (block, all);
    }

    [TestCase("a\u001b[2Jb\r\n\tc\u009b\u202ed", "a\\u001B[2Jb\\u000D\n\tc\\u009B\\u202Ed")]
    [TestCase("plain é 日本 👩‍👩‍👧", "plain é 日本 👩‍👩‍👧")]
    public void What_would_move_the_cursor_is_made_visible(string text, string shown) => Assert.That(VisibleText.Of(text), Is.EqualTo(shown));
}
