namespace Tiller.Jinja;

/// <summary>The arguments of a call, filter or test.</summary>
internal readonly struct Arguments(JinjaValue[] values, KeyValuePair<string, JinjaValue>[] named)
{
    public static readonly Arguments Empty = new([], []);

    public JinjaValue[] Values => values;

    public KeyValuePair<string, JinjaValue>[] Named => named;

    public Arguments Without(int first) => new(values[first..], named);

    /// <summary>Binds positional arguments only; null for an argument that is not given.</summary>
    public JinjaValue?[] Positional(string function, int least, int most)
    {
        if (named.Length > 0)
        {
            throw JinjaException.Type($"{function}() takes no keyword arguments");
        }

        return values.Length < least || values.Length > most
            ? throw JinjaException.Type($"{function}() takes {(least == most ? least : $"from {least} to {most}")} arguments ({values.Length} given)")
            : Filled(most);
    }

    /// <summary>Binds arguments by position or name; null for an argument that is not given.</summary>
    public JinjaValue?[] Bind(string function, int least, params ReadOnlySpan<string> names)
    {
        if (values.Length > names.Length)
        {
            throw JinjaException.Type($"{function}() takes at most {names.Length} arguments ({values.Length} given)");
        }

        JinjaValue?[] bound = Filled(names.Length);
        foreach ((string name, JinjaValue value) in named)
        {
            int at = names.IndexOf(name);
            if (at < 0)
            {
                throw JinjaException.Type($"{function}() got an unexpected keyword argument '{name}'");
            }

            bound[at] = bound[at] is null ? value : throw JinjaException.Type($"{function}() got multiple values for argument '{name}'");
        }

        for (int i = 0; i < least; i++)
        {
            if (bound[i] is null)
            {
                throw JinjaException.Type($"{function}() missing required argument '{names[i]}'");
            }
        }

        return bound;
    }

    private JinjaValue?[] Filled(int length)
    {
        if (values.Length == length)
        {
            return values;
        }

        var filled = new JinjaValue?[length];
        values.CopyTo(filled, 0);
        return filled;
    }
}

/// <summary>A function without a receiver.</summary>
internal delegate JinjaValue Method(JinjaValue self, Arguments arguments, Run run);

/// <summary>A method bound to its receiver.</summary>
internal sealed class BoundMethod(JinjaValue self, string name, Method method) : JinjaValue
{
    public JinjaValue Self => self;

    public string Name => name;

    internal override string TypeName => "builtin_function_or_method";

    internal override bool IsCallable => true;

    internal override JinjaValue Call(Arguments arguments, Run run) => method(self, arguments, run);

    internal override void Repr(TextBuilder to, bool content) => to.Append($"<built-in method {name} of {self.TypeName} object>", content);
}

/// <summary>A function or class that is available in every template.</summary>
internal sealed class Function(string name, Func<Arguments, Run, JinjaValue> body) : JinjaValue
{
    internal override string TypeName => "function";

    internal override bool IsCallable => true;

    internal override JinjaValue Call(Arguments arguments, Run run) => body(arguments, run);

    // dict.fromkeys is the only method that a template can reach through a class.
    internal override JinjaValue? Attribute(string attribute, Run run) =>
        name == "dict" && attribute == "fromkeys" ? new BoundMethod(this, attribute, static (_, arguments, run) => MapValue.FromKeys(arguments, run))
            : null;

    internal override void Repr(TextBuilder to, bool content) => to.Append($"<function {name}>", content);
}

/// <summary>namespace(): the only kind of value whose attributes a template can set.</summary>
internal sealed class Namespace : JinjaValue
{
    private readonly Dictionary<string, JinjaValue> attributes = new(StringComparer.Ordinal);

    public Namespace(MapValue initial)
    {
        for (int i = 0; i < initial.Count; i++)
        {
            if (initial.KeyAt(i) is Text name)
            {
                attributes[name.Value] = initial.At(i);
            }
        }
    }

    internal override string TypeName => "Namespace";

    // The values can change later, so content must be assumed.
    internal override bool HasContent => true;

    public void Set(string name, JinjaValue value)
    {
        if (name.StartsWith('_'))
        {
            throw new JinjaException(JinjaError.Security, $"cannot assign the private attribute '{name}' of a namespace.");
        }

        attributes[name] = value;
    }

    internal override JinjaValue? Attribute(string name, Run run) => attributes.GetValueOrDefault(name);

    internal override void Repr(TextBuilder to, bool content)
    {
        to.Append("<Namespace ", content);
        var map = new MapBuilder(null);
        foreach ((string name, JinjaValue value) in attributes)
        {
            map.Set(Text.Of(name), value);
        }

        map.ToMap().Repr(to, content);
        to.Append('>', content);
    }
}

/// <summary>cycler(): returns its items in turn.</summary>
internal sealed class Cycler(JinjaValue[] items) : JinjaValue
{
    private int at;

    internal override string TypeName => "Cycler";

