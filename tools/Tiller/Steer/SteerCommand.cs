using System.CommandLine;
using Tiller.Law;

namespace Tiller.Tool;

/// <summary>Where the gains come from.</summary>
internal enum GainSource
{
    /// <summary>The controllers' files.</summary>
    Controller,

    /// <summary>The text: they are fitted to it before its first token.</summary>
    Prompt,
}

/// <summary>Gains that are fitted to the text.</summary>
/// <param name="Order">p of a reduced fit; null to solve in full.</param>
/// <param name="Every">After how many generated tokens they are fitted again; 0 for never.</param>
internal sealed record PromptFitRequest(int? Order, int Every);

/// <summary>The request of <c>tiller steer</c>.</summary>
internal sealed record SteerRequest
{
    public required string Model { get; init; }

    public required DeviceRequest Device { get; init; }

    /// <summary>The steering, with at least one controller.</summary>
    public required SteeringRequest Steering { get; init; }

    public required PromptRequest Prompt { get; init; }

    /// <summary>The file of prompts; null for a single prompt.</summary>
    public ManyPromptsRequest? Many { get; init; }

    public required DecodingRequest Decoding { get; init; }

    /// <summary>Gains that are fitted to the text; null for the controllers' own.</summary>
    public PromptFitRequest? Fit { get; init; }

    /// <summary>Whether to decode with the plain model too and show both texts.</summary>
    public bool Compare { get; init; }

    /// <summary>File for v·x, α and |u| of every layer and token.</summary>
    public string? Trace { get; init; }

    /// <summary>Whether to refuse a prompt that would lose characters.</summary>
    public bool Strict { get; init; }

    public bool Json { get; init; }
}

/// <summary><c>tiller steer</c>: decodes with controllers in the loop.</summary>
internal sealed class SteerCommand : TillerCommand
{
    private readonly Option<string> _model = OptionKinds.Model();
    private readonly DeviceArguments _device = new(decodes: true);
    private readonly Option<bool> _strict = OptionKinds.Strict();

    private readonly SteeringArguments _steering = new(required: true);
    private readonly PromptArguments _prompt = new();
    private readonly ManyPromptsArguments _many = new();
    private readonly DecodingArguments _decoding = new();
    private readonly Option<bool> _compare = new("--compare") { Description = "Decode without the controllers too, and show both." };
    private readonly Option<string?> _trace = new("--trace")
    {
        Description = "Write v·x, α and |u| of every layer and token to this file (JSONL). - is standard output, with the text on standard error.",
        HelpName = "FILE",
    };

    private readonly Option<GainSource> _fit = OptionKinds.Choice<GainSource>(
        "--fit", "Whether the gains are the controller's or are fitted to the text at its last token, for A-LQR with the cost of the feature.");

    private readonly Option<int?> _order = OptionKinds.NumberOrNone<int>(
        "--order", "With --fit prompt: fit from p tangents a block [default: in full, from pullbacks]", p => p > 0, "a whole number above 0", "p");

    private readonly Option<int?> _refit = OptionKinds.NumberOrNone<int>(
        "--refit", "With --fit prompt: fit again after every n generated tokens [default: never]", n => n > 0, "a whole number above 0", "n");

    public SteerCommand(Func<SteerRequest, CancellationToken, Task<int>> run)
        : base("steer", "Decode with one or more controllers in the loop, streamed. Changing λ needs no new fit.")
    {
        _prompt.AddTo(this);
        _many.AddTo(this);
        Add(_model);
        _steering.AddTo(this);
        Add(_fit);
        Add(_order);
        Add(_refit);
        Add(_compare);
        Add(_trace);
        Add(_strict);
        _device.AddTo(this);
        _decoding.AddTo(this);
        SetAction((parse, cancellationToken) => run(Read(parse), cancellationToken));
    }

    public override string Examples =>
        """
          # plain and steered text
          tiller steer --model models/demo --controller sea.tiller --lambda 1.5 --compare "Once upon a time"
          # the values that the controller read and computed, token by token
          tiller steer --model models/demo --controller sea.tiller --trace - "One day"
          # only the first sixteen generated tokens
          tiller steer --model models/demo --controller sea.tiller --tokens generated --window 0-15 "One day"
          # gains of this text in place of the mean ones, again after every 16 tokens
          tiller steer --model models/demo --controller kind.tiller --fit prompt --refit 16 --order 4 "A guest wrote."
          # away from the feature
          tiller steer --model models/demo --controller sea.tiller --lambda -1 "One day"
          # two controllers at once, prompt from standard input
          echo "A guest wrote." | tiller steer --model DIR --controller kind.tiller --lambda 2 --controller sea.tiller --lambda 1
          # every prompt of a file; after an interruption the same command continues
          tiller steer --model models/demo --controller sea.tiller --prompts models/demo/contrast/topic.prompts.txt --out sea.jsonl
          # a chat model
          tiller steer --model DIR --controller honest.tiller --chat --system "Be brief." "Is the moon made of cheese?"
        """;

    private SteerRequest Read(ParseResult parse)
    {
        var request = Asked(parse);
        if (request.Fit is null && (parse.GetValue(_order) is not null || parse.GetValue(_refit) is not null))
        {
            throw new UsageException("--order and --refit are for --fit prompt: add it, or leave them out.");
        }

        if (request.Fit is not null && (request.Steering.Tokens.Prompt == PromptTokens.All || request.Steering.Tokens.Clean))
        {
            throw new UsageException(
                "--fit prompt fits at the prompt's last token: leave out --tokens all and --tokens clean, which steer the tokens before it too.");
        }

        return request.Many is null || (!request.Compare && request.Trace is null && request.Fit is null)
            ? request
            : throw new UsageException("--compare, --trace and --fit prompt are for a single prompt: leave them out with --prompts.");
    }

    private SteerRequest Asked(ParseResult parse)
    {
        var prompt = _prompt.Read(parse);
        return Asked(parse, prompt, _many.Read(parse, prompt));
    }

    private SteerRequest Asked(ParseResult parse, PromptRequest prompt, ManyPromptsRequest? many) => new()
    {
        Model = parse.GetRequiredValue(_model),
        Device = _device.Read(parse),
        Strict = parse.GetValue(_strict),
        Steering = _steering.Read(parse),
        Prompt = prompt,
        Many = many,
        Decoding = _decoding.Read(parse, parse.GetValue(Json), many is not null),
        Fit = parse.GetValue(_fit) == GainSource.Prompt ? new PromptFitRequest(parse.GetValue(_order), parse.GetValue(_refit) ?? 0) : null,
        Compare = parse.GetValue(_compare),
        Trace = parse.GetValue(_trace),
        Json = parse.GetValue(Json),
    };
}
