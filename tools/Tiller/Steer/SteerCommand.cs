using System.CommandLine;
using Tiller.Law;

namespace Tiller.Tool;

/// <summary>A controller file and how hard it steers.</summary>
internal sealed record Controlled(string Controller, float Lambda);

/// <summary>What <c>tiller steer</c> was asked for.</summary>
internal sealed record SteerRequest
{
    public required string Model { get; init; }

    public required DeviceRequest Device { get; init; }

    /// <summary>At least one; their inputs add up.</summary>
    public required IReadOnlyList<Controlled> Controllers { get; init; }

    public required PromptRequest Prompt { get; init; }

    /// <summary>The prompts, if they are many.</summary>
    public ManyPromptsRequest? Many { get; init; }

    public required DecodingRequest Decoding { get; init; }

    public SteeredTokens Tokens { get; init; } = SteeredTokens.Last;

    /// <summary>Bound on |u| at every layer; infinity for none.</summary>
    public float MaxEffort { get; init; }

    /// <summary>Decode plain as well, and show both.</summary>
    public bool Compare { get; init; }

    /// <summary>File for v·x, α and |u| of every layer and token.</summary>
    public string? Trace { get; init; }

    /// <summary>Refuse a prompt that would lose characters.</summary>
    public bool Strict { get; init; }

    public bool Json { get; init; }
}

/// <summary>What <c>--tokens</c> may say.</summary>
internal enum TokenPhase
{
    Last,
    All,
    First,
    Generated,
    Clean,
}

/// <summary><c>tiller steer</c>: decode with controllers in the loop.</summary>
internal sealed class SteerCommand : TillerCommand
{
    private readonly Option<string> _model = OptionKinds.Model();
    private readonly DeviceArguments _device = new();
    private readonly Option<bool> _strict = OptionKinds.Strict();

    private readonly Option<string[]> _controllers = new("--controller")
    {
        Description = "Controller file that tiller fit wrote for this model; several add up.",
        HelpName = "FILE",
        Required = true,
    };

    private readonly NumbersOption _lambdas = new("--lambda", OptionKinds.LambdaRange)
    {
        Description = "How far to steer: 0 is the setpoint's zero, negative is the other way. One for all controllers, or one each in order, "
            + "repeated or with spaces between. [default: 1]",
    };

    private readonly PromptArguments _prompt = new();
    private readonly ManyPromptsArguments _many = new();
    private readonly DecodingArguments _decoding = new();
    private readonly Option<TokenPhase> _tokens = OptionKinds.Choice<TokenPhase>(
        "--tokens",
        "Steer from the prompt's last token on (last), every token of the prompt too (all), the prompt's last alone (first), generated tokens alone "
        + "(generated); or from the prompt's last on over keys and values of the plain model, at two passes a token (clean).",
        helpName: "which");

    private readonly Option<(int Begin, int End)?> _window = OptionKinds.Window(
        "--window", "Of the generated tokens steer numbers a to b, counted from 0; a- has no end. [default: 0-]");

    private readonly Option<int[]> _skippedPositions = OptionKinds.Indices("--skip-position",
        "Leave the token at this position alone, counted from 0; repeated for more.");
    private readonly Option<int[]> _skippedIds = OptionKinds.Indices("--skip-id",
        "Leave tokens of this id alone, such as those of a format; repeated for more.");

    private readonly Option<float?> _maxEffort = OptionKinds.NumberOrNone<float>(
        "--u-max", "Bound on |u|, what is added to the state at a layer. [default: none]", u => u > 0, "a number above 0");

    private readonly Option<bool> _compare = new("--compare") { Description = "Decode without the controllers too, and show both." };
    private readonly Option<string?> _trace = new("--trace")
    {
        Description = "Write v·x, α and |u| of every layer and token here (JSONL); - is standard output, and the text goes to standard error.",
        HelpName = "FILE",
    };

