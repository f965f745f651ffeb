namespace Tiller.Jinja;

/// <summary>An expression. It is immutable once its names are bound, so all renderings share one tree.</summary>
internal abstract class Expression
{
    // Maximum height of an expression. Together with JinjaLimits.Nesting it bounds the use of the stack.
    private const int Highest = 200;

    protected Expression(int line, params ReadOnlySpan<Expression?> children)
    {
        Line = line;
        int height = 0;
        foreach (Expression? child in children)
        {
            height = Math.Max(height, child?.Height ?? 0);
        }

        Height = height < Highest ? height + 1 : throw Lexer.Error($"An expression nests more than {Highest} deep", line);
    }

    public int Line { get; }

    public int Height { get; }

    /// <summary>The parts whose names must be bound.</summary>
    public virtual IEnumerable<Expression> Children => [];

    public abstract JinjaValue Eval(Frame frame, Run run);

    /// <summary>Whether the value is true, without making it if possible.</summary>
    public virtual bool Holds(Frame frame, Run run) => Eval(frame, run).IsTrue(run);

    /// <summary>Appends the text of the value, without making it if possible.</summary>
    public virtual void Write(Frame frame, TextBuilder to, Run run) => Write(Eval(frame, run), to, run);

    protected void Write(JinjaValue value, TextBuilder to, Run run)
    {
        run.Line = Line;
        to.AppendStr(value);
    }
}

internal sealed class Constant(JinjaValue value, int line) : Expression(line)
{
    public JinjaValue Value => value;

    public override JinjaValue Eval(Frame frame, Run run) => value;
}

internal sealed class NameExpression(string name, int line) : Expression(line)
{
    private readonly Undefined missing = Undefined.Name(name);

    public string Name => name;

    public Reference Place { get; set; }

    public override JinjaValue Eval(Frame frame, Run run) => Place.Read(frame) ?? missing;
}

internal sealed class ListExpression(Expression[] items, bool isTuple, int line) : Expression(line, items)
{
    public Expression[] Items => items;

    public bool IsTuple => isTuple;

    public override IEnumerable<Expression> Children => items;

    public override JinjaValue Eval(Frame frame, Run run)
    {
        run.Charge(items.Length);
        var values = new JinjaValue[items.Length];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = items[i].Eval(frame, run);
        }

        return isTuple ? new TupleValue(values) : new ListValue(values);
    }
}

internal sealed class MapExpression(Expression[] keys, Expression[] values, int line) : Expression(line, [.. keys, .. values])
{
    public override IEnumerable<Expression> Children => keys.Concat(values);

    public override JinjaValue Eval(Frame frame, Run run)
    {
        run.Charge(keys.Length);
        var map = new MapBuilder(run);
        for (int i = 0; i < keys.Length; i++)
        {
            JinjaValue key = keys[i].Eval(frame, run);
            map.Set(key, values[i].Eval(frame, run));
        }

        run.Line = Line;
        return map.ToMap();
    }
}

/// <summary>a + b - c …, evaluated from the left. A series of texts is joined in one step.</summary>
internal sealed class SumExpression(Expression first, Expression[] rest, bool[] minus, int line) : Expression(line, [first, .. rest])
{
    public override IEnumerable<Expression> Children => rest.Prepend(first);

    public override JinjaValue Eval(Frame frame, Run run)
    {
        JinjaValue head = first.Eval(frame, run);
        if (head is not Text { IsSafe: false } text)
        {
            return Added(head, 0, frame, run);
        }

        var joined = new TextBuilder(run);
        return Joined(text, joined, frame, run) ?? joined.ToText();
    }

    public override void Write(Frame frame, TextBuilder to, Run run)
    {
        JinjaValue head = first.Eval(frame, run);
        JinjaValue? other = head is Text { IsSafe: false } text ? Joined(text, to, frame, run) : Added(head, 0, frame, run);
        if (other is not null)
        {
            Write(other, to, run);
        }
    }

    // Appends a series of texts. If a value is no text, or must not be joined as it is, takes them back and gives the sum instead.
    private JinjaValue? Joined(Text head, TextBuilder to, Frame frame, Run run)
    {
        int begin = to.Length;
        to.Append(head);
        for (int i = 0; i < rest.Length; i++)
        {
            JinjaValue next = rest[i].Eval(frame, run);
            run.Charge(1);
            run.Line = Line;
            if (minus[i] || next is not Text { IsSafe: false } text)
            {
                return Added(Sum(to.Take(begin), next, i, run), i + 1, frame, run);
            }

            to.Append(text);
        }

        return null;
    }

