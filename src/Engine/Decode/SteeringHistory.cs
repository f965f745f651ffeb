using Tiller.Law;

namespace Tiller.Decode;

/// <summary>How each position of a sequence was steered, as runs of positions, oldest first: what reading it again needs.</summary>
internal sealed class SteeringHistory
{
    private readonly List<Run> _runs = [];
    private bool _begins;

    /// <summary>The runs, oldest first.</summary>
    public IReadOnlyList<Run> Runs => _runs;

    /// <summary>Whether the law of the next steered position remembers nothing of those before.</summary>
    public bool Begins => _begins;

    /// <summary>The next law has no memory.</summary>
    public void Begin() => _begins = true;

    /// <summary>Takes down the next positions.</summary>
    /// <param name="positions">How many, 0 or more.</param>
    /// <param name="law">What moved them; null for nothing.</param>
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

    /// <summary>The sequence will not be read again.</summary>
    public void Clear() => _runs.Clear();

    /// <summary>Positions steered alike.</summary>
    /// <param name="Positions">How many.</param>
    /// <param name="Law">What moved them; null for nothing.</param>
    /// <param name="Begins">Whether the law remembered nothing at the first of them.</param>
    public readonly record struct Run(int Positions, FeedbackLaw? Law, bool Begins);
}
