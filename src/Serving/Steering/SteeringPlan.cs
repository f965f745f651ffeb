using Tiller.Law;

namespace Tiller.Serving;

/// <summary>How much an answer tells of the loop.</summary>
internal enum Telemetry
{
    None,
    Summary,
    Tokens,
    Layers,
}

/// <summary>One of the laws that add up in an answer.</summary>
/// <param name="Name">What the request calls it.</param>
/// <param name="Lambda">λ that it begins with.</param>
/// <param name="ToLaw">Its law at a λ and a bound on |u|.</param>
internal sealed record SteeringPart(string Name, double Lambda, Func<double, float, FeedbackLaw> ToLaw);

/// <summary>What a request's <c>steering</c> asks for.</summary>
internal sealed record SteeringPlan
{
    /// <summary>At least one.</summary>
    public required IReadOnlyList<SteeringPart> Parts { get; init; }

    public SteeredTokens Tokens { get; init; } = SteeredTokens.Last;

    /// <summary>Blocks that are moved; null for all that the controllers move.</summary>
    public LayerSet? Layers { get; init; }

    /// <summary>Bound on |u|.</summary>
    public float MaxEffort { get; init; } = float.PositiveInfinity;

    /// <summary>Whether a plain text stands beside the steered one.</summary>
    public bool Compare { get; init; }

    public Telemetry Telemetry { get; init; } = Telemetry.Summary;

    /// <summary>The law of all parts.</summary>
    /// <param name="lambdas">λ of each.</param>
    /// <exception cref="TillerException">A setpoint or gain overflows.</exception>
    public PlannedLaw Compile(ReadOnlySpan<double> lambdas)
    {
        var laws = new FeedbackLaw[Parts.Count];
        var parts = new List<int>();
        for (int i = 0; i < laws.Length; i++)
        {
            var law = Parts[i].ToLaw(lambdas[i], MaxEffort);
            laws[i] = Layers is null ? law : law.Within(Layers);
            parts.AddRange(Enumerable.Repeat(i, laws[i].Sensors.Count));
        }

        return new PlannedLaw(FeedbackLaw.Sum(laws), [.. parts]);
    }
}

/// <summary>A law and whose its sensors are.</summary>
/// <param name="Law">The law.</param>
/// <param name="PartOf">The part of the plan that a sensor is of // (sensors).</param>
internal sealed record PlannedLaw(FeedbackLaw Law, int[] PartOf);