    // The sum of a value and the operands from one on.
    private JinjaValue Added(JinjaValue sum, int from, Frame frame, Run run)
    {
        for (int i = from; i < rest.Length; i++)
        {
            JinjaValue next = rest[i].Eval(frame, run);
            run.Charge(1);
            run.Line = Line;
            sum = Sum(sum, next, i, run);
        }

        return sum;
    }

    private JinjaValue Sum(JinjaValue sum, JinjaValue next, int i, Run run) =>
        minus[i] ? Arithmetic.Subtract(sum, next, run) : Arithmetic.Add(sum, next, run);
}

internal sealed class BinaryExpression(string op, Expression left, Expression right, int line) : Expression(line, left, right)
{
    private readonly Func<JinjaValue, JinjaValue, Run, JinjaValue> compute = op switch
    {
        "*" => Arithmetic.Multiply,
        "/" => Arithmetic.Divide,
        "//" => Arithmetic.FloorDivide,
        "%" => Arithmetic.Modulo,
        _ => Arithmetic.Power,
    };

    public override IEnumerable<Expression> Children => [left, right];

    public override JinjaValue Eval(Frame frame, Run run)
    {
        JinjaValue a = left.Eval(frame, run);
        JinjaValue b = right.Eval(frame, run);
        run.Charge(1);
        run.Line = Line;
        return compute(a, b, run);
    }
}

internal sealed class SignExpression(bool minus, Expression operand, int line) : Expression(line, operand)
{
    public override IEnumerable<Expression> Children => [operand];

    public override JinjaValue Eval(Frame frame, Run run)
    {
        JinjaValue value = operand.Eval(frame, run);
        run.Line = Line;
        return minus ? Arithmetic.Negate(value) : Arithmetic.Plus(value);
    }
}

internal sealed class NotExpression(Expression operand, int line) : Expression(line, operand)
{
    public override IEnumerable<Expression> Children => [operand];

    public override JinjaValue Eval(Frame frame, Run run) => Bool.Of(Holds(frame, run));

    public override bool Holds(Frame frame, Run run) => !operand.Holds(frame, run);
}

/// <summary>a and b and …, a or b or …. The value is that of the deciding operand.</summary>
internal sealed class LogicExpression(bool isAnd, Expression[] operands, int line) : Expression(line, operands)
{
    public override IEnumerable<Expression> Children => operands;

    public override JinjaValue Eval(Frame frame, Run run)
    {
        JinjaValue value = JinjaValue.None;
        foreach (Expression operand in operands)
        {
            run.Charge(1);
            value = operand.Eval(frame, run);
            if (value.IsTrue(run) != isAnd)
            {
                break;
            }
        }

        return value;
    }

    public override bool Holds(Frame frame, Run run)
    {
        foreach (Expression operand in operands)
        {
            run.Charge(1);
            if (operand.Holds(frame, run) != isAnd)
            {
                return !isAnd;
            }
        }

        return isAnd;
    }
}

/// <summary>One of the comparisons.</summary>
internal delegate bool Relation(JinjaValue a, JinjaValue b, Run run);

/// <summary>a &lt; b == c …. Every comparison must hold.</summary>
internal sealed class CompareExpression(Expression first, string[] ops, Expression[] rest, int line) : Expression(line, [first, .. rest])
{
    private readonly Relation[] relations = Array.ConvertAll(ops, RelationOf);

    public override IEnumerable<Expression> Children => rest.Prepend(first);

    public static Relation RelationOf(string op) => op switch
    {
        "==" => Comparison.Equal,
        "!=" => static (a, b, run) => !Comparison.Equal(a, b, run),
        "in" => static (a, b, run) => b.Contains(a, run),
        "not in" => static (a, b, run) => !b.Contains(a, run),
        _ => (a, b, run) => Comparison.Holds(a, b, op, run),
    };

    public override JinjaValue Eval(Frame frame, Run run) => Bool.Of(Holds(frame, run));

    public override bool Holds(Frame frame, Run run)
    {
        JinjaValue left = first.Eval(frame, run);
        for (int i = 0; i < relations.Length; i++)
        {
            JinjaValue right = rest[i].Eval(frame, run);
            run.Line = Line;
            if (!relations[i](left, right, run))
            {
                return false;
            }

            left = right;
        }

        return true;
    }
}

