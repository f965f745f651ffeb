using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

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
}
