using System.Runtime.Intrinsics;
using Tiller.Cpu;

namespace Tiller.Tests.Cpu;

/// <summary>The exponential function of attention.</summary>
public sealed class VectorMathTests
{
    [Test]
    public void The_exponential_of_a_negative_number_is_within_two_units_in_the_last_place()
    {
        const double Unit = 1.0 / (1 << 23);
        double worst = 0;
        for (float x = 0; x > -85; x = MathF.Min(MathF.BitDecrement(x), (x * 1.00001f) - 1e-7f))
        {
            double exact = Math.Exp(x);
            worst = Math.Max(worst, Math.Abs(Exp(x) - exact) / exact);
        }

        Assert.That(worst, Is.LessThan(2 * Unit));
    }

    [TestCase(0, 1)]
    [TestCase(-0f, 1)]
    [TestCase(-86, 0)]
    [TestCase(float.MinValue, 0)]
    [TestCase(float.NegativeInfinity, 0)]
    [TestCase(float.NaN, float.NaN)]
    public void The_exponential_of_an_extreme_number_is_exact(float x, float expected) => Assert.That(Exp(x), Is.EqualTo(expected));

    [Test]
    public void Every_lane_has_the_bits_of_its_own_number()
    {
        var x = Vector256.Create(-0.1f, float.NaN, -3, float.NegativeInfinity, -50, 0, -84.9f, -1e-30f);
        var y = VectorMath.ExpOfNegative(x);
        for (int i = 0; i < Vector256<float>.Count; i++)
        {
            Assert.That(y[i], Is.EqualTo(Exp(x[i])));
        }
    }

    private static float Exp(float x) => VectorMath.ExpOfNegative(Vector256.Create(x))[3];
}
