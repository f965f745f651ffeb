using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Tiller.Tensors;

/// <summary>The short vector operations inside the CPU's attention and norms; every sum has one fixed order.</summary>
internal static unsafe class VectorMath
{
    /// <summary>x · y.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Dot(float* x, float* y, int n)
    {
        var sum = Vector256<float>.Zero;
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            sum = Vector256.FusedMultiplyAdd(Vector256.Load(x + i), Vector256.Load(y + i), sum);
        }

        float rest = 0;
        for (; i < n; i++)
        {
            rest += x[i] * y[i];
        }

        return Vector256.Sum(sum) + rest;
    }

    /// <summary>y += a x.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddScaled(float a, float* x, float* y, int n)
    {
        var scale = Vector256.Create(a);
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            Vector256.FusedMultiplyAdd(scale, Vector256.Load(x + i), Vector256.Load(y + i)).Store(y + i);
        }

        for (; i < n; i++)
        {
            y[i] = MathF.FusedMultiplyAdd(a, x[i], y[i]);
        }
    }

    /// <summary>z = (a x) ∘ y.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void ScaledProduct(float a, float* x, float* y, float* z, int n)
    {
        var scale = Vector256.Create(a);
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            (scale * Vector256.Load(x + i) * Vector256.Load(y + i)).Store(z + i);
        }

        for (; i < n; i++)
        {
            z[i] = a * x[i] * y[i];
        }
    }

    /// <summary>The sum of each of eight vectors, in order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> SumEach(
        Vector256<float> a, Vector256<float> b, Vector256<float> c, Vector256<float> d, Vector256<float> e, Vector256<float> f, Vector256<float> g, Vector256<float> h)
    {
        if (!Avx.IsSupported)
        {
            return Vector256.Create(
                Vector256.Sum(a), Vector256.Sum(b), Vector256.Sum(c), Vector256.Sum(d), Vector256.Sum(e), Vector256.Sum(f), Vector256.Sum(g), Vector256.Sum(h));
        }

        var abcd = Avx.HorizontalAdd(Avx.HorizontalAdd(a, b), Avx.HorizontalAdd(c, d));
        var efgh = Avx.HorizontalAdd(Avx.HorizontalAdd(e, f), Avx.HorizontalAdd(g, h));
        return Avx.Permute2x128(abcd, efgh, 0x20) + Avx.Permute2x128(abcd, efgh, 0x31);
    }

    /// <summary>z_j = scale q·k_j for n rows k_j // (n, size).</summary>
    public static void ScaledDots(float scale, float* q, float* keys, int n, int size, float* z)
    {
        int j = 0;
        if (size % 8 == 0)
        {
            for (; j <= n - 8; j += 8)
            {
                float* k = keys + ((nint)j * size);
                Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default;
                for (int e = 0; e < size; e += 8, k += 8)
                {
                    var x = Vector256.Load(q + e);
                    s0 = Vector256.FusedMultiplyAdd(x, Vector256.Load(k), s0);
                    s1 = Vector256.FusedMultiplyAdd(x, Vector256.Load(k + size), s1);
                    s2 = Vector256.FusedMultiplyAdd(x, Vector256.Load(k + (2 * size)), s2);
                    s3 = Vector256.FusedMultiplyAdd(x, Vector256.Load(k + (3 * size)), s3);
                    s4 = Vector256.FusedMultiplyAdd(x, Vector256.Load(k + (4 * size)), s4);
                    s5 = Vector256.FusedMultiplyAdd(x, Vector256.Load(k + (5 * size)), s5);
                    s6 = Vector256.FusedMultiplyAdd(x, Vector256.Load(k + (6 * size)), s6);
                    s7 = Vector256.FusedMultiplyAdd(x, Vector256.Load(k + (7 * size)), s7);
                }

                (Vector256.Create(scale) * SumEach(s0, s1, s2, s3, s4, s5, s6, s7)).Store(z + j);
            }
        }

        for (; j < n; j++)
        {
            z[j] = scale * Dot(q, keys + ((nint)j * size), size);
        }
    }

    /// <summary>y = Σ_j p_j v_j for n rows v_j // (n, size).</summary>
    public static void WeightedSum(float* p, float* values, int n, int size, float* y)
    {
        int e = 0;
        for (; e <= size - 32; e += 32)
        {
            float* v = values + e;
            Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default;
            for (int j = 0; j < n; j++, v += size)
            {
                var weight = Vector256.Create(p[j]);
                s0 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(v), s0);
                s1 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(v + 8), s1);
                s2 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(v + 16), s2);
                s3 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(v + 24), s3);
            }

            s0.Store(y + e);
            s1.Store(y + e + 8);
            s2.Store(y + e + 16);
            s3.Store(y + e + 24);
        }

        for (; e <= size - 8; e += 8)
        {
            var s = Vector256<float>.Zero;
            for (int j = 0; j < n; j++)
            {
                s = Vector256.FusedMultiplyAdd(Vector256.Create(p[j]), Vector256.Load(values + ((nint)j * size) + e), s);
            }

            s.Store(y + e);
        }

        for (; e < size; e++)
        {
            float s = 0;
            for (int j = 0; j < n; j++)
            {
                s = MathF.FusedMultiplyAdd(p[j], values[((nint)j * size) + e], s);
            }

            y[e] = s;
        }
    }
}
