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

        public override double Measure(Ceiling ceiling) => 1;

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
