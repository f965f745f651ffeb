using System.CommandLine;
using Tiller.Controllers;
using Tiller.Evaluation.Tuning;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller tune</c>.</summary>
internal sealed record TuneRequest
{
    public required string Task { get; init; }

    /// <summary>Folder that the task names as $DATA; null if there is none.</summary>
    public string? Data { get; init; }

    public required string Model { get; init; }

    public required DeviceRequest Device { get; init; }

    public required IReadOnlyList<FitMethod> Methods { get; init; }

    /// <summary>Values of q, r and q_f that are tried; empty for the task's.</summary>
    public required IReadOnlyList<double> Q { get; init; }

    public required IReadOnlyList<double> R { get; init; }

    public required IReadOnlyList<double> Qf { get; init; }

    /// <summary>Sets of blocks that are tried; empty for the method's own.</summary>
    public required IReadOnlyList<LayerSet> Layers { get; init; }

    /// <summary>Strengths that are tried; empty for the task's.</summary>
    public required IReadOnlyList<double> Strengths { get; init; }

    public required TuningBudget Budget { get; init; }

    public bool Minimises { get; init; }

    /// <summary>Dev prompts of the first rung.</summary>
    public required int Prompts { get; init; }

    public required int Batch { get; init; }

    /// <summary>The part of the cells that is computed; null for all.</summary>
    public Shard? Shard { get; init; }

    /// <summary>Folder for what was measured, the report and the controller.</summary>
    public required string Out { get; init; }

    public bool Json { get; init; }
}

/// <summary><c>tiller tune</c>: finds the setting that is best within a budget.</summary>
internal sealed class TuneCommand : TillerCommand
{
    private static readonly string[] s_standard = ["a-lqr", "actadd-lfs"];

    private readonly Option<string> _task = OptionKinds.RequiredPath(
        "--task", "Folder of a task, with task.yaml. Its first scorer tells what is to be large.", "DIR");

    private readonly Option<string> _model = OptionKinds.Model();

    private readonly Option<string[]> _methods = new("--method")
    {
        Description = $"A method that tiller methods lists; repeated for more. [default: {string.Join(", ", s_standard)}]",
        HelpName = "name",
    };

    private readonly NumbersOption _q = new("--q", FitCommand.IsCost, FitCommand.CostRange)
    {
        Description = "Values of q that are tried. [default: the task's, or 0.1]",
    };

    private readonly NumbersOption _r = new("--r", FitCommand.IsInputCost, FitCommand.InputCostRange)
    {
        Description = "Values of r that are tried. [default: the task's, or 1]",
    };

    private readonly NumbersOption _qf = new("--qf", FitCommand.IsCost, FitCommand.CostRange)
    {
        Description = "Values of q_f that are tried. [default: the task's, or 1]",
    };

    private readonly Option<string[]> _layers = new("--layers")
    {
        Description = "Blocks that are steered, as fit takes them; repeated for more sets that are tried. [default: the method's own]",
        HelpName = "a-b,…",
    };

    private readonly NumbersOption _lambdas = OptionKinds.Lambdas("Strengths that are tried. [default: those of the task, or 0.5 1 2]");

    private readonly Option<double?> _perplexity = Bound("--max-perplexity", "Most perplexity of the texts under the plain model.");
    private readonly Option<double?> _divergence = Bound("--max-kl", "Most divergence from the plain model, in nats.");
    private readonly Option<double?> _effort = Bound("--max-effort", "Most effort, mean |u|/|x|.");
    private readonly Option<bool> _minimises = new("--minimise") { Description = "The task's first score is to be small." };

    private readonly Option<int> _prompts = OptionKinds.Number(
        "--prompts", "Dev prompts that all settings are tried on at first.", 8, n => n > 0, "a whole number above 0");

    private readonly Option<int> _batch = OptionKinds.Number(
        "--batch", "Texts that are decoded at once.", 8, n => n is > 0 and <= 4096, "a whole number, 1 to 4096");

    private readonly Option<string> _out = OptionKinds.RequiredPath(
        "--out", "Folder for what was measured, which a later run goes on from, for report.md and for controller.tiller.", "DIR");

    private readonly DataArguments _data = new();
    private readonly ShardArguments _shard = new();
    private readonly DeviceArguments _device = new();

    public TuneCommand(Func<TuneRequest, CancellationToken, Task<int>> run)
        : base("tune", "Find the method, weights, blocks and strength whose score on a task is best within a budget, and write the controller.")
    {
        Option[] options =
        [
            _task, _model, _methods, _q, _r, _qf, _layers, _lambdas, _perplexity, _divergence, _effort, _minimises, _prompts, _batch, _out,
        ];
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
          # which method and strength, at no more than one and a half times the perplexity
          tiller tune --model models/demo --task tasks/demo/topic --out tuned
          # which weights and blocks too, at a divergence of no more than half a nat
          tiller tune --model DIR --task mytask --method a-lqr --q 0.03 0.1 1 --layers 4-20 --layers 8-16 --lambda 1 2 3 --max-kl 0.5 --out tuned
        """;

    private static Option<double?> Bound(string name, string description) => OptionKinds.NumberOrNone<double>(
        name, $"{description} [default: no bound; without any, 1.5 times the plain perplexity]", x => x > 0, "a number above 0");

    private TuneRequest Read(ParseResult parse)
    {
        double[] strengths = parse.GetValue(_lambdas) ?? [];
        CompareCommand.CheckStrengths(strengths);
        string[] names = parse.GetValue(_methods) is { Length: > 0 } named ? named : s_standard;
        return new TuneRequest
        {
            Task = parse.GetRequiredValue(_task),
            Data = _data.Read(parse),
            Model = parse.GetRequiredValue(_model),
            Device = _device.Read(parse),
            Methods = [.. names.Distinct(StringComparer.Ordinal).Select(CompareCommand.MethodOf)],
            Q = [.. (parse.GetValue(_q) ?? []).Distinct()],
            R = [.. (parse.GetValue(_r) ?? []).Distinct()],
            Qf = [.. (parse.GetValue(_qf) ?? []).Distinct()],
            Layers = [.. (parse.GetValue(_layers) ?? []).Distinct(StringComparer.Ordinal).Select(static text =>
                LayerSet.TryParse(text, out var layers)
                ? layers
                : throw new UsageException(
                    $"--layers must be ranges of blocks a-b with a ≤ b, counted from 0, such as 4-9 or 1-3,8-9, got '{text}'."))],
            Strengths = strengths,
            Budget = new TuningBudget
            {
                Perplexity = parse.GetValue(_perplexity),
                Divergence = parse.GetValue(_divergence),
                Effort = parse.GetValue(_effort),
            },
            Minimises = parse.GetValue(_minimises),
            Prompts = parse.GetValue(_prompts),
            Batch = parse.GetValue(_batch),
            Shard = _shard.Read(parse),
            Out = parse.GetRequiredValue(_out),
            Json = parse.GetValue(Json),
        };
    }
}
