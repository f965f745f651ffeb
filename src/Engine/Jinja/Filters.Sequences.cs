namespace Tiller.Jinja;

// Filters over the items of a value. A filter that returns a generator does its work when the generator is looped over.
internal static partial class Filters
{
    // Steps that a new list or an entry in a set costs.
    private const int KeptList = 8;

    /// <summary>The items of a mapping as tuples; no items for an undefined value.</summary>
    private static IEnumerator<JinjaValue> Items(JinjaValue value, Run run)
    {
        if (value is Undefined)
        {
            yield break;
        }

        if (value is not MapValue map)
        {
            throw JinjaException.Type("Can only get item pairs from a mapping.");
        }

        for (int i = 0; i < map.Count; i++)
        {
            yield return new TupleValue([map.KeyAt(i), map.At(i)]);
        }
    }

    private static MapValue AsMap(JinjaValue value) =>
        value as MapValue ?? throw (value is Undefined undefined ? undefined.Error()
            : JinjaException.Type($"'{value.TypeName}' object has no attribute 'items'"));

    // The items of a value that Python's reversed() accepts; null for any other value.
    private static JinjaValue[]? Reversible(JinjaValue value, Run run) => value is Text or Sequence or MapValue or MapView or RangeValue or Undefined
        ? value.ToArray(run) : null;

    // The parts of a path such as "a.0.b". A number is an index.
    private static string[] PathOf(JinjaValue attribute, Run run)
    {
        run.Charge(1);
        return attribute switch
        {
            NoneValue => [],
            Text text => text.Value.Split('.'),
            _ => [attribute.ToText(run).Value],
        };
    }

    private static JinjaValue Follow(JinjaValue item, string[] path, JinjaValue? otherwise, Run run)
    {
        foreach (string part in path)
        {
            run.Charge(1);
            bool isIndex = part.Length > 0 && part.AsSpan().IndexOfAnyExceptInRange('0', '9') < 0 && part.Length < 10;
            item = Sandbox.Item(item, isIndex ? Int.Of(int.Parse(part)) : Text.Of(part), run);
            if (item is Undefined && otherwise is not null and not NoneValue)
            {
                item = otherwise;
            }
        }

        return item;
    }

    private static JinjaValue Folded(JinjaValue value, bool caseSensitive, Run run)
    {
        if (caseSensitive || value is not Text text)
        {
            return value;
        }

        run.Charge(text.Length);
        return Text.Of(PythonCase.ToLower(text.Value));
    }

    private static IEnumerator<JinjaValue> Map(JinjaValue value, Arguments arguments, Run run)
    {
        if (!value.IsTrue(run))
        {
            yield break;
        }

        bool byAttribute = arguments.Values.Length == 0 && arguments.Named.Any(static pair => pair.Key == "attribute");
        JinjaValue?[] given = byAttribute ? arguments.Bind("map", 0, "attribute", "default") : [];
        if (byAttribute && given[0] is null)
        {
            throw JinjaException.Runtime("map requires an attribute");
        }

        string[] path = byAttribute ? PathOf(given[0]!, run) : [];
        if (!byAttribute && arguments.Values.Length == 0)
        {
            throw JinjaException.Runtime("map requires a filter argument");
        }

        using IEnumerator<JinjaValue> items = value.Items(run);
        while (items.MoveNext())
        {
            run.Charge(1);
            yield return byAttribute ? Follow(items.Current, path, given[1], run)
                : Named(arguments.Values[0], run)(items.Current, arguments.Without(1), run);
        }

        static Method Named(JinjaValue name, Run run) => Find(name.ToText(run).Value)
            ?? throw JinjaException.Runtime($"No filter named '{name.ToText(run).Value}'.");
    }

    private static IEnumerator<JinjaValue> Select(JinjaValue value, Arguments arguments, bool keep, bool byAttribute, Run run)
    {
        if (!value.IsTrue(run))
        {
            yield break;
        }

        int first = byAttribute ? 1 : 0;
        if (arguments.Values.Length < first)
        {
            throw JinjaException.Runtime("Missing parameter for attribute name");
        }

        string[] path = byAttribute ? PathOf(arguments.Values[0], run) : [];
        bool tested = arguments.Values.Length > first;
        using IEnumerator<JinjaValue> items = value.Items(run);
        while (items.MoveNext())
        {
            run.Charge(1);
            JinjaValue item = Follow(items.Current, path, null, run);
            bool holds = tested ? Named(arguments.Values[first], run)(item, arguments.Without(first + 1), run) : item.IsTrue(run);
            if (holds == keep)
            {
                yield return items.Current;
            }
        }

        static Test Named(JinjaValue name, Run run) => Tests.Find(name.ToText(run).Value)
            ?? throw JinjaException.Runtime($"No test named '{name.ToText(run).Value}'.");
    }

    private static IEnumerator<JinjaValue> Unique(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("unique", 0, "case_sensitive", "attribute");
        bool caseSensitive = given[0]?.IsTrue(run) == true;
        string[] path = PathOf(given[1] ?? JinjaValue.None, run);
        var seen = new HashSet<JinjaValue>(KeyComparer.Instance);
        using IEnumerator<JinjaValue> items = value.Items(run);
        while (items.MoveNext())
        {
            JinjaValue key = Folded(Follow(items.Current, path, null, run), caseSensitive, run);
            run.Charge(KeptList + (long)key.Weight);
            if (seen.Add(KeyComparer.Require(key)))
            {
                yield return items.Current;
            }
        }
    }

