using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Tiller.Kernels;

namespace Tiller.Cpu;

/// <summary>
/// The gated unit f = m act(a) ∘ u and its derivative, where m is the model's scale of a block's additions. Every number is read once. The
/// activations are silu(a) = a σ(a) and gelu_tanh(a) = a (1 + tanh v)/2 = a σ(2v), v = κ (a + 0.044715 a³), κ = sqrt(2/π) (arXiv:1606.08415).
/// </summary>
internal static unsafe class GatedUnit
{
    private interface IActivation
    {
        /// <summary>x such that the activation is a σ(x).</summary>
        static abstract Vector256<float> Argument(Vector256<float> a);

        /// <summary>dx/da.</summary>
        static abstract Vector256<float> ArgumentSlope(Vector256<float> a);
    }

    /// <summary>y = m act(a) ∘ u for n numbers.</summary>
    public static void Values(Activation activation, float scale, float* a, float* up, float* y, int n)
    {
        if (activation == Activation.Silu)
        {
            Values<Silu>(scale, a, up, y, n);
        }
        else
        {
            Values<GeluTanh>(scale, a, up, y, n);
        }
    }

    /// <summary>The factors of da and du in df = m act'(a) ∘ u ∘ da + m act(a) ∘ du, for n numbers.</summary>
    public static void Slopes(Activation activation, float scale, float* a, float* up, float* ofGate, float* ofUp, int n)
    {
        if (activation == Activation.Silu)
        {
            Slopes<Silu>(scale, a, up, ofGate, ofUp, n);
        }
        else
        {
            Slopes<GeluTanh>(scale, a, up, ofGate, ofUp, n);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Values<T>(float scale, float* a, float* up, float* y, int n)
        where T : struct, IActivation
    {
        var m = Vector256.Create(scale);
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            var x = Vector256.Load(a + i);
            (m * (x * Sigmoid(T.Argument(x), out _)) * Vector256.Load(up + i)).Store(y + i);
        }

        if (i < n)
        {
            float* rest = stackalloc float[3 * 8];
            new Span<float>(a + i, n - i).CopyTo(new Span<float>(rest, 8));
            new Span<float>(up + i, n - i).CopyTo(new Span<float>(rest + 8, 8));
            Values<T>(scale, rest, rest + 8, rest + 16, 8);
            new Span<float>(rest + 16, n - i).CopyTo(new Span<float>(y + i, n - i));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Slopes<T>(float scale, float* a, float* up, float* ofGate, float* ofUp, int n)
        where T : struct, IActivation
    {
        var m = Vector256.Create(scale);
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            // With s = σ(x(a)): (a s)' = s + a s (1 − s) x'.
            var x = Vector256.Load(a + i);
            var s = Sigmoid(T.Argument(x), out var rest);
            var value = x * s;
            (m * Vector256.MultiplyAddEstimate(value * rest, T.ArgumentSlope(x), s) * Vector256.Load(up + i)).Store(ofGate + i);
            (m * value).Store(ofUp + i);
        }

        if (i < n)
        {
            float* rest = stackalloc float[4 * 8];
            new Span<float>(a + i, n - i).CopyTo(new Span<float>(rest, 8));
            new Span<float>(up + i, n - i).CopyTo(new Span<float>(rest + 8, 8));
            Slopes<T>(scale, rest, rest + 8, rest + 16, rest + 24, 8);
            new Span<float>(rest + 16, n - i).CopyTo(new Span<float>(ofGate + i, n - i));
            new Span<float>(rest + 24, n - i).CopyTo(new Span<float>(ofUp + i, n - i));
        }
    }

    /// <summary>σ(x), and 1 − σ(x) without cancellation.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Sigmoid(Vector256<float> x, out Vector256<float> rest)
    {
        var small = VectorMath.ExpOfNegative(-Vector256.Abs(x));
        var larger = Vector256<float>.One / (Vector256<float>.One + small);
        var smaller = small * larger;
        var isNegative = Vector256.LessThan(x, Vector256<float>.Zero);
        rest = Vector256.ConditionalSelect(isNegative, larger, smaller);
        return Vector256.ConditionalSelect(isNegative, smaller, larger);
    }

    private readonly struct Silu : IActivation
    {
        public static Vector256<float> Argument(Vector256<float> a) => a;

        public static Vector256<float> ArgumentSlope(Vector256<float> a) => Vector256<float>.One;
    }

    private readonly struct GeluTanh : IActivation
    {
        private const float TwoKappa = 1.5957691216057308f;
        private const float Cubic = 0.044715f;

        public static Vector256<float> Argument(Vector256<float> a) =>
            TwoKappa * a * Vector256.MultiplyAddEstimate(Vector256.Create(Cubic) * a, a, Vector256<float>.One);

        public static Vector256<float> ArgumentSlope(Vector256<float> a) =>
            TwoKappa * Vector256.MultiplyAddEstimate(Vector256.Create(3 * Cubic) * a, a, Vector256<float>.One);
    }
}

/// <summary>Where a gated map puts m act(a) ∘ u for its outputs a, u.</summary>
/// <param name="Activation">act.</param>
/// <param name="Scale">m.</param>
/// <param name="Y">Rows // (M, outputs / 2); absent for a map that is not gated.</param>
internal readonly record struct GatedOutput(Activation Activation, float Scale, Floats Y);
