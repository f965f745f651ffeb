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

    [Test]
    public void Exponentials_of_differences_and_their_sum([Values(1, 7, 8, 9, 16, 250)] int count)
    {
        var random = new Random(count);
        float[] z = [.. Enumerable.Range(0, count).Select(_ => 40 * (random.NextSingle() - 0.5f))];
        z[0] = 30;
        z[count / 2] = count > 1 ? float.NegativeInfinity : z[0];
        float[] expected = [.. z.Select(x => Exp(x - 30))], beyond = [.. z, 5];
        float sum = VectorMath.ExpOfDifferences(beyond.AsSpan(0, count), 30);
        Assert.That(beyond, Is.EqualTo(expected.Append(5)));
        Assert.That(sum, Is.EqualTo(expected.Sum(x => (double)x)).Within(1e-4).Percent.And.GreaterThanOrEqualTo(1));
    }

    [TestCase(3)]
    [TestCase(20)]
    public void One_number_that_is_none_makes_the_sum_none(int at)
    {
        float[] z = new float[21];
        z[at] = float.NaN;
        Assert.That(VectorMath.ExpOfDifferences(z, float.NaN), Is.NaN);
        Assert.That(VectorMath.ExpOfDifferences(new float[9], float.PositiveInfinity), Is.Zero);
    }

    private static float Exp(float x) => VectorMath.ExpOfNegative(Vector256.Create(x))[3];
}
