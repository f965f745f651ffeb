using Tiller.Bench;
using Tiller.Model;

namespace Tiller.Tests.Tool;

/// <summary>What is timed, and in which order: a device runs ahead of the host, so runs are timed after each other and waited for once.</summary>
public sealed class MeterTests
{
    [Test]
    public void Runs_follow_each_other_between_two_waits()
    {
        using var machine = new Told();
        Assert.That(machine.Time(Work(machine, "run"), 3), Is.GreaterThanOrEqualTo(0));
        Assert.That(machine.Events, Is.EqualTo(new[] { "prepare 3", "wait", "run", "run", "run", "wait" }));
    }

    [Test]
    public void A_work_with_a_clock_of_its_own_is_prepared_and_asked()
    {
        using var machine = new Told();
        Assert.That(machine.Time(Work(machine, "run") with { Clock = _ => 7 }, 3), Is.EqualTo(7));
        Assert.That(machine.Events, Is.EqualTo(new[] { "prepare 3" }));
    }

    [TestCase(1)]
    [TestCase(5)]
    public void A_sample_has_no_more_runs_than_can_be_prepared(int most)
    {
        using var machine = new Told();
        using var meter = new Meter(machine, seconds: 0.01, CancellationToken.None);
        meter.Measure([Work(machine, "a") with { MaxRuns = most }, Work(machine, "b")], warmUp: false);

        // Between a preparation and the next, as many runs as were said: more than one, for a run takes no time, and 64 at most.
        int[] prepared = [.. machine.Events.Where(e => e.StartsWith("prepare", StringComparison.Ordinal)).Select(e => int.Parse(e.Split(' ')[1]))];
        Assert.That(prepared.Distinct().Order(), Is.EqualTo(new[] { 1, most, 64 }.Distinct().Order()));
        for (int i = 0; i < machine.Events.Count; i++)
        {
            if (machine.Events[i].Split(' ') is ["prepare", var runs])
            {
                int waited = machine.Events.FindIndex(i, e => e == "wait"), ended = machine.Events.FindIndex(waited + 1, e => e == "wait");
                Assert.That(ended - waited - 1, Is.EqualTo(int.Parse(runs)));
            }
        }
    }

    [Test]
    public void A_time_is_compared_with_the_higher_of_the_ceilings_right_before_and_after_it()
    {
        // The machine becomes faster with every measurement of its ceiling, and the work always reaches half of what is possible at its moment.
        using var machine = new Told();
        int measured = 0;
        machine.Rate = _ => ++measured;
        using var meter = new Meter(machine, seconds: 0.01, CancellationToken.None, secondsBetweenCeilings: 0);
        var row = meter.Measure(Work(machine, "run") with { Clock = _ => 2.0 / (measured + 1) }, warmUp: false);
        Assert.That(row.PercentOfCeiling, Is.EqualTo(50).Within(1e-9));
        Assert.That(row.Samples, Is.GreaterThanOrEqualTo(Meter.MinSamples));
    }

    [Test]
    public void A_disturbance_of_every_other_ceiling_raises_no_row_above_them()
    {
        using var machine = new Told();
        int measured = 0;
        machine.Rate = _ => measured++ % 2 == 0 ? 0.4 : 1;
        using var meter = new Meter(machine, seconds: 0.01, CancellationToken.None, secondsBetweenCeilings: 0);
        var row = meter.Measure(Work(machine, "run") with { Clock = _ => 1.25 }, warmUp: false);
        Assert.That(row.PercentOfCeiling, Is.EqualTo(80).Within(1e-9));
    }

    [Test]
    public void The_first_measurement_tries_all_ways_and_later_ones_the_best()
    {
        int[] calls = new int[6];
        double[] rates = [3, 9, 1, 7, 8, 2];
        var best = new BestOf([.. rates.Select((_, i) => (Func<double>)(() =>
        {
            calls[i]++;
            return rates[i];
        }))]);
        Assert.That(best.Measure(), Is.EqualTo(9));
        Assert.That(calls, Is.All.Positive);
        Array.Clear(calls);
        rates[4] = 10;
        rates[0] = 11;
        Assert.That(best.Measure(), Is.EqualTo(10), "another of the best is now the best");
        Assert.That(calls, Is.EqualTo(new[] { 0, 1, 0, 1, 1, 0 }));
    }

