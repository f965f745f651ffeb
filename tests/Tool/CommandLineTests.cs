using System.Text;
using System.Text.Json;
using Tiller.Chat;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

public class CommandLineTests
{
    private static readonly string[] s_fit = ["fit", "--model", "m", "--positive", "p", "--negative", "n", "--out", "o"];
    private static readonly string[] s_steer = ["steer", "--model", "m", "--controller", "c"];

    [Test]
    public void A_command_line_makes_the_command_alone_that_it_names()
    {
        var terminal = new Terminal(Stream.Null, false, TextWriter.Null, false, TextWriter.Null, false);
        string[] all = [.. Runs.Commands(terminal).Select(command => command.Name)];
        foreach (string name in all)
        {
            Assert.That(Runs.Commands(terminal, args: ["--json", name, "fit"]).Select(command => command.Name), Is.EqualTo(new[] { name }));
        }

        foreach (string[] none in (string[][])[[], ["--help"], ["fitt"], ["--help", "--", "fit"]])
        {
            Assert.That(Runs.Commands(terminal, args: none).Select(command => command.Name), Is.EqualTo(all));
        }
    }

    [Test]
    public async Task Fit_has_documented_defaults()
    {
        var run = await Run(s_fit);
        Assert.That(run.Code, Is.Zero);
        var weights = ((FitRequest)run.Request!).Weights;
        Assert.That(weights, Is.EqualTo(new[] { new LqrWeights(0.1, 1, 1) }));
        Assert.That(run.Request, Is.EqualTo(new FitRequest
        {
            Model = "m",
            Device = new DeviceRequest(null, 0),
            Positive = "p",
            Negative = "n",
            Out = "o",
            Cost = FitCost.State,
            Setpoint = Setpoint.Published,
            Weights = weights,
        }));
    }

    [Test]
    public async Task Fit_takes_every_option()
    {
        string[] options = ["--cost", "feature", "--order", "16", "--setpoint", "affine", "--q", "0", "--r", "1e-3", "--qf", "2.5",
            "--layers", "3-9"];
        string[] more = ["--calibration", "f", "--chat", "--system", "s", "--device", "cuda:1", "--threads", "3", "--json"];
        var request = (FitRequest)(await Run([.. s_fit, .. options, .. more])).Request!;
        Assert.That(request.Weights, Is.EqualTo(new[] { new LqrWeights(0, 1e-3, 2.5) }));
        Assert.That(request, Is.EqualTo(new FitRequest
        {
            Model = "m",
            Device = new DeviceRequest(Device.Cuda(1), 3),
            Positive = "p",
            Negative = "n",
            Out = "o",
            Cost = FitCost.Feature,
            Order = 16,
            Setpoint = Setpoint.Affine,
            Weights = request.Weights,
            Layers = new LayerSet(3, 9),
            Calibration = "f",
            Chat = true,
            System = "s",
            Json = true,
        }));
    }

    [Test]
    public async Task Layers_may_be_several_ranges()
    {
        var expected = new LayerSet(new LayerRange(1, 3), new LayerRange(8, 9));
        Assert.That(((FitRequest)(await Run([.. s_fit, "--layers", "1-3,8-9"])).Request!).Layers, Is.EqualTo(expected));
        Assert.That(((DemoRequest)(await Run(["demo", "--layers", "8-9,1-3"])).Request!).Layers, Is.EqualTo(expected));
    }

    [TestCase("--out", "o")]
    [TestCase("--plan")]
    public async Task A_cost_of_nothing_is_refused(params string[] options)
        => await ExpectUsageError([.. s_fit[..^2], .. options, "--q", "0", "--qf", "0"], "--q and --qf are both 0");

    [Test]
    public async Task A_plan_needs_no_file_to_write() =>
        Assert.That(((FitRequest)(await Run([.. s_fit[..^2], "--plan"])).Request!) is { Plan: true, Out: null }, Is.True);

