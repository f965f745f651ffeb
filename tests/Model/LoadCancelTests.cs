using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Tests.Model;

/// <summary>Loads given up at any moment leave no memory, thread or file behind.</summary>
public sealed class LoadCancelTests
{
    private const int Cycles = 1000;
    private const int WarmUp = 200;

    // Weights of the demo model are 4 MB: one load in fifty that kept as much on the heap would show.
    private const long MaxGrowthInBytes = 48L << 20;

    private static readonly string s_folder = Repository.Path("models", "demo");

    [Test]
    [Platform("Linux", Reason = "counts in /proc")]
    public void A_thousand_loads_given_up_at_random_moments_leave_nothing()
    {
        var whole = new Told<long>();
        LanguageModel.Load(s_folder, new LoadOptions { Device = Device.Cpu, Threads = 3, Progress = whole }).Dispose();
        var random = new Random(7);
        int cancelled = 0;
        (long Heap, long Live, int Threads, int Files) before = default;
        for (int cycle = 0; cycle < Cycles; cycle++)
        {
            // At a report of bytes; some are never made.
            using var source = new CancellationTokenSource();
            int reports = 0, at = random.Next(whole.Values.Count * 6 / 5);
            var told = new Told<long>(_ =>
            {
                if (reports++ == at)
                {
                    source.Cancel();
                }
            });
            try
            {
                using var model = LanguageModel.Load(s_folder, new LoadOptions { Device = Device.Cpu, Threads = 3, Progress = told }, source.Token);
            }
            catch (OperationCanceledException)
            {
                cancelled++;
            }

            before = cycle == WarmUp ? Held() : before;
        }

        var after = Held();
        TestContext.Out.WriteLine($"{cancelled} cancelled, {whole.Values.Count} reports; held {before} then {after}");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(cancelled, Is.InRange(Cycles / 10, Cycles), "cancelled before the end");
            Assert.That(after.Heap, Is.LessThan(before.Heap + MaxGrowthInBytes));
            Assert.That((after.Live, after.Threads, after.Files), Is.EqualTo((before.Live, before.Threads, before.Files)));
        }
    }

    [Test]
    public void A_load_ends_at_the_next_chunk()
    {
        using var source = new CancellationTokenSource();
        var told = new Told<long>(_ => source.Cancel());
        Assert.That(
            () => LanguageModel.Load(s_folder, new LoadOptions { Progress = told }, source.Token), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(told.Values, Has.Count.LessThanOrEqualTo(Environment.ProcessorCount), "chunks that were under way");
    }

    // Of the engine's own: what lives on the heap, its buffers, its threads by their names, and its files by their folder.
    private static (long Heap, long Live, int Threads, int Files) Held()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        long heap = GC.GetTotalMemory(forceFullCollection: true);
        string[] threads = [.. Directory.GetDirectories("/proc/self/task").Select(task => Read(() => File.ReadAllText(Path.Combine(task, "comm"))))];
        string[] files = [.. Directory.GetFiles("/proc/self/fd")
            .Select(fd => Read(() => File.ResolveLinkTarget(fd, returnFinalTarget: false)?.FullName ?? ""))];
        return (heap, HostBuffer.LiveInBytes, Beginning(threads, "tiller-"), Beginning(files, s_folder));

        static int Beginning(string[] names, string start) => names.Count(name => name.StartsWith(start, StringComparison.Ordinal));

        // A thread or descriptor may be gone by now.
        static string Read(Func<string> read)
        {
            try
            {
                return read();
            }
            catch (IOException)
            {
                return "";
            }
        }
    }
}