    [Test]
    public unsafe void Every_way_of_reading_reads_every_word()
    {
        const int Size = 4096;
        byte* buffer = stackalloc byte[Size + 64];
        byte* aligned = (byte*)(((nint)buffer + 63) / 64 * 64);
        Assert.That(ReadKernel.All.Select(way => way.Streams).Distinct(), Is.EquivalentTo(new[] { 1, 4 }));
        foreach (var way in ReadKernel.All)
        {
            new Span<byte>(aligned, Size).Clear();
            Assert.That(way.Read(aligned, Size), Is.Zero, way.ToString());
            for (int word = 0; word < Size; word += 4)
            {
                aligned[word] = 1;
                Assert.That(way.Read(aligned, Size), Is.EqualTo(1), $"{way}, byte {word}");
                aligned[word] = 0;
            }
        }
    }

    [Test]
    public void Threads_of_a_ceiling_run_a_task_once_each_and_together()
    {
        using var threads = new PinnedThreads(3);
        int[] counts = new int[3];
        using var inside = new Barrier(3);
        for (int round = 1; round <= 5; round++)
        {
            double seconds = threads.Run(thread =>
            {
                inside.SignalAndWait();
                counts[thread]++;
            });
            Assert.That(counts, Is.All.EqualTo(round));
            Assert.That(seconds, Is.Positive);
        }
    }

    [Test]
    public void A_row_above_its_ceiling_fails_the_run_after_all_rows_have_been_printed()
    {
        var check = new CeilingCheck();
        BenchRow[] fair = [Row("cpu (2 threads)", "a", 99.9), Row("cpu (2 threads)", "b", 100), Row("cuda:0", "c", 150)];
        Assert.That(fair.Select(check.Pass), Is.EqualTo(fair));
        Assert.That(check.End, Throws.Nothing);
        BenchRow[] unfair = [Row("cpu (2 threads)", "d", 100.4), Row("cpu (2 threads)", "e", 107.25), Row("cpu (2 threads)", "f", 50)];
        Assert.That(unfair.Select(check.Pass), Is.EqualTo(unfair));
        Assert.That(check.End, Throws.TypeOf<BenchException>().With.Message.StartsWith(
            "2 rows are above 100 % of the ceiling; the highest is \"e\" at 107.3 % of 40.0 GB/s."));
    }

    private static BenchRow Row(string device, string name, double percent) => new()
    {
        Device = device,
        Name = name,
        Median = 1,
        P10 = 1,
        P90 = 1,
        Unit = "ms",
        Samples = 3,
        Rate = 1,
        RateUnit = "1/s",
        Bytes = 1,
        Flops = 0,
        PercentOfCeiling = percent,
        Ceiling = 40,
        CeilingUnit = "GB/s",
        CeilingName = "read",
    };

    private static Work Work(Told machine, string name) => new()
    {
        Name = name,
        Bytes = 1,
        Flops = 0,
        WorkingSet = 1,
        Prepare = runs => machine.Events.Add($"prepare {runs}"),
        Run = () => machine.Events.Add(name),
    };

    /// <summary>A machine that writes down what is asked of it.</summary>
    private sealed class Told : Machine
    {
        public List<string> Events { get; } = [];

        public override Device Device => Device.Cpu;

        public override string Name => "told";

        public override IReadOnlyList<Ceiling> Ceilings => [];

        public override double SampleSeconds => 1000;

        protected override double ReserveInBytes => 0;

        public override Ceiling MemoryOf(Work work) => new(CeilingKind.Read, 1, 1);

        public override Ceiling ArithmeticOf(Work work) => new(CeilingKind.Fma32, 1, 0);

        public Func<Ceiling, double> Rate { get; set; } = _ => 1;

        public override double Measure(Ceiling ceiling) => Rate(ceiling);

        public override string NameOf(Ceiling ceiling) => "";

        public override void Wait() => Events.Add("wait");

        public override long AvailableInBytes() => 1;

        public override void Release()
        {
        }

        protected override void Dispose(bool disposing)
        {
        }
    }
}
