using System.Diagnostics;
using Tiller.Law;

namespace Tiller.Ops;

/// <summary>
/// Which rows go through a block together: a <em>dual batch</em> of value rows, each one token of some sequence, and tangent rows,
/// each a direction at the position of one value row. Values come first (rows 0 .. Values-1), then the tangents, grouped by their
/// value row in order. Rows of several sequences and of any lengths stand side by side; rows of one sequence are in order of position.
/// Reused from step to step, so building a batch allocates nothing once it has been as large.
/// </summary>
public sealed class RowBatch
{
    private Row[] _rows = [];
    private int _filled;

    /// <summary>Value rows.</summary>
    public int Values { get; private set; }

    /// <summary>Tangent rows, all groups together.</summary>
    public int Tangents => TangentGroups.Total;

    /// <summary>Tangent rows by value row, counted from the first tangent row.</summary>
    public RowGroups TangentGroups { get; } = new();

    /// <summary>All rows.</summary>
    public int Total => Values + Tangents;

    /// <summary>
    /// Rows, counted with <see cref="Values"/>, that a device runs a batch of value rows as, filled up with rows of its own, so that a recorded step
    /// serves batches of several sizes; activations and logits have room for them. Set after the rows; default <see cref="Values"/>.
    /// </summary>
    internal int Filled
    {
        get => Math.Max(_filled, Values);
        set => _filled = value;
    }

    /// <summary>Whether any row is steered.</summary>
    public bool AnySteered { get; private set; }

    /// <summary>Whether a law moves the inputs of blocks too.</summary>
    internal bool AnyInputMoved { get; private set; }

    /// <summary>
    /// Ends a pass early: stages leave out what they have not begun, what they wrote means nothing, and whoever runs the pass throws. Set
    /// after the rows; default never.
    /// </summary>
    public CancellationToken Cancellation { get; set; }

    /// <summary>
    /// The tangents of every value row are the unit vectors from this coordinate on as they enter the pass, which is of one block: a device may
    /// take its first linear map from W's columns instead of multiplying. Set after the rows; default null, they are any directions.
    /// </summary>
    internal int? UnitTangents { get; set; }

    /// <summary>The value row <paramref name="i"/>.</summary>
    public ref readonly Row this[int i] => ref _rows[i];

    /// <summary>Forgets all rows.</summary>
    public void Clear()
    {
        Values = 0;
        TangentGroups.Clear();
        AnySteered = AnyInputMoved = false;
        Cancellation = default;
        UnitTangents = null;
        _filled = 0;
    }

    /// <summary>Adds a token as the next value row.</summary>
    /// <param name="id">Token id; ignored when the residual stream is set by the caller.</param>
    /// <param name="position">Its position, 0-based; its keys and values are stored there.</param>
    /// <param name="cache">Keys and values of its sequence.</param>
    /// <param name="steering">Steers this row; null leaves it alone.</param>
    /// <param name="tangents">How many tangent rows stand at this position.</param>
    public void Add(int id, int position, KvCache cache, SteeringState? steering = null, int tangents = 0)
    {
        if (Values == _rows.Length)
        {
            Array.Resize(ref _rows, Math.Max(4, 2 * _rows.Length));
        }

        Debug.Assert(position < cache.Capacity, "the cache has room for the row");
        TangentGroups.Add(tangents);
        _rows[Values] = new Row(id, position, cache, steering, steering is null ? 0 : NextSlot(cache, steering));
        Values++;
        AnySteered |= steering is not null;
        AnyInputMoved |= steering is { Law.MovesInputs: true };
    }

    // Rows of the sequence that are left alone may stand between two that are steered.
    private int NextSlot(KvCache cache, SteeringState steering)
    {
        for (int i = Values - 1; i >= 0 && ReferenceEquals(_rows[i].Cache, cache); i--)
        {
            if (ReferenceEquals(_rows[i].Steering, steering))
            {
                return _rows[i].Slot + 1;
            }
        }

        return 0;
    }

    /// <summary>One token of one sequence.</summary>
    /// <param name="Id">Token id.</param>
    /// <param name="Position">Position in the sequence.</param>
    /// <param name="Cache">Keys and values of the sequence.</param>
    /// <param name="Steering">Null for a plain row.</param>
    /// <param name="Slot">Number among the rows that this <paramref name="Steering"/> moves in the batch.</param>
    public readonly record struct Row(int Id, int Position, KvCache Cache, SteeringState? Steering, int Slot);
}
