namespace Tiller.Jinja;

/// <summary>How the execution of a statement ended.</summary>
internal enum Flow
{
    /// <summary>Execution continues with the next statement.</summary>
    On,

    /// <summary>The loop ends.</summary>
    Break,

    /// <summary>The loop continues with its next turn.</summary>
    Continue,
}

/// <summary>A statement. It is immutable once its names are bound.</summary>
internal abstract class Statement(int line)
{
    public int Line => line;

    public abstract Flow Exec(Frame frame, TextBuilder to, Run run);

    /// <summary>Casts the value that a block writes to text; throws a TypeError for any other value.</summary>
    protected static Text Written(JinjaValue value) => value as Text ?? throw JinjaException.Type($"expected str instance, {value.TypeName} found");

    public static Flow Exec(Statement[] body, Frame frame, TextBuilder to, Run run)
    {
        foreach (Statement statement in body)
        {
            run.Charge(1);
            if (statement.Exec(frame, to, run) is not Flow.On and Flow flow)
            {
                return flow;
            }
        }

        return Flow.On;
    }
}

/// <summary>Text and {{ }}.</summary>
internal sealed class Output(Expression[] parts, int line) : Statement(line)
{
    public Expression[] Parts => parts;

    public override Flow Exec(Frame frame, TextBuilder to, Run run)
    {
        foreach (Expression part in parts)
        {
            run.Charge(1);
            part.Write(frame, to, run);
        }

        return Flow.On;
    }
}

internal sealed class IfStatement(Expression[] tests, Statement[][] bodies, Statement[] otherwise, int line) : Statement(line)
{
    public Expression[] Tests => tests;

    public Statement[][] Bodies => bodies;

    public Statement[] Otherwise => otherwise;

    public override Flow Exec(Frame frame, TextBuilder to, Run run)
    {
        for (int i = 0; i < tests.Length; i++)
        {
            run.Line = tests[i].Line;
            if (tests[i].Holds(frame, run))
            {
                return Exec(bodies[i], frame, to, run);
            }
        }

        return Exec(otherwise, frame, to, run);
    }
}

internal sealed class ForStatement(Target target, Expression items, Expression? test, bool recursive, Statement[] body, Statement[] otherwise,
    int line) : Statement(line)
{
    public Target Target => target;

    public Expression Items => items;

    public Expression? Test => test;

    public bool Recursive => recursive;

    public Statement[] Body => body;

    public Statement[] Otherwise => otherwise;

    /// <summary>Place of the variable "loop"; null if the body does not read it.</summary>
    public Reference? Loop { get; set; }

    /// <summary>A second target, for the function of the test.</summary>
    public Target? TestTarget { get; set; }

    public FunctionBody? TestFunction { get; set; }

    public Scope TestScope { get; set; } = null!;

    public Scope BodyScope { get; set; } = null!;

    public Scope OtherwiseScope { get; set; } = null!;

    /// <summary>Function of a recursive loop; null if the loop is not recursive.</summary>
    public FunctionBody? Function { get; set; }

    public override Flow Exec(Frame frame, TextBuilder to, Run run)
    {
        run.Line = Line;
        JinjaValue iterable = items.Eval(frame, run);
        if (recursive)
        {
            to.Append(Recurse(iterable, 0, frame, run));
            return Flow.On;
        }

        return Turns(iterable, frame, to, run, 0, null);
    }

    private Text Recurse(JinjaValue iterable, int depth, Frame outer, Run run)
    {
        run.EnterCall();
        var to = new TextBuilder(run);
        Turns(iterable, Function!.NewFrame(outer, run), to, run, depth, (inner, deeper, run) => Recurse(inner, deeper, outer, run));
        run.LeaveCall();
        return to.ToText();
    }

    private Flow Turns(JinjaValue iterable, Frame frame, TextBuilder to, Run run, int depth, Func<JinjaValue, int, Run, JinjaValue>? recurse)
    {
        run.Line = Line;
        IEnumerator<JinjaValue> values = iterable.Items(run);
        if (test is not null)
        {
            values = Filtered(values, frame, run);
            iterable = new Generator(values);
        }

        LoopState? state = null;
        if (Loop is { } loop)
        {
            state = new LoopState(iterable, values, depth, recurse);
            loop.Write(frame, null);
        }

        bool finished = false;
        while ((state is not null ? state.Next() : values.MoveNext() ? values.Current : null) is { } value)
        {
            run.Charge(1);
            target.Assign(value, frame, run);
            Loop?.Write(frame, state);
            BodyScope.Enter(frame, run);
            Flow flow = Exec(body, frame, to, run);
            if (flow == Flow.Break)
            {
                break;
            }

            // As in the published implementation, a turn that ends with continue does not count. After a loop of only such turns, the else branch
            // runs.
            finished |= flow == Flow.On;
        }

        BodyScope.Leave(frame);
        if (!finished && otherwise.Length > 0)
        {
            OtherwiseScope.Enter(frame, run);
            Flow flow = Exec(otherwise, frame, to, run);
            OtherwiseScope.Leave(frame);
            return flow;
        }

        return Flow.On;
    }

    private IEnumerator<JinjaValue> Filtered(IEnumerator<JinjaValue> values, Frame outer, Run run)
    {
        Frame frame = TestFunction!.NewFrame(outer, run);
        TestScope.Enter(frame, run);
        while (values.MoveNext())
        {
            run.Charge(1);
            TestTarget!.Assign(values.Current, frame, run);
            if (test!.Holds(frame, run))
            {
                yield return TestTarget.Read(frame);
            }
        }
    }
}

