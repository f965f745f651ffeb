using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>The parts of <see cref="FitOptions"/> that a method uses beside the contrast prompts, and its demands on the fit.</summary>
[Flags]
public enum FitInputs
{
    /// <summary>None: the method needs only the feature.</summary>
    None = 0,

    /// <summary>Linearises the blocks and solves gains: uses <see cref="FitOptions.Weights"/> and <see cref="FitOptions.Calibration"/>.</summary>
    Gains = 1,

    /// <summary>Uses <see cref="FitOptions.Cost"/>.</summary>
    Cost = 2,

    /// <summary>Uses <see cref="FitOptions.Order"/>.</summary>
    Order = 4,

    /// <summary>Uses <see cref="FitOptions.Setpoint"/>.</summary>
    Setpoint = 8,

    /// <summary>Needs <see cref="FitOptions.Alternative"/>.</summary>
    Alternative = 16,

    /// <summary>Needs <see cref="FitOptions.Nominal"/>.</summary>
    Nominal = 32,

    /// <summary>Uses <see cref="FitOptions.Layers"/>.</summary>
    Layers = 64,

    /// <summary>Needs pairs: the i-th positive prompt belongs to the i-th negative prompt.</summary>
    Pairs = 128,

    /// <summary>Keeps all Jacobians of the horizon in memory, 8 L D² bytes, and solves with them often (<see cref="FitPlan"/>).</summary>
    AllJacobians = 256,

    /// <summary>Uses <see cref="FitOptions.HeldOut"/>: its gains can be certified.</summary>
    HeldOut = 512,

    /// <summary>Uses <see cref="FitOptions.Alternative"/>, if given, as the prompts on which the method shall act.</summary>
    Condition = 1024,

    /// <summary>Takes every token of the contrast prompts through the blocks once more, all prompts side by side.</summary>
    Tokens = 2048,
}

/// <summary>A numeric parameter of a method.</summary>
/// <param name="Name">Name of lower-case letters; the command line has an option of this name.</param>
/// <param name="Description">The meaning of the parameter, in a sentence.</param>
/// <param name="Value">The value; null for none.</param>
/// <param name="With">Returns the method with another value.</param>
public sealed record FitParameter(string Name, string Description, double? Value, Func<double, FitMethod> With);

/// <summary>
/// A steering method that is chosen by name and fitted: its inputs, its parameters, and the <see cref="SteeringMethod"/> that a fit of it gives. A
/// method is a type in its own file and a row of <see cref="All"/>; the fit, the command line and the list of methods need nothing else.
/// </summary>
public abstract record FitMethod
{
    private protected FitMethod()
    {
    }

    /// <summary>A-LQR, the default.</summary>
    public static FitMethod Lqr { get; } = new LqrFit();

    /// <summary>All methods, with their default parameters.</summary>
    public static IReadOnlyList<FitMethod> All { get; } =
    [
        Lqr, new AngularFit(), new TrajectoryFit(), new LatentFit(), new LatentFit { Calibrated = true }, new HInfinityFit(), new PredictiveFit(),
        new ProportionalFit(), new SPidFit(), new AdditionFit("actadd", "arXiv:2308.10248"), new AdditionFit("caa", "arXiv:2312.06681"),
        new PidSteeringFit(), new PidSteeringFit { Ablates = true }, new AblationFit(), new AblationFit { Hook = Hook.Input }, new ClampFit(),
        new AngularSteeringFit(), new AngularSteeringFit { Adaptive = true }, new DirectionalAblationFit(), new TransportFit(),
        new TransportFit { Shifts = true }, new OdeSteeringFit(), new CastFit(),
    ];

    /// <summary>Name of the method: lower-case letters and hyphens.</summary>
    public abstract string Name { get; }

    /// <summary>What the method does, in a few words.</summary>
    public abstract string Summary { get; }

    /// <summary>The publication of the method.</summary>
    public abstract string Source { get; }

    /// <summary>The meaning of λ for this method, in a few words.</summary>
    public virtual string Lambda => "the setpoint in units of μ_k";

    /// <summary>The inputs of the method.</summary>
    public abstract FitInputs Inputs { get; }

    /// <summary>Sensors, terms and edits of a steered block; they determine the cost of a token (docs/math.md §6).</summary>
    public abstract string PerBlock { get; }

    /// <summary>The parameters of the method.</summary>
    public virtual IReadOnlyList<FitParameter> Parameters => [];

    /// <summary>Finds a method by its name; null if there is none. It has its default parameters.</summary>
    public static FitMethod? Find(string name) => All.FirstOrDefault(method => method.Name == name);

    /// <summary>Whether the method uses all of the given inputs.</summary>
    public bool Takes(FitInputs input) => (Inputs & input) == input;

    /// <summary>Steered blocks if the options name none; null for all.</summary>
    /// <param name="layers">L.</param>
    internal virtual LayerSet? StandardLayers(int layers) => null;

    /// <summary>Order p of the solution if the options name none, of a model that is as wide; null for a full solution.</summary>
    internal virtual int? StandardOrder => null;

    /// <summary>A sentence that names a contradiction between parameters; null if there is none.</summary>
    internal virtual string? Contradiction => null;

    /// <summary>What a method that takes <see cref="FitInputs.AllJacobians"/> solves, beside them and the gains, if all goes as usual.</summary>
    /// <param name="horizon">Blocks of the horizon.</param>
    /// <param name="width">D.</param>
    /// <returns>Memory in bytes; FLOPs in float64 at the rate of products.</returns>
    internal virtual (long SizeInBytes, double Flops) Solving(int horizon, int width) => (0, 0);

    /// <summary>Fits the method.</summary>
    internal abstract FittedMethod Fit(FitJob job);
}

/// <summary>The result of a method's fit.</summary>
/// <param name="Method">The method with its vectors.</param>
/// <param name="Report">Accuracy of the solved gains; without steps if none were solved.</param>
/// <param name="Settings">Numbers that the fit found, by name.</param>
internal sealed record FittedMethod(SteeringMethod Method, RiccatiReport Report, params (string Name, double Value)[] Settings)
{
    /// <summary>The result for a method that solves no gains.</summary>
    public FittedMethod(SteeringMethod method)
        : this(method, new RiccatiReport([]))
    {
    }

    /// <summary>The gains of every block, if they were requested (<see cref="FitJob.KeepsGains"/>) and the method has any; null otherwise.</summary>
    public IReadOnlyList<Gain>? Gains { get; init; }
}
