using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Tiller.Cpu;

/// <summary>Short vector operations for the CPU's attention and norms. Every sum has a fixed order.</summary>
internal static unsafe class VectorMath
{
    /// <summary>
    /// e^x for x ≤ 0, within 2 units in the last place; 1 for 0, NaN for NaN, and 0 where e^x is below 10^-37. With n = round(x/ln 2) and
    /// r = x − n ln 2, e^x = 2^n e^r, where the polynomial for e^r is that of Cephes' expf.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> ExpOfNegative(Vector256<float> x)
    {
        // Adding 1.5 · 2^23 rounds to an integer, which is then in the low bits.
        const float Rounder = 12582912, Lowest = -85;
        const int Bias = 127, FractionBits = 23;
        var shifted = Vector256.MultiplyAddEstimate(x, Vector256.Create(1.44269504f), Vector256.Create(Rounder));
        var n = shifted - Vector256.Create(Rounder);
        var r = Vector256.MultiplyAddEstimate(n, Vector256.Create(-0.693359375f), x);
        r = Vector256.MultiplyAddEstimate(n, Vector256.Create(2.12194440e-4f), r);
        var y = Vector256.MultiplyAddEstimate(r, Vector256.Create(1.9875691500e-4f), Vector256.Create(1.3981999507e-3f));
        y = Vector256.MultiplyAddEstimate(y, r, Vector256.Create(8.3334519073e-3f));
        y = Vector256.MultiplyAddEstimate(y, r, Vector256.Create(4.1665795894e-2f));
        y = Vector256.MultiplyAddEstimate(y, r, Vector256.Create(1.6666665459e-1f));
        y = Vector256.MultiplyAddEstimate(y, r, Vector256.Create(5.0000001201e-1f));
        y = Vector256.MultiplyAddEstimate(y, r * r, r) + Vector256<float>.One;
        var power = ((shifted.AsInt32() + Vector256.Create(Bias)) << FractionBits).AsSingle();
        return Vector256.ConditionalSelect(Vector256.LessThan(x, Vector256.Create(Lowest)), Vector256<float>.Zero, y * power);
    }

    /// <summary>x · y.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Dot(float* x, float* y, int n)
    {
        var sum = Vector256<float>.Zero;
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            sum = Vector256.MultiplyAddEstimate(Vector256.Load(x + i), Vector256.Load(y + i), sum);
        }

        float rest = 0;
        for (; i < n; i++)
        {
            rest += x[i] * y[i];
        }

