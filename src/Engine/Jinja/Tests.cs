using System.Collections.Frozen;

namespace Tiller.Jinja;

/// <summary>A Jinja test, which checks a property of a value.</summary>
internal delegate bool Test(JinjaValue value, Arguments arguments, Run run);

/// <summary>The tests of Jinja, by name.</summary>
internal static class Tests
{
    private static readonly FrozenDictionary<string, Test> s_all = new Dictionary<string, Test>(StringComparer.Ordinal)
    {
        ["odd"] = Plain("odd", static (value, run) => IsRest(value, Int.Of(2), 1, run)),
        ["even"] = Plain("even", static (value, run) => IsRest(value, Int.Of(2), 0, run)),
        ["divisibleby"] = static (value, arguments, run) => IsRest(value, arguments.Bind("divisibleby", 1, "num")[0]!, 0, run),
        ["defined"] = Plain("defined", static (value, _) => value is not Undefined),
        ["undefined"] = Plain("undefined", static (value, _) => value is Undefined),
        ["filter"] = Plain("filter", static (value, _) => KeyComparer.Require(value) is Text name && Filters.Find(name.Value) is not null),
        ["test"] = Plain("test", static (value, _) => KeyComparer.Require(value) is Text name && Find(name.Value) is not null),
        ["none"] = Plain("none", static (value, _) => value is NoneValue),
        ["boolean"] = Plain("boolean", static (value, _) => value is Bool),
        ["false"] = Plain("false", static (value, _) => value is Bool { Value: false }),
        ["true"] = Plain("true", static (value, _) => value is Bool { Value: true }),
        ["integer"] = Plain("integer", static (value, _) => value is Int),
        ["float"] = Plain("float", static (value, _) => value is Float),
        ["lower"] = Plain("lower", static (value, run) => TextMethods.IsLower(Counted(value, run))),
        ["upper"] = Plain("upper", static (value, run) => TextMethods.IsUpper(Counted(value, run))),
        ["string"] = Plain("string", static (value, _) => value is Text),
        ["mapping"] = Plain("mapping", static (value, _) => value is MapValue),
        ["number"] = Plain("number", static (value, _) => Arithmetic.IsNumber(value)),
        ["sequence"] = Plain("sequence", static (value, _) => value is Text or Sequence or MapValue or RangeValue or Undefined),
        ["iterable"] = Plain("iterable", static (value, run) => value.Iterate(run) is not null),
        ["callable"] = Plain("callable", static (value, _) => value.IsCallable),
        ["escaped"] = Plain("escaped", static (value, _) => value is Text { IsSafe: true }),
        ["sameas"] = static (value, arguments, _) => IsSame(value, arguments.Bind("sameas", 1, "other")[0]!),
        ["in"] = static (value, arguments, run) => arguments.Bind("in", 1, "seq")[0]!.Contains(value, run),
        ["=="] = Compared("=="),
        ["eq"] = Compared("=="),
        ["equalto"] = Compared("=="),
        ["!="] = Compared("!="),
        ["ne"] = Compared("!="),
        [">"] = Compared(">"),
        ["gt"] = Compared(">"),
        ["greaterthan"] = Compared(">"),
        [">="] = Compared(">="),
        ["ge"] = Compared(">="),
        ["<"] = Compared("<"),
        ["lt"] = Compared("<"),
        ["lessthan"] = Compared("<"),
        ["<="] = Compared("<="),
        ["le"] = Compared("<="),
    }.ToFrozenDictionary(StringComparer.Ordinal);

    public static Test? Find(string name) => s_all.GetValueOrDefault(name);

    private static Test Plain(string name, Func<JinjaValue, Run, bool> test) => (value, arguments, run) =>
    {
        arguments.Positional(name, 0, 0);
        return test(value, run);
    };

    private static Test Compared(string op)
    {
        Relation relation = CompareExpression.RelationOf(op);
        return (value, arguments, run) => relation(value, arguments.Positional(op, 1, 1)[0]!, run);
    }

    private static bool IsRest(JinjaValue value, JinjaValue divisor, int rest, Run run) =>
        Comparison.Equal(Arithmetic.Modulo(value, divisor, run), Int.Of(rest), run);

    private static string Counted(JinjaValue value, Run run)
    {
        string text = value.ToText(run).Value;
        run.Charge(text.Length);
        return text;
    }

    // Python's "is". None, the truth values and small integers exist only once.
    private static bool IsSame(JinjaValue a, JinjaValue b) => ReferenceEquals(a, b) || (a, b) switch
    {
        (NoneValue, NoneValue) => true,
        (Bool x, Bool y) => x.Value == y.Value,
        (Int { Big: null } x, Int { Big: null } y) => x.Value == y.Value && x.Value is >= -5 and <= 256,
        (Text x, Text y) => x.Span.SequenceEqual(y.Span) && x.Length < 2,
        (TupleValue { Values.Length: 0 }, TupleValue { Values.Length: 0 }) => true,
        _ => false,
    };
}
