using System.CommandLine;
using Tiller.Law;

namespace Tiller.Tool;

/// <summary>A controller file and its λ.</summary>
internal sealed record Controlled(string Controller, float Lambda);

/// <summary>The controllers and the tokens that they steer.</summary>
/// <param name="Controllers">The controllers, whose inputs are added.</param>
/// <param name="Tokens">The tokens that are steered.</param>
/// <param name="MaxEffort">Bound on |u| at every layer; infinity for none.</param>
internal sealed record SteeringRequest(IReadOnlyList<Controlled> Controllers, SteeredTokens Tokens, float MaxEffort);

/// <summary>The values of <c>--tokens</c>.</summary>
internal enum TokenPhase
{
    Last,
    All,
    First,
    Generated,
    Clean,
}

/// <summary>The options of the commands that steer.</summary>
internal sealed class SteeringArguments
{
    private readonly Option<string[]> _controllers;

    private readonly NumbersOption _lambdas = OptionKinds.Lambdas(
        "Strength λ: 0 steers to a projection of zero, a negative value in the opposite direction. One value for all controllers, "
        + "or one for each in order; repeat the option or separate values by spaces. [default: 1]");

    private readonly Option<TokenPhase> _tokens = OptionKinds.Choice<TokenPhase>(
        "--tokens",
        "Tokens to steer: the prompt's last token and all generated ones (last); all tokens of the prompt too (all); only the prompt's last "
        + "(first); only generated ones (generated); or as last, but over keys and values of the plain model, with two passes per token (clean).",
        helpName: "which");

    private readonly Option<(int Begin, int End)?> _window = OptionKinds.Window(
        "--window", "Steer only the generated tokens number a to b, counted from 0; a- has no end. [default: 0-]");

    private readonly Option<int[]> _skippedPositions = OptionKinds.Indices("--skip-position",
        "Do not steer the token at this position, counted from 0. Repeatable.");
    private readonly Option<int[]> _skippedIds = OptionKinds.Indices("--skip-id",
        "Do not steer tokens of this id, such as those of a chat format. Repeatable.");

    private readonly Option<float?> _maxEffort = OptionKinds.NumberOrNone<float>(
        "--u-max", "Bound on |u|, the norm of the input that is added to the state at a layer. [default: none]", u => u > 0, "a number above 0");

    /// <summary>Creates the options.</summary>
    /// <param name="required">Whether a controller is required.</param>
    public SteeringArguments(bool required) => _controllers = new("--controller")
    {
        Description = "Controller file that tiller fit wrote for this model. Repeatable: the inputs of several controllers are added."
            + (required ? "" : " [default: the plain model]"),
        HelpName = "FILE",
        Required = required,
    };

    public void AddTo(Command command)
    {
        Option[] options = [_controllers, _lambdas, _tokens, _window, _skippedPositions, _skippedIds, _maxEffort];
        foreach (var option in options)
        {
            command.Add(option);
        }
    }

    /// <summary>Reads and checks the options.</summary>
    /// <exception cref="UsageException">The options contradict each other.</exception>
    public SteeringRequest Read(ParseResult parse)
    {
        string[] controllers = parse.GetValue(_controllers) ?? [];
        Option[] needy = [_lambdas, _tokens, _window, _skippedPositions, _skippedIds, _maxEffort];
        if (controllers.Length == 0 && Array.Find(needy, option => parse.GetResult(option) is { Implicit: false }) is { } given)
        {
            throw new UsageException($"{given.Name} needs a controller: add --controller, or leave it out.");
        }

        return new(
            Pair(controllers, Array.ConvertAll(parse.GetValue(_lambdas) ?? [], x => (float)x)), ReadTokens(parse),
            parse.GetValue(_maxEffort) ?? float.PositiveInfinity);
    }

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
                throw new UsageException("--window selects generated tokens, but --tokens first steers none of them. Leave one of the two out.");
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
