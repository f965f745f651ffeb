namespace Tiller.Jinja;

/// <summary>
/// A part of a template with its own variables at run time: the template, a macro, a block, a recursive loop, or the test of a loop.
/// </summary>
internal sealed class FunctionBody(FunctionBody? outer)
{
    private readonly Dictionary<(int Level, string Name), Variable> variables = [];

    public FunctionBody? Outer => outer;

    /// <summary>Creates the variables of one call.</summary>
    public Frame NewFrame(Frame? outer, Run run)
    {
        run.Charge(variables.Count >> 3);
        return new Frame(variables.Count, outer);
    }

    public Variable Variable(int level, string name)
    {
        if (!variables.TryGetValue((level, name), out Variable? variable))
        {
            variable = new Variable(this, variables.Count);
            variables.Add((level, name), variable);
        }

        return variable;
    }
}

/// <summary>A variable of a function.</summary>
internal sealed record Variable(FunctionBody Function, int Slot)
{
    /// <summary>The reference to the variable from inside a function.</summary>
    public Reference From(FunctionBody function)
    {
        int hops = 0;
        for (FunctionBody? f = function; f != Function; f = f!.Outer)
        {
            hops++;
        }

        return new Reference(hops, Slot);
    }
}

/// <summary>The value of a variable. In an array of these, unlike one of references, a write needs no check of the type.</summary>
internal struct Slot
{
    public JinjaValue? Value { get; set; }
}

/// <summary>The variables of one call of a function, null for those without a value, and the frame of the function around it.</summary>
internal sealed class Frame(int slots, Frame? outer)
{
    public Slot[] Slots { get; } = new Slot[slots];

    public Frame? Outer => outer;
}

/// <summary>A reference to a variable from where it is used: the number of functions to go outwards, and the slot there.</summary>
internal readonly record struct Reference(int Hops, int Slot)
{
    public JinjaValue? Read(Frame frame) => Of(frame)[Slot].Value;

    public void Write(Frame frame, JinjaValue? value) => Of(frame)[Slot].Value = value;

    private Slot[] Of(Frame frame)
    {
        for (int i = 0; i < Hops; i++)
        {
            frame = frame.Outer!;
        }

        return frame.Slots;
    }
}

/// <summary>
/// The names of one part of a template, resolved as in Jinja (its idtracking). A name that is set in a part belongs to that part from its beginning.
/// Its initial value is that of the part around it, or the caller's value if no surrounding part has the name.
/// </summary>
internal sealed class Scope
{
    private readonly Dictionary<string, Variable> names;
    private readonly Dictionary<Variable, Source> sources;
    private readonly HashSet<string> stores;
    private Scope? trunk;
    private (int Slot, Reference? From, int Given)[] enter = [];
    private int[] leave = [];

    public Scope(Scope? parent, FunctionBody function)
    {
        Parent = parent;
        Function = function;
        Level = parent is null ? 0 : parent.Level + 1;
        names = new Dictionary<string, Variable>(StringComparer.Ordinal);
        sources = [];
        stores = new HashSet<string>(StringComparer.Ordinal);
    }


    public Scope? Parent { get; }

    public FunctionBody Function { get; }

    public int Level { get; }

    /// <summary>Creates the same scope for one branch of an if. Names that the branch adds stay separate until <see cref="Merge"/>.</summary>
    public Scope Branch() => new(Parent, Function) { trunk = this };

    public void Store(string name)
    {
        stores.Add(name);
        if (Own(name) is null)
        {
            Define(name, Parent?.Find(name) is { } outer ? new Source(outer, null) : new Source(null, null));
        }
    }

    public Variable Parameter(string name)
    {
        stores.Add(name);
        return Define(name, null);
    }

    public void Load(string name)
    {
        if (Find(name) is null)
        {
            Define(name, new Source(null, name));
        }
    }

    /// <summary>Merges the branches of an if. A name that only one branch sets has its outer value if another branch runs.</summary>
    public void Merge(params ReadOnlySpan<Scope> branches)
    {
        var added = new HashSet<string>(StringComparer.Ordinal);
        foreach (Scope branch in branches)
        {
            added.UnionWith(branch.stores);
        }

        for (Scope? scope = this; scope is not null; scope = scope.trunk)
        {
            added.ExceptWith(scope.stores);
        }

        foreach (Scope branch in branches)
        {
            foreach ((string name, Variable variable) in branch.names)
            {
                names[name] = variable;
            }

            foreach ((Variable variable, Source source) in branch.sources)
            {
                sources[variable] = source;
            }

            stores.UnionWith(branch.stores);
        }

        foreach (string name in added)
        {
            sources[Find(name)!] = Parent?.Find(name) is { } outer ? new Source(outer, null) : new Source(null, name);
        }
    }

    public Variable? Find(string name)
    {
        for (Scope? scope = this; scope is not null; scope = scope.Parent)
        {
            if (scope.Own(name) is { } variable)
            {
                return variable;
            }
        }

        return null;
    }

    /// <summary>Prepares <see cref="Enter"/> and <see cref="Leave"/>. Call it when all names are known.</summary>
    public void Close(Func<string, int> given)
    {
        enter = [.. sources.Where(static pair => !pair.Value.IsParameter)
            .Select(pair => (pair.Key.Slot, pair.Value.Outer?.From(Function), pair.Value.Given is { } name ? given(name) : -1))];
        leave = [.. sources.Keys.Select(static variable => variable.Slot)];
    }

    public void Enter(Frame frame, Run run)
    {
        run.Charge(enter.Length);
        foreach ((int slot, Reference? from, int given) in enter)
        {
            frame.Slots[slot].Value = from is { } outer ? outer.Read(frame) : given >= 0 ? run.Given(given) : null;
        }
    }

    public void Leave(Frame frame)
    {
        foreach (int slot in leave)
        {
            frame.Slots[slot].Value = null;
        }
    }

    private Variable? Own(string name)
    {
        for (Scope? scope = this; scope is not null; scope = scope.trunk)
        {
            if (scope.names.TryGetValue(name, out Variable? variable))
            {
                return variable;
            }
        }

        return null;
    }

    private Variable Define(string name, Source? source)
    {
        Variable variable = Function.Variable(Level, name);
        names[name] = variable;
        sources[variable] = source ?? new Source(null, null) { IsParameter = true };
        return variable;
    }

    // Source of a variable's initial value: another variable, a name that the caller supplies, or neither.
    private sealed record Source(Variable? Outer, string? Given)
    {
        public bool IsParameter { get; init; }
    }
}
