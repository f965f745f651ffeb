// The gains of a text: the blocks are linearised at its next token alone, behind the keys and values that the text has, and the recursion with the
// feature's cost (docs/math.md §4) runs on that one plant. In full it takes 1 .. L+1 cotangents a block, about (L + 3)/2 rows where a prompt of T
// tokens took T; with an order p it takes p tangents a block.
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Online;

/// <summary>
/// Fits a controller's gains to the text that it steers, in place of the mean of its calibration prompts: at the prompt's last token, and, if asked
/// for, at every n-th token of the continuation. The feature, the setpoints, the weights and the steered blocks are the controller's.
/// </summary>
public sealed class PromptFit
{
    private readonly LinearQuadratic _method;
    private readonly FitOptions _options;
    private readonly double _lambda;
    private readonly float _maxEffort;

    /// <summary>Prepares fits.</summary>
    /// <param name="controller">An A-LQR controller, fitted with <see cref="FitCost.Feature"/>: what is fitted anew is its gains.</param>
    /// <param name="lambda">Strength.</param>
    /// <param name="maxEffort">Bound on |u_k|, positive infinity for none.</param>
    /// <param name="order">p, for a reduced fit from p tangents a block; null to solve in full from pullbacks.</param>
    /// <exception cref="ControllerException">The controller is of another method, or was fitted with another cost.</exception>
    /// <exception cref="ArgumentException">λ is not finite, the bound is not positive, or the order is not 1 to D.</exception>
    public PromptFit(Controller controller, double lambda, float maxEffort = float.PositiveInfinity, int? order = null)
    {
        ArgumentNullException.ThrowIfNull(controller);
        if (controller.Method is not LinearQuadratic method || controller.Source is not { Weights: { } weights, Cost: FitCost.Feature })
        {
            throw new ControllerException(
                ControllerFault.Schema,
                $"Gains are fitted to a text for A-LQR with the cost of the feature, and the controller is {controller.Method.Name}"
                + (controller.Source.Cost == FitCost.State ? " with the cost of the whole state" : "")
                + ": fit it with FitOptions.Cost = FitCost.Feature.");
        }

        if (order is < 1 || order > controller.D)
        {
            throw new ArgumentOutOfRangeException(nameof(order), order, $"The order must be 1 to {controller.D}, the width of the model.");
        }

        (_method, _lambda, _maxEffort) = (method, lambda, maxEffort);
        _options = new FitOptions { Cost = FitCost.Feature, Weights = weights, Order = order, Setpoint = method.Setpoint };
        Law = controller.ToLaw(lambda, maxEffort);
    }

    /// <summary>The controller's own law, which holds until a text has one.</summary>
    public FeedbackLaw Law { get; }

    /// <summary>Fits the gains to a text (<see cref="GenerationOptions.Refit"/>).</summary>
    /// <param name="session">The text so far; may be empty. It is left as it is.</param>
    /// <param name="next">The token that comes next, at which the blocks are linearised.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <returns>The law from that token on.</returns>
    /// <exception cref="TillerException">The controller is for a model of another shape, or the recursion fails numerically.</exception>
    /// <exception cref="ObjectDisposedException">The session or its model has been disposed of.</exception>
    public FeedbackLaw Fit(Session session, int next, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(session);
        using var call = session.Enter();
        var model = session.Model;
        model.CheckLaw(Law);
        session.Prepare([next], cancellationToken: cancellationToken);
        using var linearization = Linearization.AtNext(model, session.Cache, session.Length, next, out var state, cancellationToken);
        var feature = _method.Feature;
        var job = new FitJob(
            model, linearization, feature, [state], _options, [_options.Weights], _method.Layers, progress: null, cancellationToken)
        {
            Positive = [],
            Negative = [],
            PositiveIds = [],
            NegativeIds = [],
        };
        return LinearQuadratic.FromGains(feature, job.Gains([feature]).Gains, _method.Setpoint, _method.Layers).Compile(_lambda, _maxEffort);
    }
}
