namespace Tiller.Jinja;

/// <summary>Binds every name of a template to a variable, in the same order as Jinja's compiler.</summary>
internal sealed class Binder
{
    private readonly List<Scope> scopes = [];
    private readonly Dictionary<string, int> given = new(StringComparer.Ordinal);
    private readonly HashSet<string> blocks = new(StringComparer.Ordinal);
    private readonly bool hasBlocks;

    private Binder(bool hasBlocks)
    {
        this.hasBlocks = hasBlocks;
    }

    /// <summary>Function and scope of the top level, and the names whose values the caller supplies.</summary>
    public static (FunctionBody Function, Scope Scope, string[] Given) Bind(Statement[] body, bool hasBlocks)
    {
        var binder = new Binder(hasBlocks);
        var function = new FunctionBody(null);
        Scope scope = binder.Open(null, function);
        Analyze(body, scope);
        binder.Bind(body, new Place(scope, Soft: false, InLoop: false, Top: true));
        foreach (Scope each in binder.scopes)
        {
            each.Close(binder.Given);
        }

        return (function, scope, [.. binder.given.Keys]);
    }

    private int Given(string name)
    {
        given.TryAdd(name, given.Count);
        return given[name];
    }

    private Scope Open(Scope? parent, FunctionBody function)
    {
        var scope = new Scope(parent, function);
        scopes.Add(scope);
        return scope;
    }

    // Collects the names that a scope's statements load and store. The insides of statements with their own scope are left out.
    private static void Analyze(IEnumerable<Statement> body, Scope scope)
    {
        foreach (Statement statement in body)
        {
            switch (statement)
            {
                case Output output:
                    Load(output.Parts, scope);
                    break;
                case IfStatement choice:
                    AnalyzeIf(choice, scope);
                    break;
                case ForStatement loop:
                    Load([loop.Items], scope);
                    break;
                case SetStatement set:
                    Load([set.Value], scope);
                    Store(set.Target, scope);
                    break;
                case SetBlock set:
                    Store(set.Target, scope);
                    Load(set.Filter?.Children ?? [], scope);
                    break;
                case FilterBlock filter:
                    Load(filter.Filter.Children, scope);
                    break;
                case WithStatement with:
                    Load(with.Values, scope);
                    break;
                case MacroStatement macro:
                    scope.Store(macro.Target.Name);
                    break;
                case CallBlock { Call: { } call }:
                    Load([call], scope);
                    break;
                default:
                    break;
            }
        }
    }

    private static void AnalyzeIf(IfStatement choice, Scope scope)
    {
        Load([choice.Tests[0]], scope);
        Scope body = scope.Branch();
        Analyze(choice.Bodies[0], body);
        Scope elifs = scope.Branch();
        for (int i = 1; i < choice.Tests.Length; i++)
        {
            Load([choice.Tests[i]], elifs);
            Scope elif = elifs.Branch();
            Analyze(choice.Bodies[i], elif);
            elifs.Merge(elif, elifs.Branch(), elifs.Branch());
        }

        Scope otherwise = scope.Branch();
        Analyze(choice.Otherwise, otherwise);
        scope.Merge(body, elifs, otherwise);
    }

    private static void Load(IEnumerable<Expression> expressions, Scope scope)
    {
        foreach (Expression expression in expressions)
        {
            if (expression is NameExpression name)
            {
                scope.Load(name.Name);
            }

            Load(expression.Children, scope);
        }
    }

    private static void Store(Target target, Scope scope)
    {
        switch (target)
        {
            case NameTarget name:
                scope.Store(name.Name);
                break;
            case AttributeTarget attribute:
                scope.Load(attribute.Of);
                break;
            case TupleTarget tuple:
                foreach (Target item in tuple.Items)
                {
                    Store(item, scope);
                }

                break;
        }
    }

    private static void Declare(Target target, Scope scope)
    {
        foreach (string name in NamesOf(target))
        {
            scope.Parameter(name);
        }
    }

