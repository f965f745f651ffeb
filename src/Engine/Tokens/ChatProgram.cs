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

    // Blocks in blocks, and brackets in brackets: published templates stay under ten.
    private const int MaxNesting = 64;

    private readonly List<TemplatePiece> pieces;
    private int next;
    private int nesting;

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
        CheckNesting(++nesting);
        string end = "";
        while (end.Length == 0 && next < pieces.Count)
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
            else if (piece.Tokens.Length > 0 && piece.Tokens[0] is "endif" or "else" or "elif" or "endfor")
            {
                next--;
                end = piece.Tokens[0];
            }
            else
            {
                Statement(piece.Tokens, line);
            }
        }

        nesting--;
        return end;
    }

    private static void Output(ReadOnlySpan<string> tokens, ChatLine line)
    {
        foreach (Range range in Split(tokens, "+"))
        {
            ReadOnlySpan<string> part = tokens[range];
            if (part.Length == 1 && part[0][0] == '"')
            {
                line.Literal(part[0]);
            }
            else
            {
                line.Code(part[0] == "raise_exception" ? "raise" : $"{{{Print(part)}}}");
            }
        }
    }

    private void Statement(string[] tokens, ChatLine line)
    {
        switch (tokens.Length > 0 ? tokens[0] : "")
        {
            case "set" when tokens.Length > 3:
                if (!Ignored.Contains(tokens[1]))
                {
                    line.Code($"set({Print(tokens.AsSpan(1))})");
                }

                break;
            case "for":
                var body = new ChatLine();
                Expect(Block(body), "endfor");
                if (!body.IsEmpty)
                {
                    line.Code($"for({Print(tokens.AsSpan(1))}){{{body}}}");
                }

                break;
            case "if":
                If(tokens, line);
                break;
            default:
                throw new ChatException(ChatError.Unrecognised, $"The chat template has the statement '{Print(tokens)}', which is not implemented.");
        }
    }

    private void If(string[] tokens, ChatLine line)
    {
        var branches = new List<(string Condition, ChatLine Body)>();
        var taken = new HashSet<string>(StringComparer.Ordinal); // operands of earlier conditions
        bool decided = false; // a branch that is always taken came before
        string word = "if";
        while (word != "endif")
        {
            ReadOnlySpan<string> test = tokens.AsSpan(1);
            CheckNesting(Depth(test));
            string condition = word == "else" ? "true" : Condition(test);
            condition = taken.Contains(condition) ? "false" : condition;
            foreach (Range operand in Split(test, "or"))
            {
                taken.Add(Condition(test[operand]));
            }

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
    private static string Condition(ReadOnlySpan<string> tokens)
    {
        while (tokens.Length > 2 && tokens[0] == "(" && Closes(tokens))
        {
            tokens = tokens[1..^1];
        }

        foreach ((string word, string dominant, string neutral) in (ReadOnlySpan<(string, string, string)>)[("or", "true", "false"), ("and", "false", "true")])
        {
            List<Range> operands = Split(tokens, word);
            if (operands.Count > 1)
            {
                var kept = new List<string>();
                foreach (Range operand in operands)
                {
                    string condition = Condition(tokens[operand]);
                    if (condition != neutral)
                    {
                        kept.Add(condition);
                    }
                }

                return kept.Contains(dominant) ? dominant
                    : kept.Count == 0 ? neutral
                    : string.Join($" {word} ", kept.Select(x => kept.Count > 1 && x.Contains(' ') ? $"({x})" : x));
            }
        }

        int nots = 0;
        while (nots < tokens.Length - 1 && tokens[nots] == "not")
        {
            nots++;
        }

        if (nots > 0)
        {
            string inner = Condition(tokens[nots..]);
            return inner is not ("true" or "false") ? string.Concat(Enumerable.Repeat("not ", nots)) + inner
                : (inner == "true") == (nots % 2 == 0) ? "true" : "false";
        }

        string atom = Print(tokens);
        return True.Contains(atom) ? "true" : False.Contains(atom) ? "false" : atom;
    }

    private static void CheckNesting(int depth)
    {
        if (depth > MaxNesting)
        {
            throw new ChatException(ChatError.Unrecognised, $"The chat template nests more than {MaxNesting} blocks or brackets; no known one does.");
        }
    }

    // The first parenthesis closes at the end.
    private static bool Closes(ReadOnlySpan<string> tokens)
    {
        int depth = 0;
        for (int i = 0; i < tokens.Length; i++)
        {
            depth += tokens[i] switch { "(" => 1, ")" => -1, _ => 0 };
            if (depth == 0)
            {
                return i == tokens.Length - 1;
            }
        }

        return false;
    }

    private static int Step(string token) => token switch { "(" or "[" or "{" => 1, ")" or "]" or "}" => -1, _ => 0 };

    private static int Depth(ReadOnlySpan<string> tokens)
    {
        int depth = 0, most = 0;
        foreach (string token in tokens)
        {
            depth += Step(token);
            most = Math.Max(most, depth);
        }

        return most;
    }

    // Operands between separators that stand in no brackets; a separator in front belongs to its operand.
    private static List<Range> Split(ReadOnlySpan<string> tokens, string separator)
    {
        var parts = new List<Range>();
        int depth = 0, begin = 0;
        for (int i = 0; i < tokens.Length; i++)
        {
            depth += Step(tokens[i]);
            if (depth == 0 && tokens[i] == separator && i > begin)
            {
                parts.Add(begin..i);
                begin = i + 1;
            }
        }

        if (begin < tokens.Length)
        {
            parts.Add(begin..tokens.Length);
        }

        return parts;
    }

    private static string Print(ReadOnlySpan<string> tokens)
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
