namespace Tiller.Jinja;

/// <summary>A list or a tuple.</summary>
internal abstract class Sequence : JinjaValue
{
    private readonly bool content;

    protected Sequence(JinjaValue[] values, bool content)
    {
        Values = values;
        long weight = 1;
        foreach (JinjaValue value in values)
        {
            weight += value.Weight;
            content |= value.HasContent;
        }

        Weight = (int)Math.Min(weight, int.MaxValue);
        this.content = content;
    }

    public JinjaValue[] Values { get; }

    internal override bool HasContent => content;

    internal override int Weight { get; }

    internal override bool IsTrue(Run run) => Values.Length > 0;

    internal override int? Len(Run run) => Values.Length;

    internal override IEnumerator<JinjaValue> Iterate(Run run) => ((IEnumerable<JinjaValue>)Values).GetEnumerator();

    internal override JinjaValue? Item(JinjaValue key, Run run)
    {
        if (!Indexes.TryInteger(key, out long index))
        {
            return null;
        }

        index = index < 0 ? index + Values.Length : index;
        return index >= 0 && index < Values.Length ? Values[index] : null;
    }

    internal override JinjaValue Cut(Indexes indexes, Run run)
    {
        (int start, int count, int step) = indexes.Of(Values.Length);
        run.Charge(count);
        var cut = new JinjaValue[count];
        for (int i = 0; i < count; i++)
        {
            cut[i] = Values[start + (i * step)];
        }

        return Like(cut);
    }

    internal override JinjaValue? Attribute(string name, Run run) => name switch
    {
        "count" => new BoundMethod(this, name, static (self, arguments, run) =>
        {
            JinjaValue item = arguments.Positional("count", 1, 1)[0]!;
            run.Charge(((Sequence)self).Values.Length);
            int count = 0;
            foreach (JinjaValue value in ((Sequence)self).Values)
            {
                count += Comparison.Same(value, item, run) ? 1 : 0;
            }

            return Int.Of(count);
        }),
        "index" => new BoundMethod(this, name, static (self, arguments, run) =>
        {
            JinjaValue?[] given = arguments.Positional("index", 1, 3);
            JinjaValue[] values = ((Sequence)self).Values;
            (int start, int count, _) = new Indexes(given[1], given[2], null).Of(values.Length);
            run.Charge(count);
            for (int i = start; i < start + count; i++)
            {
                if (Comparison.Same(values[i], given[0]!, run))
                {
                    return Int.Of(i);
                }
            }

            throw JinjaException.Value("the value is not in the sequence");
        }),
        _ => null,
    };

    protected abstract JinjaValue Like(JinjaValue[] values);

    protected void Write(TextBuilder to, bool content, char open, char close)
    {
        to.Run.Enter();
        to.Append(open, content);
        for (int i = 0; i < Values.Length; i++)
        {
            if (i > 0)
            {
                to.Append(", ", content);
            }

            Values[i].Repr(to, content);
        }

        if (open == '(' && Values.Length == 1)
        {
            to.Append(',', content);
        }

        to.Append(close, content);
        to.Run.Leave();
    }
}

/// <summary>Python's list.</summary>
internal sealed class ListValue(JinjaValue[] values, bool content = false) : Sequence(values, content)
{
    internal override string TypeName => "list";

    internal override void Repr(TextBuilder to, bool content) => Write(to, content, '[', ']');

    internal override JinjaValue? Attribute(string name, Run run) =>
        name == "copy" ? new BoundMethod(this, name, static (self, arguments, run) =>
        {
            arguments.Positional("copy", 0, 0);
            return new ListValue(self.ToArray(run));
        }) : base.Attribute(name, run);

    internal override bool Hides(string name) => name is "append" or "clear" or "pop" or "reverse" or "insert" or "sort" or "extend" or "remove";

    protected override JinjaValue Like(JinjaValue[] values) => new ListValue(values);
}

/// <summary>Python's tuple. A group of the groupby filter has named attributes for its two parts.</summary>
internal sealed class TupleValue(JinjaValue[] values, bool isGroup = false) : Sequence(values, content: false)
{
    internal override string TypeName => "tuple";

    internal override void Repr(TextBuilder to, bool content) => Write(to, content, '(', ')');

