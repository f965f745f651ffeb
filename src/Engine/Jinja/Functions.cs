using System.Collections.Frozen;

namespace Tiller.Jinja;

/// <summary>Functions that are available in every template.</summary>
internal static class Functions
{
    private static readonly FrozenDictionary<string, JinjaValue> s_all = new Dictionary<string, JinjaValue>(StringComparer.Ordinal)
    {
        ["range"] = new Function("range", static (arguments, _) => RangeValue.Of(arguments)),
        ["dict"] = new Function("dict", Dict),
        ["namespace"] = new Function("namespace", static (arguments, run) => new Namespace(Dict(arguments, run))),
        ["cycler"] = new Function("cycler", static (arguments, _) =>
            arguments.Named.Length > 0 ? throw JinjaException.Type("cycler() takes no keyword arguments")
                : arguments.Values.Length > 0 ? new Cycler(arguments.Values) : throw JinjaException.Runtime("at least one item has to be provided")),
        ["joiner"] = new Function("joiner", static (arguments, _) => new Joiner(arguments.Bind("joiner", 0, "sep")[0] ?? Text.Of(", "))),
        ["lipsum"] = new Function("lipsum", static (_, _) =>
            throw new JinjaException(JinjaError.Unsupported,
                "lipsum() is not implemented: it is random, and the same chat has to give the same text.")),
        ["raise_exception"] = new Function("raise_exception", static (arguments, run) =>
            throw new JinjaException(JinjaError.Raised, arguments.Bind("raise_exception", 1, "message")[0]!.ToText(run).Value)),
        ["strftime_now"] = new Function("strftime_now", static (arguments, run) =>
        {
            JinjaValue format = arguments.Bind("strftime_now", 1, "format")[0]!;
            Text written = format as Text ?? throw JinjaException.Type($"strftime() argument 1 must be str, not {format.TypeName}");
            var formatted = new TextBuilder(run);
            TimeFormat.Append(run.Clock.GetLocalNow().DateTime, written.Value, formatted, written.HasContent);
            return formatted.ToText();
        }),
    }.ToFrozenDictionary(StringComparer.Ordinal);

    public static JinjaValue? Find(string name) => s_all.GetValueOrDefault(name);

    private static MapValue Dict(Arguments arguments, Run run)
    {
        if (arguments.Values.Length > 1)
        {
            throw JinjaException.Type($"dict expected at most 1 argument, got {arguments.Values.Length}");
        }

        var map = new MapBuilder(run);
        switch (arguments.Values)
        {
            case []:
                break;
            case [Undefined missing]:
                throw missing.Error();
            case [MapValue from]:
                map.SetAll(from);
                break;
            case [{ } pairs]:
                foreach (JinjaValue pair in pairs.ToArray(run))
                {
                    JinjaValue[] parts = pair.ToArray(run);
                    map.Set(parts.Length == 2 ? parts[0]
                        : throw JinjaException.Value($"dictionary update sequence element has length {parts.Length}; 2 is required"), parts[1]);
                }

                break;
        }

        foreach ((string name, JinjaValue value) in arguments.Named)
        {
            map.Set(Text.Of(name), value);
        }

        return map.ToMap();
    }
}
