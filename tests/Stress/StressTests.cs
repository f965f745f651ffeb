using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Stress;

namespace Tiller.Tests.Stress;

/// <summary>Many sessions at once, cancelled at random, give what each gives alone; and the tool that says so would notice if not.</summary>
public sealed class StressTests
{
    [Test]
    public void Sixty_four_sessions_at_once()
    {
        using var guard = Patience.Guard();
        int asked = 0;
        var report = StressRun.Run(Request(sessions: 64), guard.Token, counts => new[]
        {
            // Slowly enough for a look at the memory in every quarter.
            ++asked / 40.0,
            counts.Texts / 200.0, counts.BatchedCalls / 400.0, (counts.Calls - counts.BatchedCalls) / 4000.0,
            counts.Resumed / 50.0, (counts.Cancelled - counts.Resumed) / 50.0,
        }.Min());
        TestContext.Out.WriteLine(report);
        Assert.That(report.Counts.Failures, Is.Empty);
        Assert.That(report.Hung, Is.False);
    }

    [Test]
    public void A_logit_that_differs_is_found_and_named()
    {
        const string Logits = "text 0, new token 3: the logits are not those of a session alone";
        const string Draw = "text 1, new token 24: another token was drawn than by a session alone";
        var request = Request(sessions: 8);
        using var guard = Patience.Guard();
        using var model = LanguageModel.WithRandomWeights(request.Shape.Config, TensorType.BF16, new LoadOptions
        {
            Device = Device.Cpu,
            Threads = request.Threads,
        });
        var texts = StressTexts.Build(model, out double textMs, CancellationToken.None);
        texts[5].Hashes[2]++;
        texts[6].Ids[23]++;
        var report = StressRun.Run(
            model, [texts[5], texts[6], texts[7]], textMs, request, guard.Token,
            counts => counts.Failures.Contains(Logits) && counts.Failures.Contains(Draw) ? 1 : 0);
        Assert.That(report.Counts.Failures, Has.All.StartsWith("text 0").Or.StartsWith("text 1"));
    }

    [Test]
    public void A_leak_is_found()
    {
        var leaked = new List<HostBuffer>();
        using var guard = Patience.Guard();
        var report = StressRun.Run(Request(sessions: 2), guard.Token, _ =>
        {
            var buffer = new HostBuffer(4 << 20);
            new Floats(buffer.Address, 1, 1 << 20).HostRow(0).Fill(1);
            leaked.Add(buffer);
            return leaked.Count / 100.0;
        });
        leaked.ForEach(b => b.Dispose());
        Assert.That(report.Counts.Failures, Has.Count.EqualTo(2));
        Assert.That(report.Counts.Failures, Has.Some.Match("^the memory in use grew by [0-9]+ MiB between"));
        Assert.That(report.Counts.Failures, Has.Some.Match("^[0-9]+ MiB of buffers are still held"));
    }

    [Test]
    public async Task Readers_of_a_scheduler_who_leave_and_dawdle_and_change_lambda_get_what_a_lone_session_draws()
    {
        using var guard = Patience.Guard();
        using var model = LanguageModel.WithRandomWeights(BenchShape.Parse("demo").Config, TensorType.BF16, new LoadOptions
        {
            Device = Device.Cpu,
            Threads = 2
        });
        var texts = StressTexts.Build(model, out _, guard.Token);
        var report = await SchedulerStorm.Run(
            model, texts, readers: 64,
            done => done.Texts < 60 || done.Moved < 6 || done.Cancelled < 15 || done.Dropped < 5 || done.Refused == 0, guard.Token);
        TestContext.Out.WriteLine(report);
        Assert.That(report.Failures, Is.Empty);
        Assert.That(report.PrefixHits, Is.Positive);

        texts[5].Ids[20]++;
        var wrong = await SchedulerStorm.Run(model, [texts[5]], readers: 3, done => done.Failures.Count == 0, guard.Token);
        Assert.That(wrong.Failures, Is.EqualTo(new[] { "text 0: its tokens are not those of a session alone" }));
    }

    [TestCase("", "# stress, shape 2,64,128,4,2,16,300, bf16\n", "\nfailures +0\n$")]
    [TestCase("--markdown", "stress, shape 2,64,128,4,2,16,300, bf16", "\n\\| sessions at once \\| 9 \\|\n")]
    [TestCase("--json", "{", "\"sessions\": 9,(.|\n)*\"failures\": \\[\\]")]
    public async Task The_program_tells_what_it_did(string format, string begins, string says)
    {
        string[] options = [.. "--minutes 0.02 --sessions 9 --device cpu --shape 2,64,128,4,2,16,300".Split(' '),
            .. format.Split(' ', StringSplitOptions.RemoveEmptyEntries)];
        using var program = Tool.Program.StartTool("tiller-stress", options);
        var (code, text, error) = await Tool.Program.Ended(program);
        Assert.That(code, Is.Zero, error + text);
        Assert.That(text, Does.StartWith(begins).And.Match(says));
    }

    // 1 is what a failure gives.
    [TestCase("A shape is one of", "--shape", "3,1")]
    [TestCase("--minutes must be a number above 0 and at most 1440, got '0'", "--minutes", "0")]
    [TestCase("--minutes must be a number above 0 and at most 1440, got 'x'", "--minutes", "x")]
    [TestCase("got '1,5': write 1.5", "--minutes", "1,5")]
    [TestCase("--sessions must be a whole number from 1 to 4096", "--sessions", "4097")]
    [TestCase("--threads must be a whole number, 0 to 1024", "--threads", "-1")]
    [TestCase("--cancels must be a whole number", "--serve", "--cancels", "-1")]
    [TestCase("--dtype must be one of bf16, f16, f32", "--dtype", "f8")]
    [TestCase("A device is auto", "--device", "gpu")]
    [TestCase("--scheduler and --serve are two kinds of run", "--serve", "--scheduler")]
    [TestCase("'--minute' was not matched", "--minute", "1")]
    public async Task What_is_wrong_with_the_options_is_told_with_a_code_of_its_own(string problem, params string[] options)
    {
        using var program = Tool.Program.StartTool("tiller-stress", options);
        var (code, output, error) = await Tool.Program.Ended(program);
        string told = error + output;
        Assert.That((code, told.Contains(problem, StringComparison.Ordinal)), Is.EqualTo((2, true)), told);
    }

    [Test]
    public void Ctrl_C_ends_the_run()
    {
        using var source = new CancellationTokenSource();
        Assert.That(
            () => StressRun.Run(Request(sessions: 16), source.Token, counts =>
            {
                if (counts.Calls > 0)
                {
                    source.Cancel();
                }

                return 0;
            }),
            Throws.InstanceOf<OperationCanceledException>());
    }

    private static StressRequest Request(int sessions) => new()
    {
        Device = Device.Cpu,
        Shape = BenchShape.Parse("demo"),
        Sessions = sessions,
    };
}