    internal override JinjaValue? Attribute(string name, Run run) =>
        isGroup && name is "grouper" or "list" ? isGroup ? Values[name == "list" ? 1 : 0] : null : base.Attribute(name, run);

    protected override JinjaValue Like(JinjaValue[] values) => new TupleValue(values);
}

/// <summary>Builds a mapping. A repeated key keeps its first position and takes the last value.</summary>
/// <param name="run">The rendering that is charged for the keys; null outside a rendering.</param>
internal sealed class MapBuilder(Run? run)
{
    // Up to this number of keys, a linear search is faster than a hash table.
    public const int Few = 8;

    // Steps that a new key costs in addition to its weight.
    private const int Steps = 8;

    private readonly List<KeyValuePair<JinjaValue, JinjaValue>> items = [];
    private Dictionary<JinjaValue, int>? places;

    public void Set(JinjaValue key, JinjaValue value)
    {
        run?.Charge(Steps + (long)key.Weight);
        KeyComparer.Require(key);
        int at = -1;
        if (places is not null)
        {
            at = places.TryGetValue(key, out int place) ? place : -1;
        }
        else
        {
            for (int i = 0; i < items.Count && at < 0; i++)
            {
                at = KeyComparer.Instance.Equals(items[i].Key, key) ? i : -1;
            }
        }

        if (at >= 0)
        {
            items[at] = new(items[at].Key, value);
            return;
        }

        items.Add(new(key, value));
        if (places is not null)
        {
            places.Add(key, items.Count - 1);
        }
        else if (items.Count > Few)
        {
            places = new Dictionary<JinjaValue, int>(KeyComparer.Instance);
            for (int i = 0; i < items.Count; i++)
            {
                places.Add(items[i].Key, i);
            }
        }
    }

    public void SetAll(MapValue map)
    {
        for (int i = 0; i < map.Count; i++)
        {
            Set(map.KeyAt(i), map.At(i));
        }
    }

    public MapValue ToMap(bool content = false) => new([.. items], places, content);
}

/// <summary>Python's dict.</summary>
internal sealed class MapValue : JinjaValue
{
    public static readonly MapValue Empty = new([], null, content: false);

    private readonly KeyValuePair<JinjaValue, JinjaValue>[] items;
    private readonly Dictionary<JinjaValue, int>? places;
    private readonly bool content;

    public MapValue(KeyValuePair<JinjaValue, JinjaValue>[] items, Dictionary<JinjaValue, int>? places, bool content)
    {
        this.items = items;
        this.places = places;
        long weight = 1;
        foreach ((JinjaValue key, JinjaValue value) in items)
        {
            weight += (long)key.Weight + value.Weight;
            content |= key.HasContent || value.HasContent;
        }

        Weight = (int)Math.Min(weight, int.MaxValue);
        this.content = content;
    }

    public int Count => items.Length;

    internal override string TypeName => "dict";

    internal override bool HasContent => content;

    internal override int Weight { get; }

    /// <summary>Whether mappings have an attribute of a name, hidden or not.</summary>
    public static bool HasAttribute(string name) => Empty.Hides(name) || MethodOf(name) is not null;

    public JinjaValue KeyAt(int i) => items[i].Key;

    public JinjaValue At(int i) => items[i].Value;

    public JinjaValue? Find(string name)
    {
        if (places is not null)
        {
            return places.TryGetValue(Text.Of(name), out int place) ? items[place].Value : null;
        }

        foreach ((JinjaValue key, JinjaValue value) in items)
        {
            if (key is Text text && text.Value == name)
            {
                return value;
            }
        }

        return null;
    }

    /// <summary>Finds a value, and charges the weight of the key.</summary>
    public JinjaValue? Find(JinjaValue key, Run run)
    {
        run.Charge(key.Weight);
        return Find(KeyComparer.Require(key));
    }

    public JinjaValue? Find(JinjaValue key)
    {
        if (key is Text text)
        {
            return Find(text.Value);
        }

        if (places is not null)
        {
            return places.TryGetValue(key, out int place) ? items[place].Value : null;
        }

        foreach ((JinjaValue known, JinjaValue value) in items)
        {
            if (KeyComparer.Instance.Equals(known, key))
            {
                return value;
            }
        }

        return null;
    }

