using System.Diagnostics;
using System.Globalization;
using Tiller.Fuzz;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>Numbers as people type them: every option of every command that takes one.</summary>
public sealed class TypedNumberTests
{
    private static readonly Dictionary<Type, bool> s_isReal = new()
    {
        [typeof(float)] = true,
        [typeof(double)] = true,
        [typeof(double[])] = true,
        [typeof(int)] = false,
        [typeof(ulong)] = false,
    };

    private static readonly Terminal s_terminal =
        new(Stream.Null, inputIsTerminal: false, TextWriter.Null, outputIsLive: false, TextWriter.Null, errorIsLive: false);

    private static IEnumerable<TestCaseData> Options =>
        from command in Runs.Commands(s_terminal)
        from option in command.Options
        let type = Nullable.GetUnderlyingType(option.ValueType) ?? option.ValueType
        where s_isReal.ContainsKey(type)
        select new TestCaseData(command.Name, option.Name, s_isReal[type]);

    [Test]
    public void There_are_options_of_every_kind()
    {
        var options = Options.Select(o => (Command: (string)o.Arguments[0]!, Option: (string)o.Arguments[1]!)).ToArray();
        (string, string)[] some =
            [("steer", "--lambda"), ("demo", "--lambda"), ("fit", "--q"), ("fit", "--order"), ("generate", "--seed"), ("bench", "--seconds")];
        Assert.That(options, Is.SupersetOf(some));
        var types = Runs.Commands(s_terminal).SelectMany(c => c.Options).Select(o => o.ValueType).Select(t => Nullable.GetUnderlyingType(t) ?? t);
        Assert.That(types.Select(t => t.GetElementType() ?? t).Where(t => t.IsPrimitive && t != typeof(bool)).Distinct(), Is.SubsetOf(s_isReal.Keys),
            "no other kind");
    }

    [TestCaseSource(nameof(Options))]
    public void What_is_no_number_is_refused_by_name(string command, string option, bool isReal)
    {
        string[] texts =
        [
            "1,5", "1,000", "1,234.5", "1 000", "1'000", "1_000", "0x10", "1.5x", "x", "", " ",
            "NaN", "Infinity", "-Infinity", "∞", "1e999", "--1", "$1", "(1)", "١", "１",
        ];
        foreach (string text in isReal ? texts : [.. texts, "1.5", "1.0", "1e3", "99999999999999999999"])
        {
            if (text == "1 000" && Runs.Commands(s_terminal).Single(c => c.Name == command).Options.Single(o => o.Name == option) is NumbersOption)
            {
                continue; // two numbers
            }

            Assert.That(Errors(command, option, text), Has.Some.StartsWith($"{option} must be ").And.Some.Contains($"'{text}'"), text);
        }

        Assert.That(Errors(command, option, "1,5"), Has.Some.Contains(isReal ? ": write 1.5" : ": write 15"), "what to write instead");
    }