/// <summary>{% set a = b %}.</summary>
internal sealed class SetStatement(Target target, Expression value, int line) : Statement(line)
{
    public Target Target => target;

    public Expression Value => value;

    public override Flow Exec(Frame frame, TextBuilder to, Run run)
    {
        run.Line = Line;
        target.Require(frame);
        JinjaValue assigned = value.Eval(frame, run);
        run.Line = Line;
        target.Assign(assigned, frame, run);
        return Flow.On;
    }
}

/// <summary>{% set a %}…{% endset %}.</summary>
internal sealed class SetBlock(Target target, FilterExpression? filter, Statement[] body, int line) : Statement(line)
{
    public Target Target => target;

    public FilterExpression? Filter => filter;

    public Statement[] Body => body;

    public Scope Scope { get; set; } = null!;

    public override Flow Exec(Frame frame, TextBuilder to, Run run)
    {
        Scope.Enter(frame, run);
        var inner = new TextBuilder(run);
        Flow flow = Exec(body, frame, inner, run);
        if (flow == Flow.On)
        {
            JinjaValue value = filter is null ? inner.ToText() : filter.Apply(inner.ToText(), frame, run);
            run.Line = Line;
            target.Require(frame);
            target.Assign(value, frame, run);
        }

        Scope.Leave(frame);
        return flow;
    }
}

/// <summary>{% filter f %}…{% endfilter %}.</summary>
internal sealed class FilterBlock(FilterExpression filter, Statement[] body, int line) : Statement(line)
{
    public FilterExpression Filter => filter;

    public Statement[] Body => body;

    public Scope Scope { get; set; } = null!;

    public override Flow Exec(Frame frame, TextBuilder to, Run run)
    {
        Scope.Enter(frame, run);
        var inner = new TextBuilder(run);
        Flow flow = Exec(body, frame, inner, run);
        if (flow == Flow.On)
        {
            to.Append(Written(filter.Apply(inner.ToText(), frame, run)));
        }

        Scope.Leave(frame);
        return flow;
    }
}

/// <summary>{% with a = b %}…{% endwith %}. The values are evaluated outside the block.</summary>
internal sealed class WithStatement(Target[] targets, Expression[] values, Statement[] body, int line) : Statement(line)
{
    public Target[] Targets => targets;

    public Expression[] Values => values;

    public Statement[] Body => body;

    public Scope Scope { get; set; } = null!;

    public override Flow Exec(Frame frame, TextBuilder to, Run run)
    {
        Scope.Enter(frame, run);
        for (int i = 0; i < targets.Length; i++)
        {
            run.Line = Line;
            targets[i].Assign(values[i].Eval(frame, run), frame, run);
        }

        Flow flow = Exec(body, frame, to, run);
        Scope.Leave(frame);
        return flow;
    }
}

