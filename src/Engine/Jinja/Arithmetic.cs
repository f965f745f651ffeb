using System.Numerics;

namespace Tiller.Jinja;

/// <summary>Python's arithmetic operators.</summary>
internal static class Arithmetic
{
    public static bool IsNumber(JinjaValue value) => value is Int or Float or Bool;

    public static bool TryInt(JinjaValue value, out Int number)
    {
        number = value switch { Int i => i, Bool b => Int.Of(b.Value ? 1 : 0, b.HasContent), _ => null! };
        return number is not null;
    }

    /// <summary>Converts an Int or Bool to Int.</summary>
    public static Int ToInt(JinjaValue value) => TryInt(value, out Int number) ? number
        : throw JinjaException.Type($"'{value.TypeName}' object cannot be interpreted as an integer");

    public static double ToDouble(JinjaValue value) => value is Float real ? real.Value : ToInt(value).ToDouble();

    public static JinjaValue Add(JinjaValue a, JinjaValue b, Run run)
    {
        switch (a, b)
        {
            case (Text x, Text y):
                var sum = new TextBuilder(run);
                bool safe = x.IsSafe || y.IsSafe;
                sum.Append(safe && !x.IsSafe ? Html.Escape(x, run) : x);
                sum.Append(safe && !y.IsSafe ? Html.Escape(y, run) : y);
                return sum.ToText(safe);
            case (ListValue x, ListValue y):
                run.Charge(x.Values.Length + y.Values.Length);
                return new ListValue([.. x.Values, .. y.Values]);
            case (TupleValue x, TupleValue y):
                run.Charge(x.Values.Length + y.Values.Length);
                return new TupleValue([.. x.Values, .. y.Values]);
            case (Int { Big: null } x, Int { Big: null } y):
                long plain = unchecked(x.Value + y.Value);
                return ((x.Value ^ plain) & (y.Value ^ plain)) < 0 ? Int.Of((BigInteger)x.Value + y.Value, Content(a, b))
                    : Int.Of(plain, Content(a, b));
            default:
                return Numbers("+", a, b, static (x, y) => x + y, static (x, y) => x + y, run);
        }
    }

    public static JinjaValue Subtract(JinjaValue a, JinjaValue b, Run run)
    {
        if (a is Int { Big: null } x && b is Int { Big: null } y)
        {
            long plain = unchecked(x.Value - y.Value);
            return ((x.Value ^ y.Value) & (x.Value ^ plain)) < 0 ? Int.Of((BigInteger)x.Value - y.Value, Content(a, b))
                : Int.Of(plain, Content(a, b));
        }

        return Numbers("-", a, b, static (x, y) => x - y, static (x, y) => x - y, run);
    }

    public static JinjaValue Multiply(JinjaValue a, JinjaValue b, Run run)
    {
        if (a is Text or Sequence && TryInt(b, out Int times))
        {
            return Repeat(a, times, run);
        }

        if (b is Text or Sequence && TryInt(a, out times))
        {
            return Repeat(b, times, run);
        }

        return Numbers("*", a, b, static (x, y) => x * y, static (x, y) => x * y, run);
    }

    public static JinjaValue Divide(JinjaValue a, JinjaValue b, Run run)
    {
        Require("/", a, b);
        if (TryInt(a, out Int x) && TryInt(b, out Int y))
        {
            if (y.Sign == 0)
            {
                throw Zero("division by zero");
            }

            if (x.Big is null && y.Big is null && Math.Abs((double)x.Value) < 1L << 53 && Math.Abs((double)y.Value) < 1L << 53)
            {
                return new Float((double)x.Value / y.Value, Content(a, b));
            }

            return new Float(Quotient(x.Number, y.Number), Content(a, b));
        }

        double divisor = ToDouble(b);
        return divisor == 0 ? throw Zero("float division by zero") : new Float(ToDouble(a) / divisor, Content(a, b));
    }

