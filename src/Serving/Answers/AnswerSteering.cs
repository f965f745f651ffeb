using System.Runtime.CompilerServices;
using Tiller.Law;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>What steers the texts of an answer, and how hard at the moment: λ may be moved while they are under way.</summary>
internal sealed class AnswerSteering
{
    private readonly Lock _lock = new();
    private readonly ConditionalWeakTable<FeedbackLaw, PlannedLaw> _laws = [];
    private readonly List<ScheduledText> _texts = [];
    private double[] _lambdas;

    /// <summary>Compiles the plan's first law.</summary>
    /// <exception cref="TillerException">A setpoint or gain overflows.</exception>
    public AnswerSteering(SteeringPlan plan)
    {
        Plan = plan;
        _lambdas = [.. plan.Parts.Select(part => part.Lambda)];
        First = Compile(_lambdas);
    }

    public SteeringPlan Plan { get; }

    /// <summary>The law that texts begin with.</summary>
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

    /// <summary>A text that is steered.</summary>
    public void Add(ScheduledText text)
    {
        lock (_lock)
        {
            _texts.Add(text);
        }
    }

    /// <summary>Whose the sensors of a law are.</summary>
    public PlannedLaw? LawOf(FeedbackLaw law) => _laws.TryGetValue(law.Undecided, out var planned) ? planned : null;

    /// <summary>Moves λ of some parts, from the next token of each text on.</summary>
    /// <param name="moved">λ by part.</param>
    /// <returns>False if all texts have ended.</returns>
    /// <exception cref="TillerException">A setpoint or gain overflows; nothing has moved then.</exception>
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
