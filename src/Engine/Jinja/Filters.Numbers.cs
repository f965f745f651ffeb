using System.Numerics;

namespace Tiller.Jinja;

// Filters that return numbers.
internal static partial class Filters
{
    private static JinjaValue ToInt(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("int", 0, "default", "base");
        JinjaValue otherwise = given[0] ?? Int.Of(0);
        bool content = value.HasContent;
        switch (value)
        {
            case Undefined undefined:
                throw undefined.Error();
            case Text text:
                run.Charge(text.Length);
                int radix = given[1] is null ? 10 : Indexes.TryInteger(given[1]!, out long number) ? (int)Math.Clamp(number, -1, 99) : -1;
                if (PythonNumber.ParseInt(text.Value, radix) is { } integer)
                {
                    return Int.Of(integer, content);
                }

                return PythonNumber.ParseFloat(text.Value) is { } real && double.IsFinite(real) ? Truncate(real, content) : otherwise;
            case Float { Value: var d }:
                return double.IsFinite(d) ? Truncate(d, content) : double.IsNaN(d) ? otherwise
                    : throw JinjaException.Overflow("cannot convert float infinity to integer");
            default:
                return Arithmetic.TryInt(value, out Int same) ? same : otherwise;
        }
    }

    private static double? ToFloat(JinjaValue value) => value switch
    {
        Undefined undefined => throw undefined.Error(),
        Text text => PythonNumber.ParseFloat(text.Value),
        _ => Arithmetic.IsNumber(value) ? Arithmetic.ToDouble(value) : null,
    };

    private static JinjaValue Round(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("round", 0, "precision", "method");
        JinjaValue places = given[0] ?? Int.Of(0);
        string method = given[1] is null ? "common" : given[1] is Text { Value: "common" or "ceil" or "floor" } text ? text.Value
            : throw JinjaException.Runtime("method must be common, ceil or floor");
        if (!Arithmetic.IsNumber(value))
        {
            throw JinjaException.Type($"type {value.TypeName} doesn't define __round__ method");
        }

        if (method == "common")
        {
            if (places is NoneValue)
            {
                return value is Float whole ? Truncate(Math.Round(whole.Value, MidpointRounding.ToEven), value.HasContent) : Arithmetic.ToInt(value);
            }

            int precision = Indexes.Integer(places);
            run.Charge(Math.Min(Math.Abs((long)precision), 4096));
            return value is Float real ? new Float(PythonNumber.Round(real.Value, precision), value.HasContent)
                : RoundInt(Arithmetic.ToInt(value), precision);
        }

        JinjaValue scale = Arithmetic.Power(Int.Of(10), places, run);
        JinjaValue scaled = Arithmetic.Multiply(value, scale, run);
        if (scaled is Float { Value: var d })
        {
            scaled = Truncate(method == "ceil" ? Math.Ceiling(d) : Math.Floor(d), value.HasContent);
        }

        return Arithmetic.Divide(scaled, scale, run);
    }

    private static Int RoundInt(Int value, int places)
    {
        if (places >= 0)
        {
            return value;
        }

        if (places < -40_000)
        {
            return Int.Of(0, value.HasContent);
        }

        var unit = BigInteger.Pow(10, -places);
        BigInteger rounded = PythonNumber.DivideToEven(BigInteger.Abs(value.Number), unit) * unit;
        return Int.Of(value.Sign < 0 ? -rounded : rounded, value.HasContent);
    }

    private static JinjaValue Sum(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("sum", 0, "attribute", "start");
        string[]? path = given[0] is null or NoneValue ? null : PathOf(given[0]!, run);
        JinjaValue sum = given[1] ?? Int.Of(0);
        if (sum is Text)
        {
            throw JinjaException.Type("sum() can't sum strings [use ''.join(seq) instead]");
        }

        using IEnumerator<JinjaValue> items = value.Items(run);
        while (items.MoveNext())
        {
            run.Charge(1);
            sum = Arithmetic.Add(sum, path is null ? items.Current : Follow(items.Current, path, null, run), run);
        }

        return sum;
    }

    private static Text FileSize(JinjaValue value, Arguments arguments, Run run)
    {
        JinjaValue?[] given = arguments.Bind("filesizeformat", 0, "binary");
        bool binary = given[0]?.IsTrue(run) == true;
        double bytes = ToFloat(value) ?? throw (value is Text ? JinjaException.Value("could not convert string to float")
            : JinjaException.Type($"float() argument must be a string or a real number, not '{value.TypeName}'"));
        double unit = binary ? 1024 : 1000;
        if (bytes == 1)
        {
            return Text.Of("1 Byte", value.HasContent);
        }

        if (bytes < unit)
        {
            return Text.Of($"{Truncate(bytes, false).Number} Bytes", value.HasContent);
        }

        string[] prefixes = ["k", "M", "G", "T", "P", "E", "Z", "Y"];
        double size = unit;
        int i = 0;
        while (i < prefixes.Length - 1 && bytes >= size * unit)
        {
            size *= unit;
            i++;
        }

        string prefix = binary ? (i == 0 ? "K" : prefixes[i]) + "i" : prefixes[i];
        return Text.Of($"{NumberText.Real(unit * bytes / (size * unit), 'f', 1, alternate: false)} {prefix}B", value.HasContent);
    }
}
