using System.CommandLine;
using Tiller.Features;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>What <c>tiller linearity</c> was asked for.</summary>
internal sealed record LinearityRequest
{
    public required string Model { get; init; }

    public required DeviceRequest Device { get; init; }

    public required IReadOnlyList<string> Prompts { get; init; }

    /// <summary>Where the prompts are in all files.</summary>
    public required PromptSelection Selection { get; init; }

    /// <summary>Whether texts are users' messages in the checkpoint's chat format.</summary>
    public bool Chat { get; init; }

    public string? System { get; init; }

    /// <summary>Most prompts of a file.</summary>
    public int Count { get; init; }

    /// <summary>A controller whose steered states are predicted; null for none.</summary>
    public string? Controller { get; init; }

    public double Lambda { get; init; }

    /// <summary>Where a page with plots goes; null for none.</summary>
    public string? Page { get; init; }

    /// <summary>The part that is measured into the folder <see cref="Out"/>; null for the whole.</summary>
    public Shard? Shard { get; init; }

    /// <summary>Folder of a part; null for the whole.</summary>
    public string? Out { get; init; }

    /// <summary>The command line but for the part and its folder; null for the whole.</summary>
    public ShardedCommand? Command { get; init; }

    /// <summary>Folders with all parts, which are put together; null to measure.</summary>
    public IReadOnlyList<string>? Shards { get; init; }

    public bool Strict { get; init; }

    public bool Json { get; init; }

    /// <summary>The request with paths as they were meant in the folder of a command.</summary>
    public LinearityRequest In(ShardedCommand command) => this with
    {
        Model = command.FolderOf(Model),
        Prompts = [.. Prompts.Select(command.PathOf)],
        Controller = Controller is null ? null : command.PathOf(Controller),
    };
}

/// <summary><c>tiller linearity</c>: how well linear models describe a model's blocks.</summary>
internal sealed class LinearityCommand : TillerCommand
{
    private readonly Option<string> _model = OptionKinds.Model();
    private readonly DeviceArguments _device = new();
    private readonly Option<bool> _strict = OptionKinds.Strict();
    private readonly Option<string[]> _prompts = new("--prompts")
    {
        Description = "File of prompts, as fit reads them; repeated, each file is a domain, and Jacobians are compared within and across.",
        HelpName = "FILE",
        Required = true,
    };

    private readonly Option<string?> _column = SelectionArguments.Column<string?>("");
    private readonly Option<string?> _field = SelectionArguments.Field<string?>("");
    private readonly Option<bool> _chat = new("--chat") { Description = "Put every prompt in the checkpoint's chat format." };
    private readonly Option<string?> _system = new("--system") { Description = "System message of every prompt, with --chat.", HelpName = "text" };
    private readonly Option<int> _count = OptionKinds.Number(
        "--count", "Most prompts of a file, the first ones.", 8, n => n > 0, "a whole number above 0");
    private readonly Option<string?> _controller = new("--controller")
    {
        Description = "Predict the states that this controller steers to as well.",
        HelpName = "FILE",
    };

    private readonly Option<double> _lambda = OptionKinds.Number<double>(
        "--lambda", "λ of the controller.", 1, x => float.IsFinite((float)x), OptionKinds.LambdaRange);

    private readonly Option<string?> _page = OptionKinds.Page("Write a page with plots");

    private readonly Option<string?> _out = new("--out")
    {
        Description = "With --shard: a folder for what the part measures.",
        HelpName = "DIR",
    };

    private readonly ShardArguments _shard = new();

    public LinearityCommand(Func<LinearityRequest, CancellationToken, Task<int>> run)
        : base("linearity", "Measure how well Jacobians describe a model's blocks: residual against size, likeness between prompts and domains, "
            + "prediction by their mean.")
    {
        foreach (Option option in new Option[] { _model, _prompts, _column, _field, _chat, _system, _count, _controller, _lambda, _page, _out })
        {
            Add(option);
        }

        _shard.AddTo(this);
        Add(_strict);
        _device.AddTo(this);
        SetAction((parse, cancellationToken) => run(Read(parse), cancellationToken));
    }

    public override string Examples =>
        """
          # one kind of text
          tiller linearity --model DIR --prompts stories.txt
          # two kinds, a controller, and a page with plots
          tiller linearity --model DIR --prompts stories.txt --prompts code.txt --controller sea.tiller --lambda 1.5 --page linearity.html
          # a quarter of it, as one task of an array; tiller merge prints the table of the four
          tiller linearity --model DIR --prompts stories.txt --count 64 --out parts --shard 3/4
        """;

    private LinearityRequest Read(ParseResult parse)
    {
        var request = new LinearityRequest
        {
            Model = parse.GetRequiredValue(_model),
            Device = _device.Read(parse),
            Prompts = parse.GetRequiredValue(_prompts),
            Selection = new PromptSelection { Column = parse.GetValue(_column), Field = parse.GetValue(_field) },
            Chat = parse.GetValue(_chat),
            System = parse.GetValue(_system),
            Count = parse.GetValue(_count),
            Controller = parse.GetValue(_controller),
            Lambda = parse.GetValue(_lambda),
            Page = parse.GetValue(_page),
            Shard = _shard.Read(parse),
            Out = parse.GetValue(_out),
            Command = _shard.Asked(parse, [_out, .. _device.Options]),
            Strict = parse.GetValue(_strict),
            Json = parse.GetValue(Json),
        };
        PromptArguments.CheckSystem(request.Chat, request.System);
        ShardArguments.Check(request.Shard, request.Out, request.Page);
        if (request.Shard is null != request.Out is null)
        {
            throw new UsageException(request.Shard is null
                ? "--out is the folder of a part: give --shard i/N too, or leave it out. --page FILE writes the plots."
                : "Expected --out DIR, a folder for what the part measures.");
        }

        return request.Controller is not null || parse.GetResult(_lambda) is not { Implicit: false }
            ? request
            : throw new UsageException("--lambda is a controller's: give --controller too, or leave it out.");
    }
}
