using System.Diagnostics;
using Tiller.Model;
using Tiller.Tensors;

namespace Tiller.Tests.Model;

/// <summary>Loads given up at any moment leave no memory, thread or file behind.</summary>
public sealed class LoadCancelTests
{
    private const int Cycles = 1000;
    private const int WarmUp = 200;

    // Weights of the demo model are 4 MB: one load in fifty that kept them would show.
    private const long MostGrowthInBytes = 48L << 20;

    [Test]
    [Platform("Linux", Reason = "counts in /proc")]
    public void A_thousand_loads_given_up_at_random_moments_leave_nothing()
    {
        string folder = Repository.Path("models", "demo");
        double whole = Time(folder);
        var random = new Random(7);
        int cancelled = 0;
        (long Memory, long Live, int Threads, int Files) before = default;
        for (int cycle = 0; cycle < Cycles; cycle++)
        {
            using var source = new CancellationTokenSource();
            source.CancelAfter(TimeSpan.FromMilliseconds(whole * 1.2 * random.NextDouble()));
            try
            {
                using var model = LanguageModel.Load(folder, new LoadOptions { Threads = 3 }, source.Token);
            }
            catch (OperationCanceledException)
            {
                cancelled++;
            }

            before = cycle == WarmUp ? Held() : before;
        }

        var after = Held();
        TestContext.Out.WriteLine($"{cancelled} cancelled, a load {whole:F1} ms; held {before} then {after}");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(cancelled, Is.InRange(Cycles / 10, Cycles), "cancelled before the end");
            Assert.That(after.Memory, Is.LessThan(before.Memory + MostGrowthInBytes));
            Assert.That(after.Live, Is.EqualTo(before.Live));
            Assert.That(after.Threads, Is.LessThan(before.Threads + 20));
            Assert.That(after.Files, Is.LessThan(before.Files + 10));
        }
    }

    [Test]
    public void A_load_ends_at_the_next_chunk()
    {
        using var source = new CancellationTokenSource();
        var told = new Told<long>(_ => source.Cancel());
        Assert.That(
            () => LanguageModel.Load(Repository.Path("models", "demo"), new LoadOptions { Progress = told }, source.Token), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(told.Values, Has.Count.LessThanOrEqualTo(Environment.ProcessorCount), "chunks that were under way");
    }

    private static double Time(string folder)
    {
        LanguageModel.Load(folder).Dispose();
        var clock = Stopwatch.StartNew();
        LanguageModel.Load(folder).Dispose();
        return clock.Elapsed.TotalMilliseconds;
    }

    private static (long Memory, long Live, int Threads, int Files) Held()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
        using var process = Process.GetCurrentProcess();
        return (process.WorkingSet64, HostBuffer.LiveInBytes, process.Threads.Count, Directory.GetFileSystemEntries("/proc/self/fd").Length);
    }
}