    private static IEnumerable<string> NamesOf(Target target) => target switch
    {
        NameTarget name => [name.Name],
        TupleTarget tuple => tuple.Items.SelectMany(NamesOf),
        _ => [],
    };

    private void Bind(Statement[] body, Place place)
    {
        foreach (Statement statement in body)
        {
            Bind(statement, place);
        }
    }

    private void Bind(Statement statement, Place place)
    {
        switch (statement)
        {
            case Output output:
                Bind(output.Parts, place);
                break;
            case IfStatement choice:
                Place soft = place with { Soft = true };
                Bind(choice.Tests, soft);
                foreach (Statement[] body in choice.Bodies)
                {
                    Bind(body, soft);
                }

                Bind(choice.Otherwise, soft);
                break;
            case ForStatement loop:
                BindFor(loop, place);
                break;
            case SetStatement set:
                Bind([set.Value], place);
                Bind(set.Target, place);
                break;
            case SetBlock set:
                set.Scope = Inner(set.Body, place);
                Bind(set.Body, Within(set.Scope, place));
                Bind(set.Target, place);
                Bind(set.Filter is null ? [] : [set.Filter], Within(set.Scope, place));
                break;
            case FilterBlock filter:
                filter.Scope = Open(place.Scope, place.Scope.Function);
                Load(filter.Filter.Children, filter.Scope);
                Analyze(filter.Body, filter.Scope);
                Bind(filter.Body, Within(filter.Scope, place));
                Bind([filter.Filter], Within(filter.Scope, place));
                break;
            case WithStatement with:
                with.Scope = Open(place.Scope, place.Scope.Function);
                foreach (Target target in with.Targets)
                {
                    Declare(target, with.Scope);
                }

                Analyze(with.Body, with.Scope);
                Bind(with.Values, place);
                foreach (Target target in with.Targets)
                {
                    Bind(target, Within(with.Scope, place));
                }

                Bind(with.Body, Within(with.Scope, place));
                break;
            case MacroStatement macro:
                BindMacro(macro.Body, place);
                Bind(macro.Target, place);
                break;
            case CallBlock call:
                BindMacro(call.Body, place);
                Bind(call.Call is null ? [] : [call.Call], place);
                break;
            case BlockStatement block:
                BindBlock(block);
                break;
            case BreakStatement or ContinueStatement when !place.InLoop:
                throw Lexer.Error($"'{(statement is BreakStatement ? "break" : "continue")}' outside loop", statement.Line);
            default:
                break;
        }
    }

    private void BindFor(ForStatement loop, Place place)
    {
        if (Names.Stores(loop, "loop") is >= 0 and int line)
        {
            throw Lexer.Error("Can't assign to special loop variable in for-loop target", line);
        }

        Bind([loop.Items], place);
        FunctionBody function = place.Scope.Function;
        if (loop.Recursive)
        {
            loop.Function = function = new FunctionBody(function);
        }

        loop.BodyScope = Open(place.Scope, function);
        bool extended = loop.Recursive || Names.Undeclared(loop.Body, ["loop"]).Contains("loop");
        Variable? variable = extended ? loop.BodyScope.Parameter("loop") : null;
        Declare(loop.Target, loop.BodyScope);
        Analyze(loop.Body, loop.BodyScope);
        loop.Loop = variable?.From(function);
        Place inside = Within(loop.BodyScope, place) with { InLoop = true };
        Bind(loop.Target, inside);

        loop.OtherwiseScope = Open(place.Scope, function);
        Analyze(loop.Otherwise, loop.OtherwiseScope);
        if (loop.Test is not null)
        {
            loop.TestFunction = new FunctionBody(function);
            loop.TestScope = Open(place.Scope, loop.TestFunction);
            Declare(loop.Target, loop.TestScope);
            Load([loop.Test], loop.TestScope);
            loop.TestTarget = Copy(loop.Target);
            Bind(loop.TestTarget, Within(loop.TestScope, place));
            Bind([loop.Test], Within(loop.TestScope, place));
        }

        Bind(loop.Body, inside);
        Bind(loop.Otherwise, Within(loop.OtherwiseScope, place) with { InLoop = place.InLoop && !loop.Recursive });
    }

