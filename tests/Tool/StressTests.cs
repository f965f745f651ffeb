using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Model;
using Tiller.Tensors;

namespace Tiller.Tests.Tool;

/// <summary>Many sessions at once, cancelled at random, give what each gives alone; and the tool that says so would notice if not.</summary>
public sealed class StressTests
{
    [Test]
    public void Sixty_four_sessions_for_twenty_seconds()
    {
        var report = StressBench.Run(Request(seconds: 20, sessions: 64), CancellationToken.None);
        TestContext.Out.WriteLine(report);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(report.Failures, Is.Empty);
            Assert.That(report.Texts, Is.AtLeast(64));
            Assert.That(report.BatchedCalls, Is.AtLeast(100));
            Assert.That(report.Calls, Is.AtLeast(report.BatchedCalls + 1000));
            Assert.That(report.Resumed, Is.AtLeast(20));
            Assert.That(report.Cancelled, Is.AtLeast(report.Resumed + 20));
        }
    }

    [Test]
    public void A_logit_that_differs_is_found_and_named()
    {
        var request = Request(seconds: 3, sessions: 8);
        using var model = LanguageModel.WithRandomWeights(request.Shape.Config, TensorType.BF16, new LoadOptions { Device = "cpu", Threads = request.Threads });
        var texts = StressTexts.Build(model, out double textMs, CancellationToken.None);
        texts[5].Hashes[2]++;
        texts[6].Ids[23]++;
        var report = StressBench.Run(model, [texts[5], texts[6], texts[7]], textMs, request, CancellationToken.None);
        Assert.That(report.Failures, Has.Some.EqualTo("text 0, new token 3: the logits are not those of a session alone"));
        Assert.That(report.Failures, Has.Some.EqualTo("text 1, new token 24: another token was drawn than by a session alone"));
        Assert.That(report.Failures, Has.All.StartsWith("text 0").Or.StartsWith("text 1"));
    }

    [Test]
    public void A_leak_is_found()
    {
        var leaked = new List<HostBuffer>();
        using var ends = new CancellationTokenSource();
        var leak = Task.Run(async () =>
        {
            while (!ends.IsCancellationRequested)
            {
                var buffer = new HostBuffer(16 << 20);
                new Floats(buffer.Address, 1, 4 << 20).HostRow(0).Fill(1);
                leaked.Add(buffer);
                await Task.Delay(100);
            }
        });
        var report = StressBench.Run(Request(seconds: 3, sessions: 2), CancellationToken.None);
        ends.Cancel();
        leak.GetAwaiter().GetResult();
        leaked.ForEach(b => b.Dispose());
        Assert.That(report.Failures, Has.Count.EqualTo(2));
        Assert.That(report.Failures, Has.Some.Match("^the memory in use grew by [0-9]+ MiB between"));
        Assert.That(report.Failures, Has.Some.Match("^[0-9]+ MiB of buffers are still held"));
    }

    [Test]
    public async Task The_command_tells_what_it_did()
    {
        string[] command = ["bench", "stress", "--minutes", "0.02", "--sessions", "9", "--shape", "2,64,128,4,2,16,300"];
        var text = await ToolRun.Of(command);
        var markdown = await ToolRun.Of([.. command, "--markdown"]);
        var json = await ToolRun.Of([.. command, "--json"]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That((text.Code, markdown.Code, json.Code), Is.EqualTo((0, 0, 0)), text.Error + text.Output);
            Assert.That(text.Output, Does.StartWith("# stress, shape 2,64,128,4,2,16,300, bf16\n").And.Match("\nfailures +0\n$"));
            Assert.That(markdown.Output, Does.Contain("| sessions at once | 9 |"));
            Assert.That(json.Json.GetProperty("sessions").GetInt32(), Is.EqualTo(9));
            Assert.That(json.Json.GetProperty("calls").GetInt64(), Is.Positive);
            Assert.That(json.Json.GetProperty("failures").GetArrayLength(), Is.Zero);
        }
    }

    [Test]
    public void Ctrl_C_ends_the_run()
    {
        using var source = new CancellationTokenSource(TimeSpan.FromSeconds(1));
        Assert.That(() => StressBench.Run(Request(seconds: 600, sessions: 16), source.Token), Throws.InstanceOf<OperationCanceledException>());
    }

    private static BenchRequest Request(double seconds, int sessions) => new()
    {
        Device = "cpu",
        Mode = BenchMode.Stress,
        Shape = BenchShape.Parse("demo"),
        Minutes = seconds / 60,
        Sessions = sessions,
        DemoFolder = ToolRun.Model,
    };
}
