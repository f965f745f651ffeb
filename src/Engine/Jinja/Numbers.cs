using System.Globalization;
using System.Numerics;

namespace Tiller.Jinja;

/// <summary>Python's int, of any size.</summary>
internal sealed class Int : JinjaValue
{
    private const int SmallestCached = -8;
    private const int Cached = 264;

    // Maximum number of bits. No template needs larger numbers, and their powers would fill the memory.
    private const long MaxBits = 1 << 17;

    private static readonly Int[] s_small = [.. Enumerable.Range(SmallestCached, Cached).Select(static i => new Int(i, null, false))];

    private readonly bool content;

    private Int(long value, BigInteger? big, bool content)
    {
        Value = value;
        Big = big;
        this.content = content;
    }

    /// <summary>The value, if <see cref="Big"/> is null.</summary>
    public long Value { get; }

    /// <summary>The value, if it does not fit 64 bits; otherwise null.</summary>
    public BigInteger? Big { get; }

    public BigInteger Number => Big ?? Value;

    public int Sign => Big is { } big ? big.Sign : Math.Sign(Value);

    internal override string TypeName => "int";

    internal override bool HasContent => content;

    internal override int Weight => Big is { } big ? 1 + (int)(big.GetBitLength() >> 8) : 1;

    public static Int Of(long value, bool content = false) =>
        !content && value >= SmallestCached && value < SmallestCached + Cached ? s_small[value - SmallestCached] : new Int(value, null, content);

    public static Int Of(BigInteger value, bool content = false)
    {
        if (value >= long.MinValue && value <= long.MaxValue)
        {
            return Of((long)value, content);
        }

        return value.GetBitLength() <= MaxBits ? new Int(0, value, content)
            : throw new JinjaException(JinjaError.Limit, $"A number of more than {MaxBits} bits.");
    }

    /// <summary>Throws if a power would be too large, before it is computed.</summary>
    public static void Require(double bits)
    {
        if (bits > MaxBits)
        {
            throw new JinjaException(JinjaError.Limit, $"A number of more than {MaxBits} bits.");
        }
    }

    public double ToDouble()
    {
        double value = Big is { } big ? (double)big : Value;
        return double.IsInfinity(value) ? throw JinjaException.Overflow("int too large to convert to float") : value;
    }

    internal override bool IsTrue(Run run) => Big is not null || Value != 0;

    internal override void Repr(TextBuilder to, bool content)
    {
        if (Big is not { } big)
        {
            to.Append(Value.ToString(CultureInfo.InvariantCulture), content);
            return;
        }

        to.Append(PythonNumber.Digits(big, to.Run), content);
    }

    internal override JinjaValue? Attribute(string name, Run run) => NumberMethods.Of(this, name);
}

/// <summary>Python's bool, which is an int in arithmetic.</summary>
internal sealed class Bool : JinjaValue
{
    public static readonly Bool True = new(true, false);
    public static readonly Bool False = new(false, false);
    private static readonly Bool s_contentTrue = new(true, true);
    private static readonly Bool s_contentFalse = new(false, true);

    private readonly bool content;

    private Bool(bool value, bool content)
    {
        Value = value;
        this.content = content;
    }

    public bool Value { get; }

    internal override string TypeName => "bool";

    internal override bool HasContent => content;

    public static Bool Of(bool value, bool content) => content ? value ? s_contentTrue : s_contentFalse : value ? True : False;

    public static new Bool Of(bool value) => value ? True : False;

    internal override bool IsTrue(Run run) => Value;

    internal override void Repr(TextBuilder to, bool content) => to.Append(Value ? "True" : "False", content);

    internal override JinjaValue? Attribute(string name, Run run) => NumberMethods.Of(this, name);
}

/// <summary>Python's float.</summary>
internal sealed class Float(double value, bool content = false) : JinjaValue
{
    public double Value => value;

    internal override string TypeName => "float";

    internal override bool HasContent => content;

    internal override bool IsTrue(Run run) => value != 0;

    internal override void Repr(TextBuilder to, bool content) => to.Append(PythonNumber.Repr(value), content);

    internal override JinjaValue? Attribute(string name, Run run) => NumberMethods.Of(this, name);
}

/// <summary>Attributes of numbers.</summary>
internal static class NumberMethods
{
    public static JinjaValue? Of(JinjaValue self, string name)
    {
        bool isFloat = self is Float;
        return name switch
        {
            "real" or "numerator" when !(isFloat && name == "numerator") => isFloat ? self : Arithmetic.ToInt(self),
            "imag" => isFloat ? new Float(0) : Int.Of(0),
            "denominator" when !isFloat => Int.Of(1),
            "conjugate" => new BoundMethod(self, name, static (value, arguments, _) =>
            {
                arguments.Positional("conjugate", 0, 0);
                return value is Float ? value : Arithmetic.ToInt(value);
            }),
            "bit_length" when !isFloat => new BoundMethod(self, name, static (value, arguments, _) =>
            {
                arguments.Positional("bit_length", 0, 0);
                return Int.Of((long)BigInteger.Abs(Arithmetic.ToInt(value).Number).GetBitLength());
            }),
            "bit_count" when !isFloat => new BoundMethod(self, name, static (value, arguments, _) =>
            {
                arguments.Positional("bit_count", 0, 0);
                return Int.Of((long)BigInteger.PopCount(BigInteger.Abs(Arithmetic.ToInt(value).Number)));
            }),
            "is_integer" when isFloat => new BoundMethod(self, name, static (value, arguments, _) =>
            {
                arguments.Positional("is_integer", 0, 0);
                return Bool.Of(double.IsInteger(((Float)value).Value));
            }),
            _ => null,
        };
    }
}
