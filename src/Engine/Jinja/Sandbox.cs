using System.Collections.Frozen;

namespace Tiller.Jinja;

/// <summary>Reads attributes and items as an immutable sandbox. Names with a leading underscore and methods that change a value are hidden.</summary>
internal static class Sandbox
{
    // Attributes that every Python object has. A type's further internal attributes matter only to templates that try to escape the sandbox.
    private static readonly FrozenSet<string> s_internals = new[]
    {
        "__class__", "__doc__", "__init__", "__new__", "__repr__", "__str__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__",
        "__sizeof__", "__reduce__", "__reduce_ex__", "__dir__", "__format__", "__getattribute__", "__setattr__", "__delattr__", "__init_subclass__",
        "__subclasshook__", "__getstate__",
    }.ToFrozenSet(StringComparer.Ordinal);

    private static readonly FrozenSet<string> s_containers =
        new[] { "__len__", "__iter__", "__contains__", "__getitem__" }.ToFrozenSet(StringComparer.Ordinal);

    /// <summary>Whether mapping.name is always an item, because mappings have no attribute of this name.</summary>
    public static bool IsKey(string name) => !name.StartsWith('_') && !MapValue.HasAttribute(name);

    /// <summary>value.name: an attribute first, then an item.</summary>
    public static JinjaValue Attribute(JinjaValue value, Text name, Run run) =>
        Visible(value, name.Value, run) ?? value.Item(name, run) ?? Undefined.Member(value, name);

    /// <summary>value[key]: an item first, then an attribute.</summary>
    public static JinjaValue Item(JinjaValue value, JinjaValue key, Run run) =>
        value.Item(key, run) ?? (key is Text name ? Visible(value, name.Value, run) : null) ?? Undefined.Member(value, key);

    /// <summary>Reads an attribute only, not an item; null if there is none.</summary>
    public static JinjaValue? Visible(JinjaValue value, string name, Run run)
    {
        if (name.StartsWith('_') ? IsInternal(value, name) || (value is Namespace && value.Attribute(name, run) is not null) : value.Hides(name))
        {
            return Undefined.Unsafe(value, name);
        }

        return name.StartsWith('_') && value is not Undefined ? null : value.Attribute(name, run);
    }

    private static bool IsInternal(JinjaValue value, string name) => value is not Namespace
        ? s_internals.Contains(name) || (value is Text or Sequence or MapValue or RangeValue or Undefined && s_containers.Contains(name))
        : name == "__class__";
}
