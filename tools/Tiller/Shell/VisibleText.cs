using System.Globalization;
using System.Text;

namespace Tiller.Tool;

/// <summary>Text that only prints: models, prompts and files must not move a terminal's cursor, colour it or reorder its letters.</summary>
internal static class VisibleText
{
    /// <summary>Control and formatting characters as \uXXXX; line breaks and tabs stay.</summary>
    public static string Of(string text)
    {
        if (!text.AsSpan().ContainsAnyExceptInRange(' ', '~'))
        {
            return text;
        }

        var shown = new StringBuilder(text.Length);
        foreach (char c in text)
        {
            if (Moves(c))
            {
                shown.Append("\\u").Append(((int)c).ToString("X4", CultureInfo.InvariantCulture));
            }
            else
            {
                shown.Append(c);
            }
        }

        return shown.ToString();
    }

    // Zero-width joiners (U+200C, U+200D) are part of scripts and emoji; embeddings, overrides and isolates reorder what follows.
    private static bool Moves(char c) => (char.IsControl(c) && c is not ('\n' or '\t'))
        || c is '\u200E' or '\u200F' or (>= '\u202A' and <= '\u202E') or (>= '\u2066' and <= '\u2069');
}
