using Tiller.Law;

namespace Tiller.Decode;

/// <summary>How each position of a sequence was steered, as runs of positions, oldest first. Running the sequence again needs this.</summary>
internal sealed class SteeringHistory
{
    private readonly List<Run> _runs = [];
    private bool _begins;

    /// <summary>The runs, oldest first.</summary>
    public IReadOnlyList<Run> Runs => _runs;

    /// <summary>Whether the law of the next steered position starts without memory of earlier positions.</summary>
    public bool Begins => _begins;

    /// <summary>Notes that the next law starts without memory.</summary>
    public void Begin() => _begins = true;

    /// <summary>Records the next positions.</summary>
    /// <param name="positions">Number of positions, 0 or more.</param>
    /// <param name="law">The law that steered them; null if they were not steered.</param>
    public void Add(int positions, FeedbackLaw? law)
    {
        if (positions == 0)
        {
            return;
        }

        bool begins = _begins && law is not null;
        if (_runs.Count > 0 && !begins && ReferenceEquals(_runs[^1].Law, law))
        {
            _runs[^1] = _runs[^1] with { Positions = _runs[^1].Positions + positions };
            return;
        }

        _runs.Add(new Run(positions, law, begins));
        _begins &= !begins;
    }

    /// <summary>Forgets all runs, because the sequence will not be run again.</summary>
    public void Clear() => _runs.Clear();

    /// <summary>Consecutive positions that were steered alike.</summary>
    /// <param name="Positions">Number of positions.</param>
    /// <param name="Law">The law that steered them; null if they were not steered.</param>
    /// <param name="Begins">Whether the law started without memory at the first of these positions.</param>
    public readonly record struct Run(int Positions, FeedbackLaw? Law, bool Begins);
}
