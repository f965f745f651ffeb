using Tiller.Synthesis;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>Which part of a job a process does.</summary>
public sealed class ShardTests
{
    [TestCase("0/1", 0, 1)]
    [TestCase("3/4", 3, 4)]
    [TestCase("auto/8", 5, 8, "SLURM_ARRAY_TASK_ID=5")]
    [TestCase("auto/8", 5, 8, "SLURM_ARRAY_TASK_ID=5", "SLURM_ARRAY_TASK_COUNT=2", "SLURM_ARRAY_TASK_MIN=3", "SLURM_ARRAY_TASK_MAX=5")]
    [TestCase("auto/8", 7, 8, "JOB_COMPLETION_INDEX=7")]
    [TestCase("auto/8", 7, 8, "JOB_COMPLETION_INDEX=7", "SLURM_ARRAY_TASK_ID=7")]
    [TestCase("auto/8", 7, 8, "JOB_COMPLETION_INDEX=7", "SLURM_ARRAY_TASK_ID=")]
    [TestCase("auto", 2, 4, "SLURM_ARRAY_TASK_ID=2", "SLURM_ARRAY_TASK_COUNT=4", "SLURM_ARRAY_TASK_MIN=0", "SLURM_ARRAY_TASK_MAX=3")]
    public void A_part_is_written_or_told_by_the_environment(string value, int index, int count, params string[] environment) =>
        Assert.That(Parse(value, environment), Is.EqualTo(new Shard(index, count)));

    [TestCase("", "--shard must be i/N with 0 ≤ i < N, auto/N or auto, got ''.")]
    [TestCase("1", "--shard must be i/N")]
    [TestCase("-1/2", "--shard must be i/N")]
    [TestCase("a/2", "--shard must be i/N")]
    [TestCase("1/2/3", "--shard must be i/N")]
    [TestCase("1 /2", "--shard must be i/N")]
    [TestCase("0/0", "this is part 0 of 0")]
    [TestCase("4/4", "this is part 4 of 4")]
    [TestCase("0/99999999999", "--shard must be i/N")]
    [TestCase("auto/4", "neither is set")]
    [TestCase("auto/4", "this is part 4 of 4", "SLURM_ARRAY_TASK_ID=4")]
    [TestCase("auto/4", "SLURM_ARRAY_TASK_ID must be a whole number, got 'x'.", "SLURM_ARRAY_TASK_ID=x")]
    [TestCase("auto/4", "SLURM_ARRAY_TASK_ID is 1 and JOB_COMPLETION_INDEX is 2", "SLURM_ARRAY_TASK_ID=1", "JOB_COMPLETION_INDEX=2")]
    [TestCase("auto", "SLURM_ARRAY_TASK_COUNT, which is not set", "SLURM_ARRAY_TASK_ID=1")]
    [TestCase("auto", "SLURM_ARRAY_TASK_COUNT, which is not set", "JOB_COMPLETION_INDEX=1")]
    [TestCase("auto", "this one has 2 tasks from 3 to 7",
        "SLURM_ARRAY_TASK_ID=3", "SLURM_ARRAY_TASK_COUNT=2", "SLURM_ARRAY_TASK_MIN=3", "SLURM_ARRAY_TASK_MAX=7")]
    [TestCase("auto", "needs an array from 0 without gaps",
        "SLURM_ARRAY_TASK_ID=2", "SLURM_ARRAY_TASK_COUNT=2", "SLURM_ARRAY_TASK_MIN=0", "SLURM_ARRAY_TASK_MAX=2")]
    [TestCase("auto", "needs an array from 0 without gaps", "SLURM_ARRAY_TASK_ID=1", "SLURM_ARRAY_TASK_COUNT=2")]
    public void What_is_no_part_is_refused(string value, string problem, params string[] environment) =>
        Assert.That(() => Parse(value, environment), Throws.TypeOf<UsageException>().With.Message.Contains(problem));

    [TestCase(0, 3)]
    [TestCase(1, 3)]
    [TestCase(10, 3)]
    [TestCase(12, 4)]
    [TestCase(int.MaxValue, 7)]
    public void Parts_are_the_whole_without_gaps_and_of_like_size(int items, int count)
    {
        int next = 0;
        for (int i = 0; i < count; i++)
        {
            var (start, length) = new Shard(i, count).Of(items).GetOffsetAndLength(items);
            Assert.That((start, length), Is.EqualTo((next, length)));
            Assert.That(length, Is.InRange(items / count, (items / count) + 1));
            next += length;
        }

        Assert.That(next, Is.EqualTo(items));
    }

    // The part is read by all commands that have parts, before anything is loaded.
    private static readonly string[][] s_commands =
    [
        ["fit", "--model", "m", "--positive", "p.txt", "--negative", "n.txt", "--out", "parts"],
        ["linearity", "--model", "m", "--prompts", "p.txt", "--out", "parts"],
        ["compare", "--model", "m", "--task", "t", "--out", "parts"],
        ["tune", "--model", "m", "--task", "t", "--out", "parts"],
    ];

