using System.Text;

namespace Tiller.Jinja;

/// <summary>HTML escaping as in markupsafe.</summary>
internal static class Html
{
    /// <summary>Escapes a text. A text that is already marked as safe is not changed.</summary>
    public static Text Escape(JinjaValue value, Run run)
    {
        Text text = value.ToText(run);
        if (text.IsSafe)
        {
            return text;
        }

        var escaped = new TextBuilder(run);
        int plain = 0;
        for (int i = 0; i < text.Length; i++)
        {
            string? entity = text.Value[i] switch { '&' => "&amp;", '<' => "&lt;", '>' => "&gt;", '"' => "&#34;", '\'' => "&#39;", _ => null };
            if (entity is not null)
            {
                escaped.Append(text, plain, i - plain);
                escaped.Append(entity, text.IsContentAt(i));
                plain = i + 1;
            }
        }

        escaped.Append(text, plain, text.Length - plain);
        return escaped.ToText(safe: true);
    }

    /// <summary>Percent-encodes the UTF-8 of a text. Letters, digits and _.-~ are kept, and so is "/" outside query strings.</summary>
    public static string Quote(string text, bool query)
    {
        var quoted = new StringBuilder();
        foreach (byte b in Encoding.UTF8.GetBytes(text))
        {
            char c = (char)b;
            if (char.IsAsciiLetterOrDigit(c) || c is '_' or '.' or '-' or '~' || (c == '/' && !query))
            {
                quoted.Append(c);
            }
            else if (c == ' ' && query)
            {
                quoted.Append('+');
            }
            else
            {
                quoted.Append('%').Append(b.ToString("X2"));
            }
        }

        return quoted.ToString();
    }
}
