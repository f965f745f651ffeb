using System.CommandLine;
using Tiller.Evaluation;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller eval</c>.</summary>
internal sealed record EvalRequest
{
    public required string Task { get; init; }

    /// <summary>Folder that the task names as $DATA; null if there is none.</summary>
    public string? Data { get; init; }

    public required string Model { get; init; }

    public required DeviceRequest Device { get; init; }

    /// <summary>The steering; without a controller the plain model is evaluated.</summary>
    public required SteeringRequest Steering { get; init; }

    public required string Split { get; init; }

    /// <summary>Maximum number of prompts; null for all.</summary>
    public int? Limit { get; init; }

    /// <summary>Number of texts that are decoded together.</summary>
    public required int Batch { get; init; }

    /// <summary>File for the texts.</summary>
    public string? Out { get; init; }

    /// <summary>Whether to refuse a prompt that would lose characters.</summary>
    public bool Strict { get; init; }

    public bool Json { get; init; }
}

/// <summary><c>tiller eval</c>: scores a model, plain or steered, on a task.</summary>
internal sealed class EvalCommand : TillerCommand
{
    private readonly Option<string> _task = OptionKinds.RequiredPath(
        "--task", "Folder of a task, with task.yaml: prompts, generation settings and scorers.", "DIR");

    private readonly DataArguments _data = new();
    private readonly Option<string> _model = OptionKinds.Model();
    private readonly SteeringArguments _steering = new(required: false);

    private readonly Option<string> _split = new("--split")
    {
        Description = "The split of the task's prompts.",
        HelpName = "name",
        DefaultValueFactory = _ => EvaluationTask.DefaultSplit,
    };

    private readonly Option<int?> _limit = OptionKinds.NumberOrNone<int>(
        "--limit", "Maximum number of prompts; the first ones are used. [default: all]", n => n > 0, "a whole number above 0");

    private readonly Option<int> _batch = OptionKinds.Number(
        "--batch", "Number of texts that are decoded together. Up to 8, the texts do not depend on it.", 8, n => n is > 0 and <= 4096,
        "a whole number, 1 to 4096");

    private readonly Option<string?> _out = new("--out")
    {
        Description = "Write the texts to this file, one JSON object per line; - is standard output.",
        HelpName = "FILE",
    };

    private readonly Option<bool> _strict = OptionKinds.Strict();
    private readonly DeviceArguments _device = new(decodes: true);

    public EvalCommand(Func<EvalRequest, CancellationToken, Task<int>> run)
        : base("eval", "Score the texts of the model, plain or steered, for a task's prompts.")
    {
        Add(_task);
        _data.AddTo(this);
        Add(_model);
        _steering.AddTo(this);
        Add(_split);
        Add(_limit);
        Add(_batch);
        Add(_out);
        Add(_strict);
        _device.AddTo(this);
        SetAction((parse, cancellationToken) => run(Read(parse), cancellationToken));
    }

    public override string Examples =>
        """
          # the plain model, and the steered one
          tiller eval --model models/demo --task tasks/demo/topic
          tiller eval --model models/demo --task tasks/demo/topic --controller sea.tiller --lambda 1.75
          # the texts too, of the first ten prompts
          tiller eval --model models/demo --task tasks/demo/tone --limit 10 --out tone.jsonl
          # one of the paper's tasks, on published data of your own
          tiller eval --model DIR --task tasks/truthfulness --data ~/data --controller truth.tiller --lambda 3
        """;

    private EvalRequest Read(ParseResult parse) => new()
    {
        Task = parse.GetRequiredValue(_task),
        Data = _data.Read(parse),
        Model = parse.GetRequiredValue(_model),
        Device = _device.Read(parse),
        Steering = _steering.Read(parse),
        Split = parse.GetRequiredValue(_split),
        Limit = parse.GetValue(_limit),
        Batch = parse.GetValue(_batch),
        Out = parse.GetValue(_out),
        Strict = parse.GetValue(_strict),
        Json = parse.GetValue(Json),
    };
}
