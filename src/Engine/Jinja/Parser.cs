using System.Runtime.CompilerServices;

namespace Tiller.Jinja;

/// <summary>Parses tokens into statements by Jinja's grammar. This part parses statements.</summary>
internal sealed partial class Parser
{
    // Maximum depth of nested statements and of nested brackets.
    private const int MaxNested = 100;

    // Maximum number of parameters of a macro, and of named arguments of a call.
    private const int MaxNames = 255;

    private readonly List<Token> tokens;
    private int next;
    private int nesting;

    private Parser(List<Token> tokens)
    {
        this.tokens = tokens;
    }

    /// <summary>Whether the template defines a block.</summary>
    public bool HasBlocks { get; private set; }

    private Token Now => tokens[next];

    public static (Statement[] Body, bool HasBlocks) Parse(string source)
    {
        var parser = new Parser(Lexer.Read(source));
        Statement[] body = parser.Statements([], "the template");
        return (body, parser.HasBlocks);
    }

    // Parses statements up to a tag whose name is one of the ends, or up to the end of the template. The name of the end is then the next token.
    private Statement[] Statements(string[] ends, string of)
    {
        Nest();
        var body = new List<Statement>();
        var parts = new List<Expression>();
        while (true)
        {
            Token token = Now;
            switch (token.Kind)
            {
                case TokenKind.Data:
                    parts.Add(new Constant(Text.Of(token.Text), token.Line));
                    next++;
                    break;
                case TokenKind.VariableBegin:
                    next++;
                    parts.Add(Tuple());
                    Expect(TokenKind.VariableEnd, "end of print statement");
                    break;
                case TokenKind.BlockBegin:
                    Flush();
                    next++;
                    if (Now.Kind == TokenKind.Name && ends.Contains(Now.Text))
                    {
                        nesting--;
                        return [.. body];
                    }

                    body.Add(Statement(ends));
                    Expect(TokenKind.BlockEnd, "end of statement block");
                    break;
                default:
                    Flush();
                    nesting--;
                    return ends.Length == 0 ? [.. body] : throw Fail($"Unexpected end of template: {of} needs {string.Join(" or ", ends)}");
            }
        }

        void Flush()
        {
            if (parts.Count > 0)
            {
                body.Add(new Output([.. parts], parts[0].Line));
                parts.Clear();
            }
        }
    }

    // Parses the body of a statement after its head. The name of the end is then the next token, or is skipped if `pass` is true.
    private Statement[] Body(string of, bool pass, params string[] ends)
    {
        Skip(":");
        Expect(TokenKind.BlockEnd, "end of statement block");
        Statement[] body = Statements(ends, of);
        next += pass ? 1 : 0;
        return body;
    }

    private Statement Statement(string[] ends)
    {
        Token tag = Now;
        if (tag.Kind != TokenKind.Name)
        {
            throw Fail("tag name expected");
        }

        next++;
        int line = tag.Line;
        switch (tag.Text)
        {
            case "if":
                return If(line);
            case "for":
                return For(line);
            case "set":
                return Set(line);
            case "macro":
                string name = Name("name of a macro");
                return new MacroStatement(new NameTarget(Assignable(name), line), Macro(name, "macro", "endmacro", line), line);
            case "call":
                return Call(line);
            case "generation":
                return new CallBlock(null, new MacroBody(null, [], [], Body("generation", true, "endgeneration"), line), line);
            case "filter":
                FilterExpression filter = Filter(null, inBlock: true)!;
                return new FilterBlock(filter, Body("filter", true, "endfilter"), line);
            case "with":
                return With(line);
            case "print":
                var printed = new List<Expression>();
                while (Now.Kind != TokenKind.BlockEnd)
                {
                    ExpectComma(printed.Count);
                    printed.Add(Expression());
                }

                return new Output([.. printed], line);
            case "break":
                return new BreakStatement(line);
            case "continue":
                return new ContinueStatement(line);
            case "block":
                return Block(line);
            case "extends" or "include" or "import" or "from":
                while (Now.Kind is not (TokenKind.BlockEnd or TokenKind.End))
                {
                    next++;
                }

                return new OtherTemplate(tag.Text, line);
            case "autoescape":
                throw new JinjaException(JinjaError.Unsupported, "The tag 'autoescape' is not implemented: a chat is no HTML.", line);
            default:
                throw Lexer.Error($"Encountered unknown tag '{tag.Text}'{(ends.Length > 0 ? $"; {string.Join(" or ", ends)} was expected" : "")}",
                    line);
        }
    }

    private IfStatement If(int line)
    {
        var tests = new List<Expression>();
        var bodies = new List<Statement[]>();
        while (true)
        {
            tests.Add(Tuple(withCondition: false));
            bodies.Add(Body("if", false, "elif", "else", "endif"));
            string end = tokens[next++].Text;
            if (end != "elif")
            {
                return new IfStatement([.. tests], [.. bodies], end == "else" ? Body("if", true, "endif") : [], line);
            }
        }
    }

    private ForStatement For(int line)
    {
        Target target = Targets(withAttributes: false, end: "in");
        if (!SkipName("in"))
        {
            throw Fail("'in' expected");
        }

        Expression items = Tuple(withCondition: false, end: "recursive");
        Expression? test = SkipName("if") ? Expression() : null;
        bool recursive = SkipName("recursive");
        Statement[] body = Body("for", false, "endfor", "else");
        Statement[] otherwise = tokens[next++].Text == "else" ? Body("for", true, "endfor") : [];
        return new ForStatement(target, items, test, recursive, body, otherwise, line);
    }

