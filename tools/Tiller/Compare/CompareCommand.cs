using System.CommandLine;
using Tiller.Controllers;
using Tiller.Evaluation;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>What <c>tiller compare</c> was asked for.</summary>
internal sealed record CompareRequest
{
    /// <summary>Folders of tasks; empty for those of the demo.</summary>
    public required IReadOnlyList<string> Tasks { get; init; }

    /// <summary>Folder that tasks name as $DATA; null if there is none.</summary>
    public string? Data { get; init; }

    /// <summary>The part of the cells that is computed; null for all.</summary>
    public Shard? Shard { get; init; }

    /// <summary>The checkpoint; null for the demo's.</summary>
    public required string? Model { get; init; }

    public required DeviceRequest Device { get; init; }

    /// <summary>Splits of the tasks' prompts, at least one.</summary>
    public required IReadOnlyList<string> Splits { get; init; }

    /// <summary>Names of methods.</summary>
    public required IReadOnlyList<FitMethod> Methods { get; init; }

    /// <summary>Empty for those of the tasks.</summary>
    public required IReadOnlyList<double> Strengths { get; init; }

    public required int Seeds { get; init; }

    /// <summary>Prompts of a task that are taken at most; null for all.</summary>
    public int? Limit { get; init; }

    public required int Batch { get; init; }

    /// <summary>Random directions, shuffled labels and, where the task has words for it, prompting too.</summary>
    public bool Controls { get; init; }

    /// <summary>Folder for cells and reports.</summary>
    public required string Out { get; init; }

    public bool Json { get; init; }
}

/// <summary><c>tiller compare</c>: methods at strengths, on tasks, with seeds.</summary>
internal sealed class CompareCommand : TillerCommand
{
    private static readonly string[] s_standard = ["a-lqr", "actadd-lfs", "s-pid", "actadd"];

    private readonly Option<bool> _demo = new("--demo") { Description = "Compare on the demo model and its tasks." };

    private readonly Option<string?> _model = new("--model")
    {
        Description = "Folder of a Hugging Face checkpoint, or the name of a model that was pulled, OWNER/NAME.",
        HelpName = "DIR",
    };

    private readonly Option<string[]> _tasks = new("--task") { Description = "Folder of a task; repeated for more.", HelpName = "DIR" };

    private readonly Option<string[]> _splits = new("--split")
    {
        Description = "A split of the tasks' prompts; repeated for more, such as one that shows over-refusal. Tasks without it are left out. "
            + $"[default: {EvaluationTask.DefaultSplit}]",
        HelpName = "name",
    };

    private readonly Option<string[]> _methods = new("--method")
    {
        Description = $"A method that tiller methods lists; repeated for more. [default: {string.Join(", ", s_standard)}]",
        HelpName = "name",
    };

    private readonly NumbersOption _lambdas = OptionKinds.Lambdas(
        "Strengths, repeated or with spaces between; the plain model is measured anyway. [default: those of the task, or 0.5 1 2]");

    private readonly Option<int> _seeds = OptionKinds.Number(
        "--seeds", "How often each prompt is continued, with other draws.", 1, n => n is > 0 and <= 1000, "a whole number, 1 to 1000");

    private readonly Option<int?> _limit = OptionKinds.NumberOrNone<int>(
        "--limit", "Take so many prompts of each task, the first ones. [default: all]", n => n > 0, "a whole number above 0");

    private readonly Option<int> _batch = OptionKinds.Number(
        "--batch", "Texts that are decoded at once.", 8, n => n is > 0 and <= 4096, "a whole number, 1 to 4096");

    private readonly Option<bool> _controls = new("--controls")
    {
        Description = "Compare with addition along random directions, with a controller of shuffled labels, and, where a task has words for its "
            + "behaviour, with asking for it in the prompt.",
    };

    private readonly Option<string> _out = OptionKinds.RequiredPath(
        "--out", "Folder for a file of each cell, which a later run goes on from, and for report.html and report.md.", "DIR");

