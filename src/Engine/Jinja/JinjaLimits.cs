namespace Tiller.Jinja;

/// <summary>Limits of one rendering, so that no template runs forever or fills the memory.</summary>
public sealed record JinjaLimits
{
    /// <summary>The default limits.</summary>
    public static JinjaLimits Default { get; } = new();

    /// <summary>
    /// Maximum number of steps; default 10 million, about a second. Every operation, every element and every sixteen characters of a new text count
    /// as a step.
    /// </summary>
    public long Steps { get; init; } = 10_000_000;

    /// <summary>Maximum length of any text, including the output, in UTF-16 units; default 16 million.</summary>
    public int TextLength { get; init; } = 1 << 24;

    /// <summary>Maximum depth of nested values; default 1000. A nested call of a macro or recursive loop counts as five levels.</summary>
    public int Nesting { get; init; } = 1000;
}
