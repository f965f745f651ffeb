using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// A chat template reduced to one canonical line, so that templates that differ only in spelling, or only in what they do with tools
/// (never passed here), become equal. Text and strings are quoted, outputs are in braces, statements are if(){}, for(){} and set().
/// </summary>
internal sealed class ChatProgram
{
    private static readonly HashSet<string> False = new(StringComparer.Ordinal)
    {
        "tools", "tools is not none", "builtin_tools is defined", "custom_tools is defined", "date_string is defined", "documents",
        "m.tool_calls", "m.tool_calls is defined", "m.tool_calls is not none", "\"tool_calls\" in m",
        "m.role == \"tool\"", "m.role == \"ipython\"", "m.role == \"tool_results\"",
    };

    private static readonly HashSet<string> True = new(StringComparer.Ordinal) { "tools is none", "strftime_now is defined", "m.content is string" };

    // Assigned for the sake of tools only.
    private static readonly HashSet<string> Ignored = new(StringComparer.Ordinal) { "tools", "tools_in_user_message", "builtin_tools", "user_messages" };

    private readonly List<TemplatePiece> pieces;
    private int next;

    private ChatProgram(List<TemplatePiece> pieces)
    {
        this.pieces = pieces;
    }

    /// <summary>The canonical line of a template.</summary>
    /// <exception cref="ChatException">The template is not well-formed.</exception>
    public static string Of(string template)
    {
        var program = new ChatProgram(ChatTemplateLexer.Cut(template));
        var line = new ChatLine();
        string end = program.Block(line);
        return end.Length == 0 ? line.ToString() : throw new ChatException(ChatError.Unrecognised, $"The chat template has a stray {end}.");
    }

