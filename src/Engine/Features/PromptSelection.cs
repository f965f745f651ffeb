namespace Tiller.Features;

/// <summary>Where the prompts are in a data file, for files in which <see cref="PromptFile"/> cannot find them by itself.</summary>
public sealed record PromptSelection
{
    /// <summary>
    /// Column of a table: its name, ignoring case, or its number counted from 1. Null, the default, for the column with a usual name.
    /// </summary>
    public string? Column { get; init; }

    /// <summary>
    /// Field of JSON: a name, or several names separated by dots, the outermost first. It leads to a text in every item, or from the root of the file
    /// to a list. Null, the default, for the usual names.
    /// </summary>
    public string? Field { get; init; }
}