/// <summary>a ~ b ~ …. All operands are converted to text and joined.</summary>
internal sealed class ConcatExpression(Expression[] parts, int line) : Expression(line, parts)
{
    public override IEnumerable<Expression> Children => parts;

    public override JinjaValue Eval(Frame frame, Run run)
    {
        var joined = new TextBuilder(run);
        Write(frame, joined, run);
        return joined.ToText();
    }

    public override void Write(Frame frame, TextBuilder to, Run run)
    {
        foreach (Expression part in parts)
        {
            run.Charge(1);
            part.Write(frame, to, run);
        }
    }
}

/// <summary>a if test else b.</summary>
internal sealed class ConditionExpression(Expression test, Expression then, Expression? otherwise, int line) : Expression(line, test, then, otherwise)
{
    private readonly Undefined missing = new($"the inline if-expression on line {line} evaluated to false and no else section was defined.");

    public override IEnumerable<Expression> Children => otherwise is null ? [test, then] : [test, then, otherwise];

    public override JinjaValue Eval(Frame frame, Run run) => test.Holds(frame, run) ? then.Eval(frame, run) : otherwise?.Eval(frame, run) ?? missing;

    public override void Write(Frame frame, TextBuilder to, Run run)
    {
        if (test.Holds(frame, run))
        {
            then.Write(frame, to, run);
        }
        else
        {
            otherwise?.Write(frame, to, run);
        }
    }
}

internal sealed class AttributeExpression(Expression of, string name, int line) : Expression(line, of)
{
    private readonly Text key = Text.Of(name);
    private readonly bool isKey = Sandbox.IsKey(name);

    public override IEnumerable<Expression> Children => [of];

    /// <summary>The method of texts of this name; null if they have none.</summary>
    public Method? OfText { get; } = TextMethods.Find(name);

    public override JinjaValue Eval(Frame frame, Run run) => Of(Owner(frame, run), run);

    /// <summary>The value whose attribute it is.</summary>
    public JinjaValue Owner(Frame frame, Run run)
    {
        JinjaValue value = of.Eval(frame, run);
        run.Charge(1);
        run.Line = Line;
        return value;
    }

    public JinjaValue Of(JinjaValue owner, Run run) =>
        isKey && owner is MapValue map ? map.Find(key, run) ?? Undefined.Member(map, key) : Sandbox.Attribute(owner, key, run);
}

internal sealed class ItemExpression(Expression of, Expression key, int line) : Expression(line, of, key)
{
    public override IEnumerable<Expression> Children => [of, key];

    public override JinjaValue Eval(Frame frame, Run run)
    {
        JinjaValue value = of.Eval(frame, run);
        JinjaValue at = key.Eval(frame, run);
        run.Charge(1);
        run.Line = Line;
        return Sandbox.Item(value, at, run);
    }
}

internal sealed class SliceExpression(Expression of, Expression? start, Expression? stop, Expression? step, int line)
    : Expression(line, of, start, stop, step)
{
    public override IEnumerable<Expression> Children => new[] { of, start, stop, step }.OfType<Expression>();

    public override JinjaValue Eval(Frame frame, Run run)
    {
        JinjaValue value = of.Eval(frame, run);
        var indexes = new Indexes(start?.Eval(frame, run), stop?.Eval(frame, run), step?.Eval(frame, run));
        run.Charge(1);
        run.Line = Line;
        return value.Cut(indexes, run);
    }
}

/// <summary>The unevaluated arguments of a call, filter or test.</summary>
internal sealed record ArgumentList(Expression[] Values, KeyValuePair<string, Expression>[] Named, Expression? Star, Expression? Stars)
{
    public static readonly ArgumentList Empty = new([], [], null, null);

    public Expression[] All => [.. Values, .. Named.Select(static pair => pair.Value), .. new[] { Star, Stars }.OfType<Expression>()];

    public Arguments Eval(Frame frame, Run run, KeyValuePair<string, JinjaValue>? extra = null)
    {
        if (Values.Length == 0 && Named.Length == 0 && Star is null && Stars is null && extra is null)
        {
            return Arguments.Empty;
        }

        var values = new JinjaValue[Values.Length];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = Values[i].Eval(frame, run);
        }

