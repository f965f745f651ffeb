using System.CommandLine.Parsing;
using System.Text.RegularExpressions;
using Tiller.Tests.Hub;
using Tiller.Tests.Model;

namespace Tiller.Tests.Tool;

/// <summary>What README.md shows is run here, and its code is that of the samples.</summary>
[NonParallelizable]
public partial class ReadmeTests
{
    private static readonly string[] s_starters = ["dotnet run -c Release --project tools/Tiller -- demo", "dotnet test -c Release"];
    // Those in other languages are built and run with the library that they use (tools/native).
    private static IEnumerable<string> Samples => Directory.GetDirectories(Repository.Path("samples"))
        .Where(folder => File.Exists(Path.Combine(folder, "Program.cs"))).Select(folder => Path.GetFileName(folder)).Order(StringComparer.Ordinal);

    private static readonly string s_readme = File.ReadAllText(Repository.Path("README.md")).ReplaceLineEndings("\n");

    // A service does not end by itself: the tests of serving run it.
    private static IEnumerable<string> Programs => Samples.Where(sample => sample != "Serve");

    // A sample may be shown without its using lines.
    [TestCaseSource(nameof(Samples))]
    public void A_sample_is_shown_as_it_is(string sample)
    {
        string code = File.ReadAllText(Repository.Path("samples", sample, "Program.cs")).ReplaceLineEndings("\n").TrimEnd();
        Assert.That(Blocks("csharp"), Has.One.EqualTo(code).Or.One.EqualTo(Usings().Replace(code, "")));
        Assert.That(Blocks("csharp").Count(), Is.EqualTo(Samples.Count()), "no code is shown that is not a sample");
    }

    [TestCaseSource(nameof(Programs))]
    public async Task A_sample_runs(string sample)
    {
        using var scratch = new Scratch();
        Directory.CreateSymbolicLink(scratch["models"], Repository.Path("models"));
        using var program = Program.StartSample(sample, scratch["."]);
        var (code, output, error) = await Program.Ended(program);
        Assert.That((code, error), Is.EqualTo((0, "")));
        Assert.That(output, Has.Length.GreaterThan(40));
    }

    [Test]
    public async Task Every_command_shown_runs()
    {
        // What it pulls is a small model here, under the name that it asks for.
        using var scratch = new Scratch();
        using var hub = new HubServer { Name = "HuggingFaceTB/SmolLM2-135M-Instruct" };
        using var variables = new HubVariables(("HF_ENDPOINT", hub.Address.ToString()), ("HF_HOME", scratch["home"]));
        foreach (string file in Directory.GetFiles(TestModels.Folder("qwen2-bf16")))
        {
            hub.Files[Path.GetFileName(file)] = await File.ReadAllBytesAsync(file);
        }

        // What is served is asked for in the tests of serving.
        var blocks = Blocks("sh").Where(block => !block.StartsWith("tiller serve ", StringComparison.Ordinal));
        string[] commands = [.. blocks.SelectMany(b => b.Split('\n')).Where(l => l.Length > 0 && l[0] != '#')];
        Assert.That(commands, Is.SupersetOf(s_starters));
        foreach (string command in commands.Except(s_starters, StringComparer.Ordinal))
        {
            string[] words = [.. CommandLineParser.SplitCommandLine(command)];
            Assert.That(words[0], Is.EqualTo("tiller"), command);
            var run = await ToolRun.Of([.. words.Skip(1).SelectMany(w => Here(w, scratch))]);
            Assert.That((run.Code, run.Output.Length > 0), Is.EqualTo((0, true)), $"{command}\n{run.Error}");
        }
    }

    [Test]
    public void The_exit_codes_are_those_of_help()
    {
        foreach (string line in Tiller.Tool.ExitCode.Help.ReplaceLineEndings("\n").Split('\n').Skip(1))
        {
            string[] parts = line.Trim().Split(' ', 2);
            Assert.That(s_readme, Does.Contain($"| {parts[0]} | {parts[1].Trim()} |"));
        }
    }

    // Paths of the repository as they are here, files written in a folder of the test's own.
    private static string[] Here(string word, Scratch scratch) => word switch
    {
        _ when word.EndsWith(".tiller", StringComparison.Ordinal) || word.EndsWith(".jsonl", StringComparison.Ordinal) => [scratch[word]],
        _ when word.EndsWith("/*/", StringComparison.Ordinal) => Directory.GetDirectories(Repository.Path(word[..^3])),
        _ when word.StartsWith("models/", StringComparison.Ordinal) || word.StartsWith("tasks/", StringComparison.Ordinal)
            || word.StartsWith("tools/", StringComparison.Ordinal)
            || word.StartsWith("tests/", StringComparison.Ordinal) => [Repository.Path(word)],
        _ => [word],
    };

    private static IEnumerable<string> Blocks(string language) => Fence().Matches(s_readme).Where(m => m.Groups["language"].Value == language)
        .Select(m => m.Groups["body"].Value.TrimEnd());

    [GeneratedRegex(@"\A(using [\w.]+;\n)+\n", RegexOptions.ExplicitCapture, 1000)]
    private static partial Regex Usings();

    [GeneratedRegex("^```(?<language>[a-z]*)\n(?<body>.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline | RegexOptions.ExplicitCapture,
        1000)]
    private static partial Regex Fence();
}