    internal override bool IsTrue(Run run) => items.Length > 0;

    internal override int? Len(Run run) => items.Length;

    internal override IEnumerator<JinjaValue> Iterate(Run run)
    {
        foreach ((JinjaValue key, _) in items)
        {
            yield return key;
        }
    }

    internal override bool Contains(JinjaValue item, Run run) => Find(item, run) is not null;

    internal override JinjaValue? Item(JinjaValue key, Run run) => key is ListValue or MapValue ? null : Find(key, run);

    internal override JinjaValue Cut(Indexes indexes, Run run) => throw JinjaException.Type("unhashable type: 'slice'");

    internal override void Repr(TextBuilder to, bool content)
    {
        to.Run.Enter();
        to.Append('{', content);
        for (int i = 0; i < items.Length; i++)
        {
            if (i > 0)
            {
                to.Append(", ", content);
            }

            items[i].Key.Repr(to, content);
            to.Append(": ", content);
            items[i].Value.Repr(to, content);
        }

        to.Append('}', content);
        to.Run.Leave();
    }

    internal override JinjaValue? Attribute(string name, Run run) => MethodOf(name) is { } method ? new BoundMethod(this, name, method) : null;

    internal override bool Hides(string name) => name is "clear" or "pop" or "popitem" or "setdefault" or "update";

    internal static MapValue FromKeys(Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Positional("fromkeys", 1, 2);
        var map = new MapBuilder(run);
        foreach (JinjaValue key in given[0]!.ToArray(run))
        {
            map.Set(key, given[1] ?? None);
        }

        return map.ToMap();
    }

    private static Method? MethodOf(string name) => name switch
    {
        "items" => static (self, arguments, _) => View(self, arguments, "items", MapPart.Items),
        "keys" => static (self, arguments, _) => View(self, arguments, "keys", MapPart.Keys),
        "values" => static (self, arguments, _) => View(self, arguments, "values", MapPart.Values),
        "get" => Get,
        "copy" => Copy,
        "fromkeys" => static (_, arguments, run) => FromKeys(arguments, run),
        _ => null,
    };

    private static JinjaValue Get(JinjaValue self, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Positional("get", 1, 2);
        return ((MapValue)self).Find(given[0]!, run) ?? given[1] ?? None;
    }

    private static MapValue Copy(JinjaValue self, Arguments arguments, Run run)
    {
        arguments.Positional("copy", 0, 0);
        var map = (MapValue)self;
        run.Charge(map.Count);
        return new MapValue(map.items, map.places, map.content);
    }

    private static MapView View(JinjaValue self, Arguments arguments, string name, MapPart part)
    {
        arguments.Positional(name, 0, 0);
        return new MapView((MapValue)self, part);
    }
}

/// <summary>The part of a mapping that a view shows.</summary>
internal enum MapPart
{
    /// <summary>keys().</summary>
    Keys,

    /// <summary>values().</summary>
    Values,

    /// <summary>items(), tuples of key and value.</summary>
    Items,
}

/// <summary>The result of keys(), values() and items() of a mapping. It has a length and can be looped over, but not indexed.</summary>
internal sealed class MapView(MapValue map, MapPart part) : JinjaValue
{
    public bool IsHashable => part == MapPart.Values;

    internal override string TypeName => part switch { MapPart.Keys => "dict_keys", MapPart.Values => "dict_values", _ => "dict_items" };

    internal override bool HasContent => map.HasContent;

    internal override bool IsTrue(Run run) => map.Count > 0;

    internal override int? Len(Run run) => map.Count;

    internal override IEnumerator<JinjaValue> Iterate(Run run)
    {
        for (int i = 0; i < map.Count; i++)
        {
            yield return part switch { MapPart.Keys => map.KeyAt(i), MapPart.Values => map.At(i), _ => new TupleValue([map.KeyAt(i), map.At(i)]) };
        }
    }

    internal override bool Contains(JinjaValue item, Run run) => part == MapPart.Keys ? map.Contains(item, run) : base.Contains(item, run);

    internal override void Repr(TextBuilder to, bool content)
    {
        to.Append(TypeName, content);
        to.Append('(', content);
        new ListValue(ToArray(to.Run)).Repr(to, content);
        to.Append(')', content);
    }
}