        if (Named.Length == 0 && Star is null && Stars is null && extra is null)
        {
            return new Arguments(values, []);
        }

        var named = new List<KeyValuePair<string, JinjaValue>>(Named.Length);
        foreach ((string name, Expression value) in Named)
        {
            named.Add(new(name, value.Eval(frame, run)));
        }

        if (Star is not null)
        {
            values = [.. values, .. Star.Eval(frame, run).ToArray(run)];
        }

        if (extra is not null)
        {
            named.Add(extra.Value);
        }

        if (Stars is not null)
        {
            AddStars(Stars.Eval(frame, run), named, run);
        }

        return new Arguments(values, [.. named]);
    }

    private static void AddStars(JinjaValue more, List<KeyValuePair<string, JinjaValue>> named, Run run)
    {
        if (more is not MapValue map)
        {
            throw JinjaException.Type("argument after ** must be a mapping");
        }

        run.Charge(map.Count);
        var names = named.Select(static pair => pair.Key).ToHashSet(StringComparer.Ordinal);
        for (int i = 0; i < map.Count; i++)
        {
            string name = map.KeyAt(i) is Text text ? text.Value : throw JinjaException.Type("keywords must be strings");
            named.Add(names.Add(name) ? new(name, map.At(i)) : throw JinjaException.Type($"got multiple values for keyword argument '{name}'"));
        }
    }
}

internal sealed class CallExpression(Expression function, ArgumentList arguments, int line) : Expression(line, [function, .. arguments.All])
{
    public override IEnumerable<Expression> Children => arguments.All.Prepend(function);

    public override JinjaValue Eval(Frame frame, Run run) => Eval(frame, run, null);

    /// <summary>Evaluates the call with one more named argument, the body of a call block.</summary>
    public JinjaValue Eval(Frame frame, Run run, KeyValuePair<string, JinjaValue>? extra)
    {
        // A text's method needs no value of its own, because it is called at once.
        var member = function as AttributeExpression;
        JinjaValue callee = member?.Owner(frame, run) ?? function.Eval(frame, run);
        Method? method = callee is Text ? member?.OfText : null;
        callee = member is null || method is not null ? callee : member.Of(callee, run);
        Arguments given = arguments.Eval(frame, run, extra);
        run.Charge(1);
        run.Line = Line;
        return method is null ? callee.Call(given, run) : method(callee, given, run);
    }
}

internal sealed class FilterExpression(Expression? of, string name, ArgumentList arguments, int line) : Expression(line, [of, .. arguments.All])
{
    // Whether this is a filter of a filter block: the innermost filter there has no operand.
    private readonly bool isOfBlock = of is null or FilterExpression { isOfBlock: true };

    public string Name => name;

    /// <summary>Null if there is no filter of this name.</summary>
    public Method? Filter { get; } = Filters.Find(name);

    public override IEnumerable<Expression> Children => of is null ? arguments.All : arguments.All.Prepend(of);

    public override JinjaValue Eval(Frame frame, Run run) => Apply(of!.Eval(frame, run), frame, run);

    /// <summary>Applies the filter to a value. In a filter block the value is the text of the block.</summary>
    public JinjaValue Apply(JinjaValue value, Frame frame, Run run)
    {
        if (isOfBlock && of is FilterExpression inner)
        {
            value = inner.Apply(value, frame, run);
        }

        Arguments given = arguments.Eval(frame, run);
        run.Charge(1);
        run.Line = Line;
        return (Filter ?? throw JinjaException.Runtime($"No filter named '{name}' found."))(value, given, run);
    }
}

internal sealed class TestExpression(Expression of, string name, ArgumentList arguments, int line) : Expression(line, [of, .. arguments.All])
{
    public string Name => name;

    /// <summary>Null if there is no test of this name.</summary>
    public Test? Test { get; } = Tests.Find(name);

    public override IEnumerable<Expression> Children => arguments.All.Prepend(of);

    public override JinjaValue Eval(Frame frame, Run run) => Bool.Of(Holds(frame, run));

    public override bool Holds(Frame frame, Run run)
    {
        JinjaValue value = of.Eval(frame, run);
        Arguments given = arguments.Eval(frame, run);
        run.Charge(1);
        run.Line = Line;
        return (Test ?? throw JinjaException.Runtime($"No test named '{name}' found."))(value, given, run);
    }
}
