using System.Globalization;

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

    /// <summary>Conditions that an item meets to be taken, all of them; of tables and JSON. Default none.</summary>
    public IReadOnlyList<RecordCondition> Where { get; init; } = [];

    /// <summary>
    /// A column or field whose values take turns: the first item of each value, then the second of each, until one has no more. Null (default) for
    /// the file's order.
    /// </summary>
    public string? Alternate { get; init; }
}

/// <summary>A condition on a column or field of an item. An item that has no such field, or null there, does not meet it.</summary>
/// <param name="Field">The column, whatever the case, or the field of JSON, with dots between names from the outside in.</param>
public sealed record RecordCondition(string Field)
{
    /// <summary>The text that must stand there; null for any.</summary>
    public string? Equal { get; init; }

    /// <summary>The text that must not stand there; null for none.</summary>
    public string? Other { get; init; }

    /// <summary>The least number that may stand there; null where it need be no number.</summary>
    public double? AtLeast { get; init; }

    /// <summary>The greatest number that may stand there; null where it need be no number.</summary>
    public double? AtMost { get; init; }

    /// <summary>Whether a value meets the condition.</summary>
    internal bool IsMetBy(string value)
    {
        bool isNumber = double.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out double number);
        return (Equal is null || value == Equal)
            && (Other is null || value != Other)
            && (AtLeast is null || (isNumber && number >= AtLeast))
            && (AtMost is null || (isNumber && number <= AtMost));
    }
}