    private void BindMacro(MacroBody macro, Place place)
    {
        macro.Function = new FunctionBody(place.Scope.Function);
        macro.Scope = Open(place.Scope, macro.Function);
        foreach (NameTarget parameter in macro.Parameters)
        {
            macro.Scope.Parameter(parameter.Name);
        }

        HashSet<string> special = Names.Undeclared(macro.Body, ["caller", "kwargs", "varargs"]);
        int caller = Array.FindIndex(macro.Parameters, static parameter => parameter.Name == "caller");
        macro.NamesCaller = caller >= 0;
        if (special.Contains("caller"))
        {
            if (caller >= 0 && caller < macro.Parameters.Length - macro.Defaults.Length)
            {
                throw Lexer.Error("When defining macros or call blocks the special \"caller\" argument must be omitted or be given a default.",
                    macro.Line);
            }

            macro.Caller = macro.Scope.Parameter("caller").From(macro.Function);
        }

        macro.Kwargs = Special("kwargs");
        macro.Varargs = Special("varargs");
        Load(macro.Defaults, macro.Scope);
        Analyze(macro.Body, macro.Scope);
        Place inside = new(macro.Scope, Soft: false, InLoop: false, Top: false);
        foreach (NameTarget parameter in macro.Parameters)
        {
            Bind(parameter, inside);
        }

        Bind(macro.Defaults, inside);
        Bind(macro.Body, inside);

        Reference? Special(string name) => special.Contains(name) && !macro.Parameters.Any(parameter => parameter.Name == name)
            ? macro.Scope.Parameter(name).From(macro.Function) : null;
    }

    private void BindBlock(BlockStatement block)
    {
        if (!blocks.Add(block.Name))
        {
            throw Lexer.Error($"block '{block.Name}' defined twice", block.Line);
        }

        if (Names.Undeclared(block.Body, ["self", "super"]).Count > 0)
        {
            throw new JinjaException(JinjaError.Unsupported, "self and super of blocks are not implemented: there is no other template.", block.Line);
        }

        block.Function = new FunctionBody(null);
        block.Scope = Open(null, block.Function);
        Analyze(block.Body, block.Scope);
        Bind(block.Body, new Place(block.Scope, Soft: false, InLoop: false, Top: false));
    }

    private Scope Inner(Statement[] body, Place place)
    {
        Scope scope = Open(place.Scope, place.Scope.Function);
        Analyze(body, scope);
        return scope;
    }

    private static Place Within(Scope scope, Place place) => new(scope, Soft: false, place.InLoop, Top: false);

    private static void Bind(IEnumerable<Expression> expressions, Place place)
    {
        foreach (Expression expression in expressions)
        {
            switch (expression)
            {
                case NameExpression name:
                    name.Place = place.Scope.Find(name.Name)!.From(place.Scope.Function);
                    break;
                case FilterExpression { Filter: null } filter when !place.Soft:
                    throw Lexer.Error($"No filter named '{filter.Name}'", filter.Line);
                case TestExpression { Test: null } test when !place.Soft:
                    throw Lexer.Error($"No test named '{test.Name}'", test.Line);
                default:
                    break;
            }

            Bind(expression.Children, expression is ConditionExpression ? place with { Soft = true } : place);
        }
    }

    private void Bind(Target target, Place place)
    {
        switch (target)
        {
            case NameTarget name:
                name.Place = place.Scope.Find(name.Name)!.From(place.Scope.Function);
                name.Shared = hasBlocks && place.Top ? Given(name.Name) : -1;
                break;
            case AttributeTarget attribute:
                attribute.Place = place.Scope.Find(attribute.Of)!.From(place.Scope.Function);
                break;
            case TupleTarget tuple:
                foreach (Target item in tuple.Items)
                {
                    Bind(item, place);
                }

                break;
        }
    }

