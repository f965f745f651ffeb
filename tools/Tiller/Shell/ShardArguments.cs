using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>The part of the work that a process of a cluster's job does.</summary>
internal sealed class ShardArguments
{
    private const string Auto = "auto";
    private const string SlurmTask = "SLURM_ARRAY_TASK_ID";
    private const string SlurmCount = "SLURM_ARRAY_TASK_COUNT";
    private const string SlurmFirst = "SLURM_ARRAY_TASK_MIN";
    private const string SlurmLast = "SLURM_ARRAY_TASK_MAX";
    private const string KubernetesIndex = "JOB_COMPLETION_INDEX";

    private readonly Option<string?> _shard = new("--shard")
    {
        Description = $"Do part i of N, counted from 0; {Auto}/N takes i from {SlurmTask} or {KubernetesIndex}, {Auto} N from {SlurmCount} too. "
            + "tiller merge puts the parts together (docs/cluster.md).",
        HelpName = "i/N",
    };

    public void AddTo(Command command) => command.Add(_shard);

    /// <summary>Refuses what is no part's: standard output as its folder, and a page with plots.</summary>
    /// <exception cref="UsageException">One of these was asked for.</exception>
    public static void Check(Shard? part, string? folder, string? page)
    {
        if (part is not null && folder == "-")
        {
            throw new UsageException("With --shard, --out is a folder for what the part measures, and not standard output.");
        }

        if (part is not null && page is not null)
        {
            throw new UsageException("A part has no plots: leave --page out, and give it to tiller merge.");
        }
    }

    /// <summary>What a command was asked for but for the part, to be kept with the part: all parts of a whole have it alike.</summary>
    /// <param name="parse">The command line.</param>
    /// <param name="differing">The options that may differ between the parts.</param>
    /// <returns>Null for the whole.</returns>
    public ShardedCommand? Asked(ParseResult parse, params IEnumerable<Option> differing)
    {
        if (parse.GetValue(_shard) is null)
        {
            return null;
        }

        var given = parse.CommandResult.Children.OfType<OptionResult>()
            .Where(option => !option.Implicit && option.Option != _shard && option.Option != TillerCommand.Json && !differing.Contains(option.Option))
            .OrderBy(option => option.Option.Name, StringComparer.Ordinal);
        return new ShardedCommand([.. given.SelectMany(WordsOf)]);

        static IEnumerable<string> WordsOf(OptionResult option)
        {
            string name = option.Option.Name;
            return option.Tokens.Count == 0 ? [name]
                : option.Tokens.SelectMany(token => token.Value.Length == 0 ? new[] { name, "" } : [$"{name}={token.Value}"]);
        }
    }

    /// <summary>The part; null for the whole.</summary>
    /// <exception cref="UsageException">The value is malformed, there is no such part, or the environment does not tell it.</exception>
    public Shard? Read(ParseResult parse) => parse.GetValue(_shard) is { } value ? Parse(value, Environment.GetEnvironmentVariable) : null;

    /// <summary>Reads a value.</summary>
    /// <param name="value">i/N, auto/N or auto.</param>
    /// <param name="variable">The environment.</param>
    /// <exception cref="UsageException">As <see cref="Read"/>.</exception>
    public static Shard Parse(string value, Func<string, string?> variable)
    {
        string[] parts = value.Split('/');
        if (value == Auto)
        {
            int count = NumberOf(SlurmCount, variable) ?? throw new UsageException(
                $"--shard {Auto} takes the number of parts from {SlurmCount}, which is not set: write --shard {Auto}/N.");
            if (NumberOf(SlurmFirst, variable) != 0 || NumberOf(SlurmLast, variable) != count - 1)
            {
                throw new UsageException(
                    $"--shard {Auto} needs an array from 0 without gaps, such as --array=0-{Math.Max(0, count - 1)}; this one has {count} tasks from "
                    + $"{variable(SlurmFirst) ?? "?"} to {variable(SlurmLast) ?? "?"}. For some tasks of an array of N write --shard {Auto}/N.");
            }

            return Checked(IndexOf(variable), count);
        }

        return parts is [var index, var of] && Number(of) is { } n && (index == Auto || Number(index) is not null)
            ? Checked(index == Auto ? IndexOf(variable) : Number(index)!.Value, n)
            : throw new UsageException($"--shard must be i/N with 0 ≤ i < N, {Auto}/N or {Auto}, got '{value}'.");
    }

    private static Shard Checked(int index, int count) => index < count
        ? new Shard(index, count)
        : throw new UsageException($"--shard must be i/N with 0 ≤ i < N, and this is part {index} of {count}.");

    private static int IndexOf(Func<string, string?> variable)
    {
        int? slurm = NumberOf(SlurmTask, variable), kubernetes = NumberOf(KubernetesIndex, variable);
        return slurm is not null && kubernetes is not null && slurm != kubernetes
            ? throw new UsageException($"{SlurmTask} is {slurm} and {KubernetesIndex} is {kubernetes}: write --shard i/N.")
            : slurm ?? kubernetes
            ?? throw new UsageException(
                $"--shard {Auto} takes the part from {SlurmTask} or {KubernetesIndex}, and neither is set: write --shard i/N.");
    }

    private static int? NumberOf(string name, Func<string, string?> variable) => variable(name) is not { Length: > 0 } value ? null
        : Number(value) ?? throw new UsageException($"{name} must be a whole number, got '{value}'.");

    private static int? Number(string text) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number) ? number : null;
}
