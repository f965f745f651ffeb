namespace Tiller.Features;

/// <summary>Where in a data file its prompts are, for what <see cref="PromptFile"/> cannot tell by itself.</summary>
public sealed record PromptSelection
{
    /// <summary>Column of a table: its name, whatever the case, or its number counted from 1. Null: the column with a usual name.</summary>
    public string? Column { get; init; }

    /// <summary>
    /// Field of JSON: a name, or names with dots between from the outside in. It may lead to a text in every item, or from the root of the file to
    /// a list. Null: what an item is usually read by.
    /// </summary>
    public string? Field { get; init; }
}
