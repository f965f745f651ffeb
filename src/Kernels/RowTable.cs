namespace Tiller.Kernels;

/// <summary>How many rows a dual batch has: value rows first, then tangents.</summary>
/// <param name="Values">Value rows.</param>
/// <param name="Tangents">Tangent rows.</param>
internal readonly record struct RowCounts(int Values, int Tangents)
{
    /// <summary>All rows.</summary>
    public int Total => Values + Tangents;
}

/// <summary>The rows of a dual batch for a stage that looks at a value row's tangents and not at what the row is.</summary>
/// <param name="Values">Value rows.</param>
/// <param name="Owners">Value row of each tangent // (Tangents).</param>
internal readonly record struct DualRows(int Values, DeviceSpan<int> Owners)
{
    /// <summary>Tangent rows.</summary>
    public int Tangents => (int)Owners.Length;

    /// <summary>All rows.</summary>
    public int Total => Values + Tangents;

    /// <summary>How many there are of each kind.</summary>
    public RowCounts Counts => new(Values, Tangents);
}

/// <summary>The rows of a dual batch on the device.</summary>
/// <param name="Rows">Tokens, positions, caches and laws of the value rows // (Values).</param>
/// <param name="Owners">Value row of each tangent // (Tangents).</param>
internal readonly record struct RowTable(DeviceSpan<DeviceRow> Rows, DeviceSpan<int> Owners)
{
    /// <summary>Value rows.</summary>
    public int Values => (int)Rows.Length;

    /// <summary>Tangent rows.</summary>
    public int Tangents => (int)Owners.Length;

    /// <summary>All rows.</summary>
    public int Total => Values + Tangents;

    /// <summary>How many there are of each kind.</summary>
    public RowCounts Counts => new(Values, Tangents);

    /// <summary>The rows without what they are.</summary>
    public DualRows Dual => new(Values, Owners);
}

/// <summary>Cotangent rows in groups, one for each value row, in order.</summary>
/// <param name="Begin">First row of each group, then the count of all // (groups + 1).</param>
/// <param name="Owners">Group of each row // (rows).</param>
/// <param name="MaxRows">Rows of the group that has most of them.</param>
internal readonly record struct CotangentGroups(DeviceSpan<int> Begin, DeviceSpan<int> Owners, int MaxRows)
{
    /// <summary>Cotangent rows, of all groups.</summary>
    public int Total => (int)Owners.Length;
}
