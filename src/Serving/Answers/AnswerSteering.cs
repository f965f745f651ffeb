using System.Runtime.CompilerServices;
using Tiller.Law;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>The controllers that steer the texts of an answer, with their present λ, which may be changed while the texts are decoded.</summary>
internal sealed class AnswerSteering
{
    private readonly Lock _lock = new();
    private readonly ConditionalWeakTable<FeedbackLaw, PlannedLaw> _laws = [];
    private readonly List<ScheduledText> _texts = [];
    private double[] _lambdas;

    /// <summary>Compiles the first law of the plan.</summary>
    /// <exception cref="TillerException">A setpoint or gain overflows.</exception>
    public AnswerSteering(SteeringPlan plan)
    {
        Plan = plan;
        _lambdas = [.. plan.Parts.Select(part => part.Lambda)];
        First = Compile(_lambdas);
    }

    public SteeringPlan Plan { get; }

    /// <summary>The law with which the texts begin.</summary>
    public FeedbackLaw First { get; }

    /// <summary>λ of each part.</summary>
    public double[] Lambdas
    {
        get
        {
            lock (_lock)
            {
                return _lambdas;
            }
        }
    }

    /// <summary>Adds a steered text.</summary>
    public void Add(ScheduledText text)
    {
        lock (_lock)
        {
            _texts.Add(text);
        }
    }

    /// <summary>The planned law of a law, which says to which parts its sensors belong; null if it is unknown.</summary>
    public PlannedLaw? LawOf(FeedbackLaw law) => _laws.TryGetValue(law.Undecided, out var planned) ? planned : null;

    /// <summary>Changes λ of some parts, beginning with the next token of each text.</summary>
    /// <param name="moved">The new λ of each changed part, by its index.</param>
    /// <returns>False if all texts have ended.</returns>
    /// <exception cref="TillerException">A setpoint or gain overflows. Nothing has changed then.</exception>
    public bool Move(IReadOnlyDictionary<int, double> moved)
    {
        lock (_lock)
        {
            double[] lambdas = [.. _lambdas.Select((lambda, i) => moved.TryGetValue(i, out double other) ? other : lambda)];
            var law = Compile(lambdas);
            bool goesOn = false;
            foreach (var text in _texts)
            {
                goesOn |= text.Use(law);
            }

            _lambdas = lambdas;
            return goesOn;
        }
    }

    private FeedbackLaw Compile(double[] lambdas)
    {
        var planned = Plan.Compile(lambdas);
        _laws.Add(planned.Law, planned);
        return planned.Law;
    }
}
