using System.Numerics;
using System.Runtime.CompilerServices;

namespace Tiller.Jinja;

/// <summary>Python's == and ordering.</summary>
internal static class Comparison
{
    /// <summary>Python's == with a check for identity first, as lists and "in" use it.</summary>
    public static bool Same(JinjaValue a, JinjaValue b, Run run) => ReferenceEquals(a, b) || Equal(a, b, run);

    public static bool Equal(JinjaValue a, JinjaValue b, Run run)
    {
        run.Charge(1);
        switch (a, b)
        {
            case (Text x, Text y):
                run.Charge(x.Length == y.Length ? x.Length >> 3 : 0);
                return x.Span.SequenceEqual(y.Span);
            case (ListValue x, ListValue y):
                return Equal(x.Values, y.Values, run);
            case (TupleValue x, TupleValue y):
                return Equal(x.Values, y.Values, run);
            case (MapValue x, MapValue y):
                return Equal(x, y, run);
            case (RangeValue x, RangeValue y):
                return x.IsSameAs(y);
            default:
                return Shallow(a, b);
        }
    }

    /// <summary>Python's == of values that have no parts.</summary>
    public static bool Shallow(JinjaValue a, JinjaValue b)
    {
        if (Arithmetic.IsNumber(a) && Arithmetic.IsNumber(b))
        {
            return Numbers(a, b) == 0;
        }

        return (a, b) switch
        {
            (Text x, Text y) => x.Span.SequenceEqual(y.Span),
            (NoneValue, NoneValue) or (Undefined, Undefined) => true,
            (BoundMethod x, BoundMethod y) => x.Name == y.Name && ReferenceEquals(x.Self, y.Self),
            _ => ReferenceEquals(a, b),
        };
    }

    /// <summary>a &lt; b.</summary>
    public static bool Less(JinjaValue a, JinjaValue b, Run run) => Ordered(a, b, "<", run) < 0;

    /// <summary>One of the four ordering comparisons.</summary>
    public static bool Holds(JinjaValue a, JinjaValue b, string op, Run run)
    {
        if (a is Float or Int or Bool && b is Float or Int or Bool && (ToDouble(a) is double.NaN || ToDouble(b) is double.NaN))
        {
            return false;
        }

        int order = Ordered(a, b, op, run);
        return op switch { "<" => order < 0, "<=" => order <= 0, ">" => order > 0, _ => order >= 0 };
    }

    private static double ToDouble(JinjaValue value) => value is Float real ? real.Value : 0;

    private static bool Equal(JinjaValue[] a, JinjaValue[] b, Run run)
    {
        if (a.Length != b.Length)
        {
            return false;
        }

        run.Enter();
        run.Charge(a.Length);
        for (int i = 0; i < a.Length; i++)
        {
            if (!Same(a[i], b[i], run))
            {
                run.Leave();
                return false;
            }
        }

        run.Leave();
        return true;
    }

    private static bool Equal(MapValue a, MapValue b, Run run)
    {
        if (a.Count != b.Count)
        {
            return false;
        }

        run.Enter();
        for (int i = 0; i < a.Count; i++)
        {
            run.Charge(a.KeyAt(i).Weight);
            if (b.Find(a.KeyAt(i)) is not { } other || !Same(a.At(i), other, run))
            {
                run.Leave();
                return false;
            }
        }

        run.Leave();
        return true;
    }

    private static int Ordered(JinjaValue a, JinjaValue b, string op, Run run)
    {
        run.Charge(1);
        switch (a, b)
        {
            case (Text x, Text y):
                run.Charge(Math.Min(x.Length, y.Length) >> 3);
                return ByPoint(x.Value, y.Value);
            case (ListValue x, ListValue y):
                return Ordered(x.Values, y.Values, op, run);
            case (TupleValue x, TupleValue y):
                return Ordered(x.Values, y.Values, op, run);
            case (Undefined x, _):
                throw x.Error();
            case (_, Undefined y):
                throw y.Error();
            default:
                return Arithmetic.IsNumber(a) && Arithmetic.IsNumber(b)
                    ? Numbers(a, b)
                    : throw JinjaException.Type($"'{op}' not supported between instances of '{a.TypeName}' and '{b.TypeName}'");
        }
    }

