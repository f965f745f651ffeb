using Tiller.Fuzz;
using Tiller.Tests.Checkpoint;

namespace Tiller.Tests.Fuzz;

/// <summary>The harness finds what it is there to find, and finds nothing in the readers.</summary>
public sealed class FuzzParentTests
{
    private static readonly string s_corpus = Repository.Path("tests", "goldens");

    [TestCase("hang", "hang")]
    [TestCase("crash", "crash")]
    [TestCase("stack", "crash")]
    [TestCase("memory", "memory")]
    [TestCase("exception", "exception")]
    [TestCase("promise", "promise")]
    public void A_failing_reader_is_found_with_its_input(string kind, string found)
    {
        using var folder = new TemporaryFolder();

        // Time of the processor: the faulty reader never ends, and what else a process does, such as telling its stack, may take long.
        using var run = Run(folder, 1, 100_000, kind == "hang" ? TimeSpan.FromSeconds(5) : Patience.Limit, "faulty-" + kind);
        Assert.That(run.Findings.All, Is.Not.Empty);
        foreach (Finding finding in run.Findings.All)
        {
            Assert.That((finding.Target, finding.Kind), Is.EqualTo(("faulty-" + kind, found)));
            Assert.That(File.ReadAllBytes(finding.File), Is.EqualTo(finding.Input));
            Assert.That((char)finding.Input[0], Is.InRange('A', 'Z'));
        }
    }

    [Test]
    public void The_readers_withstand_a_short_run()
    {
        int seed = Environment.TickCount;
        TestContext.Out.WriteLine($"seed {seed}");
        using var folder = new TemporaryFolder();
        using var run = Run(folder, seed, 20_000, Patience.Limit, [.. FuzzTarget.Names]);
        Assert.That(run.Findings.All.Select(f => $"{f.Target}: {f.Kind}: {f.What}: {f.Detail}"), Is.Empty, $"seed {seed}");
        Assert.That(run.Tallies.Values.Select(t => t.Inputs), Is.All.Positive);
        Assert.That(run.Children, Is.EqualTo(1));
    }

    [TestCaseSource(typeof(FuzzTarget), nameof(FuzzTarget.Names))]
    public void Seeds_are_sound_and_mutations_are_not_all_refused(string name)
    {
        FuzzTarget target = FuzzTarget.All(s_corpus).Single(t => t.Name == name);
        Assert.That(target.Seeds, Has.Count.GreaterThan(1));
        Assert.That(target.Seeds.Select(seed => FuzzChild.Read(target, seed)?.Message), Is.All.Null);
        var mutation = new ByteMutation(target.Words, new Random(1));
        Exception?[] outcomes = [.. Enumerable.Range(0, 400).Select(i => target.Seeds[i % target.Seeds.Count])
            .Select(s => FuzzChild.Read(target, target.Repair(mutation.Change(s, s))))];
        Assert.That(outcomes, Is.All.Matches<object?>(o => o is null or TillerException));
        Assert.That(outcomes.Count(o => o is null), Is.InRange(4, 400));
    }

    [Test]
    public void The_same_seed_makes_the_same_inputs()
    {
        FuzzTarget target = FuzzTarget.All(s_corpus)[0];
        byte[][] Inputs()
            => [.. Enumerable.Range(0, 50).Select(i => new ByteMutation(target.Words, new Random(i)).Change(target.Seeds[0], target.Seeds[1]))];
        byte[][] once = Inputs(), again = Inputs();
        Assert.That(again, Is.EqualTo(once));
        Assert.That(once.Count(i => i.AsSpan().SequenceEqual(target.Seeds[0])), Is.LessThan(10));
    }

    private static FuzzParent Run(TemporaryFolder folder, int seed, long count, TimeSpan hangsAfter, params string[] targets)
    {
        using var guard = Patience.Guard();
        var run = new FuzzParent(
            new FuzzOptions
            {
                Targets = targets,
                Corpus = s_corpus,
                Out = folder.Path,
                Seed = seed,
                Count = count,
                HangsAfter = hangsAfter,
                StopAtFinding = true,
            },
            TextWriter.Null);
        run.Run(guard.Token);
        return run;
    }
}
