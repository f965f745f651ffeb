using Tiller.Checkpoint;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>What a method's fit takes from <see cref="FitOptions"/> beside the contrast prompts.</summary>
[Flags]
public enum FitInputs
{
    /// <summary>Nothing: only the feature is measured.</summary>
    None = 0,

    /// <summary>The blocks are linearised and gains are solved for <see cref="FitOptions.Weights"/>; <see cref="FitOptions.Calibration"/>.</summary>
    Gains = 1,

    /// <summary><see cref="FitOptions.Cost"/>.</summary>
    Cost = 2,

    /// <summary><see cref="FitOptions.Order"/>.</summary>
    Order = 4,

    /// <summary><see cref="FitOptions.Setpoint"/>.</summary>
    Setpoint = 8,

    /// <summary><see cref="FitOptions.Alternative"/>, which must be given.</summary>
    Alternative = 16,

    /// <summary><see cref="FitOptions.Nominal"/>, which must be given.</summary>
    Nominal = 32,

    /// <summary><see cref="FitOptions.Layers"/>.</summary>
    Layers = 64,

    /// <summary>The i-th positive prompt belongs with the i-th negative one.</summary>
    Pairs = 128,

    /// <summary>All Jacobians of the horizon are kept at once, 8 L D² bytes, and the recursion is run some forty times.</summary>
    AllJacobians = 256,

    /// <summary><see cref="FitOptions.HeldOut"/>, for a certificate of its gains.</summary>
    HeldOut = 512,

    /// <summary><see cref="FitOptions.Alternative"/>, if given, shows the prompts on which the method shall act.</summary>
    Condition = 1024,
}

/// <summary>A number of a method's own.</summary>
/// <param name="Name">Its name, lower-case letters: at the command line an option of this name.</param>
/// <param name="Description">What it is, a sentence.</param>
/// <param name="Value">Its value; null for none.</param>
/// <param name="With">The method with another value, which may be null where <paramref name="Value"/> may.</param>
public sealed record FitParameter(string Name, string Description, double? Value, Func<double, FitMethod> With);

/// <summary>
/// A method of steering as it is chosen by name and fitted: what it needs, what its numbers are, and which <see cref="SteeringMethod"/> comes of
/// it. A method is a type in a file of its own and a row of <see cref="All"/>, which is all that the fit, the command line and the list of methods
/// know.
/// </summary>
public abstract record FitMethod
{
    private protected FitMethod()
    {
    }

    /// <summary>A-LQR, the default.</summary>
    public static FitMethod Lqr { get; } = new LqrFit();

    /// <summary>Every method, with its defaults.</summary>
    public static IReadOnlyList<FitMethod> All { get; } =
    [
        Lqr, new AngularFit(), new TrajectoryFit(), new LatentFit(), new LatentFit { Calibrated = true }, new HInfinityFit(),
        new ProportionalFit(), new SPidFit(), new AdditionFit("actadd", "arXiv:2308.10248"), new AdditionFit("caa", "arXiv:2312.06681"),
        new PidSteeringFit(), new PidSteeringFit { Ablates = true }, new AblationFit(), new AblationFit { Hook = Hook.Input }, new ClampFit(),
        new AngularSteeringFit(), new AngularSteeringFit { Adaptive = true }, new DirectionalAblationFit(), new TransportFit(),
        new TransportFit { Shifts = true }, new OdeSteeringFit(), new CastFit(),
    ];

    /// <summary>Its name: lower-case letters and hyphens.</summary>
    public abstract string Name { get; }

    /// <summary>What it does, in a few words.</summary>
    public abstract string Summary { get; }

    /// <summary>Where it is from.</summary>
    public abstract string Source { get; }

    /// <summary>What λ is for it.</summary>
    public virtual string Lambda => "the setpoint in units of μ_k";

    /// <summary>What it takes.</summary>
    public abstract FitInputs Inputs { get; }

    /// <summary>Sensors, terms and edits of a steered block, which is what a token costs (docs/math.md §6).</summary>
    public abstract string PerBlock { get; }

    /// <summary>Its own numbers.</summary>
    public virtual IReadOnlyList<FitParameter> Parameters => [];

    /// <summary>The method of a name, with its defaults; null for none.</summary>
    public static FitMethod? Find(string name) => All.FirstOrDefault(method => method.Name == name);

    /// <summary>Whether it takes something.</summary>
    public bool Takes(FitInputs input) => (Inputs & input) == input;

    /// <summary>Blocks that are steered where none are named; null for all.</summary>
    /// <param name="layers">L.</param>
    internal virtual LayerSet? StandardLayers(int layers) => null;

    /// <summary>p of a reduced solve where none is named; null for a full one.</summary>
    internal virtual int? StandardOrder(ModelConfig config) => null;

    /// <summary>What is contradictory about its numbers, a sentence; null if nothing is.</summary>
    internal virtual string? Contradiction => null;

    /// <summary>Fits it.</summary>
    internal abstract FittedMethod Fit(FitJob job);
}

/// <summary>What a method's fit leaves.</summary>
/// <param name="Method">The method with its vectors.</param>
/// <param name="Report">How well gains were solved; no steps where none were.</param>
/// <param name="Settings">Numbers that were found, by name.</param>
internal sealed record FittedMethod(SteeringMethod Method, RiccatiReport Report, params (string Name, double Value)[] Settings)
{
    /// <summary>A method that solves nothing.</summary>
    public FittedMethod(SteeringMethod method)
        : this(method, new RiccatiReport([]))
    {
    }

    /// <summary>The gains of every block, where they were asked for (<see cref="FitJob.KeepsGains"/>) and there are any.</summary>
    public IReadOnlyList<Gain>? Gains { get; init; }
}