    private static ListValue Sort(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("sort", 0, "reverse", "case_sensitive", "attribute");
        bool caseSensitive = given[1]?.IsTrue(run) == true;
        string[][] paths = given[2] is Text several ? [.. several.Value.Split(',').Select(static path => path.Split('.'))]
            : [PathOf(given[2] ?? JinjaValue.None, run)];
        return new ListValue(Sorted(
            value.ToArray(run), item => new ListValue([.. paths.Select(path => Folded(Follow(item, path, null, run), caseSensitive, run))]),
                given[0]?.IsTrue(run) == true, run));
    }

    private static JinjaValue[] Sorted(JinjaValue[] items, Func<JinjaValue, JinjaValue> keyOf, bool reverse, Run run)
    {
        (JinjaValue Key, JinjaValue Item)[] keyed = [.. items.Select(item => (keyOf(item), item))];
        if (reverse)
        {
            Array.Reverse(keyed);
        }

        keyed = Sorting.Sort(keyed, (a, b) => Comparison.Less(a.Key, b.Key, run), run);
        if (reverse)
        {
            Array.Reverse(keyed);
        }

        return [.. keyed.Select(static pair => pair.Item)];
    }

    private static ListValue DictSort(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("dictsort", 0, "case_sensitive", "by", "reverse");
        bool caseSensitive = given[0]?.IsTrue(run) == true;
        int part = given[1] switch
        {
            null => 0,
            Text { Value: "key" } => 0,
            Text { Value: "value" } => 1,
            _ => throw JinjaException.Runtime("You can only sort by either \"key\" or \"value\""),
        };
        MapValue map = AsMap(value);
        var items = new List<JinjaValue>();
        using IEnumerator<JinjaValue> pairs = Items(map, run);
        while (pairs.MoveNext())
        {
            items.Add(pairs.Current);
        }

        return new ListValue(Sorted([.. items], item => Folded(((TupleValue)item).Values[part], caseSensitive, run), given[2]?.IsTrue(run) == true,
            run));
    }

    private static ListValue GroupBy(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("groupby", 1, "attribute", "default", "case_sensitive");
        string[] path = PathOf(given[0]!, run);
        bool caseSensitive = given[2]?.IsTrue(run) == true;
        JinjaValue KeyOf(JinjaValue item) => Folded(Follow(item, path, given[1], run), caseSensitive, run);
        var groups = new List<(JinjaValue Key, List<JinjaValue> Items)>();
        foreach (JinjaValue item in Sorted(value.ToArray(run), KeyOf, reverse: false, run))
        {
            JinjaValue key = KeyOf(item);
            if (groups.Count == 0 || !Comparison.Same(groups[^1].Key, key, run))
            {
                groups.Add((key, []));
            }

            groups[^1].Items.Add(item);
        }

        return new ListValue([.. groups.Select(group => new TupleValue(
            [caseSensitive ? group.Key : Follow(group.Items[0], path, given[1], run), new ListValue([.. group.Items])], isGroup: true))]);
    }

    private static JinjaValue Extreme(JinjaValue value, Arguments arguments, string name, bool largest, Run run)
    {
        JinjaValue?[] given = arguments.Bind(name, 0, "case_sensitive", "attribute");
        bool caseSensitive = given[0]?.IsTrue(run) == true;
        string[] path = PathOf(given[1] ?? JinjaValue.None, run);
        JinjaValue? best = null;
        JinjaValue? bestKey = null;
        using IEnumerator<JinjaValue> items = value.Items(run);
        while (items.MoveNext())
        {
            run.Charge(1);
            JinjaValue key = Folded(Follow(items.Current, path, null, run), caseSensitive, run);
            if (bestKey is null || Comparison.Holds(key, bestKey, largest ? ">" : "<", run))
            {
                (best, bestKey) = (items.Current, key);
            }
        }

        return best ?? new Undefined("No aggregated item, sequence was empty.");
    }

    private static Generator Batch(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("batch", 1, "linecount", "fill_with");
        return new Generator(Batches());

        IEnumerator<JinjaValue> Batches()
        {
            var batch = new List<JinjaValue>();
            using IEnumerator<JinjaValue> items = value.Items(run);
            while (items.MoveNext())
            {
                run.Charge(1);
                if (Comparison.Equal(Int.Of(batch.Count), given[0]!, run))
                {
                    run.Charge(KeptList);
                    yield return new ListValue([.. batch]);
                    batch.Clear();
                }

                batch.Add(items.Current);
            }

            if (batch.Count == 0)
            {
                yield break;
            }

            if (given[1] is { } fill and not NoneValue)
            {
                long missing = Math.Max(Indexes.Integer(given[0]!) - (long)batch.Count, 0);
                run.ChargeText(missing);
                run.Charge(missing);
                batch.AddRange(Enumerable.Repeat(fill, (int)missing));
            }

            yield return new ListValue([.. batch]);
        }
    }

    private static Generator Slices(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("slice", 1, "slices", "fill_with");
        return new Generator(Parts());

        IEnumerator<JinjaValue> Parts()
        {
            JinjaValue[] items = value.ToArray(run);
            int slices = Indexes.Integer(given[0]!);
            if (slices == 0)
            {
                throw new JinjaException(JinjaError.ZeroDivision, "integer division or modulo by zero");
            }

            int each = items.Length / Math.Max(slices, 1);
            int extra = items.Length % Math.Max(slices, 1);
            int start = 0;
            for (int i = 0; i < slices; i++)
            {
                // Every slice is a new list, which stays in memory.
                run.Charge(KeptList);
                int end = start + each + (i < extra ? 1 : 0);
                yield return new ListValue(given[1] is { } fill and not NoneValue && i >= extra ? [.. items[start..end], fill] : items[start..end]);
                start = end;
            }
        }
    }
}
