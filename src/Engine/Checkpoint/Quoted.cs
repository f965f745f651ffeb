using System.Globalization;
using System.Text;

namespace Tiller.Checkpoint;

/// <summary>
/// Makes text from a file safe to print in a message: quoted, escaped and at most 200 characters. Of a list, at most five items are shown.
/// </summary>
internal static class Quoted
{
    private const int MaxLength = 200;
    private const int MaxNames = 5;

    public static string Text(string? value) => value is null ? "null" : "\"" + Bare(value) + "\"";

    /// <summary>Lists up to five names, and the number of further ones.</summary>
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

            // Control, format (bidi overrides), surrogate and separator characters must never reach a terminal or a log.
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
