using System.Text.Json;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Tokens;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

public class SteerTests
{
    private static readonly string[] s_short = ["--max-tokens", "16", "Once upon a time"];
    private Scratch _scratch = null!;

    private string Sea => _scratch["sea.tiller"];

    private string Kind => _scratch["kind.tiller"];

    [OneTimeSetUp]
    public async Task FitControllers()
    {
        _scratch = new Scratch();
        foreach (var (task, path) in new[] { ("topic", Sea), ("tone", Kind) })
        {
            var run = await ToolRun.Of(
                "fit", "--model", ToolRun.Model, "--positive", _scratch.Few($"{task}.positive", 16), "--negative",
                _scratch.Few($"{task}.negative", 16), "--out", path, "--cost", "feature");
            Assert.That(run.Code, Is.Zero, run.Error);
        }
    }

    [OneTimeTearDown]
    public void Clean() => _scratch.Dispose();

    [Test]
    public async Task Plain_text_and_one_summary_line()
    {
        var run = await ToolRun.Of("generate", "--model", ToolRun.Model, "Once upon a time", "--max-tokens", "12");
        Assert.That((run.Code, run.Output), Is.EqualTo((0, ", Paula and Henry talked about the stadium. The\n")));
        Assert.That(run.Error,
            Does.Match("^tiller: 12 tokens \\(max tokens\\), [0-9]+ tok/s, [0-9.]+ GB/s, prompt 5 tokens in [0-9]+ ms, logits [0-9a-f]{16}\n$"));
    }

    [Test]
    public async Task Gains_can_be_fitted_to_the_text()
    {
        string[] steer = ["steer", "--model", ToolRun.Model, "--controller", Sea, "--lambda", "2", .. s_short, "--json"];
        JsonElement[] steered =
        [
            (await ToolRun.Of(steer)).Json, (await ToolRun.Of([.. steer, "--fit", "prompt"])).Json,
            (await ToolRun.Of([.. steer, "--fit", "prompt", "--refit", "4", "--order", "4"])).Json,
        ];

        // The same feature and setpoints, other gains: another effort.
        double[] effort = [.. steered.Select(run => run.GetProperty("steered").GetProperty("effort").GetDouble())];
        Assert.That(effort, Is.Unique.And.All.Positive);

        foreach (string[] wrong in new string[][]
        {
            ["--refit", "4"], ["--order", "4"], ["--fit", "prompt", "--tokens", "all"], ["--fit", "prompt", "--order", "129"], ["--fit", "text"],
        })
        {
            var run = await ToolRun.Of([.. steer[..^1], .. wrong]);
            Assert.That((run.Code, run.Output), Is.EqualTo((ExitCode.Usage, "")), string.Join(' ', wrong));
        }
    }