    [TestCase(new string[0], "Required command")]
    [TestCase(new[] { "fitt" }, "'fitt'")]
    [TestCase(new[] { "fit" }, "--positive")]
    [TestCase(new[] { "fit", "--model", "m", "--positive", "p", "--negative", "n" }, "--out")]
    [TestCase(new[] { "demo", "--task", "Topic" }, "topic, tone, honesty, refusal")]
    [TestCase(new[] { "demo", "--task", "0" }, "topic, tone, honesty, refusal")]
    [TestCase(new[] { "demo", "extra" }, "extra")]
    [TestCase(new[] { "verify" }, "DIR")]
    [TestCase(new[] { "inspect" }, "DIR|FILE")]
    [TestCase(new[] { "bench" }, "bench")]
    [TestCase(new[] { "generate", "--model", "m", "--temprature", "1" }, "Unknown option '--temprature'")]
    [TestCase(new[] { "generate", "--model", "m", "--rude" }, "Unknown option '--rude'")]
    [TestCase(new[] { "generate", "--model", "m", "--kv", "f16", "Once" }, "--kv must be f32 or bf16, got 'f16'")]
    [TestCase(new[] { "fit", "--kv", "bf16" }, "Unknown option '--kv'")]
    [TestCase(new[] { "verify", "-v", "folder" }, "Unknown option '-v'")]
    public async Task A_wrong_command_line_is_exit_code_2(string[] args, string says) => await ExpectUsageError(args, says);

    [TestCase("--q", "-1")]
    [TestCase("--q", "NaN")]
    [TestCase("--q", "1,5")]
    [TestCase("--r", "0")]
    [TestCase("--r", "1e13")]
    [TestCase("--qf", "Infinity")]
    [TestCase("--order", "0")]
    [TestCase("--order", "1.5")]
    [TestCase("--layers", "5-3")]
    [TestCase("--layers", "-1-3")]
    [TestCase("--layers", "5")]
    [TestCase("--layers", "1-2-3")]
    [TestCase("--layers", "1-3,9-8")]
    [TestCase("--layers", "1-3,")]
    [TestCase("--layers", "1-3;8-9")]
    [TestCase("--cost", "both")]
    [TestCase("--setpoint", "1")]
    [TestCase("--system", "s")]
    public async Task Fit_refuses_values_out_of_range(string option, string value) => await ExpectUsageError([.. s_fit, option, value], option);

    [TestCase("--max-tokens", "0")]
    [TestCase("--max-tokens", "-1")]
    [TestCase("--max-tokens", "9223372036854775808")]
    [TestCase("--temperature", "-1", "--temperature must be 0 (greedy) to 100, got -1.")]
    [TestCase("--temperature", "NaN")]
    [TestCase("--temperature", "1e308")]
    [TestCase("--temperature", "warm")]
    [TestCase("--top-p", "0")]
    [TestCase("--top-p", "2")]
    [TestCase("--top-k", "-1")]
    [TestCase("--min-p", "1.5")]
    [TestCase("--repetition-penalty", "0")]
    [TestCase("--presence-penalty", "-2.5")]
    [TestCase("--frequency-penalty", "3")]
    [TestCase("--seed", "18446744073709551616")]
    [TestCase("--seed", "-1")]
    [TestCase("--stop", "", "stop string")]
    [TestCase("--lambda", "NaN")]
    [TestCase("--lambda", "1e39")]
    [TestCase("--lambda", "much")]
    [TestCase("--u-max", "0")]
    [TestCase("--u-max", "NaN")]
    [TestCase("--tokens", "middle")]
    [TestCase("--system", "s", "--chat")]
    [TestCase("--chat-arg", "a=1", "need --chat")]
    [TestCase("--chat-template", "rag", "need --chat")]
    [TestCase("--model", "second")]
    public async Task Steer_refuses_values_out_of_range(string option, string value, string? says = null) =>
        await ExpectUsageError([.. s_steer, option, value, "prompt"], says ?? option);