    private Statement Set(int line)
    {
        Target target = Targets(withAttributes: true, end: null);
        if (Skip("="))
        {
            return new SetStatement(target, Tuple(), line);
        }

        FilterExpression? filter = Filter(null, inBlock: false);
        return new SetBlock(target, filter, Body("set", true, "endset"), line);
    }

    private WithStatement With(int line)
    {
        var targets = new List<Target>();
        var values = new List<Expression>();
        while (Now.Kind != TokenKind.BlockEnd)
        {
            ExpectComma(targets.Count);
            targets.Add(Targets(withAttributes: false, end: null));
            Expect("=");
            values.Add(Expression());
        }

        return new WithStatement([.. targets], [.. values], Body("with", true, "endwith"), line);
    }

    private CallBlock Call(int line)
    {
        (NameTarget[] parameters, Expression[] defaults) = IsNow("(") ? Signature() : ([], []);
        if (Expression() is not CallExpression call)
        {
            throw Lexer.Error("expected call", line);
        }

        return new CallBlock(call, new MacroBody(null, parameters, defaults, Body("call", true, "endcall"), line), line);
    }

    private MacroBody Macro(string name, string tag, string end, int line)
    {
        (NameTarget[] parameters, Expression[] defaults) = Signature();
        return new MacroBody(name, parameters, defaults, Body(tag, true, end), line);
    }

    private (NameTarget[] Parameters, Expression[] Defaults) Signature()
    {
        Expect("(");
        var parameters = new List<NameTarget>();
        var defaults = new List<Expression>();
        while (!IsNow(")"))
        {
            ExpectComma(parameters.Count);
            int line = Now.Line;
            string name = Assignable(Name("name of a parameter"));
            if (parameters.Count == MaxNames)
            {
                throw Lexer.Error($"a macro has more than {MaxNames} parameters", line);
            }

            if (parameters.Exists(parameter => parameter.Name == name))
            {
                throw Lexer.Error($"duplicate argument '{name}' in function definition", line);
            }

            parameters.Add(new NameTarget(name, line));
            if (Skip("="))
            {
                defaults.Add(Expression());
            }
            else if (defaults.Count > 0)
            {
                throw Fail("non-default argument follows default argument");
            }
        }

        Expect(")");
        return ([.. parameters], [.. defaults]);
    }

    private BlockStatement Block(int line)
    {
        string name = Name("name of a block");
        if (Now is { Kind: TokenKind.Name, Text: "scoped" or "required" })
        {
            throw new JinjaException(JinjaError.Unsupported, $"Blocks that are {Now.Text} are not implemented.", line);
        }

        HasBlocks = true;
        Statement[] body = Body("block", true, "endblock");
        SkipName(name);
        return new BlockStatement(name, body, line);
    }

    // One target, or a tuple of several separated by commas.
    private Target Targets(bool withAttributes, string? end)
    {
        int line = Now.Line;
        var targets = new List<Target>();
        bool isTuple = false;
        while (true)
        {
            if (targets.Count > 0)
            {
                Expect(",");
            }

            if (Now.Kind is TokenKind.VariableEnd or TokenKind.BlockEnd || IsNow(")")
                || (end is not null && Now is { Kind: TokenKind.Name } && Now.Text == end))
            {
                break;
            }

            targets.Add(One(withAttributes));
            if (!IsNow(","))
            {
                break;
            }

            isTuple = true;
        }

        return isTuple ? new TupleTarget([.. targets]) : targets.Count == 1 ? targets[0] : throw Lexer.Error("Expected a name to assign to", line);
    }

    private Target One(bool withAttributes)
    {
        int line = Now.Line;
        if (Skip("("))
        {
            Nest();
            Target inner = Targets(withAttributes: false, end: null);
            Expect(")");
            nesting--;
            return inner;
        }

        string name = Assignable(Name("name to assign to"));
        return withAttributes && Skip(".") ? new AttributeTarget(name, Name("attribute")) : new NameTarget(name, line);
    }

    private string Assignable(string name) =>
        name is "true" or "false" or "none" or "True" or "False" or "None" ? throw Fail($"can't assign to '{name}'") : name;

    private string Name(string what) => Now.Kind == TokenKind.Name ? tokens[next++].Text : throw Fail($"expected the {what}");

    private bool IsNow(string op) => Now.Kind == TokenKind.Operator && Now.Text == op;

    private bool IsName(string name) => Now.Kind == TokenKind.Name && Now.Text == name;

    private bool Skip(string op)
    {
        bool there = IsNow(op);
        next += there ? 1 : 0;
        return there;
    }

    private bool SkipName(string name)
    {
        bool there = IsName(name);
        next += there ? 1 : 0;
        return there;
    }

    private void Expect(string op)
    {
        if (!Skip(op))
        {
            throw Fail($"expected '{op}'");
        }
    }

    private void ExpectComma(int already)
    {
        if (already > 0)
        {
            Expect(",");
        }
    }

    private void Expect(TokenKind kind, string what)
    {
        if (Now.Kind != kind)
        {
            throw Fail($"expected the {what}");
        }

        next++;
    }

    private void Nest()
    {
        if (++nesting > MaxNested || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            throw Fail($"statements or brackets nest more than {MaxNested} deep");
        }
    }

    private JinjaException Fail(string detail)
    {
        string found = Now.Kind == TokenKind.End ? "the end of the template" : $"'{(Now.Text.Length > 40 ? Now.Text[..39] + "…" : Now.Text)}'";
        return Lexer.Error($"{detail}, found {found}", Now.Line);
    }
}