    public static JinjaValue FloorDivide(JinjaValue a, JinjaValue b, Run run)
    {
        Require("//", a, b);
        if (TryInt(a, out Int x) && TryInt(b, out Int y))
        {
            (BigInteger quotient, _) = DivMod(x, y, run);
            return Int.Of(quotient, Content(a, b));
        }

        return new Float(DivMod(ToDouble(a), ToDouble(b)).Quotient, Content(a, b));
    }

    public static JinjaValue Modulo(JinjaValue a, JinjaValue b, Run run)
    {
        if (a is Text format)
        {
            return PercentFormat.Format(format, b, run);
        }

        Require("%", a, b);
        if (TryInt(a, out Int x) && TryInt(b, out Int y))
        {
            (_, BigInteger rest) = DivMod(x, y, run);
            return Int.Of(rest, Content(a, b));
        }

        return new Float(DivMod(ToDouble(a), ToDouble(b)).Remainder, Content(a, b));
    }

    public static JinjaValue Power(JinjaValue a, JinjaValue b, Run run)
    {
        Require("** or pow()", a, b);
        bool content = Content(a, b);
        if (TryInt(a, out Int x) && TryInt(b, out Int y) && y.Sign >= 0)
        {
            if (x.Big is null && x.Value is 0 or 1 or -1)
            {
                return y.Sign == 0 || x.Value == 1 ? Int.Of(1, content) : x.Value == 0 ? Int.Of(0, content)
                    : Int.Of(y.Number.IsEven ? 1 : -1, content);
            }

            double bits = BigInteger.Abs(x.Number).GetBitLength() * (y.Big is null ? (double)y.Value : double.PositiveInfinity);
            Int.Require(bits);
            run.Charge((long)(bits / 32 * bits / 32) >> 4);
            return Int.Of(BigInteger.Pow(x.Number, (int)y.Value), content);
        }

        double value = ToDouble(a);
        double power = ToDouble(b);
        if (value == 0 && power < 0)
        {
            throw Zero("0.0 cannot be raised to a negative power");
        }

        if (value < 0 && double.IsFinite(value) && double.IsFinite(power) && !double.IsInteger(power))
        {
            throw new JinjaException(JinjaError.Unsupported,
                "A negative number raised to a fraction is a complex number; those are not implemented.");
        }

        double raised = Math.Pow(value, power);
        return double.IsInfinity(raised) && double.IsFinite(value) && double.IsFinite(power)
            ? throw JinjaException.Overflow("(34, 'Numerical result out of range')")
            : new Float(raised, content);
    }

    public static JinjaValue Negate(JinjaValue value)
    {
        return value switch
        {
            Float real => new Float(-real.Value, real.HasContent),
            Undefined undefined => throw undefined.Error(),
            _ when TryInt(value, out Int number) => number.Big is null && number.Value != long.MinValue
                ? Int.Of(-number.Value, number.HasContent)
                : Int.Of(-number.Number, number.HasContent),
            _ => throw JinjaException.Type($"bad operand type for unary -: '{value.TypeName}'"),
        };
    }

    public static JinjaValue Plus(JinjaValue value)
    {
        return value switch
        {
            Float => value,
            Undefined undefined => throw undefined.Error(),
            _ when TryInt(value, out Int number) => number,
            _ => throw JinjaException.Type($"bad operand type for unary +: '{value.TypeName}'"),
        };
    }

    /// <summary>Python's divmod of floats. The remainder has the divisor's sign.</summary>
    public static (double Quotient, double Remainder) DivMod(double a, double b)
    {
        if (b == 0)
        {
            throw Zero("float floor division by zero");
        }

        double rest = a % b;
        double quotient = (a - rest) / b;
        if (rest != 0)
        {
            if (b < 0 != rest < 0)
            {
                rest += b;
                quotient -= 1;
            }
        }
        else
        {
            rest = Math.CopySign(0, b);
        }

        if (quotient == 0)
        {
            return (Math.CopySign(0, a / b), rest);
        }

        double floor = Math.Floor(quotient);
        return (quotient - floor > 0.5 ? floor + 1 : floor, rest);
    }

