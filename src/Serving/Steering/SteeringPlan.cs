using Tiller.Law;

namespace Tiller.Serving;

/// <summary>Which errors and efforts an answer reports.</summary>
internal enum Telemetry
{
    None,
    Summary,
    Tokens,
    Layers,
}

/// <summary>One of the laws of an answer, whose inputs are added.</summary>
/// <param name="Name">The name in the request.</param>
/// <param name="Lambda">The first λ.</param>
/// <param name="ToLaw">Makes the law for λ and a bound on |u|.</param>
internal sealed record SteeringPart(string Name, double Lambda, Func<double, float, FeedbackLaw> ToLaw);

/// <summary>The steering that a request asks for.</summary>
internal sealed record SteeringPlan
{
    /// <summary>The parts, at least one.</summary>
    public required IReadOnlyList<SteeringPart> Parts { get; init; }

    public SteeredTokens Tokens { get; init; } = SteeredTokens.Last;

    /// <summary>The steered blocks; null for all blocks of the controllers.</summary>
    public LayerSet? Layers { get; init; }

    /// <summary>Bound on |u| at every layer.</summary>
    public float MaxEffort { get; init; } = float.PositiveInfinity;

    /// <summary>Whether the answer also has a plain text.</summary>
    public bool Compare { get; init; }

    public Telemetry Telemetry { get; init; } = Telemetry.Summary;

    /// <summary>Makes the law of all parts together.</summary>
    /// <param name="lambdas">λ of each part.</param>
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

/// <summary>A law, and the part to which each of its sensors belongs.</summary>
/// <param name="Law">The law.</param>
/// <param name="PartOf">The index of each sensor's part in the plan // (sensors).</param>
internal sealed record PlannedLaw(FeedbackLaw Law, int[] PartOf);