    /// <summary>A string in the canonical spelling.</summary>
    public static string Quote(string text) =>
        "\"" + text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal)
            .Replace("\n", "\\n", StringComparison.Ordinal).Replace("\t", "\\t", StringComparison.Ordinal).Replace("\r", "\\r", StringComparison.Ordinal) + "\"";

    /// <summary>The text of a string in the canonical spelling, without its quotes.</summary>
    public static string Unquote(string inner)
    {
        var text = new StringBuilder();
        for (int i = 0; i < inner.Length; i++)
        {
            char c = inner[i] != '\\' ? inner[i] : inner[++i] switch { 'n' => '\n', 't' => '\t', 'r' => '\r', char other => other };
            text.Append(c);
        }

        return text.ToString();
    }

    // Runs to the end of the template or to a statement that ends the block, and returns that statement's first word.
    private string Block(ChatLine line)
    {
        while (next < pieces.Count)
        {
            TemplatePiece piece = pieces[next++];
            if (piece.Kind == 't')
            {
                line.Literal(Quote(piece.Text));
            }
            else if (piece.Kind == '{')
            {
                Output(piece.Tokens, line);
            }
            else if (piece.Tokens.Count > 0 && piece.Tokens[0] is "endif" or "else" or "elif" or "endfor")
            {
                next--;
                return piece.Tokens[0];
            }
            else
            {
                Statement(piece.Tokens, line);
            }
        }

        return "";
    }

    private static void Output(IReadOnlyList<string> tokens, ChatLine line)
    {
        foreach (IReadOnlyList<string> part in Split(tokens, "+"))
        {
            if (part.Count == 1 && part[0][0] == '"')
            {
                line.Literal(part[0]);
            }
            else
            {
                line.Code(part[0] == "raise_exception" ? "raise" : $"{{{Print(part)}}}");
            }
        }
    }

    private void Statement(IReadOnlyList<string> tokens, ChatLine line)
    {
        switch (tokens.Count > 0 ? tokens[0] : "")
        {
            case "set" when tokens.Count > 3:
                if (!Ignored.Contains(tokens[1]))
                {
                    line.Code($"set({Print(tokens.Skip(1))})");
                }

                break;
            case "for":
                var body = new ChatLine();
                Expect(Block(body), "endfor");
                if (!body.IsEmpty)
                {
                    line.Code($"for({Print(tokens.Skip(1))}){{{body}}}");
                }

                break;
            case "if":
                If(tokens, line);
                break;
            default:
                throw new ChatException(ChatError.Unrecognised, $"The chat template has the statement '{Print(tokens)}', which is not implemented.");
        }
    }

    private void If(IReadOnlyList<string> tokens, ChatLine line)
    {
        var branches = new List<(string Condition, ChatLine Body)>();
        var taken = new HashSet<string>(StringComparer.Ordinal); // operands of earlier conditions
        bool decided = false; // a branch that is always taken came before
        string word = "if";
        while (word != "endif")
        {
            string condition = word == "else" ? "true" : Condition([.. tokens.Skip(1)]);
            condition = taken.Contains(condition) ? "false" : condition;
            taken.UnionWith(Split(tokens.Skip(1), "or").Select(Condition));
            var body = new ChatLine();
            string end = Block(body);
            if (!decided && condition != "false")
            {
                branches.Add((condition, body));
            }

            decided |= condition == "true";
            if (end is not ("elif" or "else" or "endif") || (word == "else" && end != "endif"))
            {
                throw new ChatException(ChatError.Unrecognised, "The chat template has an if without its endif.");
            }

            word = end;
            tokens = pieces[next++].Tokens;
        }

        if (branches.TrueForAll(static x => x.Body.IsEmpty))
        {
            return;
        }

        if (branches[0].Condition == "true")
        {
            line.Append(branches[0].Body);
            return;
        }

        for (int i = 0; i < branches.Count; i++)
        {
            string head = branches[i].Condition == "true" ? "else" : $"{(i == 0 ? "if" : "elif")}({branches[i].Condition})";
            line.Code($"{head}{{{branches[i].Body}}}");
        }
    }

    private void Expect(string end, string expected)
    {
        if (end != expected)
        {
            throw new ChatException(ChatError.Unrecognised, $"The chat template has a block without its {expected}.");
        }

        next++;
    }

    // "true", "false", or the condition without the operands that are known.
    private static string Condition(IReadOnlyList<string> tokens)
    {
        while (tokens.Count > 2 && tokens[0] == "(" && Closes(tokens))
        {
            tokens = [.. tokens.Skip(1).SkipLast(1)];
        }

        foreach ((string word, string dominant, string neutral) in (ReadOnlySpan<(string, string, string)>)[("or", "true", "false"), ("and", "false", "true")])
        {
            List<IReadOnlyList<string>> operands = [.. Split(tokens, word)];
            if (operands.Count > 1)
            {
                string[] kept = [.. operands.Select(Condition).Where(x => x != neutral)];
                return kept.Contains(dominant) ? dominant
                    : kept.Length == 0 ? neutral
                    : string.Join($" {word} ", kept.Select(x => kept.Length > 1 && x.Contains(' ') ? $"({x})" : x));
            }
        }

        if (tokens.Count > 1 && tokens[0] == "not")
        {
            string inner = Condition([.. tokens.Skip(1)]);
            return inner switch { "true" => "false", "false" => "true", _ => $"not {inner}" };
        }

        string atom = Print(tokens);
        return True.Contains(atom) ? "true" : False.Contains(atom) ? "false" : atom;
    }

    // The first parenthesis closes at the end.
    private static bool Closes(IReadOnlyList<string> tokens)
    {
        int depth = 0;
        for (int i = 0; i < tokens.Count; i++)
        {
            depth += tokens[i] switch { "(" => 1, ")" => -1, _ => 0 };
            if (depth == 0)
            {
                return i == tokens.Count - 1;
            }
        }

        return false;
    }

    private static IEnumerable<IReadOnlyList<string>> Split(IEnumerable<string> tokens, string separator)
    {
        var part = new List<string>();
        int depth = 0;
        foreach (string token in tokens)
        {
            depth += token switch { "(" or "[" or "{" => 1, ")" or "]" or "}" => -1, _ => 0 };
            if (depth == 0 && token == separator && part.Count > 0)
            {
                yield return part;
                part = [];
            }
            else
            {
                part.Add(token);
            }
        }

        if (part.Count > 0)
        {
            yield return part;
        }
    }

    private static string Print(IEnumerable<string> tokens)
    {
        var text = new StringBuilder();
        foreach (string token in tokens)
        {
            bool spaced = token is "==" or "!=" or "<=" or ">=" or "<" or ">" or "%";
            bool word = char.IsLetterOrDigit(token[0]) || token[0] is '_' or '"';
            bool afterWord = text.Length > 0 && (char.IsLetterOrDigit(text[^1]) || text[^1] is '_' or '"' or ')' or ']');
            if (spaced || (word && afterWord))
            {
                text.Append(' ');
            }

            text.Append(token);
            if (spaced)
            {
                text.Append(' ');
            }
        }

        return text.ToString();
    }
}