internal sealed class BreakStatement(int line) : Statement(line)
{
    public override Flow Exec(Frame frame, TextBuilder to, Run run) => Flow.Break;
}

internal sealed class ContinueStatement(int line) : Statement(line)
{
    public override Flow Exec(Frame frame, TextBuilder to, Run run) => Flow.Continue;
}

/// <summary>{% block name %}. Without inheritance, it is a part that sees only the names of the top level.</summary>
internal sealed class BlockStatement(string name, Statement[] body, int line) : Statement(line)
{
    public string Name => name;

    public Statement[] Body => body;

    public FunctionBody Function { get; set; } = null!;

    public Scope Scope { get; set; } = null!;

    public override Flow Exec(Frame frame, TextBuilder to, Run run)
    {
        run.EnterCall();
        Frame inner = Function.NewFrame(null, run);
        Scope.Enter(inner, run);
        Exec(body, inner, to, run);
        run.LeaveCall();
        return Flow.On;
    }
}

/// <summary>extends, include, import, from: unsupported, because there are no other templates.</summary>
internal sealed class OtherTemplate(string tag, int line) : Statement(line)
{
    public override Flow Exec(Frame frame, TextBuilder to, Run run) =>
        throw new JinjaException(JinjaError.Unsupported, $"The tag '{tag}' needs another template; a chat template has none.", Line);
}

/// <summary>The target of an assignment.</summary>
internal abstract class Target
{
    public abstract void Assign(JinjaValue value, Frame frame, Run run);

    /// <summary>Reads the value that was assigned last.</summary>
    public abstract JinjaValue Read(Frame frame);

    /// <summary>Throws if the target is an attribute of a value that is not a namespace.</summary>
    public virtual void Require(Frame frame)
    {
    }
}

internal sealed class NameTarget(string name, int line) : Target
{
    public string Name => name;

    public int Line => line;

    public Reference Place { get; set; }

    /// <summary>Index in <see cref="Run.Shared"/>, for names of the top level that blocks read; otherwise -1.</summary>
    public int Shared { get; set; } = -1;

    public override void Assign(JinjaValue value, Frame frame, Run run)
    {
        Place.Write(frame, value);
        if (Shared >= 0)
        {
            run.Shared[Shared] = value;
        }
    }

    public override JinjaValue Read(Frame frame) => Place.Read(frame)!;
}

internal sealed class AttributeTarget(string of, string attribute) : Target
{
    public string Of => of;

    public Reference Place { get; set; }

    public override void Assign(JinjaValue value, Frame frame, Run run) => ((Namespace)Place.Read(frame)!).Set(attribute, value);

    public override JinjaValue Read(Frame frame) => Place.Read(frame)!;

    public override void Require(Frame frame)
    {
        if (Place.Read(frame) is not Namespace)
        {
            throw JinjaException.Runtime("cannot assign attribute on non-namespace object");
        }
    }
}

internal sealed class TupleTarget(Target[] items) : Target
{
    public Target[] Items => items;

    public override void Assign(JinjaValue value, Frame frame, Run run)
    {
        using IEnumerator<JinjaValue> values = value.Iterate(run) ?? throw JinjaException.Type($"cannot unpack non-iterable {value.TypeName} object");
        var taken = new List<JinjaValue>();
        while (taken.Count <= items.Length && values.MoveNext())
        {
            taken.Add(values.Current);
        }

        if (taken.Count != items.Length)
        {
            throw JinjaException.Value(taken.Count > items.Length
                ? $"too many values to unpack (expected {items.Length})"
                : $"not enough values to unpack (expected {items.Length}, got {taken.Count})");
        }

        for (int i = 0; i < items.Length; i++)
        {
            items[i].Assign(taken[i], frame, run);
        }
    }

    public override JinjaValue Read(Frame frame) => new TupleValue([.. items.Select(item => item.Read(frame))]);

    public override void Require(Frame frame)
    {
        foreach (Target item in items)
        {
            item.Require(frame);
        }
    }
}
