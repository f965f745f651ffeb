using System.Text;

namespace Tiller.Jinja;

// Parses expressions, from the operator with the lowest precedence to the highest.
internal sealed partial class Parser
{
    private Expression Expression(bool withCondition = true)
    {
        Nest();
        Expression expression = withCondition ? Condition() : Or();
        nesting--;
        return expression;
    }

    private Expression Condition()
    {
        int line = Now.Line;
        Expression value = Or();
        while (SkipName("if"))
        {
            Expression test = Or();
            Expression? otherwise = SkipName("else") ? Expression() : null;
            value = new ConditionExpression(test, value, otherwise, line);
            line = Now.Line;
        }

        return value;
    }

    private Expression Or() => Logic("or", And);

    private Expression And() => Logic("and", Not);

    private Expression Logic(string op, Func<Expression> operand)
    {
        int line = Now.Line;
        Expression first = operand();
        if (!IsName(op))
        {
            return first;
        }

        var operands = new List<Expression> { first };
        while (SkipName(op))
        {
            operands.Add(operand());
        }

        return new LogicExpression(op == "and", [.. operands], line);
    }

    private Expression Not()
    {
        int line = Now.Line;
        int nots = 0;
        while (SkipName("not"))
        {
            nots++;
        }

        Expression value = Compare();
        return nots == 0 ? value : nots % 2 == 1 ? new NotExpression(value, line) : new NotExpression(new NotExpression(value, line), line);
    }

    private Expression Compare()
    {
        int line = Now.Line;
        Expression first = Sum();
        List<string>? ops = null;
        List<Expression>? rest = null;
        while (true)
        {
            string? op = null;
            if (Now.Kind == TokenKind.Operator && Now.Text is "==" or "!=" or "<" or "<=" or ">" or ">=")
            {
                op = tokens[next++].Text;
            }
            else if (SkipName("in"))
            {
                op = "in";
            }
            else if (IsName("not") && tokens[next + 1] is { Kind: TokenKind.Name, Text: "in" })
            {
                next += 2;
                op = "not in";
            }

            if (op is null)
            {
                return ops is null ? first : new CompareExpression(first, [.. ops], [.. rest!], line);
            }

            (ops ??= []).Add(op);
            (rest ??= []).Add(Sum());
        }
    }

    private Expression Sum()
    {
        int line = Now.Line;
        Expression first = Concat();
        if (!IsNow("+") && !IsNow("-"))
        {
            return first;
        }

        var rest = new List<Expression>();
        var minus = new List<bool>();
        while (IsNow("+") || IsNow("-"))
        {
            minus.Add(tokens[next++].Text == "-");
            rest.Add(Concat());
        }

        return new SumExpression(first, [.. rest], [.. minus], line);
    }

    private Expression Concat()
    {
        int line = Now.Line;
        Expression first = Product();
        if (!IsNow("~"))
        {
            return first;
        }

        var parts = new List<Expression> { first };
        while (Skip("~"))
        {
            parts.Add(Product());
        }

        return new ConcatExpression([.. parts], line);
    }

    private Expression Product()
    {
        int line = Now.Line;
        Expression left = Power();
        while (Now.Kind == TokenKind.Operator && Now.Text is "*" or "/" or "//" or "%")
        {
            string op = tokens[next++].Text;
            left = new BinaryExpression(op, left, Power(), line);
            line = Now.Line;
        }

        return left;
    }

    private Expression Power()
    {
        int line = Now.Line;
        Expression left = Unary(withFilter: true);
        while (Skip("**"))
        {
            left = new BinaryExpression("**", left, Unary(withFilter: true), line);
            line = Now.Line;
        }

        return left;
    }

    private Expression Unary(bool withFilter)
    {
        int line = Now.Line;
        Expression value;
        if (IsNow("-") || IsNow("+"))
        {
            bool minus = tokens[next++].Text == "-";
            Nest();
            value = Unary(withFilter: false);
            value = value is Constant { Value: Int or Float } number
                ? new Constant(minus ? Arithmetic.Negate(number.Value) : Arithmetic.Plus(number.Value), line)
                : new SignExpression(minus, value, line);
            nesting--;
        }
        else
        {
            value = Primary();
        }

        value = Postfix(value);
        return withFilter ? FiltersAndTests(value) : value;
    }

