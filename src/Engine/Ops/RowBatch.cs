using System.Diagnostics;
using Tiller.Law;

namespace Tiller.Ops;

/// <summary>
/// The rows that go through a block together: a <em>dual batch</em> of value rows, each one token of some sequence, and tangent rows, each a
/// direction at the position of one value row. Value rows come first (rows 0 .. Values-1), then the tangent rows, grouped by their value row in
/// order. Rows of several sequences of any lengths stand side by side; rows of one sequence are in order of position. A batch is reused from step to
/// step, so building one allocates nothing once it has been as large.
/// </summary>
internal sealed class RowBatch
{
    private Row[] _rows = [];
    private int _filled;

    /// <summary>Number of value rows.</summary>
    public int Values { get; private set; }

    /// <summary>Number of tangent rows in all groups together.</summary>
    public int Tangents => TangentGroups.Total;

    /// <summary>The tangent rows of each value row, counted from the first tangent row.</summary>
    public RowGroups TangentGroups { get; } = new();

    /// <summary>Number of value and tangent rows.</summary>
    public int Total => Values + Tangents;

    /// <summary>
    /// Number of value rows that the device runs, including its padding rows. With padding, a recorded step serves batches of several sizes.
    /// Activations and logits have room for all of them. Set after the rows; default <see cref="Values"/>.
    /// </summary>
    internal int Filled
    {
        get => Math.Max(_filled, Values);
        set => _filled = value;
    }

    /// <summary>Whether any row is steered.</summary>
    public bool AnySteered { get; private set; }

    /// <summary>Whether a law also moves the inputs of blocks.</summary>
    internal bool AnyInputMoved { get; private set; }

    /// <summary>Points at which a law edits activations, a bit for each <see cref="EditPoint"/>.</summary>
    internal int EditedPoints { get; private set; }

    /// <summary>Whether rows of a law are scaled back together.</summary>
    internal bool AnyJoined { get; private set; }

    /// <summary>Whether a law edits activations at a point.</summary>
    internal bool IsEditedAt(EditPoint point) => (EditedPoints & (1 << (int)point)) != 0;

    /// <summary>
    /// Ends a pass early: stages skip what they have not begun, their results are not valid, and the caller that runs the pass throws. Set after the
    /// rows; default never.
    /// </summary>
    public CancellationToken Cancellation { get; set; }

    /// <summary>
    /// If set, the pass has one block, and the tangents of every value row enter it as the unit vectors from this coordinate on. A device may then
    /// take the result of the first linear map from the columns of W instead of multiplying. Set after the rows; default null: the tangents are any
    /// directions.
    /// </summary>
    internal int? UnitTangents { get; set; }

    /// <summary>Value row <paramref name="i"/>.</summary>
    public ref readonly Row this[int i] => ref _rows[i];

    /// <summary>Forgets all rows.</summary>
    public void Clear()
    {
        Values = 0;
        TangentGroups.Clear();
        AnySteered = AnyInputMoved = AnyJoined = false;
        EditedPoints = 0;
        Cancellation = default;
        UnitTangents = null;
        _filled = 0;
    }

    /// <summary>Adds a token as the next value row.</summary>
    /// <param name="id">Token id; ignored if the caller sets the residual stream.</param>
    /// <param name="position">Position of the token, 0-based; its keys and values are stored there.</param>
    /// <param name="cache">KV cache of the token's sequence.</param>
    /// <param name="steering">Steering of this row; null for a plain row.</param>
    /// <param name="tangents">Number of tangent rows at this position.</param>
    public void Add(int id, int position, KvCache cache, SteeringState? steering = null, int tangents = 0)
    {
        if (Values == _rows.Length)
        {
            Array.Resize(ref _rows, Math.Max(4, 2 * _rows.Length));
        }

        Debug.Assert(position < cache.Capacity, "the cache has room for the row");
        Debug.Assert(tangents == 0 || steering is null or { Law.EditedPoints: 0 }, "edits have no tangents");
        TangentGroups.Add(tangents);
        _rows[Values] = new Row(id, position, cache, steering, steering is null ? 0 : NextSlot(cache, steering));
        Values++;
        AnySteered |= steering is not null;
        AnyInputMoved |= steering is { Law.MovesInputs: true };
        EditedPoints |= steering?.Law.EditedPoints ?? 0;
        AnyJoined |= steering is { Law.JoinsRows: true };
    }

    // Plain rows of the sequence may stand between two steered ones.
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
    /// <param name="Cache">KV cache of the sequence.</param>
    /// <param name="Steering">Null for a plain row.</param>
    /// <param name="Slot">Index of the row among those that this <paramref name="Steering"/> moves in the batch.</param>
    public readonly record struct Row(int Id, int Position, KvCache Cache, SteeringState? Steering, int Slot);
}
