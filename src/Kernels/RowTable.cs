namespace Tiller.Kernels;

/// <summary>Numbers of rows in a dual batch: value rows first, then tangents.</summary>
/// <param name="Values">Number of value rows.</param>
/// <param name="Tangents">Number of tangent rows.</param>
internal readonly record struct RowCounts(int Values, int Tangents)
{
    /// <summary>Number of rows.</summary>
    public int Total => Values + Tangents;
}

/// <summary>The rows of a dual batch for a stage that needs to know only which tangents belong to a value row.</summary>
/// <param name="Values">Number of value rows.</param>
/// <param name="Owners">Value row of each tangent row // (Tangents).</param>
internal readonly record struct DualRows(int Values, DeviceSpan<int> Owners)
{
    /// <summary>Number of tangent rows.</summary>
    public int Tangents => (int)Owners.Length;

    /// <summary>Number of rows.</summary>
    public int Total => Values + Tangents;

    /// <summary>Numbers of rows of both kinds.</summary>
    public RowCounts Counts => new(Values, Tangents);
}

/// <summary>The rows of a dual batch on the device.</summary>
/// <param name="Rows">Tokens, positions, caches and laws of the value rows // (Values).</param>
/// <param name="Owners">Value row of each tangent row // (Tangents).</param>
internal readonly record struct RowTable(DeviceSpan<DeviceRow> Rows, DeviceSpan<int> Owners)
{
    /// <summary>Number of value rows.</summary>
    public int Values => (int)Rows.Length;

    /// <summary>Number of tangent rows.</summary>
    public int Tangents => (int)Owners.Length;

    /// <summary>Number of rows.</summary>
    public int Total => Values + Tangents;

    /// <summary>Numbers of rows of both kinds.</summary>
    public RowCounts Counts => new(Values, Tangents);

    /// <summary>The rows without tokens, positions, caches and laws.</summary>
    public DualRows Dual => new(Values, Owners);
}

/// <summary>Cotangent rows in groups: one group for each value row, in order.</summary>
/// <param name="Begin">First row of each group, then the number of all rows // (groups + 1).</param>
/// <param name="Owners">Group of each row // (rows).</param>
/// <param name="MaxRows">Number of rows in the largest group.</param>
internal readonly record struct CotangentGroups(DeviceSpan<int> Begin, DeviceSpan<int> Owners, int MaxRows)
{
    /// <summary>Number of cotangent rows in all groups.</summary>
    public int Total => (int)Owners.Length;
}
