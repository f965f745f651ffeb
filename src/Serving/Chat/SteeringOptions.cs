using Tiller.Controllers;
using Tiller.Law;

namespace Tiller.Serving;

/// <summary>One controller of an answer, and how strongly it steers.</summary>
public sealed record ControllerUse
{
    /// <summary>Steers by a controller at hand.</summary>
    /// <param name="controller">Made for the model that answers.</param>
    /// <param name="lambda">λ; 1 is the distance between the two lists of prompts.</param>
    public ControllerUse(Controller controller, double lambda = 1)
    {
        ArgumentNullException.ThrowIfNull(controller);
        (Controller, Lambda) = (controller, lambda);
    }

    /// <summary>Steers by a controller that a <see cref="TillerService"/> has under a name.</summary>
    /// <param name="name">Its name there.</param>
    /// <param name="lambda">λ; 1 is the distance between the two lists of prompts.</param>
    public ControllerUse(string name, double lambda = 1)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        (Name, Lambda) = (name, lambda);
    }

    /// <summary>The controller; null where it is named.</summary>
    public Controller? Controller { get; }

    /// <summary>Its name in the service; null where the controller itself is given.</summary>
    public string? Name { get; }

    /// <summary>How strongly it steers.</summary>
    public double Lambda { get; init; }
}

/// <summary>
/// How an answer of a chat client is steered: what <c>ChatOptions.RawRepresentationFactory</c> returns, or
/// <c>ChatOptions.AdditionalProperties["steering"]</c> holds.
/// </summary>
/// <example>
/// <code>
/// var options = new ChatOptions { RawRepresentationFactory = _ => new SteeringOptions(new ControllerUse(sea, lambda: 1.5)) };
/// </code>
/// </example>
public sealed record SteeringOptions
{
    /// <summary>Key of <c>ChatOptions.AdditionalProperties</c>, and of those of a response, which hold a <c>SteeringSummary</c> there.</summary>
    public const string PropertyName = "steering";

    /// <summary>Steers by these controllers, which add up.</summary>
    /// <param name="controllers">At least one.</param>
    public SteeringOptions(params IReadOnlyList<ControllerUse> controllers)
    {
        ArgumentNullException.ThrowIfNull(controllers);
        Controllers = controllers;
    }

    /// <summary>What steers; all add up.</summary>
    public IReadOnlyList<ControllerUse> Controllers { get; }

    /// <summary>Which tokens are moved; default the prompt's last and every new one.</summary>
    public SteeredTokens Tokens { get; init; } = SteeredTokens.Last;

    /// <summary>Blocks that are moved; null (default) for all that the controllers move.</summary>
    public LayerSet? Layers { get; init; }

    /// <summary>Bound on |u| at every layer; default none.</summary>
    public float MaxEffort { get; init; } = float.PositiveInfinity;
}