    private Expression Primary()
    {
        Token token = Now;
        next++;
        switch (token.Kind)
        {
            case TokenKind.Name:
                return token.Text switch
                {
                    "true" or "True" => new Constant(Bool.True, token.Line),
                    "false" or "False" => new Constant(Bool.False, token.Line),
                    "none" or "None" => new Constant(JinjaValue.None, token.Line),
                    _ => new NameExpression(token.Text, token.Line),
                };
            case TokenKind.String:
                var text = new StringBuilder(token.Text);
                while (Now.Kind == TokenKind.String)
                {
                    text.Append(tokens[next++].Text);
                }

                return new Constant(Text.Of(text.ToString()), token.Line);
            case TokenKind.Number:
                return new Constant(token.Number!, token.Line);
            case TokenKind.Operator when token.Text == "(":
                Expression inner = Tuple(inParentheses: true);
                Expect(")");
                return inner;
            case TokenKind.Operator when token.Text == "[":
                return List(token.Line);
            case TokenKind.Operator when token.Text == "{":
                return Map(token.Line);
            default:
                next--;
                throw Fail("expected an expression");
        }
    }

    // One expression, or a tuple of several separated by commas.
    private Expression Tuple(bool withCondition = true, string? end = null, bool inParentheses = false)
    {
        int line = Now.Line;
        var items = new List<Expression>();
        bool isTuple = false;
        while (true)
        {
            if (items.Count > 0)
            {
                Expect(",");
            }

            if (Now.Kind is TokenKind.VariableEnd or TokenKind.BlockEnd || IsNow(")") || (end is not null && IsName(end)))
            {
                break;
            }

            items.Add(Expression(withCondition));
            if (!IsNow(","))
            {
                break;
            }

            isTuple = true;
        }

        return !isTuple && items.Count == 1 ? items[0]
            : isTuple || inParentheses ? new ListExpression([.. items], isTuple: true, line)
            : throw Fail("Expected an expression");
    }

    private ListExpression List(int line)
    {
        var items = new List<Expression>();
        while (!IsNow("]"))
        {
            ExpectComma(items.Count);
            if (IsNow("]"))
            {
                break;
            }

            items.Add(Expression());
        }

        Expect("]");
        return new ListExpression([.. items], isTuple: false, line);
    }

    private MapExpression Map(int line)
    {
        var keys = new List<Expression>();
        var values = new List<Expression>();
        while (!IsNow("}"))
        {
            ExpectComma(keys.Count);
            if (IsNow("}"))
            {
                break;
            }

            keys.Add(Expression());
            Expect(":");
            values.Add(Expression());
        }

        Expect("}");
        return new MapExpression([.. keys], [.. values], line);
    }

    private Expression Postfix(Expression value)
    {
        while (true)
        {
            int line = Now.Line;
            if (Skip("."))
            {
                Token member = Now;
                next++;
                value = member.Kind == TokenKind.Name ? new AttributeExpression(value, member.Text, line)
                    : member is { Kind: TokenKind.Number, Number: Int number } ? new ItemExpression(value, new Constant(number, line), line)
                    : throw Lexer.Error("expected name or number", member.Line);
            }
            else if (Skip("["))
            {
                value = Subscript(value, line);
            }
            else if (IsNow("("))
            {
                value = new CallExpression(value, Arguments(), line);
            }
            else
            {
                return value;
            }
        }
    }