/// <summary>Python's range, with at most 100,000 numbers as in Jinja's sandbox.</summary>
internal sealed class RangeValue : JinjaValue
{
    private const int Longest = 100_000;

    private readonly long start;
    private readonly long stop;
    private readonly long step;
    private readonly int count;

    private RangeValue(long start, long stop, long step)
    {
        this.start = start;
        this.stop = stop;
        this.step = step;
        long length = step > 0 ? stop <= start ? 0 : ((stop - start - 1) / step) + 1 : start <= stop ? 0 : ((start - stop - 1) / -step) + 1;
        count = length <= Longest
            ? (int)length
            : throw JinjaException.Overflow($"Range too big. The sandbox blocks ranges larger than MAX_RANGE ({Longest}).");
    }

    internal override string TypeName => "range";

    public static RangeValue Of(Arguments arguments)
    {
        JinjaValue?[] given = arguments.Positional("range", 1, 3);
        long[] numbers = new long[3];
        for (int i = 0; i < 3; i++)
        {
            if (given[i] is not { } value)
            {
                continue;
            }

            if (!Indexes.TryInteger(value, out numbers[i]))
            {
                throw JinjaException.Type($"'{value.TypeName}' object cannot be interpreted as an integer");
            }
        }

        long by = given[2] is null ? 1 : numbers[2];
        return by == 0 ? throw JinjaException.Value("range() arg 3 must not be zero")
            : given[1] is null ? new RangeValue(0, numbers[0], by) : new RangeValue(numbers[0], numbers[1], by);
    }

    public bool IsSameAs(RangeValue other) => count == other.count && (count == 0 || (start == other.start && (count == 1 || step == other.step)));

    internal override bool IsTrue(Run run) => count > 0;

    internal override int? Len(Run run) => count;

    internal override IEnumerator<JinjaValue> Iterate(Run run)
    {
        for (int i = 0; i < count; i++)
        {
            yield return Int.Of(start + (i * step));
        }
    }

    internal override bool Contains(JinjaValue item, Run run)
    {
        if (!Arithmetic.TryInt(item, out Int number))
        {
            return item is Float && base.Contains(item, run);
        }

        long value = number.Value;
        return number.Big is null && count > 0 && (step > 0 ? value >= start && value < stop : value <= start && value > stop)
            && (value - start) % step == 0;
    }

    internal override JinjaValue? Item(JinjaValue key, Run run)
    {
        if (!Indexes.TryInteger(key, out long index))
        {
            return null;
        }

        index = index < 0 ? index + count : index;
        return index >= 0 && index < count ? Int.Of(start + (index * step)) : null;
    }

    internal override JinjaValue Cut(Indexes indexes, Run run)
    {
        (long from, long to, long by) = indexes.Bounds(count);
        by = Math.Clamp(by, -Longest - 1, Longest + 1);
        return new RangeValue(start + (from * step), start + (to * step), by * step);
    }

    internal override void Repr(TextBuilder to, bool content) =>
        to.Append(step == 1 ? $"range({start}, {stop})" : $"range({start}, {stop}, {step})", content);

    internal override JinjaValue? Attribute(string name, Run run) => name switch
    {
        "start" => Int.Of(start),
        "stop" => Int.Of(stop),
        "step" => Int.Of(step),
        "count" or "index" => new BoundMethod(this, name, (self, arguments, run) =>
            ((Sequence)new ListValue(self.ToArray(run))).Attribute(name, run)!.Call(arguments, run)),
        _ => null,
    };
}

/// <summary>A generator. It can be looped over once, has no length, and is always true.</summary>
internal sealed class Generator(IEnumerator<JinjaValue> items, string typeName = "generator") : JinjaValue
{
    internal override string TypeName => typeName;

    internal override IEnumerator<JinjaValue> Iterate(Run run)
    {
        // Nested generators use stack for every level, so each level counts as a call.
        while (true)
        {
            run.Charge(1);
            run.EnterCall();
            bool more = items.MoveNext();
            run.LeaveCall();
            if (!more)
            {
                yield break;
            }

            yield return items.Current;
        }
    }

    internal override void Repr(TextBuilder to, bool content) => to.Append($"<{typeName} object>", content);
}