    [Test]
    public async Task Steer_pairs_controllers_with_their_lambdas()
    {
        var none = (SteerRequest)(await Run([.. s_steer, "p"])).Request!;
        var one = (SteerRequest)(await Run([.. s_steer, "--controller", "d", "--lambda", "-1.5", "p"])).Request!;
        var each = (SteerRequest)(await Run([.. s_steer, "--lambda", "2", "--controller", "d", "--lambda", "-.5", "p"])).Request!;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(none.Steering.Controllers, Is.EqualTo([new Controlled("c", 1)]));
            Assert.That(one.Steering.Controllers, Is.EqualTo([new Controlled("c", -1.5f), new Controlled("d", -1.5f)]));
            Assert.That(each.Steering.Controllers, Is.EqualTo([new Controlled("c", 2), new Controlled("d", -0.5f)]));
        }

        await ExpectUsageError([.. s_steer, "--lambda", "1", "--lambda", "2", "p"], "1 controllers, got 2");
        await ExpectUsageError([.. s_steer, "--lambda", "1", "2"], "A prompt that is a number goes before --lambda");
    }

    [Test]
    public async Task Chat_variables_are_names_and_json()
    {
        string[] chat = [.. s_steer, "--chat"];
        var request =
            (SteerRequest)(await Run([.. chat, "--chat-arg", "enable_thinking=false", "--chat-arg", "s=\"a=b\"", "--chat-arg", "tools=[{\"n\": 1.0}]",
                "--chat-template", "rag", "--chat-published", "p"])).Request!;
        ChatOptions options = request.Prompt.ChatOptions;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(options.Variables.Select(static v => $"{v.Key} {v.Value.GetRawText()}"),
                Is.EqualTo(["enable_thinking false", "s \"a=b\"", "tools [{\"n\": 1.0}]"]));
            Assert.That((options.Template, options.ParseContent, options.AddGenerationPrompt), Is.EqualTo(("rag", true, true)));
        }

        await ExpectUsageError([.. chat, "--chat-arg", "a", "p"], "NAME=JSON");
        await ExpectUsageError([.. chat, "--chat-arg", "=1", "p"], "NAME=JSON");
        await ExpectUsageError([.. chat, "--chat-arg", "messages=[]", "p"], "other than messages");
        await ExpectUsageError([.. chat, "--chat-arg", "a=yes", "p"], "expects JSON for 'a'");
        await ExpectUsageError([.. chat, "--chat-arg", "a=1", "--chat-arg", "a=2", "p"], "'a' twice");
    }

    [Test]
    public async Task Steer_takes_the_tokens_that_it_moves()
    {
        async Task<SteeredTokens> Tokens(params string[] options) =>
            ((SteerRequest)(await Run([.. s_steer, .. options, "p"])).Request!).Steering.Tokens;
        Assert.That(await Tokens(), Is.EqualTo(SteeredTokens.Last));
        Assert.That(await Tokens("--tokens", "first"), Is.EqualTo(SteeredTokens.First));
        Assert.That(await Tokens("--tokens", "clean"), Is.EqualTo(SteeredTokens.LastOverCleanPrefix));
        Assert.That(
            await Tokens("--tokens", "generated", "--window", "2-5"),
            Is.EqualTo(new SteeredTokens { Prompt = PromptTokens.None, GeneratedBegin = 2, GeneratedEnd = 6 }));
        Assert.That(
            await Tokens("--tokens", "all", "--window", "3-", "--skip-position", "0", "--skip-id", "7", "--skip-id", "5"),
            Is.EqualTo(SteeredTokens.All with { GeneratedBegin = 3, ExcludedPositions = [0], ExcludedIds = [5, 7] }));
        await ExpectUsageError([.. s_steer, "--tokens", "first", "--window", "0-1", "p"], "--window");
        foreach (string window in new[] { "5-2", "a-b", "-3", "3", "1-2-3", "0-2147483647" })
        {
            await ExpectUsageError([.. s_steer, $"--window={window}", "p"], "--window");
        }

        await ExpectUsageError([.. s_steer, "--skip-id", "-1", "p"], "--skip-id");
        await ExpectUsageError([.. s_steer, "--skip-position", "x", "p"], "--skip-position");
    }

    [Test]
    public async Task Steer_takes_every_option()
    {
        string[] options = ["--tokens", "all", "--compare", "--trace", "t", "--u-max", "3", "--chat", "--system", "s", "--max-tokens", "7",
            "--temperature", "0.5", "--top-k", "4"];
        string[] more = ["--top-p", "0.9", "--min-p", "0.1", "--repetition-penalty", "1.2", "--seed", "18446744073709551615", "--stop", "a", "--stop",
            "b", "--device", "cpu", "--json"];
        var request = (SteerRequest)(await Run([.. s_steer, .. options, .. more, "p"])).Request!;
        using (Assert.EnterMultipleScope())
        {
            Assert.That((request.Steering.Tokens, request.Compare, request.Trace, request.Steering.MaxEffort, request.Json),
                Is.EqualTo((SteeredTokens.All, true, "t", 3f, true)));
            Assert.That(request.Device, Is.EqualTo(new DeviceRequest(Device.Cpu, 0)));
            Assert.That(request.Prompt, Is.EqualTo(new PromptRequest("p", null, true, "s")));
            Assert.That(request.Decoding.MaxTokens, Is.EqualTo(7));
            Assert.That(request.Decoding.Sampling, Is.EqualTo(new SamplingOptions
            {
                Temperature = 0.5f,
                TopK = 4,
                TopP = 0.9f,
                MinP = 0.1f,
                RepetitionPenalty = 1.2f,
                Seed = ulong.MaxValue,
            }));
            Assert.That((request.Decoding.Stop.Count, request.Decoding.Stop[1]), Is.EqualTo((2, "b")));
        }
    }

    [TestCase(new[] { "hello" }, "", "hello")]
    [TestCase(new[] { "" }, "x", "")]
    [TestCase(new[] { "@file" }, "", "@file")]
    [TestCase(new[] { "--", "--help" }, "", "--help")]
    [TestCase(new string[0], "é two\nlines\n", "é two\nlines")]
    [TestCase(new[] { "-" }, "one\r\n", "one")]
    [TestCase(new[] { "-" }, "one\n\n", "one\n")]
    public async Task A_prompt_is_an_argument_or_standard_input(string[] args, string input, string expected)
    {
        var run = await Run(["generate", "--model", "m", .. args], input);
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(((GenerateRequest)run.Request!).Prompt.Read(run.Terminal, default), Is.EqualTo(expected));
    }

    [Test]
    public async Task A_prompt_may_be_a_whole_file()
    {
        string path = Path.GetTempFileName();
        try
        {
            await File.WriteAllTextAsync(path, "two\n\nlines\n");
            var run = await Run(["generate", "--model", "m", "--file", path]);
            Assert.That(((GenerateRequest)run.Request!).Prompt.Read(run.Terminal, default), Is.EqualTo("two\n\nlines"));
            await ExpectUsageError(["generate", "--model", "m", "--file", path, "prompt"], "twice");
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Test]
    public void No_prompt_at_a_terminal_is_a_usage_error_and_does_not_wait()
    {
        var terminal = new Terminal(Stream.Null, inputIsTerminal: true, TextWriter.Null, outputIsLive: false, TextWriter.Null, errorIsLive: false);
        Assert.That(() => new PromptRequest(null, null, false, null).Read(terminal, default), Throws.TypeOf<UsageException>());
    }

    [Test]
    public void Input_that_is_not_utf8_is_an_error_with_its_offset()
    {
        using var input = new MemoryStream([0x61, 0x62, 0xFF]);
        var terminal = new Terminal(input, inputIsTerminal: false, TextWriter.Null, outputIsLive: false, TextWriter.Null, errorIsLive: false);
        Assert.That(
            () => new PromptRequest("-", null, false, null).Read(terminal, default),
            Throws.TypeOf<PromptFileException>().With.Message.Contains("byte 2").And.Message.Contains("standard input"));
    }

    [Test]
    public async Task Errors_are_a_line_on_stderr_and_with_json_an_object_on_stdout()
    {
        var plain = await Run(["inspect", "p"], fault: new IOException("no\u001b[31m disk"));
        Assert.That((plain.Code, plain.Output, plain.Error), Is.EqualTo((ExitCode.BadInput, "", "tiller: error: no\\u001B[31m disk\n")));

        var json = await Run(["inspect", "p", "--json"], fault: new UsageException("bad"));
        Assert.That((json.Code, json.Error), Is.EqualTo((ExitCode.Usage, "tiller: error: bad\n")));
        using var document = JsonDocument.Parse(json.Output);
        var error = document.RootElement.GetProperty("error");
        Assert.That((error.GetProperty("type").GetString(), error.GetProperty("message").GetString()), Is.EqualTo(("Usage", "bad")));
    }

    [Test]
    public void Every_error_has_its_exit_code()
    {
        using (Assert.EnterMultipleScope())
        {
            Assert.That(ExitCode.Of(new OperationCanceledException()), Is.EqualTo(130));
            Assert.That(ExitCode.Of(new TaskCanceledException()), Is.EqualTo(130));
            Assert.That(ExitCode.Of(Assert.Catch(() => new SamplingOptions { TopP = 0 }.Validate())!), Is.EqualTo(2));
            Assert.That(ExitCode.Of(Assert.Catch(() => new Sampler(new SamplingOptions(), 1).Next([float.NaN], []))!), Is.EqualTo(5));
            Assert.That(ExitCode.Of(Assert.Catch(() => _ = new LqrWeights(q: 1, r: 0, qf: 1))!), Is.EqualTo(5));
            Assert.That(ExitCode.Of(Assert.Catch(() => PromptFile.Read("/no/such/file"))!), Is.EqualTo(4));
            Assert.That(ExitCode.Of(new UnauthorizedAccessException()), Is.EqualTo(4));
            Assert.That(ExitCode.Of(new InvalidCastException()), Is.Null);
        }
    }

    [Test]
    public void A_defect_is_not_hidden() =>
        Assert.That(async () => await Run(["demo"], fault: new InvalidCastException("defect")), Throws.TypeOf<InvalidCastException>());

    [Test]
    public async Task Cancelling_ends_a_running_command_with_130()
    {
        using var source = new CancellationTokenSource();
        using var output = new StringWriter();
        using var error = new StringWriter();
        var started = new TaskCompletionSource();
        TillerCommand demo = new DemoCommand(async (_, token) =>
        {
            started.SetResult();
            await Task.Delay(Timeout.Infinite, token);
            return 0;
        });
        var terminal = new Terminal(Stream.Null, inputIsTerminal: false, output, outputIsLive: false, error, errorIsLive: false);
        var run = CommandLine.RunAsync([demo], ["demo"], terminal, source.Token);
        await started.Task;
        await source.CancelAsync();
        Assert.That(await run, Is.EqualTo(130));
        Assert.That(error.ToString(), Does.Contain("cancelled"));
    }

    [Test]
    public async Task Root_help_teaches_commands_and_exit_codes()
    {
        var run = await Run(["--help"]);
        string[] taught = ["demo", "fit", "steer", "generate", "pull", "inspect", "verify", "devices", "Exit codes:", "130", "NO_COLOR",
            "tiller fit --model"];
        Assert.That(run.Code, Is.Zero);
        Assert.That(taught, Has.All.Matches<string>(t => run.Output.Contains(t!, StringComparison.Ordinal)));
    }

    // The first column is as wide as its widest name: the list of all that bench measures has pushed the descriptions off the screen.
    [Test]
    public async Task Descriptions_stand_beside_what_they_describe(
        [Values("", "demo", "fit", "steer", "generate", "inspect", "pull", "verify", "bench", "devices", "kernels")] string name)
    {
        var run = await ToolRun.Of([.. name.Length == 0 ? [] : new[] { name }, "--help"]);
        string[] rows = [.. run.Output.Split("Examples:")[0].Split('\n').Where(line => line.StartsWith("  ", StringComparison.Ordinal)
            && line.TrimStart().Contains("  ", StringComparison.Ordinal))];
        Assert.That(rows, Has.Length.AtLeast(2));
        Assert.That(rows, Has.All.Matches<string>(row => row!.TrimStart().IndexOf("  ", StringComparison.Ordinal) < 40));
    }

    [Test]
    public async Task Bench_tells_what_it_measures_in_its_own_help()
    {
        string[] modes = [.. Enum.GetNames<Tiller.Bench.BenchMode>().Select(mode => mode.ToLowerInvariant())];
        var (all, bench) = (await ToolRun.Of("--help"), await ToolRun.Of("bench", "--help"));
        Assert.That(bench.Output, Does.Contain(string.Join(", ", modes)));
        Assert.That(all.Output, Does.Contain("  bench <what>  ").And.Not.Contain("riccati"));
    }

    [Test]
    public async Task The_examples_of_every_command_parse([Values("demo", "fit", "steer", "generate", "inspect", "verify", "devices")] string name)
    {
        var help = await Run([name, "--help"]);
        Assert.That((help.Code, help.Request), Is.EqualTo((0, (object?)null)));
        string[] examples = [.. help.Output.Split("Examples:")[1].Split('\n').Select(l => l.Trim()).Where(l => l.Length > 0 && l[0] != '#')];
        Assert.That(examples, Has.Length.AtLeast(2));
        foreach (string example in examples)
        {
            string[] args =
                [.. System.CommandLine.Parsing.CommandLineParser.SplitCommandLine(example[example.IndexOf("tiller ", StringComparison.Ordinal)..])];
            var run = await Run(args[1..]);
            Assert.That((run.Code, run.Error), Is.EqualTo((0, "")), example);
            Assert.That(run.Request, Is.Not.Null);
        }
    }

    [Test]
    public async Task Task_and_paths_reach_their_commands()
    {
        using (Assert.EnterMultipleScope())
        {
            Assert.That((await Run(["demo"])).Request, Is.EqualTo(new DemoRequest(DemoTask.Topic, null, null, new DeviceRequest(null, 0), false)));
            Assert.That((await Run(["demo", "--task", "refusal", "--json"])).Request,
                Is.EqualTo(new DemoRequest(DemoTask.Refusal, null, null, new DeviceRequest(null, 0), true)));
            Assert.That((await Run(["inspect", "--json", "x"])).Request, Is.EqualTo(new InspectRequest("x", false, null, true)));
            Assert.That(((VerifyRequest)(await Run(["verify", "a", "b"])).Request!).Folders, Is.EqualTo(["a", "b"]));
        }
    }

    private sealed record Outcome(int Code, object? Request, string Output, string Error, Terminal Terminal);

    private static async Task ExpectUsageError(string[] args, string says)
    {
        var run = await Run([.. args[..Math.Min(1, args.Length)], "--json", .. args.Skip(1)]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.Usage));
            Assert.That(run.Request, Is.Null);
            Assert.That(run.Error, Does.StartWith("tiller: error: ").And.Contain(says));
            using var json = JsonDocument.Parse(run.Output);
            Assert.That(json.RootElement.GetProperty("error").GetProperty("message").GetString(), Does.Contain(says));
        }
    }

    private static async Task<Outcome> Run(string[] args, string input = "", Exception? fault = null)
    {
        object? request = null;
        Task<int> Take(object asked, CancellationToken cancellationToken)
        {
            request = asked;
            return fault is null ? Task.FromResult(0) : Task.FromException<int>(fault);
        }

        TillerCommand[] commands =
            [new DemoCommand(Take), new FitCommand(Take), new SteerCommand(Take), new GenerateCommand(Take), new InspectCommand(Take),
                new VerifyCommand(Take), new DevicesCommand(Take)];
        using var output = new StringWriter { NewLine = "\n" };
        using var error = new StringWriter { NewLine = "\n" };
        var terminal = new Terminal(new MemoryStream(Encoding.UTF8.GetBytes(input)), inputIsTerminal: false, output, outputIsLive: false, error,
            errorIsLive: false);
        int code = await CommandLine.RunAsync(commands, args, terminal, default);
        return new Outcome(code, request, output.ToString(), error.ToString(), terminal);
    }
}