    public SteerCommand(Func<SteerRequest, CancellationToken, Task<int>> run)
        : base("steer", "Decode with one or more controllers in the loop, streamed. Changing λ needs no new fit.")
    {
        _prompt.AddTo(this);
        _many.AddTo(this);
        Option[] options = [_model, _controllers, _lambdas, _tokens, _window, _skippedPositions, _skippedIds, _maxEffort, _compare, _trace];
        foreach (var option in options)
        {
            Add(option);
        }

        Add(_strict);
        _device.AddTo(this);
        _decoding.AddTo(this);
        SetAction((parse, cancellationToken) => run(Read(parse), cancellationToken));
    }

    public override string Examples =>
        """
          # plain and steered text
          tiller steer --model models/demo --controller sea.tiller --lambda 1.5 --compare "Once upon a time"
          # what the controller read and did, token by token
          tiller steer --model models/demo --controller sea.tiller --trace - "One day"
          # the first sixteen generated tokens alone
          tiller steer --model models/demo --controller sea.tiller --tokens generated --window 0-15 "One day"
          # away from the feature
          tiller steer --model models/demo --controller sea.tiller --lambda -1 "One day"
          # two controllers at once, prompt from standard input
          echo "A guest wrote." | tiller steer --model DIR --controller kind.tiller --lambda 2 --controller sea.tiller --lambda 1
          # every prompt of a file; the same command goes on after an interruption
          tiller steer --model models/demo --controller sea.tiller --prompts models/demo/contrast/topic.prompts.txt --out sea.jsonl
          # a chat model
          tiller steer --model DIR --controller honest.tiller --chat --system "Be brief." "Is the moon made of cheese?"
        """;

    private SteerRequest Read(ParseResult parse)
    {
        var request = Asked(parse);
        return request.Many is null || (!request.Compare && request.Trace is null)
            ? request
            : throw new UsageException("--compare and --trace are about one prompt: leave them out with --prompts.");
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
        Controllers = Pair(parse.GetRequiredValue(_controllers), parse.GetValue(_lambdas) ?? []),
        Prompt = prompt,
        Many = many,
        Decoding = _decoding.Read(parse, parse.GetValue(Json), many is not null),
        Tokens = ReadTokens(parse),
        MaxEffort = parse.GetValue(_maxEffort) ?? float.PositiveInfinity,
        Compare = parse.GetValue(_compare),
        Trace = parse.GetValue(_trace),
        Json = parse.GetValue(Json),
    };

    private SteeredTokens ReadTokens(ParseResult parse)
    {
        var phase = parse.GetValue(_tokens);
        var tokens = phase switch
        {
            TokenPhase.All => SteeredTokens.All,
            TokenPhase.First => SteeredTokens.First,
            TokenPhase.Generated => new SteeredTokens { Prompt = PromptTokens.None },
            TokenPhase.Clean => SteeredTokens.LastOverCleanPrefix,
            _ => SteeredTokens.Last,
        };
        if (parse.GetValue(_window) is { } window)
        {
            if (phase == TokenPhase.First)
            {
                throw new UsageException("--window is about generated tokens, of which --tokens first steers none. Leave one of the two out.");
            }

            tokens = tokens with { GeneratedBegin = window.Begin, GeneratedEnd = window.End };
        }

        return tokens with { ExcludedPositions = parse.GetValue(_skippedPositions) ?? [], ExcludedIds = parse.GetValue(_skippedIds) ?? [] };
    }

    private static Controlled[] Pair(string[] controllers, float[] lambdas)
    {
        if (lambdas.Length > 1 && lambdas.Length != controllers.Length)
        {
            throw new UsageException(
                $"Expected one --lambda for all or one for each of the {controllers.Length} controllers, got {lambdas.Length}. "
                + "A prompt that is a number goes before --lambda, or after --.");
        }

        return [.. controllers.Select((c, i) => new Controlled(c, lambdas.Length == 0 ? 1 : lambdas[lambdas.Length == 1 ? 0 : i]))];
    }
}
