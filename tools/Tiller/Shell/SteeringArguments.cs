using System.CommandLine;
using Tiller.Law;

namespace Tiller.Tool;

/// <summary>A controller file and how hard it steers.</summary>
internal sealed record Controlled(string Controller, float Lambda);

/// <summary>What steers, and which tokens.</summary>
/// <param name="Controllers">Their inputs add up.</param>
/// <param name="Tokens">The tokens that are steered.</param>
/// <param name="MaxEffort">Bound on |u| at every layer; infinity for none.</param>
internal sealed record SteeringRequest(IReadOnlyList<Controlled> Controllers, SteeredTokens Tokens, float MaxEffort);

/// <summary>What <c>--tokens</c> may say.</summary>
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

    private readonly NumbersOption _lambdas = new("--lambda", OptionKinds.LambdaRange)
    {
        Description = "How far to steer: 0 is the setpoint's zero, negative is the other way. One for all controllers, or one each in order, "
            + "repeated or with spaces between. [default: 1]",
    };

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

    /// <summary>The options, none read yet.</summary>
    /// <param name="required">Whether there must be a controller.</param>
    public SteeringArguments(bool required) => _controllers = new("--controller")
    {
        Description = "Controller file that tiller fit wrote for this model; several add up." + (required ? "" : " [default: the plain model]"),
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

    /// <summary>What was asked for, checked.</summary>
    /// <exception cref="UsageException">The options contradict each other.</exception>
    public SteeringRequest Read(ParseResult parse) => new(
        Pair(parse.GetValue(_controllers) ?? [], parse.GetValue(_lambdas) ?? []), ReadTokens(parse),
        parse.GetValue(_maxEffort) ?? float.PositiveInfinity);

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
