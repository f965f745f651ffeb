using Tiller.Fuzz;

namespace Tiller.Tests.Fuzz;

/// <summary>docs/hostile-inputs.md §3d, row 57: a writer killed at a random moment leaves the old file or the new one.</summary>
public sealed class KillTests
{
    [Test]
    [Platform(Exclude = "Win", Reason = "Windows has no SIGKILL, and nothing is cleaned up there")]
    public void A_hundred_kills_leave_whole_files_and_no_temporary_ones() => Kill(100);

    /// <summary>The run on record; <c>tiller-fuzz kill</c> is the same.</summary>
    [Test]
    [Explicit("a thousand processes take minutes")]
    [Platform(Exclude = "Win", Reason = "Windows has no SIGKILL, and nothing is cleaned up there")]
    public void A_thousand_kills_leave_whole_files_and_no_temporary_ones() => Kill(1000);

    private static void Kill(int count)
    {
        int seed = Environment.TickCount;
        TestContext.Out.WriteLine($"seed {seed}");
        var run = new KillRun(seed);
        run.Run(count);
        TestContext.Out.WriteLine($"{run.InTheMiddle} while a temporary file was there, {run.Replaced} changes of version");

        Assert.That(run.InTheMiddle, Is.AtLeast(count / 20));
        Assert.That(run.Replaced, Is.AtLeast(count / 20));
    }
}
