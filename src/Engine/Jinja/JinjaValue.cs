using System.Numerics;
using System.Runtime.CompilerServices;
using System.Text.Json;

namespace Tiller.Jinja;

/// <summary>
/// A value in a template, of one of Python's types. Lists, tuples and mappings never change after their creation, because the sandbox is immutable.
/// So many renderings may use a value at once.
/// </summary>
public abstract class JinjaValue
{
    private const int DeepestJson = 500;

    private protected JinjaValue()
    {
    }

    /// <summary>None.</summary>
    public static JinjaValue None { get; } = new NoneValue(content: false);

    internal static JinjaValue ContentNone { get; } = new NoneValue(content: true);

    /// <summary>The name of the type in Python.</summary>
    internal abstract string TypeName { get; }

    /// <summary>Whether any character of the text of this value comes from a variable.</summary>
    internal virtual bool HasContent => false;

    /// <summary>Number of nodes of the value, saturating. Comparing the value costs this many steps.</summary>
    internal virtual int Weight => 1;

    internal virtual bool IsCallable => false;

    /// <summary>Creates a string of the template itself, in which special tokens are recognised.</summary>
    /// <param name="value">The string, for example the text of a special token.</param>
    public static JinjaValue TemplateText(string value)
    {
        ArgumentNullException.ThrowIfNull(value);
        return Text.Of(value);
    }

    /// <summary>Creates a string of content, in which special tokens are plain text.</summary>
    /// <param name="value">The string.</param>
    public static JinjaValue ContentText(string value)
    {
        ArgumentNullException.ThrowIfNull(value);
        return Text.Of(value, content: true);
    }

    /// <summary>Creates a truth value. Its text is the template's own, because only two texts are possible.</summary>
    /// <param name="value">True or false.</param>
    public static JinjaValue Of(bool value) => Bool.Of(value);

    /// <summary>Creates a list.</summary>
    /// <param name="items">The items, in order.</param>
    public static JinjaValue List(IEnumerable<JinjaValue> items)
    {
        ArgumentNullException.ThrowIfNull(items);
        return new ListValue([.. items]);
    }

    /// <summary>Creates a mapping from strings. A repeated name keeps its first position and its last value.</summary>
    /// <param name="items">Names and values, in order. The names are content.</param>
    public static JinjaValue Map(IEnumerable<KeyValuePair<string, JinjaValue>> items)
    {
        ArgumentNullException.ThrowIfNull(items);
        var map = new MapBuilder(null);
        foreach ((string name, JinjaValue value) in items)
        {
            map.Set(Text.Of(name, content: true), value);
        }

        return map.ToMap(content: true);
    }

    /// <summary>
    /// Converts JSON to a value that is content throughout. Numbers without point and exponent become integers of any size, other numbers floats.
    /// </summary>
    /// <param name="json">The value.</param>
    /// <exception cref="JinjaException">The JSON nests more than 500 levels deep.</exception>
    public static JinjaValue FromJson(JsonElement json) => FromJson(json, 0);

    /// <summary>Python's bool().</summary>
    internal virtual bool IsTrue(Run run) => true;

    /// <summary>Python's len(); null if the value has none.</summary>
    internal virtual int? Len(Run run) => null;

    /// <summary>Python's str().</summary>
    internal virtual void Str(TextBuilder to) => Repr(to, HasContent);

    /// <summary>Python's repr(), with a single origin for all characters.</summary>
    internal abstract void Repr(TextBuilder to, bool content);

    /// <summary>Python's iter(); null if the value cannot be looped over.</summary>
    internal virtual IEnumerator<JinjaValue>? Iterate(Run run) => null;

    /// <summary>Python's getattr(); null for an AttributeError.</summary>
    internal virtual JinjaValue? Attribute(string name, Run run) => null;

    /// <summary>Whether the immutable sandbox hides an existing attribute.</summary>
    internal virtual bool Hides(string name) => false;

    /// <summary>value[key]; null for a TypeError or LookupError.</summary>
    internal virtual JinjaValue? Item(JinjaValue key, Run run) => null;

    /// <summary>value[start:stop:step].</summary>
    internal virtual JinjaValue Cut(Indexes indexes, Run run) => throw JinjaException.Type($"'{TypeName}' object is not subscriptable");

    internal virtual JinjaValue Call(Arguments arguments, Run run) => throw JinjaException.Type($"'{TypeName}' object is not callable");

    /// <summary>item in value.</summary>
    internal virtual bool Contains(JinjaValue item, Run run)
    {
        using IEnumerator<JinjaValue> items = Iterate(run) ?? throw JinjaException.Type($"argument of type '{TypeName}' is not iterable");
        while (items.MoveNext())
        {
            run.Charge(1);
            if (Comparison.Same(items.Current, item, run))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>The items; throws a TypeError if the value cannot be looped over.</summary>
    internal IEnumerator<JinjaValue> Items(Run run) => Iterate(run) ?? throw JinjaException.Type($"'{TypeName}' object is not iterable");

    internal JinjaValue[] ToArray(Run run)
    {
        if (this is Sequence { Values: { } values })
        {
            run.Charge(values.Length);
            return values;
        }

        var all = new List<JinjaValue>();
        using IEnumerator<JinjaValue> items = Items(run);
        while (items.MoveNext())
        {
            run.Charge(1);
            all.Add(items.Current);
        }

        return [.. all];
    }

    /// <summary>Python's str() as a text.</summary>
    internal Text ToText(Run run)
    {
        if (this is Text text)
        {
            return text;
        }

        var to = new TextBuilder(run);
        Str(to);
        return to.ToText();
    }

    private static JinjaValue FromJson(JsonElement json, int depth)
    {
        if (depth > DeepestJson || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            throw new JinjaException(JinjaError.Recursion, $"A value given to the template nests more than {DeepestJson} deep.");
        }

        switch (json.ValueKind)
        {
            case JsonValueKind.Object:
                var map = new MapBuilder(null);
                foreach (JsonProperty property in json.EnumerateObject())
                {
                    map.Set(Text.Of(property.Name, content: true), FromJson(property.Value, depth + 1));
                }

                return map.ToMap(content: true);
            case JsonValueKind.Array:
                var items = new JinjaValue[json.GetArrayLength()];
                int i = 0;
                foreach (JsonElement item in json.EnumerateArray())
                {
                    items[i++] = FromJson(item, depth + 1);
                }

                return new ListValue(items, content: true);
            case JsonValueKind.String:
                return Text.Of(json.GetString()!, content: true);
            case JsonValueKind.Number:
                string raw = json.GetRawText();
                return raw.AsSpan().IndexOfAny('.', 'e', 'E') >= 0 ? new Float(json.GetDouble(), content: true)
                    : json.TryGetInt64(out long value) ? Int.Of(value, content: true)
                    : raw.Length > PythonNumber.MaxDigits
                        ? throw JinjaException.Value($"A number given to the template has more than {PythonNumber.MaxDigits} digits.")
                    : Int.Of(BigInteger.Parse(raw), content: true);
            case JsonValueKind.True or JsonValueKind.False:
                return Bool.Of(json.GetBoolean(), content: true);
            default:
                return ContentNone;
        }
    }
}

/// <summary>Python's None.</summary>
internal sealed class NoneValue(bool content) : JinjaValue
{
    internal override string TypeName => "NoneType";

    internal override bool HasContent => content;

    internal override bool IsTrue(Run run) => false;

    internal override void Repr(TextBuilder to, bool content) => to.Append("None", content);
}