    private static (BigInteger Quotient, BigInteger Remainder) DivMod(Int a, Int b, Run run)
    {
        if (b.Sign == 0)
        {
            throw Zero("integer division or modulo by zero");
        }

        run.Charge((long)a.Weight * b.Weight);
        BigInteger quotient = BigInteger.DivRem(a.Number, b.Number, out BigInteger rest);
        return rest.Sign != 0 && rest.Sign < 0 != b.Sign < 0 ? (quotient - 1, rest + b.Number) : (quotient, rest);
    }

    // The quotient is rounded only once, from 64 of its bits and the sign of the remainder.
    private static double Quotient(BigInteger a, BigInteger b)
    {
        int sign = a.Sign * b.Sign;
        a = BigInteger.Abs(a);
        b = BigInteger.Abs(b);
        int shift = (int)(a.GetBitLength() - b.GetBitLength()) - 66;
        BigInteger quotient = BigInteger.DivRem(shift > 0 ? a : a << -shift, shift > 0 ? b << shift : b, out BigInteger rest);
        if (!rest.IsZero)
        {
            quotient |= 1;
        }

        double value = Math.ScaleB((double)quotient, shift);
        return double.IsInfinity(value) ? throw JinjaException.Overflow("integer division result too large for a float") : sign * value;
    }

    private static JinjaValue Repeat(JinjaValue value, Int times, Run run)
    {
        long count = times.Sign <= 0 ? 0 : times.Big is null ? times.Value
            : throw JinjaException.Overflow("cannot fit 'int' into an index-sized integer");
        if (value is Text text)
        {
            if (text.Length == 0 || count == 0)
            {
                return Text.Of("", safe: text.IsSafe);
            }

            run.ChargeText(count > int.MaxValue ? long.MaxValue >> 1 : text.Length * count);
            var repeated = new TextBuilder(run);
            for (long i = 0; i < count; i++)
            {
                repeated.Append(text);
            }

            return repeated.ToText(text.IsSafe);
        }

        JinjaValue[] items = ((Sequence)value).Values;
        long length = items.Length == 0 ? 0 : count > int.MaxValue ? long.MaxValue >> 1 : items.Length * count;
        run.Charge(length);
        run.ChargeText(length);
        var all = new JinjaValue[length];
        for (long i = 0; i < length; i++)
        {
            all[i] = items[i % items.Length];
        }

        return value is ListValue ? new ListValue(all) : new TupleValue(all);
    }

    private static JinjaValue Numbers(
        string name, JinjaValue a, JinjaValue b, Func<BigInteger, BigInteger, BigInteger> integers, Func<double, double, double> reals, Run run)
    {
        Require(name, a, b);
        if (TryInt(a, out Int x) && TryInt(b, out Int y))
        {
            run.Charge((long)x.Weight * y.Weight);
            return Int.Of(integers(x.Number, y.Number), Content(a, b));
        }

        return new Float(reals(ToDouble(a), ToDouble(b)), Content(a, b));
    }

    private static void Require(string name, JinjaValue a, JinjaValue b)
    {
        if (a is Undefined left)
        {
            throw left.Error();
        }

        if (b is Undefined right)
        {
            throw right.Error();
        }

        if (!IsNumber(a) || !IsNumber(b))
        {
            throw JinjaException.Type($"unsupported operand type(s) for {name}: '{a.TypeName}' and '{b.TypeName}'");
        }
    }

    private static bool Content(JinjaValue a, JinjaValue b) => a.HasContent || b.HasContent;

    private static JinjaException Zero(string detail) => new(JinjaError.ZeroDivision, detail);
}
