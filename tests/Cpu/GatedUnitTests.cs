using Tiller.Cpu;
using Tiller.Kernels;

namespace Tiller.Tests.Cpu;

/// <summary>The gated unit and its derivative on the CPU against float64.</summary>
public sealed unsafe class GatedUnitTests
{
    private const double Kappa = 0.79788456080286535588;

    [Test]
    public void Values_and_slopes_agree_with_float64([Values] Activation activation, [Values(1f, 0.22f)] float scale)
    {
        for (float a = -100; a < 100; a += 0.0137f)
        {
            const float Up = -1.7f;
            var (value, ofGate, ofUp) = Run(activation, scale, [a], [Up]);
            var (act, slope) = Exact(activation, a);
            Assert.That(value[0], Is.EqualTo(scale * act * Up).Within(Bound(act)), $"the value at {a}");
            Assert.That(ofUp[0], Is.EqualTo(scale * act).Within(Bound(act)), $"the slope of u at {a}");
            Assert.That(ofGate[0], Is.EqualTo(scale * slope * Up).Within(Bound(slope)), $"the slope of a at {a}");
        }

        // σ is within a few units in the last place; its argument is rounded, and e^x is 0 below 1e-37.
        static double Bound(double exact) => (3e-6 * Math.Abs(exact)) + 1e-6;
    }

    [Test]
    public void A_numbers_bits_do_not_depend_on_its_place([Values] Activation activation)
    {
        const int Most = 19;
        float[] a = [.. Enumerable.Range(0, Most).Select(i => (0.9f * i) - 8)], up = [.. Enumerable.Range(0, Most).Select(i => 0.3f - (0.1f * i))];
        for (int n = 1; n <= Most; n++)
        {
            var (value, ofGate, ofUp) = Run(activation, 0.7f, a[..n], up[..n]);
            for (int i = 0; i < n; i++)
            {
                var alone = Run(activation, 0.7f, [a[i]], [up[i]]);
                Assert.That((value[i], ofGate[i], ofUp[i]), Is.EqualTo((alone.Value[0], alone.OfGate[0], alone.OfUp[0])), $"number {i} of {n}");
            }
        }
    }

    [TestCase(Activation.Silu, 1e30f, 1e30f)]
    [TestCase(Activation.Silu, -1e30f, 0f)]
    [TestCase(Activation.Silu, 0f, 0f)]
    [TestCase(Activation.Silu, float.PositiveInfinity, float.PositiveInfinity)]
    [TestCase(Activation.Silu, float.NaN, float.NaN)]
    [TestCase(Activation.GeluTanh, 1e30f, 1e30f)]
    [TestCase(Activation.GeluTanh, -1e10f, 0f)]
    [TestCase(Activation.GeluTanh, 0f, 0f)]
    [TestCase(Activation.GeluTanh, float.PositiveInfinity, float.PositiveInfinity)]
    [TestCase(Activation.GeluTanh, float.NaN, float.NaN)]
    public void Extreme_numbers_stay_what_they_are(Activation activation, float a, float expected) =>
        Assert.That(Run(activation, 1, [a], [1]).Value[0], Is.EqualTo(expected));

    private static (float[] Value, float[] OfGate, float[] OfUp) Run(Activation activation, float scale, float[] a, float[] up)
    {
        float[] value = new float[a.Length], ofGate = new float[a.Length], ofUp = new float[a.Length];
        fixed (float* gate = a, u = up, v = value, g = ofGate, o = ofUp)
        {
            GatedUnit.Values(activation, scale, gate, u, v, a.Length);
            GatedUnit.Slopes(activation, scale, gate, u, g, o, a.Length);
        }

        return (value, ofGate, ofUp);
    }

    private static (double Value, double Slope) Exact(Activation activation, double a)
    {
        if (activation == Activation.Silu)
        {
            double s = 1 / (1 + Math.Exp(-a));
            return (a * s, s * (1 + (a * (1 - s))));
        }

        double t = Math.Tanh(Kappa * (a + (0.044715 * a * a * a)));
        return (0.5 * a * (1 + t), (0.5 * (1 + t)) + (0.5 * a * (1 - (t * t)) * Kappa * (1 + (3 * 0.044715 * a * a))));
    }
}
