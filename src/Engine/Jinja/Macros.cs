namespace Tiller.Jinja;

/// <summary>The parameters and body of a macro or of a call block.</summary>
internal sealed class MacroBody(string? name, NameTarget[] parameters, Expression[] defaults, Statement[] body, int line)
{
    public string? Name => name;

    public NameTarget[] Parameters => parameters;

    public Expression[] Defaults => defaults;

    public Statement[] Body => body;

    public int Line => line;

    public FunctionBody Function { get; set; } = null!;

    public Scope Scope { get; set; } = null!;

    /// <summary>The variable caller; null if the body does not read it. The same holds for kwargs and varargs.</summary>
    public Reference? Caller { get; set; }

    public Reference? Kwargs { get; set; }

    public Reference? Varargs { get; set; }

    /// <summary>Whether a parameter of the macro is named caller.</summary>
    public bool NamesCaller { get; set; }
}

/// <summary>A macro as a value: its body and the variables of the function around it.</summary>
internal sealed class Macro(MacroBody body, Frame around) : JinjaValue
{
    internal override string TypeName => "Macro";

    internal override bool IsCallable => true;

    internal override JinjaValue? Attribute(string name, Run run) => name switch
    {
        "name" => body.Name is { } own ? Text.Of(own) : None,
        "arguments" => new TupleValue([.. body.Parameters.Select(static parameter => Text.Of(parameter.Name))]),
        "catch_kwargs" => Bool.Of(body.Kwargs is not null),
        "catch_varargs" => Bool.Of(body.Varargs is not null),
        "caller" => Bool.Of(body.Caller is not null),
        _ => null,
    };

    internal override void Repr(TextBuilder to, bool content) => to.Append(body.Name is { } own ? $"<Macro '{own}'>" : "<Macro anonymous>", content);

    internal override JinjaValue Call(Arguments arguments, Run run)
    {
        run.EnterCall();
        Frame frame = body.Function.NewFrame(around, run);
        Bind(arguments, frame, run);
        body.Scope.Enter(frame, run);
        for (int i = 0; i < body.Parameters.Length; i++)
        {
            if (body.Parameters[i].Place.Read(frame) is null)
            {
                int at = i - body.Parameters.Length + body.Defaults.Length;
                string parameter = body.Parameters[i].Name;
                body.Parameters[i].Place.Write(frame, at >= 0 ? body.Defaults[at].Eval(frame, run)
                    : new Undefined($"parameter '{parameter}' was not provided"));
            }
        }

        var to = new TextBuilder(run);
        Statement.Exec(body.Body, frame, to, run);
        run.LeaveCall();
        return to.ToText();
    }

    private void Bind(Arguments arguments, Frame frame, Run run)
    {
        run.Charge((long)arguments.Named.Length * (1 + body.Parameters.Length));
        int count = body.Parameters.Length;
        var named = new List<KeyValuePair<string, JinjaValue>>(arguments.Named);
        bool foundCaller = arguments.Values.Length >= count && body.NamesCaller;
        for (int i = 0; i < count; i++)
        {
            if (i < arguments.Values.Length)
            {
                body.Parameters[i].Place.Write(frame, arguments.Values[i]);
                continue;
            }

            foundCaller |= body.Parameters[i].Name == "caller";
            body.Parameters[i].Place.Write(frame, Take(named, body.Parameters[i].Name));
        }

        if (body.Caller is { } caller && !foundCaller)
        {
            JinjaValue? given = Take(named, "caller");
            caller.Write(frame, given is null or NoneValue ? new Undefined("No caller defined") : given);
        }

        if (body.Kwargs is { } kwargs)
        {
            var map = new MapBuilder(run);
            foreach ((string name, JinjaValue value) in named)
            {
                map.Set(Text.Of(name), value);
            }

            kwargs.Write(frame, map.ToMap());
        }
        else if (named.Count > 0)
        {
            throw JinjaException.Type($"macro '{body.Name}' takes no keyword argument '{named[0].Key}'");
        }

        if (body.Varargs is { } varargs)
        {
            varargs.Write(frame, new TupleValue(arguments.Values.Length > count ? arguments.Values[count..] : []));
        }
        else if (arguments.Values.Length > count)
        {
            throw JinjaException.Type($"macro '{body.Name}' takes not more than {count} argument(s)");
        }
    }

    private static JinjaValue? Take(List<KeyValuePair<string, JinjaValue>> named, string name)
    {
        int at = named.FindIndex(pair => pair.Key == name);
        if (at < 0)
        {
            return null;
        }

        JinjaValue value = named[at].Value;
        named.RemoveAt(at);
        return value;
    }
}

/// <summary>{% macro m(a, b=1) %}…{% endmacro %}.</summary>
internal sealed class MacroStatement(NameTarget target, MacroBody body, int line) : Statement(line)
{
    public NameTarget Target => target;

    public MacroBody Body => body;

    public override Flow Exec(Frame frame, TextBuilder to, Run run)
    {
        target.Assign(new Macro(body, frame), frame, run);
        return Flow.On;
    }
}

/// <summary>{% call(a) m() %}…{% endcall %}; also {% generation %}, whose body is written unchanged.</summary>
internal sealed class CallBlock(CallExpression? call, MacroBody body, int line) : Statement(line)
{
    public CallExpression? Call => call;

    public MacroBody Body => body;

    public override Flow Exec(Frame frame, TextBuilder to, Run run)
    {
        var caller = new Macro(body, frame);
        to.Append(Written(call is null ? caller.Call(Arguments.Empty, run)
            : call.Eval(frame, run, new KeyValuePair<string, JinjaValue>("caller", caller))));
        return Flow.On;
    }
}
