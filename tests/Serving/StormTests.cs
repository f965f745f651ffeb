using Tiller.Controllers;
using Tiller.Features;
using Tiller.Stress;

namespace Tiller.Tests.Serving;

/// <summary>Many clients at once get what each gets alone, and leave nothing behind; and the storm would notice if not.</summary>
[NonParallelizable] // the sockets of other tests would count
public sealed class StormTests
{
    private static Controller Sea
    {
        get
        {
            var contrast = new ContrastSet(["The sea has gulls.", "A boat is on the sea."], ["The dog has bones.", "A kennel is in the yard."]);
            return ControllerFit.Run(RunningServer.Model, contrast, new FitOptions { Cost = FitCost.Feature }).Controller;
        }
    }

    [Test]
    public async Task Clients_who_stream_and_leave_and_do_not_read_and_move_lambda()
    {
        using var guard = Patience.Guard();
        var plan = new ServeStormPlan { Streams = 24, SlowReaders = 5, Cancels = 40 };
        var sea = Sea;
        var report = await ServeStorm.Run(RunningServer.Model, sea, ServeStorm.Cases(RunningServer.Model, sea), plan, guard.Token);
        TestContext.Out.WriteLine(report);
        Assert.That(report.Failures, Is.Empty);
        Assert.That(report.Dropped, Is.EqualTo(5));
        Assert.That(report.Cancelled, Is.GreaterThanOrEqualTo(40));
        Assert.That(report.Answers, Is.Positive);
        Assert.That(report.Moved + report.Overtaken, Is.Positive, "λ is moved while texts stream, however fast they are");
        Assert.That(report.Texts, Is.GreaterThanOrEqualTo(report.Answers + report.Cancelled + (8 * report.Dropped)));
    }

    [Test]
    public async Task A_text_that_differs_is_noticed()
    {
        using var guard = Patience.Guard();
        var sea = Sea;
        ServeCase[] wrong =
        [
            .. ServeStorm.Cases(RunningServer.Model, sea).Select(one => one with
            {
                Alone = "?" + one.Alone[1..],
                Moved = [.. one.Moved.Select(text => "?" + text[1..])],
            }),
        ];
        var report = await ServeStorm.Run(
            RunningServer.Model, sea, wrong, new ServeStormPlan { Streams = 6, SlowReaders = 0, Cancels = 10 }, guard.Token);
        Assert.That(report.Failures, Is.Not.Empty.And.All.Contains("is not the text of a session alone"));
    }
}