        return Vector256.Sum(sum) + rest;
    }

    /// <summary>x · y and x · x, with the bits of <see cref="Dot"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (float Xy, float Xx) DotAndSquare(float* x, float* y, int n)
    {
        var product = Vector256<float>.Zero;
        var square = Vector256<float>.Zero;
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            var v = Vector256.Load(x + i);
            product = Vector256.MultiplyAddEstimate(v, Vector256.Load(y + i), product);
            square = Vector256.MultiplyAddEstimate(v, v, square);
        }

        float productRest = 0, squareRest = 0;
        for (; i < n; i++)
        {
            productRest += x[i] * y[i];
            squareRest += x[i] * x[i];
        }

        return (Vector256.Sum(product) + productRest, Vector256.Sum(square) + squareRest);
    }

    /// <summary>y += a x.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void AddScaled(float a, float* x, float* y, int n)
    {
        var scale = Vector256.Create(a);
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            Vector256.MultiplyAddEstimate(scale, Vector256.Load(x + i), Vector256.Load(y + i)).Store(y + i);
        }

        for (; i < n; i++)
        {
            y[i] = float.MultiplyAddEstimate(a, x[i], y[i]);
        }
    }

    /// <summary>z = b (y + a x) ∘ w.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void ScaledSumProduct(float a, float* x, float* y, float b, float* w, float* z, int n)
    {
        var (along, scale) = (Vector256.Create(a), Vector256.Create(b));
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            var sum = Vector256.MultiplyAddEstimate(along, Vector256.Load(x + i), Vector256.Load(y + i));
            (scale * sum * Vector256.Load(w + i)).Store(z + i);
        }

        for (; i < n; i++)
        {
            z[i] = b * float.MultiplyAddEstimate(a, x[i], y[i]) * w[i];
        }
    }

    /// <summary>z = a ∘ x + b ∘ y.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void SumOfProducts(float* a, float* x, float* b, float* y, float* z, int n)
    {
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            var product = Vector256.Load(a + i) * Vector256.Load(x + i);
            Vector256.MultiplyAddEstimate(Vector256.Load(b + i), Vector256.Load(y + i), product).Store(z + i);
        }

        for (; i < n; i++)
        {
            z[i] = float.MultiplyAddEstimate(b[i], y[i], a[i] * x[i]);
        }
    }

    /// <summary>Rotates n pairs (x_i, y_i) by angles with the given cosines and sines, forward or backward.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Turn(float* x, float* y, float* cos, float* sin, bool forward, int n)
    {
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            var (c, s) = (Vector256.Load(cos + i), forward ? Vector256.Load(sin + i) : -Vector256.Load(sin + i));
            var (a, b) = (Vector256.Load(x + i), Vector256.Load(y + i));
            ((a * c) - (b * s)).Store(x + i);
            ((b * c) + (a * s)).Store(y + i);
        }

        for (; i < n; i++)
        {
            float s = forward ? sin[i] : -sin[i];
            (x[i], y[i]) = ((x[i] * cos[i]) - (y[i] * s), (y[i] * cos[i]) + (x[i] * s));
        }
    }

    /// <summary>|x|, summed in float64, so that it neither overflows nor loses bits of float32.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double NormWidened(ReadOnlySpan<float> x)
    {
        fixed (float* from = x)
        {
            var sum = Vector256<double>.Zero;
            int i = 0;
            for (; i <= x.Length - 8; i += 8)
            {
                var (lower, upper) = Vector256.Widen(Vector256.Load(from + i));
                sum += (lower * lower) + (upper * upper);
            }

            double rest = 0;
            for (; i < x.Length; i++)
            {
                rest += (double)from[i] * from[i];
            }

            return Math.Sqrt(Vector256.Sum(sum) + rest);
        }
    }

    /// <summary>Computes y += u, and returns |u|, summed in float64.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double AddWithNorm(float* u, float* y, int n)
    {
        var (even, odd) = (Vector256<double>.Zero, Vector256<double>.Zero);
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            var v = Vector256.Load(u + i);
            (Vector256.Load(y + i) + v).Store(y + i);
            var (lower, upper) = Vector256.Widen(v);
            even = Vector256.MultiplyAddEstimate(lower, lower, even);
            odd = Vector256.MultiplyAddEstimate(upper, upper, odd);
        }

        double rest = 0;
        for (; i < n; i++)
        {
            y[i] += u[i];
            rest += (double)u[i] * u[i];
        }

        return Math.Sqrt(Vector256.Sum(even + odd) + rest);
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

    /// <summary>Rounds each number to the nearest float32.</summary>
    public static void RoundToSingle(double* y, int n)
    {
        int i = 0;
        for (; i <= n - 8; i += 8)
        {
            var (lower, upper) = Vector256.Widen(Vector256.Narrow(Vector256.Load(y + i), Vector256.Load(y + i + 4)));
            lower.Store(y + i);
            upper.Store(y + i + 4);
        }

        for (; i < n; i++)
        {
            y[i] = (float)y[i];
        }
    }

    /// <summary>The even and the odd ones of sixteen numbers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static (Vector256<float> Even, Vector256<float> Odd) EvenOdd(float* x)
    {
        if (!Avx2.IsSupported)
        {
            return (
                Vector256.Create(x[0], x[2], x[4], x[6], x[8], x[10], x[12], x[14]),
                Vector256.Create(x[1], x[3], x[5], x[7], x[9], x[11], x[13], x[15]));
        }

        var (lower, upper) = (Vector256.Load(x), Vector256.Load(x + 8));
        return (InOrder(Avx.Shuffle(lower, upper, 0x88)), InOrder(Avx.Shuffle(lower, upper, 0xDD)));

        // A shuffle works on each half of its vectors, so that the pairs are in the order 0 2 1 3.
        static Vector256<float> InOrder(Vector256<float> pairs) => Avx2.Permute4x64(pairs.AsDouble(), 0xD8).AsSingle();
    }

    /// <summary>The sums of eight vectors, in order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<float> SumEach(
        Vector256<float> a, Vector256<float> b, Vector256<float> c, Vector256<float> d, Vector256<float> e, Vector256<float> f, Vector256<float> g,
        Vector256<float> h)
    {
        if (!Avx.IsSupported)
        {
            return Vector256.Create(
                Vector256.Sum(a), Vector256.Sum(b), Vector256.Sum(c), Vector256.Sum(d), Vector256.Sum(e), Vector256.Sum(f), Vector256.Sum(g),
                Vector256.Sum(h));
        }

        var abcd = Avx.HorizontalAdd(Avx.HorizontalAdd(a, b), Avx.HorizontalAdd(c, d));
        var efgh = Avx.HorizontalAdd(Avx.HorizontalAdd(e, f), Avx.HorizontalAdd(g, h));
        return Avx.Permute2x128(abcd, efgh, 0x20) + Avx.Permute2x128(abcd, efgh, 0x31);
    }

    /// <summary>The sums of four vectors, in order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<float> SumEach(Vector256<float> a, Vector256<float> b, Vector256<float> c, Vector256<float> d)
    {
        if (!Avx.IsSupported)
        {
            return Vector128.Create(Vector256.Sum(a), Vector256.Sum(b), Vector256.Sum(c), Vector256.Sum(d));
        }

        var abcd = Avx.HorizontalAdd(Avx.HorizontalAdd(a, b), Avx.HorizontalAdd(c, d));
        return abcd.GetLower() + abcd.GetUpper();
    }

    /// <summary>z_j = scale q·k_j for n rows k_j // (n, size).</summary>
    public static void ScaledDots(float scale, float* q, float* keys, int n, int size, float* z)
    {
        var nothing = default(ReadAhead);
        ScaledDots(scale, q, keys, n, size, z, ref nothing);
    }

    /// <summary>As the function above; asks for other memory after every <see cref="ReadAhead.Rows"/> rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ScaledDots(float scale, float* q, float* keys, int n, int size, float* z, ref ReadAhead ahead)
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
                    s0 = Vector256.MultiplyAddEstimate(x, Vector256.Load(k), s0);
                    s1 = Vector256.MultiplyAddEstimate(x, Vector256.Load(k + size), s1);
                    s2 = Vector256.MultiplyAddEstimate(x, Vector256.Load(k + (2 * size)), s2);
                    s3 = Vector256.MultiplyAddEstimate(x, Vector256.Load(k + (3 * size)), s3);
                    s4 = Vector256.MultiplyAddEstimate(x, Vector256.Load(k + (4 * size)), s4);
                    s5 = Vector256.MultiplyAddEstimate(x, Vector256.Load(k + (5 * size)), s5);
                    s6 = Vector256.MultiplyAddEstimate(x, Vector256.Load(k + (6 * size)), s6);
                    s7 = Vector256.MultiplyAddEstimate(x, Vector256.Load(k + (7 * size)), s7);
                }

                (Vector256.Create(scale) * SumEach(s0, s1, s2, s3, s4, s5, s6, s7)).Store(z + j);
                ahead.Ask();
            }
        }

        for (; j < n; j++)
        {
            z[j] = scale * Dot(q, keys + ((nint)j * size), size);
        }
    }

    /// <summary>
    /// y (+)= Σ_j p_j v_j for n rows v_j // (n, size). Every sum follows the order of j; if <paramref name="add"/>, it starts from y.
    /// </summary>
    public static void WeightedSum(float* p, float* values, int n, int size, float* y, bool add = false)
    {
        var nothing = default(ReadAhead);
        WeightedSum(p, values, n, size, y, add, ref nothing);
    }

    /// <summary>As the function above; asks for other memory after every <see cref="ReadAhead.Rows"/> rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void WeightedSum(float* p, float* values, int n, int size, float* y, bool add, ref ReadAhead ahead)
    {
        int e = 0;
        for (; e <= size - 64; e += 64)
        {
            float* v = values + e;
            Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default;
            if (add)
            {
                (s0, s1, s2, s3) = (Vector256.Load(y + e), Vector256.Load(y + e + 8), Vector256.Load(y + e + 16), Vector256.Load(y + e + 24));
                (s4, s5) = (Vector256.Load(y + e + 32), Vector256.Load(y + e + 40));
                (s6, s7) = (Vector256.Load(y + e + 48), Vector256.Load(y + e + 56));
            }

            for (int j = 0; j < n; j++, v += size)
            {
                var weight = Vector256.Create(p[j]);
                s0 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v), s0);
                s1 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v + 8), s1);
                s2 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v + 16), s2);
                s3 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v + 24), s3);
                s4 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v + 32), s4);
                s5 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v + 40), s5);
                s6 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v + 48), s6);
                s7 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v + 56), s7);
                if (j % ReadAhead.Rows == 0)
                {
                    ahead.Ask();
                }
            }

            s0.Store(y + e);
            s1.Store(y + e + 8);
            s2.Store(y + e + 16);
            s3.Store(y + e + 24);
            s4.Store(y + e + 32);
            s5.Store(y + e + 40);
            s6.Store(y + e + 48);
            s7.Store(y + e + 56);
        }

        for (; e <= size - 32; e += 32)
        {
            float* v = values + e;
            Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default;
            if (add)
            {
                (s0, s1, s2, s3) = (Vector256.Load(y + e), Vector256.Load(y + e + 8), Vector256.Load(y + e + 16), Vector256.Load(y + e + 24));
            }

            for (int j = 0; j < n; j++, v += size)
            {
                var weight = Vector256.Create(p[j]);
                s0 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v), s0);
                s1 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v + 8), s1);
                s2 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v + 16), s2);
                s3 = Vector256.MultiplyAddEstimate(weight, Vector256.Load(v + 24), s3);
            }

            s0.Store(y + e);
            s1.Store(y + e + 8);
            s2.Store(y + e + 16);
            s3.Store(y + e + 24);
        }

        for (; e <= size - 8; e += 8)
        {
            var s = add ? Vector256.Load(y + e) : Vector256<float>.Zero;
            for (int j = 0; j < n; j++)
            {
                s = Vector256.MultiplyAddEstimate(Vector256.Create(p[j]), Vector256.Load(values + ((nint)j * size) + e), s);
            }

            s.Store(y + e);
        }

        for (; e < size; e++)
        {
            float s = add ? y[e] : 0;
            for (int j = 0; j < n; j++)
            {
                s = float.MultiplyAddEstimate(p[j], values[((nint)j * size) + e], s);
            }

            y[e] = s;
        }
    }

    /// <summary>
    /// M += Σ_j x_j' y_j for n rows x_j, y_j // (n, size) and M // (size, size), for sizes that <see cref="PanelTiles"/> cannot divide. Every entry
    /// sums in the order of j.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void AddOuterProducts(float* x, float* y, int n, int size, float* m)
    {
        for (int j = 0; j < n; j++)
        {
            for (int row = 0; row < size; row++)
            {
                AddScaled(x[(j * size) + row], y + (j * size), m + (row * size), size);
            }
        }
    }

    /// <summary>
    /// Computes to[j, i] = from[i, j] (+ addend[j, i]) for a block of 8×8. Rows are the given strides apart; the addend has the stride of
    /// <paramref name="to"/>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Transpose8x8(float* from, nint fromStride, float* to, nint toStride, float* addend = null)
    {
        if (!Avx.IsSupported)
        {
            for (int i = 0; i < 8; i++)
            {
                for (int j = 0; j < 8; j++)
                {
                    nint at = (j * toStride) + i;
                    to[at] = addend is null ? from[(i * fromStride) + j] : addend[at] + from[(i * fromStride) + j];
                }
            }

            return;
        }

        // Combines pairs of rows, then groups of four, then halves.
        var a = Avx.LoadVector256(from);
        var b = Avx.LoadVector256(from + fromStride);
        var c = Avx.LoadVector256(from + (2 * fromStride));
        var d = Avx.LoadVector256(from + (3 * fromStride));
        var e = Avx.LoadVector256(from + (4 * fromStride));
        var f = Avx.LoadVector256(from + (5 * fromStride));
        var g = Avx.LoadVector256(from + (6 * fromStride));
        var h = Avx.LoadVector256(from + (7 * fromStride));
        var ab0 = Avx.UnpackLow(a, b);
        var ab1 = Avx.UnpackHigh(a, b);
        var cd0 = Avx.UnpackLow(c, d);
        var cd1 = Avx.UnpackHigh(c, d);
        var ef0 = Avx.UnpackLow(e, f);
        var ef1 = Avx.UnpackHigh(e, f);
        var gh0 = Avx.UnpackLow(g, h);
        var gh1 = Avx.UnpackHigh(g, h);
        var abcd0 = Avx.Shuffle(ab0, cd0, 0x44);
        var abcd1 = Avx.Shuffle(ab0, cd0, 0xEE);
        var abcd2 = Avx.Shuffle(ab1, cd1, 0x44);
        var abcd3 = Avx.Shuffle(ab1, cd1, 0xEE);
        var efgh0 = Avx.Shuffle(ef0, gh0, 0x44);
        var efgh1 = Avx.Shuffle(ef0, gh0, 0xEE);
        var efgh2 = Avx.Shuffle(ef1, gh1, 0x44);
        var efgh3 = Avx.Shuffle(ef1, gh1, 0xEE);
        Put(Avx.Permute2x128(abcd0, efgh0, 0x20), to, addend, 0);
        Put(Avx.Permute2x128(abcd1, efgh1, 0x20), to, addend, toStride);
        Put(Avx.Permute2x128(abcd2, efgh2, 0x20), to, addend, 2 * toStride);
        Put(Avx.Permute2x128(abcd3, efgh3, 0x20), to, addend, 3 * toStride);
        Put(Avx.Permute2x128(abcd0, efgh0, 0x31), to, addend, 4 * toStride);
        Put(Avx.Permute2x128(abcd1, efgh1, 0x31), to, addend, 5 * toStride);
        Put(Avx.Permute2x128(abcd2, efgh2, 0x31), to, addend, 6 * toStride);
        Put(Avx.Permute2x128(abcd3, efgh3, 0x31), to, addend, 7 * toStride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(Vector256<float> row, float* to, float* addend, nint at) =>
        (addend is null ? row : Vector256.Load(addend + at) + row).Store(to + at);
}
