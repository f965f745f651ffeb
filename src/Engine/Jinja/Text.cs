namespace Tiller.Jinja;

/// <summary>
/// A string that records for every character whether it is the template's own or content. Lengths and indices count code points, as in Python; a lone
/// surrogate counts as one.
/// </summary>
internal sealed class Text : JinjaValue
{
    public static readonly Text Empty = new("", []);
    private static readonly int[] s_content = [0];

    // The text is a part of the source, and a string of its own once it is asked for.
    private readonly string source;
    private readonly int start;

    // Positions where the origin changes, ascending. The characters before the first position are the template's.
    private readonly int[] changes;
    private string? value;
    private int points = -1;

    private Text(string value, int[] changes, bool safe = false)
        : this(value, 0, value.Length, changes, safe)
    {
    }

    private Text(string source, int start, int length, int[] changes, bool safe)
    {
        (this.source, this.start, Length) = (source, start, length);
        this.changes = changes;
        IsSafe = safe;
    }

    public string Value => value ??= source.Substring(start, Length);

    public ReadOnlySpan<char> Span => source.AsSpan(start, Length);

    /// <summary>Length in UTF-16 units.</summary>
    public int Length { get; }

    /// <summary>Whether the text is marked as HTML (Python's Markup). Other texts are escaped when they are added to it.</summary>
    public bool IsSafe { get; }

    internal override string TypeName => IsSafe ? "Markup" : "str";

    internal override bool HasContent => changes.Length > 0;

    internal override int Weight => 1 + (Length >> 4);

    public ReadOnlySpan<int> Changes => changes;

    /// <summary>Length in code points.</summary>
    public int Points
    {
        get
        {
            if (points < 0)
            {
                int pairs = 0;
                ReadOnlySpan<char> units = Span;
                for (int i = units.IndexOfAnyInRange('\uD800', '\uDBFF'); i >= 0 && i + 1 < units.Length; i++)
                {
                    if (char.IsHighSurrogate(units[i]) && char.IsLowSurrogate(units[i + 1]))
                    {
                        pairs++;
                        i++;
                    }
                }

                points = Length - pairs;
            }

            return points;
        }
    }

    public static Text Of(string value, bool content = false, bool safe = false) =>
        value.Length == 0 && !safe ? Empty : new(value, content && value.Length > 0 ? s_content : [], safe);

    public static Text Of(string value, int[] changes, bool safe = false) => new(value, changes, safe);

    public Text AsSafe(bool safe = true) => safe == IsSafe ? this : new Text(source, start, Length, changes, safe);

    /// <summary>The result of an operation that loses track of characters: all content if any character of this text is.</summary>
    public Text Lost(string value, Run run)
    {
        run.ChargeText(value.Length);
        return Of(value, HasContent, IsSafe);
    }

    /// <summary>A part of the text, by UTF-16 units.</summary>
    public Text Slice(int start, int length)
    {
        if (length == Length)
        {
            return this;
        }

        return length == 0 && !IsSafe ? Empty : new Text(source, this.start + start, length, ChangesOf(start, length), IsSafe);
    }

    /// <summary>Index of the first UTF-16 unit of a code point.</summary>
    public int UnitOf(int point)
    {
        if (Points == Length)
        {
            return point;
        }

        int unit = 0;
        for (; point > 0; point--)
        {
            unit += UnitsAt(unit);
        }

        return unit;
    }

    /// <summary>Number of code points before a UTF-16 unit.</summary>
    public int PointOf(int unit)
    {
        if (Points == Length)
        {
            return unit;
        }

        int point = 0;
        for (int i = 0; i < unit; i += UnitsAt(i))
        {
            point++;
        }

        return point;
    }

    /// <summary>Number of UTF-16 units of the code point at a unit: 1 or 2.</summary>
    public int UnitsAt(int unit) =>
        char.IsHighSurrogate(Span[unit]) && unit + 1 < Length && char.IsLowSurrogate(Span[unit + 1]) ? 2 : 1;

    internal override bool IsTrue(Run run) => Length > 0;

    internal override int? Len(Run run) => Points;

    internal override void Str(TextBuilder to) => to.Append(this);

    internal override void Repr(TextBuilder to, bool content)
    {
        to.Append(IsSafe ? "Markup(" : "", content);
        PythonRepr.Write(Value, to, content);
        to.Append(IsSafe ? ")" : "", content);
    }

    internal override IEnumerator<JinjaValue> Iterate(Run run)
    {
        for (int i = 0; i < Length;)
        {
            int units = UnitsAt(i);
            run.Charge(1);
            yield return Slice(i, units).AsSafe(false);
            i += units;
        }
    }

    internal override JinjaValue? Attribute(string name, Run run) => TextMethods.Find(name) is { } method ? new BoundMethod(this, name, method)
        : null;

    internal override JinjaValue? Item(JinjaValue key, Run run)
    {
        if (!Indexes.TryInteger(key, out long index))
        {
            return null;
        }

        index = index < 0 ? index + Points : index;
        if (index < 0 || index >= Points)
        {
            return null;
        }

        run.Charge(1 + (Points == Length ? 0 : Length >> 3));
        int unit = UnitOf((int)index);
        return Slice(unit, UnitsAt(unit));
    }

    internal override JinjaValue Cut(Indexes indexes, Run run)
    {
        run.ChargeText(Length);
        (int start, int count, int step) = indexes.Of(Points);
        if (step == 1)
        {
            int from = UnitOf(start);
            int to = Points == Length ? start + count : from + UnitsOf(from, count);
            return Slice(from, to - from);
        }

        var units = new int[Points];
        for (int i = 0, unit = 0; i < units.Length; i++)
        {
            units[i] = unit;
            unit += UnitsAt(unit);
        }

        var cut = new TextBuilder(run);
        for (int i = 0; i < count; i++)
        {
            int unit = units[start + (i * step)];
            cut.Append(this, unit, UnitsAt(unit));
        }

        return cut.ToText(IsSafe);
    }

    internal override bool Contains(JinjaValue item, Run run)
    {
        if (item is not Text part)
        {
            throw JinjaException.Type($"'in <string>' requires string as left operand, not {item.TypeName}");
        }

        run.ChargeSearch(Length, part.Length);
        return Span.IndexOf(part.Span) >= 0;
    }

    public bool IsContentAt(int unit) => (ChangesUpTo(unit) & 1) == 1;

    /// <summary>Number of changes of origin at or before a unit.</summary>
    public int ChangesUpTo(int unit)
    {
        int at = Array.BinarySearch(changes, unit);
        return at >= 0 ? at + 1 : ~at;
    }

    private int UnitsOf(int from, int count)
    {
        int unit = from;
        for (; count > 0; count--)
        {
            unit += UnitsAt(unit);
        }

        return unit - from;
    }

    private int[] ChangesOf(int start, int length)
    {
        if (changes.Length == 0 || length == 0)
        {
            return [];
        }

        int first = ChangesUpTo(start);
        bool content = (first & 1) == 1;
        int last = first;
        while (last < changes.Length && changes[last] < start + length)
        {
            last++;
        }

        if (last == first)
        {
            return content ? s_content : [];
        }

        var cut = new int[last - first + (content ? 1 : 0)];
        for (int i = first; i < last; i++)
        {
            cut[i - first + (content ? 1 : 0)] = changes[i] - start;
        }

        return cut;
    }
}