    private readonly DataArguments _data = new();
    private readonly ShardArguments _shard = new();
    private readonly DeviceArguments _device = new();

    public CompareCommand(Func<CompareRequest, CancellationToken, Task<int>> run)
        : base("compare", "Compare methods of steering on tasks: scores with errors, at equal effort, KL and perplexity.")
    {
        Option[] options = [_demo, _model, _tasks, _splits, _methods, _lambdas, _seeds, _limit, _batch, _controls, _out];
        foreach (var option in options)
        {
            Add(option);
        }

        _data.AddTo(this);
        _shard.AddTo(this);
        _device.AddTo(this);
        SetAction((parse, cancellationToken) => run(Read(parse), cancellationToken));
    }

    public override string Examples =>
        """
          # four methods on three tasks of the demo model, in a few minutes
          tiller compare --demo --out comparison
          # two methods on a task of one's own, with controls; the same command goes on after an interruption
          tiller compare --model DIR --task mytask --method a-lqr --method caa --lambda 0.5 1 2 --seeds 3 --controls --out comparison
          # refusal of harmful and of harmless requests, with one controller
          tiller compare --model DIR --data ~/data --task tasks/refusal --split test --split over_refusal --method a-lqr --out refusal
          # a quarter of it, as one task of an array; tiller merge puts the quarters together
          tiller compare --model DIR --task mytask --out comparison --shard 3/4
        """;

    private CompareRequest Read(ParseResult parse)
    {
        bool demo = parse.GetValue(_demo);
        string[] tasks = parse.GetValue(_tasks) ?? [];
        string? model = parse.GetValue(_model);
        if (demo ? model is not null || tasks.Length > 0 : model is null || tasks.Length == 0)
        {
            throw new UsageException("Expected --model and one --task at least, or --demo without them.");
        }

        double[] strengths = parse.GetValue(_lambdas) ?? [];
        CheckStrengths(strengths);
        string[] names = parse.GetValue(_methods) is { Length: > 0 } named ? named : s_standard;
        return new CompareRequest
        {
            Tasks = tasks,
            Data = _data.Read(parse),
            Shard = _shard.Read(parse),
            Model = model,
            Device = _device.Read(parse),
            Splits = parse.GetValue(_splits) is { Length: > 0 } splits
                ? [.. splits.Distinct(StringComparer.Ordinal)]
                : [EvaluationTask.DefaultSplit],
            Methods = [.. names.Select(MethodOf)],
            Strengths = strengths,
            Seeds = parse.GetValue(_seeds),
            Limit = parse.GetValue(_limit),
            Batch = parse.GetValue(_batch),
            Controls = parse.GetValue(_controls),
            Out = parse.GetRequiredValue(_out),
            Json = parse.GetValue(Json),
        };
    }

    /// <summary>Refuses a strength that is there twice, and the plain model.</summary>
    /// <exception cref="UsageException">One is.</exception>
    public static void CheckStrengths(double[] strengths)
    {
        if (strengths.Contains(0) || strengths.Distinct().Count() < strengths.Length)
        {
            throw new UsageException("Expected each --lambda once, and none of them 0: that is the plain model, which is measured anyway.");
        }
    }

    /// <summary>A method that is fitted on what a task has.</summary>
    /// <exception cref="UsageException">There is none of this name, or it needs more.</exception>
    public static FitMethod MethodOf(string name)
    {
        var method = FitMethod.Find(name)
            ?? throw new UsageException($"--method must be one of {string.Join(", ", FitMethod.All.Select(static x => x.Name))}, got '{name}'.");
        return method.Takes(FitInputs.Alternative) || method.Takes(FitInputs.Nominal)
            ? throw new UsageException($"--method {name} needs more prompts than a task has: fit it with tiller fit, and score it with tiller eval.")
            : method;
    }
}
