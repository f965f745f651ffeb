using System.Text.RegularExpressions;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>The library's messages name its own options, the command line's name its own: a scan of every string in the sources.</summary>
public sealed partial class OptionNamesTests
{
    // Members that people at a command line set by another name, each with the string that messages have.
    private static readonly string[] s_members =
    [
        "SamplingOptions", "GenerationOptions", "FitOptions", "LoadOptions", "FitCost", "Controller.Save", "Controller.Load", "NonFiniteValues",
        "Tokenizer.Encode", "parseSpecial", "MaxNewTokens", "StopStrings.", "StopIds", "SteeredTokens.", "HubPull",
        "TaskOptions", "OnnxScorer",
    ];

    private static IEnumerable<(string File, string Text)> Strings(string folder) =>
        Directory.EnumerateFiles(Repository.Path(folder), "*.cs", SearchOption.AllDirectories)
            .SelectMany(file => Texts(File.ReadAllText(file)).Select(text => (Path.GetRelativePath(Repository.Root, file), text)));

    private static IEnumerable<string> Texts(string source) =>
        Literals().Matches(source).Where(m => m.Groups["text"].Success).Select(m => m.Groups["text"].Value);

    [Test]
    public void The_library_names_no_option_of_the_command_line()
    {
        var strings = Strings("src").ToArray();
        Assert.That(strings, Has.Length.AtLeast(1000), "the scan sees the strings");
        Assert.That(strings.Where(s => CommandLineOption().IsMatch(s.Text) || CommandLineVerb().IsMatch(s.Text)), Is.Empty);
    }

    [Test]
    public void What_the_library_names_of_its_own_the_command_line_translates()
    {
        var naming = Strings("src").Where(s => Array.Exists(s_members, m => s.Text.Contains(m, StringComparison.Ordinal))).ToArray();
        Assert.That(naming, Has.Length.AtLeast(5), "the scan sees the names");
        foreach (var (file, text) in naming)
        {
            // Which of them is said when it is said; CommandLineTests has all.
            string told = OptionNames.Of(Regex.Unescape(text.Replace("{option}", "TopK", StringComparison.Ordinal)));
            Assert.That(Array.FindAll(s_members, m => told.Contains(m, StringComparison.Ordinal)), Is.Empty, $"{file}: {text}");
        }
    }

    [Test]
    public void The_tools_show_no_name_of_the_library()
    {
        var shown = Strings("tools").Where(s =>
            !s.File.EndsWith("OptionNames.cs", StringComparison.Ordinal) && !s.File.Contains("Fuzz", StringComparison.Ordinal));
        Assert.That(shown.Where(s => Array.Exists(s_members, m => s.Text.Contains(m, StringComparison.Ordinal))), Is.Empty);
    }

    [TestCase(
        "Fit with FitOptions.Cost = FitCost.Feature or FitOptions.Order = p, or on the CPU (LoadOptions.Device = Device.Cpu).",
        "Fit with --cost feature or --order p, or on the CPU (--device cpu).")]
    [TestCase("SamplingOptions.MinP must be 0 (off) to 1, got 2.", "--min-p must be 0 (off) to 1, got 2.")]
    [TestCase("Pass a file that Controller.Save wrote.", "Pass a file that tiller fit wrote.")]
    [TestCase("nothing of either", "nothing of either")]
    public void A_message_is_told_in_the_command_lines_words(string library, string commandLine) =>
        Assert.That(OptionNames.Of(library), Is.EqualTo(commandLine));

    [Test]
    public async Task Errors_of_a_run_are_translated()
    {
        string another = Path.Combine(ToolRun.Model, "model.safetensors");
        var run = await ToolRun.Of("steer", "--json", "--model", ToolRun.Model, "--controller", another, "x");
        Assert.That(run.Error, Does.Contain("Pass a file that tiller fit wrote"));
        Assert.That(run.Json.GetProperty("error").GetProperty("message").GetString(), Does.Contain("Pass a file that tiller fit wrote"));
    }

    [TestCase("x = \"a --b\"; // \"c\"\n", "a --b")]
    [TestCase("/* \"no\" */ y = $\"d {e} \\\" f\";", "d {e} \\\" f")]
    [TestCase("c = '\"'; z = \"\"\"raw \"q\" text\"\"\";", "raw \"q\" text")]
    public void The_scan_finds_strings_and_nothing_else(string source, string expected) =>
        Assert.That(Texts(source), Is.EqualTo(new[] { expected }));

    // Comments and characters are passed over.
    [GeneratedRegex(""""@"(?<text>(?:[^"]|"")*)"|"""(?<text>.*?)"""|"(?<text>(?:[^"\\\n]|\\.)*)"|//[^\n]*|/\*.*?\*/|'(?:[^'\\\n]|\\.)+'"""",
        RegexOptions.Singleline, 10_000)]
    private static partial Regex Literals();

    // Not at the start: NVRTC and nvcc take options of that form too, each a string of its own.
    [GeneratedRegex(@"(?<=.)(?<![\w-])--[a-z]", RegexOptions.Singleline, 1000)]
    private static partial Regex CommandLineOption();

    [GeneratedRegex(@"\btiller (demo|fit|steer|generate|pull|inspect|verify|bench|devices)\b", RegexOptions.ExplicitCapture, 1000)]
    private static partial Regex CommandLineVerb();
}