    private static Target Copy(Target target) => target switch
    {
        NameTarget name => new NameTarget(name.Name, name.Line),
        TupleTarget tuple => new TupleTarget([.. tuple.Items.Select(Copy)]),
        _ => target,
    };

    /// <summary>The context of a statement.</summary>
    /// <param name="Scope">The names that are visible.</param>
    /// <param name="Soft">Whether the statement is directly in an if. An unknown filter then fails only when it is used.</param>
    /// <param name="InLoop">Whether the same function has a loop around the statement, for break and continue.</param>
    /// <param name="Top">Whether the statement is at the top level, or in an if there.</param>
    private readonly record struct Place(Scope Scope, bool Soft, bool InLoop, bool Top);
}

/// <summary>Searches for names in statements and everything inside them.</summary>
internal static class Names
{
    /// <summary>Finds which of some names are read before a variable of that name is set.</summary>
    public static HashSet<string> Undeclared(Statement[] body, string[] names)
    {
        var sought = names.ToHashSet(StringComparer.Ordinal);
        var found = new HashSet<string>(StringComparer.Ordinal);
        Walk(
            body,
            name =>
            {
                if (sought.Contains(name))
                {
                    found.Add(name);
                }
            },
            (name, _) => sought.Remove(name));
        return found;
    }

    /// <summary>The line where a name is set in a statement, or -1.</summary>
    public static int Stores(Statement statement, string name)
    {
        int at = -1;
        Walk([statement], static _ => { }, (stored, line) => at = stored == name && at < 0 ? line : at, withParameters: false);
        return at;
    }

    private static void Walk(Statement[] body, Action<string> load, Action<string, int> store, bool withParameters = true)
    {
        foreach (Statement statement in body)
        {
            switch (statement)
            {
                case Output output:
                    Loads(output.Parts);
                    break;
                case IfStatement choice:
                    for (int i = 0; i < choice.Tests.Length; i++)
                    {
                        Loads([choice.Tests[i]]);
                        Inner(choice.Bodies[i]);
                    }

                    Inner(choice.Otherwise);
                    break;
                case ForStatement loop:
                    Stored(loop.Target);
                    Loads([loop.Items]);
                    Inner(loop.Body);
                    Inner(loop.Otherwise);
                    Loads(loop.Test is null ? [] : [loop.Test]);
                    break;
                case SetStatement set:
                    Stored(set.Target);
                    Loads([set.Value]);
                    break;
                case SetBlock set:
                    Stored(set.Target);
                    Loads(set.Filter?.Children ?? []);
                    Inner(set.Body);
                    break;
                case FilterBlock filter:
                    Inner(filter.Body);
                    Loads(filter.Filter.Children);
                    break;
                case WithStatement with:
                    foreach (Target target in withParameters ? with.Targets : [])
                    {
                        Stored(target);
                    }

                    Loads(with.Values);
                    Inner(with.Body);
                    break;
                case MacroStatement macro:
                    InMacro(macro.Body);
                    break;
                case CallBlock call:
                    Loads(call.Call is null ? [] : [call.Call]);
                    InMacro(call.Body);
                    break;
                default:
                    break;
            }
        }

        void Inner(Statement[] inner) => Walk(inner, load, store, withParameters);

        void InMacro(MacroBody macro)
        {
            foreach (NameTarget parameter in withParameters ? macro.Parameters : [])
            {
                Stored(parameter);
            }

            Loads(macro.Defaults);
            Inner(macro.Body);
        }

        void Loads(IEnumerable<Expression> expressions)
        {
            foreach (Expression expression in expressions)
            {
                if (expression is NameExpression name)
                {
                    load(name.Name);
                }

                Loads(expression.Children);
            }
        }

        void Stored(Target target)
        {
            switch (target)
            {
                case NameTarget name:
                    store(name.Name, name.Line);
                    break;
                case TupleTarget tuple:
                    foreach (Target item in tuple.Items)
                    {
                        Stored(item);
                    }

                    break;
            }
        }
    }
}
