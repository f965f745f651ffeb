using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Tiller.Kernels;

namespace Tiller.Ops;

/// <summary>How the CPU reads 16 stored weights as two float32 vectors.</summary>
internal unsafe interface IStoredWeight
{
    static abstract WeightType Type { get; }

    static abstract int SizeInBytes { get; }

    /// <summary>Whether <see cref="Load"/> returns the even and the odd elements instead of the lower and the upper eight.</summary>
    static abstract bool SplitsEvenOdd { get; }

    static abstract void Load(byte* p, out Vector256<float> a, out Vector256<float> b);

    /// <summary>As <see cref="Load"/>, each vector twice, side by side; where there is AVX-512.</summary>
    static abstract void LoadBoth(byte* p, out Vector512<float> a, out Vector512<float> b);

    /// <summary>Reads sixteen weights in their natural order.</summary>
    static abstract void LoadInOrder(byte* p, out Vector256<float> a, out Vector256<float> b);

    /// <summary>Reads sixteen weights in their natural order into one vector; where there is AVX-512.</summary>
    static abstract Vector512<float> LoadSixteen(byte* p);

    static abstract float LoadOne(byte* p);
}

/// <summary>bfloat16 is the upper half of float32.</summary>
internal readonly unsafe struct Bf16Weight : IStoredWeight
{
    public static WeightType Type => WeightType.BF16;

    public static int SizeInBytes => 2;

    public static bool SplitsEvenOdd => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(byte* p, out Vector256<float> a, out Vector256<float> b)
    {
        var pairs = Vector256.Load((uint*)p);
        a = (pairs << 16).AsSingle();
        b = (pairs & Vector256.Create(0xFFFF0000u)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadBoth(byte* p, out Vector512<float> a, out Vector512<float> b)
    {
        var pairs = Avx512DQ.BroadcastVector256ToVector512((uint*)p);
        a = (pairs << 16).AsSingle();
        b = (pairs & Vector512.Create(0xFFFF0000u)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadInOrder(byte* p, out Vector256<float> a, out Vector256<float> b)
    {
        a = (Widen8((ushort*)p) << 16).AsSingle();
        b = (Widen8((ushort*)p + 8) << 16).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadSixteen(byte* p) =>
        (Avx512F.ConvertToVector512UInt32(Vector256.Load((ushort*)p)) << 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* p) => BitConverter.UInt32BitsToSingle((uint)*(ushort*)p << 16);

    // One instruction on AVX2; widening a loaded vector would take three.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<uint> Widen8(ushort* p) =>
        Avx2.IsSupported
            ? Avx2.ConvertToVector256Int32(p).AsUInt32()
            : Vector256.Create(Vector128.WidenLower(Vector128.Load(p)), Vector128.WidenUpper(Vector128.Load(p)));
}

/// <summary>
/// IEEE half: sign, 5 bits of exponent, 10 of fraction. The bits are moved to the float32 fields and scaled by 2^112, which is exact.
/// </summary>
internal readonly unsafe struct F16Weight : IStoredWeight
{
    public static WeightType Type => WeightType.F16;

    public static int SizeInBytes => 2;

    public static bool SplitsEvenOdd => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(byte* p, out Vector256<float> a, out Vector256<float> b)
    {
        var pairs = Vector256.Load((uint*)p);
        a = Widen(pairs << 16);
        b = Widen(pairs & Vector256.Create(0xFFFF0000u));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadBoth(byte* p, out Vector512<float> a, out Vector512<float> b)
    {
        Load(p, out var lower, out var upper);
        (a, b) = (Vector512.Create(lower, lower), Vector512.Create(upper, upper));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadInOrder(byte* p, out Vector256<float> a, out Vector256<float> b)
    {
        a = Widen(Bf16Weight.Widen8((ushort*)p) << 16);
        b = Widen(Bf16Weight.Widen8((ushort*)p + 8) << 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadSixteen(byte* p)
    {
        LoadInOrder(p, out var lower, out var upper);
        return Vector512.Create(lower, upper);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* p) => (float)*(Half*)p;

    // The half is in the upper 16 bits of each lane.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Widen(Vector256<uint> upper)
    {
        var magnitude = (upper & Vector256.Create(0x7FFF0000u)) >>> 3;
        var scaled = magnitude.AsSingle() * Vector256.Create(BitConverter.UInt32BitsToSingle((112u + 127u) << 23));
        // Scaling would not preserve infinity and NaN, which have all exponent bits set.
        var special = Vector256.GreaterThanOrEqual(magnitude, Vector256.Create(0x0F800000u));
        var finite = scaled.AsUInt32() | (special & Vector256.Create(0x7F800000u));
        return (finite | (upper & Vector256.Create(0x80000000u))).AsSingle();
    }
}

internal readonly unsafe struct F32Weight : IStoredWeight
{
    public static WeightType Type => WeightType.F32;

    public static int SizeInBytes => 4;

    public static bool SplitsEvenOdd => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(byte* p, out Vector256<float> a, out Vector256<float> b) => LoadInOrder(p, out a, out b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadBoth(byte* p, out Vector512<float> a, out Vector512<float> b)
    {
        a = Avx512DQ.BroadcastVector256ToVector512((float*)p);
        b = Avx512DQ.BroadcastVector256ToVector512((float*)p + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadInOrder(byte* p, out Vector256<float> a, out Vector256<float> b)
    {
        a = Vector256.Load((float*)p);
        b = Vector256.Load((float*)p + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> LoadSixteen(byte* p) => Vector512.Load((float*)p);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* p) => *(float*)p;
}
