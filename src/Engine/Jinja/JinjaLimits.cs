namespace Tiller.Jinja;

/// <summary>Bounds of one rendering, so that no template runs without end or fills the memory.</summary>
public sealed record JinjaLimits
{
    /// <summary>The bounds that are used where none are given.</summary>
    public static JinjaLimits Default { get; } = new();

    /// <summary>Steps: one for each operation and each element, and one for every eight characters made. 20 million, about a second.</summary>
    public long Steps { get; init; } = 20_000_000;

    /// <summary>UTF-16 units of any one text, the output included; 16 million.</summary>
    public int TextLength { get; init; } = 1 << 24;

    /// <summary>Calls of macros and recursive loops, and values in values, within each other; 200.</summary>
    public int Nesting { get; init; } = 200;
}
