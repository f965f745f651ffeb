using Tiller.Controllers;
using Tiller.Law;

namespace Tiller.Serving;

/// <summary>A controller for an answer, and its λ.</summary>
public sealed record ControllerUse
{
    /// <summary>Uses a controller object.</summary>
    /// <param name="controller">A controller for the model of the chat client.</param>
    /// <param name="lambda">The strength λ; 1 is the distance between the two lists of prompts.</param>
    public ControllerUse(Controller controller, double lambda = 1)
    {
        ArgumentNullException.ThrowIfNull(controller);
        (Controller, Lambda) = (controller, lambda);
    }

    /// <summary>Uses a controller of a <see cref="TillerService"/> by its name.</summary>
    /// <param name="name">The name of the controller in the service.</param>
    /// <param name="lambda">The strength λ; 1 is the distance between the two lists of prompts.</param>
    public ControllerUse(string name, double lambda = 1)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        (Name, Lambda) = (name, lambda);
    }

    /// <summary>The controller; null if it is given by name.</summary>
    public Controller? Controller { get; }

    /// <summary>The name in the service; null if the controller itself is given.</summary>
    public string? Name { get; }

    /// <summary>The strength λ.</summary>
    public double Lambda { get; init; }
}

/// <summary>
/// How an answer of a chat client is steered. The options are the result of <c>ChatOptions.RawRepresentationFactory</c>, or the value of
/// <c>ChatOptions.AdditionalProperties["steering"]</c>.
/// </summary>
/// <example>
/// <code>
/// var options = new ChatOptions { RawRepresentationFactory = _ => new SteeringOptions(new ControllerUse(sea, lambda: 1.5)) };
/// </code>
/// </example>
public sealed record SteeringOptions
{
    /// <summary>
    /// The key in <c>ChatOptions.AdditionalProperties</c>, and in those of a response, where the value is a <c>SteeringSummary</c>.
    /// </summary>
    public const string PropertyName = "steering";

    /// <summary>Steers by controllers, whose inputs are added.</summary>
    /// <param name="controllers">At least one controller.</param>
    public SteeringOptions(params IReadOnlyList<ControllerUse> controllers)
    {
        ArgumentNullException.ThrowIfNull(controllers);
        Controllers = controllers;
    }

    /// <summary>The controllers, whose inputs are added.</summary>
    public IReadOnlyList<ControllerUse> Controllers { get; }

    /// <summary>The tokens that are steered; default the prompt's last token and every new one.</summary>
    public SteeredTokens Tokens { get; init; } = SteeredTokens.Last;

    /// <summary>The blocks that are steered; null (default) for all blocks of the controllers.</summary>
    public LayerSet? Layers { get; init; }

    /// <summary>Bound on |u| at every layer; default infinity, which is no bound.</summary>
    public float MaxEffort { get; init; } = float.PositiveInfinity;
}