    private static int Ordered(JinjaValue[] a, JinjaValue[] b, string op, Run run)
    {
        run.Enter();
        int i = 0;
        while (i < a.Length && i < b.Length && Same(a[i], b[i], run))
        {
            run.Charge(1);
            i++;
        }

        int order = i < a.Length && i < b.Length ? Ordered(a[i], b[i], op, run) : a.Length.CompareTo(b.Length);
        run.Leave();
        return order;
    }

    // NaN is equal to nothing.
    private static int Numbers(JinjaValue a, JinjaValue b)
    {
        if (Arithmetic.TryInt(a, out Int x) && Arithmetic.TryInt(b, out Int y))
        {
            return x.Big is null && y.Big is null ? x.Value.CompareTo(y.Value) : x.Number.CompareTo(y.Number);
        }

        if (a is Float left && b is Float right)
        {
            return left.Value == right.Value ? 0 : left.Value < right.Value ? -1 : 1;
        }

        return a is Float real ? -Compare(Arithmetic.ToInt(b), real.Value) : Compare(Arithmetic.ToInt(a), ((Float)b).Value);
    }

    // The comparison is exact: it splits the float into an integer and a fraction.
    private static int Compare(Int a, double b)
    {
        if (!double.IsFinite(b))
        {
            return b > 0 ? -1 : 1;
        }

        double whole = Math.Floor(b);
        int order = a.Number.CompareTo(new BigInteger(whole));
        return order != 0 ? order : b > whole ? -1 : 0;
    }

    // UTF-16 sorts code points above 65,535 before U+E000, unlike Python.
    private static int ByPoint(string a, string b)
    {
        int same = a.AsSpan().CommonPrefixLength(b);
        if (same == a.Length || same == b.Length)
        {
            return a.Length.CompareTo(b.Length);
        }

        char x = a[same];
        char y = b[same];
        return char.IsSurrogate(x) == char.IsSurrogate(y) ? x.CompareTo(y) : char.IsSurrogate(x) ? 1 : -1;
    }
}

/// <summary>Compares keys of mappings and sets by value. The caller must charge the weight of the key first.</summary>
internal sealed class KeyComparer : IEqualityComparer<JinjaValue>
{
    public static readonly KeyComparer Instance = new();

    /// <summary>Returns the key; throws a TypeError if Python cannot hash it.</summary>
    public static JinjaValue Require(JinjaValue key)
    {
        if (key is ListValue or MapValue or MapView { IsHashable: false })
        {
            throw JinjaException.Type($"unhashable type: '{key.TypeName}'");
        }

        if (key is TupleValue tuple)
        {
            RuntimeHelpers.EnsureSufficientExecutionStack();
            foreach (JinjaValue part in tuple.Values)
            {
                Require(part);
            }
        }

        return key;
    }

    public bool Equals(JinjaValue? x, JinjaValue? y)
    {
        if (ReferenceEquals(x, y))
        {
            return true;
        }

        if (x is not TupleValue a || y is not TupleValue b)
        {
            return Comparison.Shallow(x!, y!);
        }

        RuntimeHelpers.EnsureSufficientExecutionStack();
        bool same = a.Values.Length == b.Values.Length;
        for (int i = 0; same && i < a.Values.Length; i++)
        {
            same = Equals(a.Values[i], b.Values[i]);
        }

        return same;
    }

    public int GetHashCode(JinjaValue obj)
    {
        switch (obj)
        {
            case Text text:
                return text.Value.GetHashCode(StringComparison.Ordinal);
            case TupleValue tuple:
                RuntimeHelpers.EnsureSufficientExecutionStack();
                int hash = 17;
                foreach (JinjaValue part in tuple.Values)
                {
                    hash = HashCode.Combine(hash, GetHashCode(part));
                }

                return hash;
            case Float real when double.IsInteger(real.Value):
                return new BigInteger(real.Value).GetHashCode();
            case Float real:
                return real.Value.GetHashCode();
            case Undefined:
                return 1;
            case NoneValue:
                return 2;
            case BoundMethod method:
                return method.Name.GetHashCode(StringComparison.Ordinal);
            default:
                return Arithmetic.TryInt(obj, out Int number) ? number.Number.GetHashCode() : RuntimeHelpers.GetHashCode(obj);
        }
    }
}