    private Expression Subscript(Expression of, int line)
    {
        if (IsNow("]"))
        {
            next++;
            return new ItemExpression(of, new ListExpression([], isTuple: true, line), line);
        }

        Expression? start = IsNow(":") ? null : Expression();
        if (!IsNow(":"))
        {
            if (!IsNow(","))
            {
                Expect("]");
                return new ItemExpression(of, start!, line);
            }

            var keys = new List<Expression> { start! };
            while (Skip(","))
            {
                keys.Add(IsNow(":") ? throw Unsupported() : Expression());
                if (IsNow(":"))
                {
                    throw Unsupported();
                }
            }

            Expect("]");
            return new ItemExpression(of, new ListExpression([.. keys], isTuple: true, line), line);
        }

        next++;
        Expression? stop = IsNow(":") || IsNow("]") || IsNow(",") ? null : Expression();
        Expression? step = Skip(":") && !IsNow("]") && !IsNow(",") ? Expression() : null;
        if (IsNow(","))
        {
            throw Unsupported();
        }

        Expect("]");
        return new SliceExpression(of, start, stop, step, line);

        JinjaException Unsupported() => new(JinjaError.Unsupported, "Slices beside other subscripts are not implemented.", line);
    }

    private Expression FiltersAndTests(Expression value)
    {
        while (true)
        {
            if (IsNow("|"))
            {
                value = Filter(value, inBlock: false)!;
            }
            else if (IsName("is"))
            {
                value = Test(value);
            }
            else if (IsNow("("))
            {
                int line = Now.Line;
                value = new CallExpression(value, Arguments(), line);
            }
            else
            {
                return value;
            }
        }
    }

    // In a filter block, the first filter has no bar before it.
    private FilterExpression? Filter(Expression? value, bool inBlock)
    {
        while (inBlock || Skip("|"))
        {
            inBlock = false;
            int line = Now.Line;
            string name = Dotted("name of a filter");
            value = new FilterExpression(value, name, IsNow("(") ? Arguments() : ArgumentList.Empty, line);
        }

        return value as FilterExpression;
    }

    private Expression Test(Expression value)
    {
        int line = Now.Line;
        next++;
        bool negated = SkipName("not");
        string name = Dotted("name of a test");
        ArgumentList arguments = ArgumentList.Empty;
        if (IsNow("("))
        {
            arguments = Arguments();
        }
        else if (Now.Kind is TokenKind.String or TokenKind.Number || IsNow("[") || IsNow("{")
            || (Now.Kind == TokenKind.Name && Now.Text is not ("else" or "or" or "and")))
        {
            if (IsName("is"))
            {
                throw Fail("You cannot chain multiple tests with is");
            }

            arguments = new ArgumentList([Postfix(Primary())], [], null, null);
        }

        Expression test = new TestExpression(value, name, arguments, line);
        return negated ? new NotExpression(test, line) : test;
    }

    private string Dotted(string what)
    {
        var name = new StringBuilder(Name(what));
        while (Skip("."))
        {
            name.Append('.').Append(Name(what));
        }

        return name.ToString();
    }

    private ArgumentList Arguments()
    {
        int line = Now.Line;
        Expect("(");
        var values = new List<Expression>();
        var named = new List<KeyValuePair<string, Expression>>();
        Expression? star = null;
        Expression? stars = null;
        bool comma = false;
        while (!IsNow(")"))
        {
            if (comma)
            {
                Expect(",");
                if (IsNow(")"))
                {
                    break;
                }
            }

            comma = true;
            if (Skip("*"))
            {
                Require(star is null && stars is null);
                star = Expression();
            }
            else if (Skip("**"))
            {
                Require(stars is null);
                stars = Expression();
            }
            else if (Now.Kind == TokenKind.Name && tokens[next + 1] is { Kind: TokenKind.Operator, Text: "=" })
            {
                Require(stars is null);
                string name = Now.Text;
                next += 2;
                if (named.Count == MaxNames)
                {
                    throw Fail($"a call has more than {MaxNames} named arguments");
                }

                if (named.Exists(pair => pair.Key == name))
                {
                    throw Fail($"keyword argument repeated: {name}");
                }

                named.Add(new(name, Expression()));
            }
            else
            {
                Require(star is null && stars is null && named.Count == 0);
                values.Add(Expression());
            }
        }

        Expect(")");
        return new ArgumentList([.. values], [.. named], star, stars);

        void Require(bool holds)
        {
            if (!holds)
            {
                throw Lexer.Error("invalid syntax for function call expression", line);
            }
        }
    }
}