    [Test]
    public async Task The_seed_that_was_drawn_is_told_and_gives_the_text_again()
    {
        string[] generate = ["generate", "--model", ToolRun.Model, "--temperature", "2", "--max-tokens", "24", "Once upon a time"];
        ToolRun[] drawn = [await ToolRun.Of(generate), await ToolRun.Of(generate), await ToolRun.Of(generate)];
        Assert.That(drawn.Select(run => run.Output), Is.Unique);
        foreach (var run in drawn)
        {
            string seed = run.Error.Split("ms, seed ")[1].Split(", logits ")[0];
            var again = await ToolRun.Of([.. generate, "--seed", seed]);
            var json = await ToolRun.Of([.. generate, "--json", "--seed", seed]);
            Assert.That(again.Output, Is.EqualTo(run.Output));
            Assert.That(json.Json.GetProperty("plain").GetProperty("text").GetString() + "\n", Is.EqualTo(run.Output));
            Assert.That(json.Json.GetProperty("plain").GetProperty("seed").GetUInt64().ToString(), Is.EqualTo(seed));
        }

        var unasked = await ToolRun.Of([.. generate, "--json"]);
        var largest = await ToolRun.Of([.. generate, "--json", "--seed", "18446744073709551615"]);
        var greedy = await ToolRun.Of("generate", "--json", "--model", ToolRun.Model, "--seed", "5", "--max-tokens", "2", "One day");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(unasked.Json.GetProperty("plain").GetProperty("seed").GetUInt64(), Is.LessThan(1ul << 53), "whole as a float64 too");
            Assert.That(largest.Json.GetProperty("plain").GetProperty("seed").GetUInt64(), Is.EqualTo(ulong.MaxValue));
            Assert.That(greedy.Json.GetProperty("plain").TryGetProperty("seed", out _), Is.False, "nothing was drawn");
        }
    }

    [Test]
    public async Task Log_probabilities_are_in_the_json_of_plain_and_steered_texts()
    {
        var run = await Steer("--json", "--controller", Sea, "--lambda", "2", "--compare", "--logprobs", "3", "--frequency-penalty", "1.5");
        foreach (string name in new[] { "plain", "steered" })
        {
            var text = run.Json.GetProperty(name);
            int[] ids = [.. text.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())];
            var tokens = text.GetProperty("logprobs").EnumerateArray().ToArray();
            Assert.That(tokens.Select(token => token.GetProperty("id").GetInt32()), Is.EqualTo(ids));
            Assert.That(string.Concat(tokens.Select(token => token.GetProperty("text").GetString())),
                Does.Contain(text.GetProperty("text").GetString()!.Trim()));
            foreach (var token in tokens)
            {
                double[] top = [.. token.GetProperty("top").EnumerateArray().Select(t => t.GetProperty("logprob").GetDouble())];
                Assert.That(top, Has.Length.EqualTo(3).And.Ordered.Descending.And.All.Negative);
                Assert.That(token.GetProperty("logprob").GetDouble(), Is.LessThanOrEqualTo(top[0]));
            }
        }

        var none = await ToolRun.Of("generate", "--model", ToolRun.Model, "--logprobs", "3", "One day");
        Assert.That(none.Code, Is.EqualTo(2));
        Assert.That(none.Error, Does.Contain("--logprobs needs --json"));
        var many = await ToolRun.Of("generate", "--json", "--model", ToolRun.Model, "--logprobs", "21", "One day");
        Assert.That(many.Code, Is.EqualTo(2));
        Assert.That(many.Output, Does.Contain("--logprobs must be 0 to 20, got 21"));
    }

    [Test]
    public async Task Texts_that_are_compared_have_one_seed()
    {
        var run = await Steer("--json", "--controller", Sea, "--lambda", "0", "--u-max", "1e-30", "--temperature", "1", "--compare");
        var (plain, steered) = (run.Json.GetProperty("plain"), run.Json.GetProperty("steered"));
        Assert.That(steered.GetProperty("seed").GetUInt64(), Is.EqualTo(plain.GetProperty("seed").GetUInt64()));
        Assert.That(steered.GetProperty("text").GetString(), Is.EqualTo(plain.GetProperty("text").GetString()), "steered by next to nothing");
    }

    [Test]
    public async Task Compare_shows_plain_and_steered()
    {
        var plain = await Steer("--controller", Sea, "--lambda", "2", "--compare");
        var texts = plain.Output.Split("--- ");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(texts, Has.Length.EqualTo(3));
            Assert.That(texts[1], Does.StartWith("plain\n"));
            Assert.That(texts[2], Does.StartWith("steered: sea.tiller λ 2\n"));
            Assert.That(plain.Error.Split('\n')[1], Does.Contain("mean |β - v·x|").And.Contain("mean |u|"));
        }
    }

    [TestCase("1e30", "NonFiniteState", "leaving block 1 is NaN")]
    [TestCase("-1e30", "NonFiniteState", "leaving block 1 is NaN")]
    [TestCase("3e38", "SteeringOverflow", "overflows float32")]
    public async Task A_strength_that_overflows_is_a_numerical_failure_without_text(string lambda, string type, string says)
    {
        var text = await Steer("--controller", Sea, "--lambda", lambda);
        var json = await Steer("--json", "--controller", Sea, "--lambda", lambda);
        var error = json.Json.GetProperty("error");
        using (Assert.EnterMultipleScope())
        {
            Assert.That((text.Code, json.Code), Is.EqualTo((ExitCode.Numerical, ExitCode.Numerical)));
            Assert.That(text.Output, Is.Empty);
            Assert.That(text.Error, Does.StartWith("tiller: error: ").And.Contain(says).And.Contain("lower λ"));
            Assert.That(error.GetProperty("type").GetString(), Is.EqualTo(type));
        }
    }

    [Test]
    public async Task Several_controllers_add_up_and_each_has_its_lambda()
    {
        var one = await Steer("--json", "--controller", Sea, "--lambda", "2");
        var both = await Steer("--json", "--controller", Sea, "--controller", Kind, "--lambda", "2", "--lambda", "-3");
        var all = await Steer("--json", "--controller", Sea, "--lambda", "2", "--tokens", "all");
        var bounded = await Steer("--json", "--controller", Sea, "--lambda", "2", "--u-max", "0.25");
        var again = await Steer("--json", "--controller", Sea, "--lambda", "2", "--compare");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(both.Json.GetProperty("controllers")[1].GetProperty("lambda").GetDouble(), Is.EqualTo(-3));
            Assert.That(new[] { Hash(both), Hash(all), Hash(bounded) }, Has.None.EqualTo(Hash(one)));
            Assert.That(Hash(again), Is.EqualTo(Hash(one)), "the same run gives the same logits");
            Assert.That(again.Json.GetProperty("plain").GetProperty("logitsHash").GetString(), Is.Not.EqualTo(Hash(one)));
            Assert.That(bounded.Json.GetProperty("steered").GetProperty("inputNorm").GetDouble(), Is.Positive.And.LessThanOrEqualTo(0.2500001));
            Assert.That(one.Json.GetProperty("steered").GetProperty("ids").GetArrayLength(), Is.EqualTo(16));
        }

        static string? Hash(ToolRun run) => run.Json.GetProperty("steered").GetProperty("logitsHash").GetString();
    }

    [Test]
    public async Task A_controller_that_does_nothing_is_told_and_gives_the_plain_text()
    {
        var sea = Controller.Load(Sea);
        var method = (LinearQuadratic)sea.Method;
        float[][] zero = [.. method.W.Select(row => new float[row.Length])];
        var nowhere = new Feature([.. method.Feature.V.Select(v => new float[v.Length])], [.. method.Feature.Mu.Select(_ => 0f)]);
        foreach (var (idle, says) in new (SteeringMethod, string)[]
        {
            (new LinearQuadratic(method.Feature, zero), "w = K v is 0 at every block of 0-9"),
            (new LinearQuadratic(nowhere, method.W), "μ is 0 at every block of 0-9"), (new Proportional(method.Feature, 0), "the gain k_p is 0"),
        })
        {
            string path = _scratch["idle.tiller"];
            new Controller(idle, sea.Source).Save(path);
            var run = await Steer("--json", "--compare", "--controller", path, "--lambda", "2");
            var both = await Steer("--json", "--controller", path, "--controller", Sea, "--lambda", "2");
            var one = await Steer("--json", "--controller", Sea, "--lambda", "2");
            var inspect = await ToolRun.Of("inspect", path);
            using (Assert.EnterMultipleScope())
            {
                Assert.That(run.Code, Is.Zero, run.Error);
                Assert.That(run.Error, Does.StartWith($"tiller: warning: {path} does nothing, as {says}"));
                Assert.That(Text(run, "steered"), Is.EqualTo(Text(run, "plain")));
                Assert.That(both.Error, Does.StartWith($"tiller: warning: {path} does nothing"));
                Assert.That(Text(both, "steered"), Is.EqualTo(Text(one, "steered")));
                Assert.That(one.Error, Does.Not.Contain("warning"));
                Assert.That(inspect.Output, Does.Contain($"does nothing, as {says}"));
            }
        }

        static (string?, string?) Text(ToolRun run, string side) =>
            (run.Json.GetProperty(side).GetProperty("text").GetString(), run.Json.GetProperty(side).GetProperty("logitsHash").GetString());
    }

    [Test]
    public async Task The_same_controller_twice_is_told_whatever_its_file_is_called()
    {
        string copy = _scratch["copy.tiller"], refit = _scratch["refit.tiller"];
        File.Copy(Sea, copy, overwrite: true);
        var sea = Controller.Load(Sea);
        new Controller(sea.Method, sea.Source with { ModelName = "by another name", Residuals = null }).Save(refit);
        foreach (string other in new[] { Sea, copy, refit })
        {
            var run = await Steer("--controller", Kind, "--controller", Sea, "--controller", other, "--lambda", "1", "--lambda", "1",
                "--lambda", "-2");
            Assert.That(run.Code, Is.Zero, run.Error);
            Assert.That(run.Error, Does.StartWith($"tiller: warning: --controller 3, {other}, is the same controller as number 2, {Sea}: "
                + "it steers twice."));
            Assert.That(run.Error.Split("warning").Length, Is.EqualTo(2));
        }

        Assert.That((await Steer("--controller", Sea, "--controller", Kind)).Error, Does.Not.Contain("warning"));
    }

    [Test]
    public async Task The_trace_has_a_line_for_every_steered_token()
    {
        string trace = _scratch["t.jsonl"];
        var run = await Steer("--controller", Sea, "--lambda", "1", "--trace", trace);
        string[] lines = await File.ReadAllLinesAsync(trace);
        Assert.That((run.Code, lines.Length), Is.EqualTo((0, 16)));
        foreach (string line in lines)
        {
            using var json = JsonDocument.Parse(line);
            Assert.That(json.RootElement.GetProperty("projection").GetArrayLength(), Is.EqualTo(10));
            Assert.That(json.RootElement.GetProperty("effort").EnumerateArray().Sum(u => u.GetDouble()), Is.Positive);
        }
    }

    [Test]
    public async Task The_prompt_comes_from_a_file_or_standard_input_as_well()
    {
        string[] generate = ["generate", "--model", ToolRun.Model, "--max-tokens", "8"];
        await File.WriteAllTextAsync(_scratch["prompt.txt"], "One day\n");
        var argument = await ToolRun.Of([.. generate, "One day"]);
        var file = await ToolRun.Of([.. generate, "--file", _scratch["prompt.txt"]]);
        var input = await ToolRun.Of(generate, ToolRun.Bytes("One day\n"), default);
        Assert.That(new[] { file.Output, input.Output }, Has.All.EqualTo(argument.Output));
        Assert.That((await ToolRun.Of(generate, [0xFF], default)).Code, Is.EqualTo(ExitCode.BadInput));
    }

    [Test]
    public async Task A_chat_is_put_in_the_checkpoints_format_or_refused()
    {
        string qwen = Repository.Path("tests", "goldens", "qwen2-bf16", "checkpoint");
        var bare = await ToolRun.Of("generate", "--json", "--model", qwen, "--max-tokens", "2", "Hi");
        var chat = await ToolRun.Of("generate", "--json", "--model", qwen, "--max-tokens", "2", "--chat", "Hi");
        var told = await ToolRun.Of("generate", "--json", "--model", qwen, "--max-tokens", "2", "--chat", "--system",
            "Answer in a few words, and be kind to everyone. Always.", "Hi");
        var none = await ToolRun.Of("generate", "--model", ToolRun.Model, "--chat", "Hi");
        int[] lengths = [.. new[] { bare, chat, told }.Select(r => r.Json.GetProperty("plain").GetProperty("promptTokens").GetInt32())];
        using (Assert.EnterMultipleScope())
        {
            Assert.That(lengths[1], Is.GreaterThan(lengths[0]));
            Assert.That(lengths[2], Is.Not.EqualTo(lengths[1]));
            Assert.That((none.Code, none.Output), Is.EqualTo((ExitCode.BadInput, "")));
            Assert.That(none.Error, Does.Contain("no chat template"));
        }
    }

    [Test]
    public async Task Steering_in_another_form_than_the_prompts_were_in_is_warned_of()
    {
        string qwen = Repository.Path("tests", "goldens", "qwen2-bf16", "checkpoint");
        string old = Repository.Path("tests", "controllers", "version-1.fitted.tiller");
        await File.WriteAllLinesAsync(_scratch["p.txt"], ["The sea is wide."]);
        await File.WriteAllLinesAsync(_scratch["n.txt"], ["The dog slept."]);
        string[] fit = ["fit", "--model", qwen, "--positive", _scratch["p.txt"], "--negative", _scratch["n.txt"], "--cost", "feature", "--chat"];
        Assert.That((await ToolRun.Of([.. fit, "--out", _scratch["chat.tiller"]])).Code, Is.Zero);
        Assert.That((await ToolRun.Of([.. fit, "--out", _scratch["brief.tiller"], "--system", "Be brief."])).Code, Is.Zero);
        string[] brief = ["--chat", "--system", "Be brief."];
        (string File, string[] Options, string? Says)[] cases =
        [
            (old, [], null),
            (old, ["--chat"], "raw text and steers a chat. Steer without --chat"),
            (_scratch["chat.tiller"], ["--chat"], null),
            (_scratch["chat.tiller"], [], "on chats and steers raw text. Steer with --chat and no --system"),
            (_scratch["chat.tiller"], brief, "without a system message and steers a chat that has one"),
            (_scratch["brief.tiller"], brief, null),
            (_scratch["brief.tiller"], [], "Steer with --chat --system \"Be brief.\""),
            (_scratch["brief.tiller"], ["--chat"], "with a system message and steers a chat that has none"),
            (_scratch["brief.tiller"], ["--chat", "--system", "Be long."], "with another system message than the one at hand"),
        ];
        foreach (var (file, options, says) in cases)
        {
            var run = await ToolRun.Of(["steer", "--model", qwen, "--controller", file, "--max-tokens", "2", "--json", .. options, "Hi"]);
            string[] warnings = [.. run.Error.Split('\n').Where(line => line.StartsWith("tiller: warning: ", StringComparison.Ordinal))];
            Assert.That(run.Code, Is.Zero, run.Error);
            Assert.That(warnings, Has.Length.EqualTo(says is null ? 0 : 1), run.Error);
            Assert.That(warnings, Has.All.Contains(says ?? "").And.All.Contains(Path.GetFileName(file)));
        }

        string folder = Directory.CreateDirectory(_scratch["other"]).FullName;
        foreach (string file in Directory.GetFiles(qwen))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)));
        }

        string template = Path.Combine(folder, "chat_template.jinja");
        string text = await File.ReadAllTextAsync(template);
        await File.WriteAllTextAsync(template, text.Replace("a helpful assistant", "an assistant", StringComparison.Ordinal));
        var changed = await ToolRun.Of("steer", "--model", folder, "--controller", _scratch["chat.tiller"], "--max-tokens", "2", "--chat", "Hi");
        Assert.That(changed.Code, Is.Zero, changed.Error);
        Assert.That(changed.Error, Does.Contain("chat.tiller: The controller was fitted with another chat template than the one at hand. Fit it"));
    }

    [Test]
    public async Task A_chats_variables_reach_the_template_and_its_refusal_the_user()
    {
        string golden = Repository.Path("tests", "goldens", "qwen2-bf16", "checkpoint");
        string model = _scratch["chat-model"];
        Directory.CreateDirectory(model);
        foreach (string file in Directory.GetFiles(golden))
        {
            File.Copy(file, Path.Combine(model, Path.GetFileName(file)));
        }

        await File.WriteAllTextAsync(Path.Combine(model, "chat_template.jinja"), "{{ raise_exception('No ' ~ mode ~ ' today.') if mode == 'haste' }}"
            + "{{ messages[0].content }}{{ ' a' * n }}");
        async Task<int> Tokens(params string[] more)
        {
            var run = await ToolRun.Of(["generate", "--json", "--model", model, "--max-tokens", "1", "--chat", .. more, "<|im_end|>"]);
            return run.Code == 0 ? run.Json.GetProperty("plain").GetProperty("promptTokens").GetInt32() : -run.Code;
        }

        int text = await Tokens("--chat-arg", "n=0");
        Assert.That(await Tokens("--chat-arg", "n=3"), Is.EqualTo(text + 3));
        Assert.That((text, await Tokens("--chat-arg", "n=0", "--chat-published")),
            Is.EqualTo((Tokenizer.Load(golden).Encode("<|im_end|>", parseSpecial: false).Length, 1)));
        var refused = await ToolRun.Of("generate", "--model", model, "--chat", "--chat-arg", "mode=\"haste\"", "Hi");
        Assert.That((refused.Code, refused.Output), Is.EqualTo((ExitCode.BadInput, "")));
        Assert.That(refused.Error, Does.Contain("No haste today."));
        Assert.That(await Tokens("--chat-arg", "n=[]"), Is.EqualTo(-ExitCode.BadInput));
    }

    [Test]
    public async Task Another_model_is_refused_before_its_weights_are_read()
    {
        using var scratch = new Scratch();
        foreach (string file in Directory.GetFiles(ToolRun.Model))
        {
            File.Copy(file, scratch[Path.GetFileName(file)]);
        }

        string config = await File.ReadAllTextAsync(scratch["config.json"]);
        await File.WriteAllTextAsync(scratch["config.json"],
            config.Replace("\"rope_theta\": 10000.0", "\"rope_theta\": 20000.0", StringComparison.Ordinal));
        var run = await ToolRun.Of("steer", "--model", scratch["."], "--controller", Sea, "One day");
        Assert.That((run.Code, run.Output), Is.EqualTo((ExitCode.BadInput, "")));
        Assert.That(run.Error, Does.Contain("was fitted on demo"));
    }

    [Test]
    public async Task What_is_missing_or_too_long_is_told()
    {
        var noController = await ToolRun.Of("steer", "--model", ToolRun.Model, "--controller", _scratch["no.tiller"], "x");
        var noModel = await ToolRun.Of("generate", "--model", _scratch["no"], "x");
        var wrongFile = await ToolRun.Of("steer", "--model", ToolRun.Model, "--controller", Path.Combine(ToolRun.Model, "model.safetensors"), "x");
        var tooLong = await ToolRun.Of("generate", "--json", "--model", ToolRun.Model, string.Concat(Enumerable.Repeat("sea ", 3000)));
        var noFolder = await Steer("--controller", Sea, "--trace", _scratch["no/t.jsonl"]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(new[] { noController, noModel, wrongFile, tooLong, noFolder }.Select(r => r.Code), Has.All.EqualTo(ExitCode.BadInput));
            Assert.That(noController.Error, Does.Contain("no.tiller"));
            Assert.That(wrongFile.Error, Does.Contain("controller"));
            Assert.That(tooLong.Error, Does.Match("[0-9]{4} tokens do not fit the model's context of 1024"));
            Assert.That(tooLong.Json.GetProperty("error").GetProperty("type").GetString(), Is.EqualTo("ContextLength"));
            Assert.That(noFolder.Output, Is.Empty);
        }
    }

    private static Task<ToolRun> Steer(params string[] options) => ToolRun.Of(["steer", "--model", ToolRun.Model, .. options, .. s_short]);
}
