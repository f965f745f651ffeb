namespace Tiller.Jinja;

/// <summary>Bounds of one rendering, so that no template runs without end or fills the memory.</summary>
public sealed record JinjaLimits
{
    /// <summary>The bounds that are used where none are given.</summary>
    public static JinjaLimits Default { get; } = new();

    /// <summary>Steps: one for each operation and each element, and one for every sixteen characters made. 10 million, about a second.</summary>
    public long Steps { get; init; } = 10_000_000;

    /// <summary>UTF-16 units of any one text, the output included; 16 million.</summary>
    public int TextLength { get; init; } = 1 << 24;

    /// <summary>How deep values may lie in values, 1000; a call of a macro or recursive loop within another counts five.</summary>
    public int Nesting { get; init; } = 1000;
}
