using System.Text;

namespace Tiller.Tokens;

/// <summary>A piece of a Jinja template: text, an output <c>{{ }}</c> or a statement <c>{% %}</c>.</summary>
internal readonly record struct TemplatePiece(char Kind, string Text, string[] Tokens);

/// <summary>
/// Cuts a chat template into pieces, with white space treated as transformers has Jinja treat it (trim_blocks, lstrip_blocks), and
/// expressions into tokens in one spelling: strings in double quotes, x['a'] as x.a, x.strip() as x|trim, the loop variable as m.
/// </summary>
internal static class ChatTemplateLexer
{
    /// <summary>The pieces of a template.</summary>
    /// <exception cref="ChatException">A tag or string does not end.</exception>
    public static List<TemplatePiece> Cut(string template)
    {
        template = template.ReplaceLineEndings("\n");
        if (template.EndsWith('\n'))
        {
            template = template[..^1];
        }

        var pieces = new List<TemplatePiece>();
        bool trimNext = false; // after -%}
        bool newlineNext = false; // after %}: trim_blocks
        for (int i = 0; i < template.Length;)
        {
            int open = NextTag(template, i);
            string text = template[i..open];
            if (newlineNext && text.StartsWith('\n'))
            {
                text = text[1..];
            }

            text = trimNext ? text.TrimStart() : text;
            if (open == template.Length)
            {
                Add(pieces, text);
                break;
            }

            char kind = template[open + 1];
            int start = open + 2;
            char sign = start < template.Length ? template[start] : ' ';
            if (sign == '-')
            {
                text = text.TrimEnd();
                start++;
            }
            else if (sign == '+')
            {
                start++;
            }
            else if (kind != '{')
            {
                text = TrimLineStart(text, open - text.Length == 0 || pieces.Count == 0);
            }

            Add(pieces, text);
            int close = Close(template, start, kind);
            char last = close > start ? template[close - 1] : ' '; // of {%-%} the sign is the opening's
            trimNext = last == '-';
            newlineNext = kind != '{' && last != '+';
            string inner = template[start..(last is '-' or '+' ? close - 1 : close)];
            if (kind != '#')
            {
                pieces.Add(new TemplatePiece(kind, "", Rewrite(Tokens(inner))));
            }

            i = close + 2;
        }

        return pieces;
    }

    private static void Add(List<TemplatePiece> pieces, string text)
    {
        if (text.Length > 0)
        {
            pieces.Add(new TemplatePiece('t', text, []));
        }
    }

    private static int NextTag(string template, int i)
    {
        while (true)
        {
            i = template.IndexOf('{', i);
            if (i < 0 || i + 1 == template.Length)
            {
                return template.Length;
            }

            if (template[i + 1] is '{' or '%' or '#')
            {
                return i;
            }

            i++;
        }
    }

    // lstrip_blocks: white space between the start of a line and a block goes.
    private static string TrimLineStart(string text, bool atStart)
    {
        string trimmed = text.TrimEnd(' ', '\t');
        return trimmed.EndsWith('\n') || (trimmed.Length == 0 && atStart) ? trimmed : text;
    }

    private static int Close(string template, int i, char kind)
    {
        string end = kind switch { '{' => "}}", '%' => "%}", _ => "#}" };
        while (i + 1 < template.Length)
        {
            if (kind != '#' && template[i] is '\'' or '"')
            {
                i = EndOfString(template, i);
            }
            else if (template[i] == end[0] && template[i + 1] == '}')
            {
                return i;
            }
            else
            {
                i++;
            }
        }

        throw new ChatException(ChatError.Unrecognised, $"The chat template has a {{{kind} without its {end}.");
    }

    private static int EndOfString(string text, int i)
    {
        char quote = text[i];
        for (i++; i < text.Length; i++)
        {
            if (text[i] == '\\')
            {
                i++;
            }
            else if (text[i] == quote)
            {
                return i + 1;
            }
        }

        throw new ChatException(ChatError.Unrecognised, "The chat template has a string without its closing quote.");
    }

    private static List<string> Tokens(string text)
    {
        var tokens = new List<string>();
        for (int i = 0; i < text.Length;)
        {
            int end = i + 1;
            if (char.IsWhiteSpace(text[i]))
            {
                i++;
                continue;
            }

            if (text[i] is '\'' or '"')
            {
                end = EndOfString(text, i);
                tokens.Add(ChatProgram.Quote(Unescape(text[(i + 1)..(end - 1)])));
                i = end;
                continue;
            }

            if (char.IsLetterOrDigit(text[i]) || text[i] == '_')
            {
                while (end < text.Length && (char.IsLetterOrDigit(text[end]) || text[end] == '_'))
                {
                    end++;
                }
            }
            else if (end < text.Length && text[end] == '=' && text[i] is '=' or '!' or '<' or '>')
            {
                end++;
            }

            tokens.Add(text[i..end]);
            i = end;
        }

        return tokens;
    }

    private static string Unescape(string text)
    {
        var result = new StringBuilder();
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] != '\\' || i + 1 == text.Length)
            {
                result.Append(text[i]);
                continue;
            }

            char c = text[++i];
            result.Append(c switch
            {
                'n' => "\n",
                't' => "\t",
                'r' => "\r",
                '\\' or '\'' or '"' => c.ToString(),
                _ => throw new ChatException(ChatError.Unrecognised, $"The chat template has the escape \\{c} in a string; this one is not implemented."),
            });
        }

        return result.ToString();
    }

    private static string[] Rewrite(List<string> tokens)
    {
        var result = new List<string>(tokens.Count);
        for (int i = 0; i < tokens.Count; i++)
        {
            if (tokens[i] == "message" && (result.Count == 0 || result[^1] != "."))
            {
                result.Add("m");
            }
            else if (i > 0 && i + 2 < tokens.Count && tokens[i] == "[" && tokens[i + 2] == "]" && Identifier(tokens[i + 1]) is { } name)
            {
                result.AddRange(".", name);
                i += 2;
            }
            else if (i + 3 < tokens.Count && tokens[i] == "." && tokens[i + 1] == "strip" && tokens[i + 2] == "(" && tokens[i + 3] == ")")
            {
                result.AddRange("|", "trim");
                i += 3;
            }
            else
            {
                result.Add(tokens[i]);
            }
        }

        return [.. result];
    }

    private static string? Identifier(string token) =>
        token.Length > 2 && token[0] == '"' && token[1..^1].All(static c => char.IsAsciiLetter(c) || c == '_') ? token[1..^1] : null;
}
