namespace Tiller.Ops;

/// <summary>Rows grouped by their value row. Group i consists of rows [Begin(i), End(i)); groups are in order and without gaps.</summary>
internal sealed class RowGroups
{
    private int[] _end = [];
    private int[] _owner = [];

    /// <summary>Number of groups, one per value row.</summary>
    public int Count { get; private set; }

    /// <summary>Number of rows in all groups.</summary>
    public int Total => Count == 0 ? 0 : _end[Count - 1];

    /// <summary>Forgets all groups.</summary>
    public void Clear() => Count = 0;

    /// <summary>Appends a group of <paramref name="rows"/> rows, 0 or more.</summary>
    public void Add(int rows)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rows);
        if (Count == _end.Length)
        {
            Array.Resize(ref _end, Math.Max(4, 2 * Count));
        }

        int end = Total + rows;
        if (end > _owner.Length)
        {
            Array.Resize(ref _owner, Math.Max(end, 2 * _owner.Length));
        }

        _owner.AsSpan(end - rows, rows).Fill(Count);
        _end[Count] = end;
        Count++;
    }

    /// <summary>First row of group <paramref name="i"/>.</summary>
    public int Begin(int i) => i == 0 ? 0 : _end[i - 1];

    /// <summary>Index of the group that contains <paramref name="row"/>.</summary>
    public int Owner(int row) => _owner[row];

    /// <summary>One past the last row of group <paramref name="i"/>.</summary>
    public int End(int i) => _end[i];
}
