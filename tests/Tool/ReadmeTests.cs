using System.CommandLine.Parsing;
using System.Text.RegularExpressions;
using Tiller.Control;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Tests.Tool;

/// <summary>What README.md shows is compiled and run here.</summary>
[NonParallelizable]
public partial class ReadmeTests
{
    private static readonly string[] s_starters = ["dotnet run -c Release --project tools/Tiller -- demo", "dotnet test -c Release"];
    private static readonly string s_readme = File.ReadAllText(Repository.Path("README.md")).ReplaceLineEndings("\n");

    [Test]
    public async Task The_example_runs()
    {
        var console = Console.Out;
        string folder = Environment.CurrentDirectory;
        await using var written = new StringWriter();
        try
        {
            Console.SetOut(written);
            Environment.CurrentDirectory = AppContext.BaseDirectory;
            await Example();
        }
        finally
        {
            Console.SetOut(console);
            File.Delete("sea.tiller");
            Environment.CurrentDirectory = folder;
        }

        Assert.That(written.ToString(), Has.Length.GreaterThan(40));
    }

    [Test]
    public void The_example_is_the_one_compiled_here()
    {
        string source = File.ReadAllText(Repository.Path("tests", "Tool", "ReadmeTests.cs")).ReplaceLineEndings("\n");
        string region = source.Split("#region README\n")[1].Split("#endregion")[0];
        string[] compiled = [.. region.TrimEnd().Split('\n').Select(l => l.Length > 8 ? l[8..] : "")];
        string[] shown = Blocks("csharp").Single().Split('\n');
        Assert.That(shown.SkipWhile(l => l.StartsWith("using Tiller.", StringComparison.Ordinal) || l.Length == 0), Is.EqualTo(compiled));
        Assert.That(shown.Where(l => l.StartsWith("using Tiller.", StringComparison.Ordinal)), Has.All.Matches<string>(l => source.Contains(l!, StringComparison.Ordinal)));
    }

    [Test]
    public async Task Every_command_shown_runs()
    {
        using var scratch = new Scratch();
        string[] commands = [.. Blocks("sh").SelectMany(b => b.Split('\n')).Where(l => l.Length > 0 && l[0] != '#')];
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

    private static async Task Example()
    {
        #region README
        using var model = LanguageModel.Load("models/demo");
        var contrast = ContrastSet.Read("models/demo/contrast/topic.positive.txt", "models/demo/contrast/topic.negative.txt");
        var fit = ControllerFit.Run(model, contrast, new FitOptions { Weights = new LqrWeights(q: 0.03, r: 1, qf: 1) });
        fit.Controller.Save("sea.tiller");

        var options = new GenerationOptions { Law = fit.Controller.ToLaw(lambda: 1.75), MaxNewTokens = 40 };
        await foreach (var token in model.GenerateAsync("Once upon a time", options))
        {
            Console.Write(token.Text);
        }

        using var batch = new SessionBatch(model);
        using Session steered = new(model, options.Law), plain = new(model);
        Session[] sessions = [steered, plain];
        Sampler[] samplers = [new(new SamplingOptions(), model.Config.V), new(new SamplingOptions { Temperature = 0.7f }, model.Config.V)];
        Array.ForEach(sessions, session => session.Append(model.Tokenizer.Encode("Once upon a time")));
        int[] ids = new int[sessions.Length];
        for (int i = 0; i < 40; i++)
        {
            batch.Draw(sessions, samplers, ids);
            batch.Step(sessions, ids);
        }

        Console.WriteLine(model.Tokenizer.Decode(steered.Ids, skipSpecial: true));
        #endregion
    }

    // Paths of the repository as they are here, files written in a folder of the test's own.
    private static string[] Here(string word, Scratch scratch) => word switch
    {
        _ when word.EndsWith(".tiller", StringComparison.Ordinal) || word.EndsWith(".jsonl", StringComparison.Ordinal) => [scratch[word]],
        _ when word.EndsWith("/*/", StringComparison.Ordinal) => Directory.GetDirectories(Repository.Path(word[..^3])),
        _ when word.StartsWith("models/", StringComparison.Ordinal) || word.StartsWith("tests/", StringComparison.Ordinal) => [Repository.Path(word)],
        _ => [word],
    };

    private static IEnumerable<string> Blocks(string language) => Fence().Matches(s_readme).Where(m => m.Groups["language"].Value == language).Select(m => m.Groups["body"].Value.TrimEnd());

    [GeneratedRegex("^```(?<language>[a-z]*)\n(?<body>.*?)^```$", RegexOptions.Multiline | RegexOptions.Singleline | RegexOptions.ExplicitCapture, 1000)]
    private static partial Regex Fence();
}