    [TestCaseSource(nameof(s_commands))]
    public async Task Every_command_with_parts_has_the_same_rules_and_exit_code(params string[] command)
    {
        foreach (var (value, problem) in new[] { ("4/4", "this is part 4 of 4"), ("x", "--shard must be i/N"), ("auto/0", "neither is set") })
        {
            var run = await ToolRun.Of([.. command, "--shard", value]);
            Assert.That((run.Code, run.Error.Contains(problem, StringComparison.Ordinal)), Is.EqualTo((ExitCode.Usage, true)), run.Error);
        }

        (string, string)[] gap =
        [
            ("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_TASK_COUNT", "2"), ("SLURM_ARRAY_TASK_MIN", "3"), ("SLURM_ARRAY_TASK_MAX", "7"),
        ];
        await Refused(gap, "auto", "needs an array from 0 without gaps");
        await Refused([("JOB_COMPLETION_INDEX", "8")], "auto/8", "this is part 8 of 8");

        // A part that there is comes to the checkpoint, which there is not: bad input, which no other pod does better.
        await Ends([("JOB_COMPLETION_INDEX", "7")], "auto/8", ExitCode.BadInput);

        Task Refused((string, string)[] environment, string value, string problem) => Ends(environment, value, ExitCode.Usage, problem);

        async Task Ends((string, string)[] environment, string value, int code, string problem = "")
        {
            using var process = Program.StartIn(environment, [.. command, "--shard", value]);
            var (ended, output, error) = await Program.Ended(process);
            Assert.That((ended, output), Is.EqualTo((code, "")), error);
            Assert.That(error, Does.Contain(problem));
        }
    }

    [Test]
    public void A_command_is_kept_with_its_folder_and_without_the_part()
    {
        ShardedCommand? kept = null;
        FitRequest? asked = null;
        var command = new FitCommand((request, _) =>
        {
            (asked, kept) = (request, request.Command);
            return Task.FromResult(0);
        });
        string[] words =
        [
            "--model", "m", "--pairs", "p.json", "--q", "1", "2", "--jacobians", "j", "--out", "parts", "--shard", "1/2", "--chat", "--system", "",
            "--layers=1-3",
        ];
        var terminal = new Terminal(
            Stream.Null, inputIsTerminal: false, TextWriter.Null, outputIsLive: false, TextWriter.Null, errorIsLive: false);
        Assert.That(CommandLine.RunAsync([command], ["fit", .. words], terminal, default).GetAwaiter().GetResult(), Is.Zero);
        string[] expected = ["--chat", "--jacobians=j", "--layers=1-3", "--model=m", "--pairs=p.json", "--q=1", "--q=2", "--system", ""];
        var part = kept!;
        Assert.That(part.Words, Is.EqualTo(expected));
        Assert.That(part.Directory, Is.EqualTo(Environment.CurrentDirectory));

        // Given again, it is the same request, from wherever.
        var first = asked!;
        string[] again = ["fit", .. ShardedCommand.Read(part.ToString(), []).Words, "--out", "x-{q}.tiller"];
        Assert.That(CommandLine.RunAsync([command], again, terminal, default).GetAwaiter().GetResult(), Is.Zero);
        Assert.That((asked!.Weights, asked.Layers, asked.System, asked.Chat), Is.EqualTo((first.Weights, first.Layers, first.System, first.Chat)));
        Assert.That(kept, Is.Null, "a whole fit keeps no command");
        using var scratch = new Scratch();
        var moved = part with { Directory = scratch["."] };
        var there = asked.In(moved);
        Assert.That((there.Pairs, there.Jacobians, there.Positive), Is.EqualTo((scratch["p.json"], scratch["j"], (string?)null)));
        Assert.That(there.Model, Is.EqualTo("m"), "a name, as long as there is no such folder");
        Directory.CreateDirectory(scratch["m"]);
        Assert.That(asked.In(moved).Model, Is.EqualTo(scratch["m"]));
        Assert.That(() => ShardedCommand.Read("{}", []), Throws.TypeOf<ShardException>());
        Assert.That(() => ShardedCommand.Read("", []), Throws.TypeOf<ShardException>());

        // Given in one folder that is here, it leads from there; else from where the parts are put together.
        string here = Environment.CurrentDirectory;
        foreach (var (given, leads) in new (string[] Given, string Leads)[]
        {
            ([scratch["m"]], scratch["m"]), ([scratch["m"], scratch["."]], here), ([scratch["none"]], here), ([""], here), ([], here),
        })
        {
            Assert.That(ShardedCommand.Read(part.ToString(), given).Directory, Is.EqualTo(leads), string.Join(' ', given));
        }

        Assert.That((part with { Directory = scratch["m"] }).ToString(), Is.EqualTo(part.ToString()), "where it was given is no part of it");
    }

    private static Shard Parse(string value, string[] environment)
    {
        var variables = environment.Select(x => x.Split('=')).ToDictionary(x => x[0], x => x[1], StringComparer.Ordinal);
        return ShardArguments.Parse(value, variables.GetValueOrDefault);
    }
}
