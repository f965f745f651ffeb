using Tiller.Cpu;
using Tiller.Kernels;
using Tiller.Ops;
using Tiller.Tests.Model;

namespace Tiller.Tests.Ops;

/// <summary>The order of a stepper's calls, on one that takes them down.</summary>
public sealed class StepperTests
{
    private static readonly DrawSettings[] s_greedy = [new(Temperature: 0, TopK: 0, TopP: 1, MinP: 0, Random: 0)];

    [Test]
    public void A_begun_step_is_kept_or_dropped_and_the_next_is_another()
    {
        using var ops = new CpuOps(1);
        using var stepper = new Recorder(ops);
        int[] ids = new int[1];
        var first = Idle(stepper).GetReady(s_greedy)!.Begin(default, s_greedy, default, ids);
        int number = first.Number;
        Assert.That((stepper.State, ids[0]), Is.EqualTo((first, 7)));
        Assert.That((first.Serves(1), first.Serves(2)), Is.EqualTo((true, false)));
        first.Keep(0);
        first.Drop().Run(default, CancellationToken.None);
        Idle(stepper).GetReady(s_greedy)!.Begin(default, s_greedy, default, ids);
        Assert.That(((Stepper.Begun)stepper.State).Number, Is.Not.EqualTo(number));
        Assert.That(stepper.Calls, Is.EqualTo("place next, run next, keep 0, run, place next, run next"));
    }

    [Test]
    public void A_state_that_has_passed_refuses_every_call()
    {
        using var ops = new CpuOps(1);
        using var stepper = new Recorder(ops);
        var idle = Idle(stepper);
        var ready = idle.GetReady(s_greedy)!;
        Refuses(
            () => idle.Run(default, CancellationToken.None), () => idle.Draw(default, s_greedy, new int[1]), () => idle.GetReady(s_greedy),
            () => idle.Drop());
        var begun = ready.Begin(default, s_greedy, default, new int[1]);
        Refuses(() => ready.Begin(default, s_greedy, default, new int[1]), () => ready.Drop(), () => idle.Run(default, CancellationToken.None));
        begun.Drop();
        Refuses(() => begun.Keep(0), () => begun.Serves(1), () => begun.Drop(), () => ready.Begin(default, s_greedy, default, new int[1]));
        Assert.That(stepper.Calls, Is.EqualTo("place next, run next"), "no call that was refused did anything");

        static void Refuses(params Action[] calls)
        {
            foreach (var call in calls)
            {
                Assert.That(() => call(), Throws.TypeOf<InvalidOperationException>().With.Message.Contains("stepper"));
            }
        }
    }

    [Test]
    public void What_cannot_be_begun_leaves_the_stepper_idle()
    {
        using var ops = new CpuOps(1);
        using var stepper = new Recorder(ops) { RunsAhead = false };
        Assert.That(Idle(stepper).GetReady(s_greedy), Is.Null);
        Idle(stepper).Run(default, CancellationToken.None);
        stepper.RunsAhead = true;
        var ready = Idle(stepper).GetReady(s_greedy)!;
        stepper.Fails = true;
        Assert.That(() => ready.Begin(default, s_greedy, default, new int[1]), Throws.TypeOf<NotSupportedException>());
        Idle(stepper).Run(default, CancellationToken.None);
        Assert.That(() => Idle(stepper).Run(default, new CancellationToken(canceled: true)), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(stepper.Calls, Is.EqualTo("place next, run, place next, run next, run"));
    }

    private static Stepper.Idle Idle(Stepper stepper)
    {
        Assert.That(stepper.State, Is.TypeOf<Stepper.Idle>());
        return (Stepper.Idle)stepper.State;
    }

    private sealed class Recorder(DeviceOps ops) : Stepper(ops, TestModels.Load("llama3-bf16").Config, (_, _, _, _) => { })
    {
        private readonly List<string> _calls = [];

        public string Calls => string.Join(", ", _calls);

        public bool RunsAhead { get; set; } = true;

        public bool Fails { get; set; }

        protected override void Run(Floats logits, CancellationToken cancellationToken) => _calls.Add("run");

        protected override bool PlaceNext(ReadOnlySpan<DrawSettings> settings)
        {
            _calls.Add("place next");
            return RunsAhead;
        }

        protected override void RunNext(Floats logits, ReadOnlySpan<DrawSettings> settings, Floats next, Span<int> ids)
        {
            _calls.Add("run next");
            if (Fails)
            {
                throw new NotSupportedException();
            }

            ids[0] = 7;
        }

        protected override void KeepNext(int row) => _calls.Add($"keep {row}");
    }
}
