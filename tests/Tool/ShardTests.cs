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

    private static Shard Parse(string value, string[] environment)
    {
        var variables = environment.Select(x => x.Split('=')).ToDictionary(x => x[0], x => x[1], StringComparer.Ordinal);
        return ShardArguments.Parse(value, variables.GetValueOrDefault);
    }
}
