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
internal sealed class PlannedLaw
{
    /// <summary>Takes a law apart.</summary>
    /// <param name="law">The law.</param>
    /// <param name="partOf">The part of the plan that a sensor is of // (sensors).</param>
    public PlannedLaw(FeedbackLaw law, int[] partOf)
    {
        (Law, PartOf) = (law, partOf);
        FedBack = [.. law.Terms.SelectMany(term => term.Feeds, (_, feed) => feed.Sensor).Distinct().Order()];
    }

    public FeedbackLaw Law { get; }

    public int[] PartOf { get; }

    /// <summary>Sensors that a term uses: those of gates alone track nothing.</summary>
    public int[] FedBack { get; }
}
