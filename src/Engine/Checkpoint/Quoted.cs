using System.Globalization;
using System.Text;

namespace Tiller.Checkpoint;

/// <summary>Text from a file, made safe to print in a message: quoted, escaped, at most 200 characters; of a list, at most five.</summary>
internal static class Quoted
{
    private const int MaxLength = 200;
    private const int MaxNames = 5;

    public static string Text(string? value) => value is null ? "null" : "\"" + Bare(value) + "\"";

    /// <summary>Up to five names, and the number of the others.</summary>
    public static string Some(IReadOnlyCollection<string> names) =>
        string.Join(", ", names.Take(MaxNames).Select(Text)) + (names.Count > MaxNames ? $" and {names.Count - MaxNames} more" : "");

    public static string Bare(string value)
    {
        var text = new StringBuilder();
        foreach (char c in value)
        {
            if (text.Length >= MaxLength)
            {
                text.Append('…');
                break;
            }

            // Control, format (bidi overrides), surrogate and separator characters never reach a terminal or a log.
            bool plain = !char.IsControl(c) && char.GetUnicodeCategory(c) is not (UnicodeCategory.Format or UnicodeCategory.Surrogate
                or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.PrivateUse);
            if (plain)
            {
                text.Append(c);
            }
            else
            {
                text.Append("\\u").Append(((int)c).ToString("x4", CultureInfo.InvariantCulture));
            }
        }

        return text.ToString();
    }
}
