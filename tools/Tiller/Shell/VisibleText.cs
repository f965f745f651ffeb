using System.Globalization;
using System.Text;

namespace Tiller.Tool;

/// <summary>Makes text safe for a terminal: models, prompts and files must not move its cursor, change its colour or reorder its letters.</summary>
internal static class VisibleText
{
    /// <summary>Writes control and formatting characters as \uXXXX; keeps line breaks and tabs.</summary>
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

    // Zero-width joiners (U+200C, U+200D) are part of scripts and emoji. Embeddings, overrides and isolates reorder the following text.
    private static bool Moves(char c) => (char.IsControl(c) && c is not ('\n' or '\t'))
        || c is '\u200E' or '\u200F' or (>= '\u202A' and <= '\u202E') or (>= '\u2066' and <= '\u2069');
}