    internal override JinjaValue? Attribute(string name, Run run) => name switch
    {
        "current" => items[at],
        "items" => new TupleValue(items),
        "pos" => Int.Of(at),
        "next" => new BoundMethod(this, name, (_, arguments, _) =>
        {
            arguments.Positional("next", 0, 0);
            JinjaValue item = items[at];
            at = (at + 1) % items.Length;
            return item;
        }),
        "reset" => new BoundMethod(this, name, (_, arguments, _) =>
        {
            arguments.Positional("reset", 0, 0);
            at = 0;
            return None;
        }),
        _ => null,
    };

    internal override void Repr(TextBuilder to, bool content) => to.Append("<Cycler object>", content);
}

/// <summary>joiner(): returns an empty text at the first call and its separator afterwards.</summary>
internal sealed class Joiner(JinjaValue separator) : JinjaValue
{
    private bool used;

    internal override string TypeName => "Joiner";

    internal override bool IsCallable => true;

    internal override JinjaValue? Attribute(string name, Run run) => name switch { "sep" => separator, "used" => Bool.Of(used), _ => null };

    internal override JinjaValue Call(Arguments arguments, Run run)
    {
        arguments.Positional("joiner", 0, 0);
        if (used)
        {
            return separator;
        }

        used = true;
        return Text.Empty;
    }

    internal override void Repr(TextBuilder to, bool content) => to.Append("<Joiner object>", content);
}

/// <summary>The variable "loop" of a for statement.</summary>
internal sealed class LoopState : JinjaValue
{
    private readonly JinjaValue iterable;
    private readonly Func<JinjaValue, int, Run, JinjaValue>? recurse;
    private readonly int depth;
    private IEnumerator<JinjaValue> items;
    private int? length;
    private int index = -1;
    private JinjaValue? after;
    private JinjaValue? current;
    private JinjaValue? before;
    private TupleValue? changed;

    public LoopState(JinjaValue iterable, IEnumerator<JinjaValue> items, int depth, Func<JinjaValue, int, Run, JinjaValue>? recurse)
    {
        this.iterable = iterable;
        this.items = items;
        this.depth = depth;
        this.recurse = recurse;
    }

    internal override string TypeName => "LoopContext";

    internal override bool IsCallable => true;

    /// <summary>Moves to the next item; null at the end.</summary>
    public JinjaValue? Next()
    {
        JinjaValue? item = after ?? (items.MoveNext() ? items.Current : null);
        after = null;
        if (item is not null)
        {
            index++;
            before = current;
            current = item;
        }

        return item;
    }

    internal override bool IsTrue(Run run) => Length(run) > 0;

    internal override int? Len(Run run) => Length(run);

    internal override IEnumerator<JinjaValue> Iterate(Run run)
    {
        while (Next() is { } item)
        {
            run.Charge(1);
            yield return new TupleValue([item, this]);
        }
    }

    internal override JinjaValue? Attribute(string name, Run run) => name switch
    {
        "index" => Int.Of(index + 1),
        "index0" => Int.Of(index),
        "first" => Bool.Of(index == 0),
        "last" => Bool.Of(Peek() is null),
        "length" => Int.Of(Length(run)),
        "revindex" => Int.Of(Length(run) - index),
        "revindex0" => Int.Of(Length(run) - index - 1),
        "depth" => Int.Of(depth + 1),
        "depth0" => Int.Of(depth),
        "previtem" => (index == 0 ? null : before) ?? new Undefined("there is no previous item"),
        "nextitem" => Peek() ?? new Undefined("there is no next item"),
        "cycle" => new BoundMethod(this, name, static (self, arguments, _) =>
        {
            JinjaValue[] given = arguments.Named.Length == 0 ? arguments.Values : throw JinjaException.Type("cycle() takes no keyword arguments");
            return given.Length > 0 ? given[((LoopState)self).index % given.Length] : throw JinjaException.Type("no items for cycling given");
        }),
        "changed" => new BoundMethod(this, name, static (self, arguments, run) => Bool.Of(((LoopState)self).Changed(arguments, run))),
        _ => null,
    };

    internal override JinjaValue Call(Arguments arguments, Run run) =>
        recurse is null ? throw JinjaException.Type("The loop must have the 'recursive' marker to be called recursively.")
            : recurse(arguments.Bind("loop", 1, "iterable")[0]!, depth + 1, run);

    internal override void Repr(TextBuilder to, bool content) => to.Append($"<LoopContext {index + 1}/{Length(to.Run)}>", content);

    private JinjaValue? Peek() => after ??= items.MoveNext() ? items.Current : null;

    private int Length(Run run)
    {
        if (length is null)
        {
            length = iterable.Len(run);
            if (length is null)
            {
                var rest = new List<JinjaValue>();
                while (items.MoveNext())
                {
                    run.Charge(1);
                    rest.Add(items.Current);
                }

                items = rest.GetEnumerator();
                length = rest.Count + index + 1 + (after is null ? 0 : 1);
            }
        }

        return length.Value;
    }

    private bool Changed(Arguments arguments, Run run)
    {
        if (arguments.Named.Length > 0)
        {
            throw JinjaException.Type("changed() takes no keyword arguments");
        }

        var value = new TupleValue(arguments.Values);
        if (changed is not null && Comparison.Equal(changed, value, run))
        {
            return false;
        }

        changed = value;
        return true;
    }
}
