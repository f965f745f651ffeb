using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Tiller.Bench;

/// <summary>A kind of vector for multiply-adds.</summary>
internal interface IFma<TVector>
    where TVector : struct
{
    /// <summary>Creates a vector of equal lanes.</summary>
    static abstract TVector Create(double value);

    /// <summary>x·m + b.</summary>
    static abstract TVector Step(TVector x, TVector m, TVector b);

    /// <summary>A number that depends on every lane.</summary>
    static abstract double Sum(TVector x);
}

internal readonly struct Single256 : IFma<Vector256<float>>
{
    public static Vector256<float> Create(double value) => Vector256.Create((float)value);

    public static Vector256<float> Step(Vector256<float> x, Vector256<float> m, Vector256<float> b) => Vector256.MultiplyAddEstimate(x, m, b);

    public static double Sum(Vector256<float> x) => Vector256.Sum(x);
}

internal readonly struct Double256 : IFma<Vector256<double>>
{
    public static Vector256<double> Create(double value) => Vector256.Create(value);

    public static Vector256<double> Step(Vector256<double> x, Vector256<double> m, Vector256<double> b) => Vector256.MultiplyAddEstimate(x, m, b);

    public static double Sum(Vector256<double> x) => Vector256.Sum(x);
}

internal readonly struct Single512 : IFma<Vector512<float>>
{
    public static Vector512<float> Create(double value) => Vector512.Create((float)value);

    public static Vector512<float> Step(Vector512<float> x, Vector512<float> m, Vector512<float> b) => Avx512F.FusedMultiplyAdd(x, m, b);

    public static double Sum(Vector512<float> x) => Vector512.Sum(x);
}

internal readonly struct Double512 : IFma<Vector512<double>>
{
    public static Vector512<double> Create(double value) => Vector512.Create(value);

    public static Vector512<double> Step(Vector512<double> x, Vector512<double> m, Vector512<double> b) => Avx512F.FusedMultiplyAdd(x, m, b);

    public static double Sum(Vector512<double> x) => Vector512.Sum(x);
}

/// <summary>Independent chains of multiply-adds: enough to hide the latency, and few enough for 16 registers.</summary>
internal static class RegisterChains
{
    /// <summary>Number of chains.</summary>
    public const int Count = 12;

    /// <summary>x ← x·m + b on every chain, which tends to 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Run<TFma, TVector>(int rounds, double start)
        where TFma : struct, IFma<TVector>
        where TVector : struct
    {
        TVector m = TFma.Create(0.999), b = TFma.Create(0.001), x0 = TFma.Create(start);
        TVector x1 = x0, x2 = x0, x3 = x0, x4 = x0, x5 = x0, x6 = x0, x7 = x0, x8 = x0, x9 = x0, x10 = x0, x11 = x0;
        for (int i = 0; i < rounds; i++)
        {
            x0 = TFma.Step(x0, m, b);
            x1 = TFma.Step(x1, m, b);
            x2 = TFma.Step(x2, m, b);
            x3 = TFma.Step(x3, m, b);
            x4 = TFma.Step(x4, m, b);
            x5 = TFma.Step(x5, m, b);
            x6 = TFma.Step(x6, m, b);
            x7 = TFma.Step(x7, m, b);
            x8 = TFma.Step(x8, m, b);
            x9 = TFma.Step(x9, m, b);
            x10 = TFma.Step(x10, m, b);
            x11 = TFma.Step(x11, m, b);
        }

        return TFma.Sum(x0) + TFma.Sum(x1) + TFma.Sum(x2) + TFma.Sum(x3) + TFma.Sum(x4) + TFma.Sum(x5)
            + TFma.Sum(x6) + TFma.Sum(x7) + TFma.Sum(x8) + TFma.Sum(x9) + TFma.Sum(x10) + TFma.Sum(x11);
    }
}
