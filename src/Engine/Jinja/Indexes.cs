namespace Tiller.Jinja;

/// <summary>The three numbers of a slice, as written in the template.</summary>
internal readonly record struct Indexes(JinjaValue? Start, JinjaValue? Stop, JinjaValue? Step)
{
    /// <summary>Reads what Python accepts as an index, an int or bool, limited to 64 bits.</summary>
    public static bool TryInteger(JinjaValue value, out long index)
    {
        bool integer = Arithmetic.TryInt(value, out Int number);
        index = !integer ? 0 : number.Big is { } big ? big.Sign < 0 ? long.MinValue / 4 : long.MaxValue / 4
            : Math.Clamp(number.Value, long.MinValue / 4, long.MaxValue / 4);
        return integer;
    }

    /// <summary>Reads an argument that must be an integer.</summary>
    public static int Integer(JinjaValue value)
    {
        return TryInteger(value, out long index)
            ? index is >= int.MinValue and <= int.MaxValue ? (int)index : throw JinjaException.Overflow("Python int too large to convert to C int")
            : throw JinjaException.Type($"'{value.TypeName}' object cannot be interpreted as an integer");
    }

    /// <summary>Reads an integer argument that is a minimum width; negative values become 0.</summary>
    public static int Width(JinjaValue value) => Math.Max(Integer(value), 0);

    /// <summary>First index, number of items and step of the slice, for a sequence of the given length.</summary>
    public (int Start, int Count, int Step) Of(int length)
    {
        (long start, long stop, long step) = Bounds(length);
        long count = step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
        return count <= 0 ? (0, 0, 1) : ((int)start, (int)count, (int)Math.Clamp(step, int.MinValue, int.MaxValue));
    }

    /// <summary>The three numbers, limited to a sequence of the given length.</summary>
    public (long Start, long Stop, long Step) Bounds(int length)
    {
        long step = One(Step) ?? 1;
        if (step == 0)
        {
            throw JinjaException.Value("slice step cannot be zero");
        }

        (long low, long high) = step > 0 ? (0L, (long)length) : (-1L, length - 1L);
        long start = One(Start) is { } from ? Math.Clamp(from < 0 ? from + length : from, low, high) : step > 0 ? low : high;
        long stop = One(Stop) is { } to ? Math.Clamp(to < 0 ? to + length : to, low, high) : step > 0 ? high : low;
        return (start, stop, step);
    }

    private static long? One(JinjaValue? value)
    {
        return value is null or NoneValue ? null
            : TryInteger(value, out long index) ? index
            : throw JinjaException.Type("slice indices must be integers or None or have an __index__ method");
    }
}