    [TestCaseSource(nameof(Options))]
    public void Numbers_are_read_alike_in_every_country(string command, string option, bool isReal)
    {
        var culture = (CultureInfo)CultureInfo.InvariantCulture.Clone();
        culture.NumberFormat = new NumberFormatInfo { NumberDecimalSeparator = ",", NumberGroupSeparator = ".", NegativeSign = "~" };
        var before = CultureInfo.CurrentCulture;
        CultureInfo.CurrentCulture = culture;
        try
        {
            Assert.That(Errors(command, option, isReal ? "1" : "3"), Is.Empty);
            Assert.That(Errors(command, option, "0,5"), Is.Not.Empty);
            Assert.That(Errors(command, option, isReal ? "0.5" : "2"), Is.Empty);
            Assert.That(Errors(command, option, isReal ? "5e-1" : "+2"), Is.Empty);
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [TestCase("1,5", "--lambda must be a number that fits in float32, got '1,5': write 1.5, or repeat --lambda.")]
    [TestCase("1,2", "write 1.2, or repeat --lambda.")]
    [TestCase("1,2,3", "or repeat --lambda.")]
    [TestCase("1 2,5", "write 2.5, or repeat --lambda.")]
    public async Task A_comma_between_strengths_is_refused_with_what_to_write(string text, string says)
    {
        var run = await ToolRun.Of("steer", "--model", "m", "--controller", "c", "--controller", "d", "--lambda", text, "prompt");
        Assert.That((run.Code, run.Output), Is.EqualTo((ExitCode.Usage, "")));
        Assert.That(run.Error, Does.Contain(says));
    }

    [TestCase(new[] { "--lambda", "1.5", "-2", "p" }, new[] { 1.5f, -2f })]
    [TestCase(new[] { "p", "--lambda", "1.5", "-2" }, new[] { 1.5f, -2f })]
    [TestCase(new[] { "--lambda", "1.5 -2", "p" }, new[] { 1.5f, -2f })]
    [TestCase(new[] { "--lambda=1.5", "-2", "p" }, new[] { 1.5f, -2f })]
    [TestCase(new[] { "--lambda", "1.5", "p", "--lambda", "-2" }, new[] { 1.5f, -2f })]
    [TestCase(new[] { "--lambda", "1e-1", "--", "42" }, new[] { 0.1f, 0.1f })]
    [TestCase(new[] { "42", "--lambda", ".5" }, new[] { 0.5f, 0.5f })]
    public async Task Several_strengths_are_repeated_or_have_spaces_between(string[] args, float[] expected)
    {
        SteerRequest? asked = null;
        using var error = new StringWriter();
        var terminal = new Terminal(Stream.Null, inputIsTerminal: false, TextWriter.Null, outputIsLive: false, error, errorIsLive: false);
        var steer = new SteerCommand((request, _) =>
        {
            asked = request;
            return Task.FromResult(0);
        });
        string[] line = ["steer", "--model", "m", "--controller", "c", "--controller", "d", .. args];
        int code = await CommandLine.RunAsync([steer], line, terminal, default);
        Assert.That(code, Is.Zero, error.ToString());
        Assert.That(asked!.Steering.Controllers.Select(c => c.Lambda), Is.EqualTo(expected));
        Assert.That(asked.Prompt.Text, Is.EqualTo(args.Contains("p") ? "p" : "42"));
    }

    [TestCase("bench", "decode", "--terms", "1,16")]
    [TestCase("bench", "batch", "--batch", "8,64")]
    [TestCase("bench", "kernels", "--shape", "2,64,128,4,2,16,256")]
    [TestCase("bench", "fit", "--fits", "dense,reduced")]
    [TestCase("fit", "", "--layers", "4-9")]
    public void Lists_of_whole_numbers_and_names_keep_their_comma(string command, string argument, string option, string text) =>
        Assert.That(Errors(command, option, text, argument), Is.Empty);

    [Test]
    public async Task The_fuzzer_reads_minutes_alike()
    {
        using var fuzzer = Process.Start(new ProcessStartInfo("dotnet", [typeof(FuzzOptions).Assembly.Location, "--minutes", "1,5"])
        {
            UseShellExecute = false,
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        })!;
        var (code, _, error) = await Program.Ended(fuzzer);
        Assert.That(code, Is.EqualTo(2), "1 is what a finding gives");
        Assert.That(error, Does.Contain("--minutes must be a number above 0 and at most 1e6, got '1,5': write 1.5."));
    }

    private static string[] Errors(string command, string option, string text, string argument = "")
    {
        var found = Runs.Commands(s_terminal).Single(c => c.Name == command);
        string[] required = command switch
        {
            "fit" => ["--model", "m", "--positive", "p", "--negative", "n", "--out", "o"],
            "steer" => ["--model", "m", "--controller", "c", "prompt"],
            "generate" => ["--model", "m", "prompt"],
            "compare" => ["--demo", "--out", "o"],
            "serve" => ["--model", "m"],
            "linearity" => ["--model", "m", "--prompts", "p"],
            "eval" => ["--model", "m", "--task", "t"],
            "bench" => [argument.Length > 0 ? argument : "decode"],
            "tune" => ["--model", "m", "--task", "t", "--out", "o"],
            "convert" => ["file", "--out", "o"],
            "verify" or "inspect" or "merge" => ["folder"],
            _ => [],
        };
        return [.. found.Parse([.. required, .. text.Length == 0 ? [option, text] : new[] { $"{option}={text}" }]).Errors.Select(e => e.Message)];
    }
}
