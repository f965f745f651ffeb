using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <content>
/// Two rows and more in vectors of 512 bits, two rows in each vector. Each half of a vector goes through the same operations as in
/// <see cref="Dots8x1"/>, so that the bits are the same. Each weight is read and widened once for a group of rows.
/// </content>
internal static unsafe partial class CpuLinear
{
    // Inputs of one step, and the numbers of a pair of rows in a step.
    private const int StepInputs = 16;
    private const int StepNumbers = 2 * StepInputs;

    // Rows of W at a time. With four pairs, 16 sums, 8 vectors of weights and 2 of activations use 26 of the 32 registers.
    private const int OutputsAtOnce = 4;

    private interface IPairs
    {
        static abstract int Count { get; }
    }

    /// <summary>Whether this number of rows uses pairs.</summary>
    private static bool UsesPairs(Avx512Code wide, int rows) => wide != Avx512Code.None && rows > 1;

    /// <summary>
    /// Arranges rows side by side // (K / 16, pairs, 2, 16). For each step and pair: a of <see cref="IStoredWeight.Load"/> for both rows, then b for
    /// both. If the number of rows is odd, the last pair has zeros for its second row.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Pair<T>(Floats x, float* paired)
        where T : struct, IStoredWeight
    {
        int pairs = (x.Rows + 1) / 2;
        for (int m = 0; m < 2 * pairs; m++)
        {
            float* row = m < x.Rows ? x.Row(m) : null;
            float* to = paired + (m / 2 * StepNumbers) + (m % 2 * 8);
            for (int k = 0; k <= x.Columns - StepInputs; k += StepInputs, to += (nint)pairs * StepNumbers)
            {
                var (a, b) = row is null ? default : T.SplitsEvenOdd
                    ? VectorMath.EvenOdd(row + k)
                    : (Vector256.Load(row + k), Vector256.Load(row + k + 8));
                a.Store(to);
                b.Store(to + StepInputs);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void DotPairs<T>(ref LinearJob job, int first, int begin, int end, int skip)
        where T : struct, IStoredWeight
    {
        int pairs = (Math.Min(DotRows, job.RowsByDots - first) + 1) / 2, steps = job.Inputs / StepInputs;
        nint stride = (nint)job.Inputs * T.SizeInBytes;
        float* x = job.Dots + ((nint)first * job.Inputs), sums = stackalloc float[DotRows * OutputsAtOnce];
        for (int n = begin; n < end; n += OutputsAtOnce)
        {
            int outputs = Math.Min(OutputsAtOnce, end - n);
            if (job.Wide == Avx512Code.Native)
            {
                Avx512.Dots(T.Type, pairs, job.Row<T>(n), stride, outputs, job.Ahead<T>(n, RowsAhead, end, skip), x, steps, sums);
            }
            else
            {
                DotPairs<T>(pairs, job.Row<T>(n), stride, outputs, job.Ahead<T>(n, RowsAhead, end, skip), x, steps, sums);
            }

            for (int j = 0; j < pairs; j++)
            {
                PutPair<T>(ref job, first + (2 * j), n, outputs, sums + (2 * OutputsAtOnce * j));
            }
        }
    }

    private static void DotPairs<T>(int pairs, byte* w, nint stride, int outputs, byte* ahead, float* x, nint steps, float* sums)
        where T : struct, IStoredWeight
    {
        switch (pairs)
        {
            case 1:
                DotPairs<T, OnePair>(w, stride, outputs, ahead, x, steps, sums);
                break;
            case 2:
                DotPairs<T, TwoPairs>(w, stride, outputs, ahead, x, steps, sums);
                break;
            case 3:
                DotPairs<T, ThreePairs>(w, stride, outputs, ahead, x, steps, sums);
                break;
            default:
                DotPairs<T, FourPairs>(w, stride, outputs, ahead, x, steps, sums);
                break;
        }
    }

    /// <summary>
    /// Computes sums // (pairs, 2, 4) of up to four rows of W over the first 16 · steps inputs. Missing rows of W are replaced by the first one. As
    /// much memory from <paramref name="ahead"/> on is asked for.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void DotPairs<T, TPairs>(byte* w, nint stride, int outputs, byte* ahead, float* x, nint steps, float* sums)
        where T : struct, IStoredWeight
        where TPairs : struct, IPairs
    {
        nint stepInBytes = StepInputs * T.SizeInBytes;
        byte* w0 = w, w1 = outputs > 1 ? w + stride : w, w2 = outputs > 2 ? w + (2 * stride) : w, w3 = outputs > 3 ? w + (3 * stride) : w;

        // s_ij: output i, pair j
        Vector512<float> s00 = default, s10 = default, s20 = default, s30 = default, s01 = default, s11 = default, s21 = default, s31 = default;
        Vector512<float> s02 = default, s12 = default, s22 = default, s32 = default, s03 = default, s13 = default, s23 = default, s33 = default;
        for (nint k = 0; k < steps; k++)
        {
            T.LoadBoth(w0, out var a0, out var b0);
            T.LoadBoth(w1, out var a1, out var b1);
            T.LoadBoth(w2, out var a2, out var b2);
            T.LoadBoth(w3, out var a3, out var b3);

            // In the order of the memory: four rows side by side would be slower by a tenth.
            if (stepInBytes == LineInBytes || (k & 1) == 0)
            {
                Sse.Prefetch1(ahead);
                Sse.Prefetch1(ahead + LineInBytes);
                Sse.Prefetch1(ahead + (2 * LineInBytes));
                Sse.Prefetch1(ahead + (3 * LineInBytes));
                ahead += OutputsAtOnce * LineInBytes;
            }

            AddPair(x, a0, b0, a1, b1, a2, b2, a3, b3, ref s00, ref s10, ref s20, ref s30);
            if (TPairs.Count > 1)
            {
                AddPair(x + StepNumbers, a0, b0, a1, b1, a2, b2, a3, b3, ref s01, ref s11, ref s21, ref s31);
            }

            if (TPairs.Count > 2)
            {
                AddPair(x + (2 * StepNumbers), a0, b0, a1, b1, a2, b2, a3, b3, ref s02, ref s12, ref s22, ref s32);
            }

            if (TPairs.Count > 3)
            {
                AddPair(x + (3 * StepNumbers), a0, b0, a1, b1, a2, b2, a3, b3, ref s03, ref s13, ref s23, ref s33);
            }

            x += TPairs.Count * StepNumbers;
            w0 += stepInBytes;
            w1 += stepInBytes;
            w2 += stepInBytes;
            w3 += stepInBytes;
        }

        Sum(s00, s10, s20, s30).Store(sums);
        if (TPairs.Count > 1)
        {
            Sum(s01, s11, s21, s31).Store(sums + (2 * OutputsAtOnce));
        }

        if (TPairs.Count > 2)
        {
            Sum(s02, s12, s22, s32).Store(sums + (4 * OutputsAtOnce));
        }

        if (TPairs.Count > 3)
        {
            Sum(s03, s13, s23, s33).Store(sums + (6 * OutputsAtOnce));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddPair(
        float* x,
        Vector512<float> a0,
        Vector512<float> b0,
        Vector512<float> a1,
        Vector512<float> b1,
        Vector512<float> a2,
        Vector512<float> b2,
        Vector512<float> a3,
        Vector512<float> b3,
        ref Vector512<float> s0,
        ref Vector512<float> s1,
        ref Vector512<float> s2,
        ref Vector512<float> s3)
    {
        var xa = Avx512F.LoadVector512(x);
        var xb = Avx512F.LoadVector512(x + StepInputs);
        s0 = Avx512F.FusedMultiplyAdd(b0, xb, Avx512F.FusedMultiplyAdd(a0, xa, s0));
        s1 = Avx512F.FusedMultiplyAdd(b1, xb, Avx512F.FusedMultiplyAdd(a1, xa, s1));
        s2 = Avx512F.FusedMultiplyAdd(b2, xb, Avx512F.FusedMultiplyAdd(a2, xa, s2));
        s3 = Avx512F.FusedMultiplyAdd(b3, xb, Avx512F.FusedMultiplyAdd(a3, xa, s3));
    }

    /// <summary>The sums of four outputs: for the first row of a pair, then for the second.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Sum(Vector512<float> s0, Vector512<float> s1, Vector512<float> s2, Vector512<float> s3)
    {
        // As VectorMath.SumEach in each half. A quarter of a vector then holds one sum of each output.
        var quarters = Neighbours(Neighbours(s0, s1), Neighbours(s2, s3));
        return (Avx512F.Shuffle4x128(quarters, quarters, 0b_10_00) + Avx512F.Shuffle4x128(quarters, quarters, 0b_11_01)).GetLower();
    }

    /// <summary>Sums of two neighbours: two of a, then two of b, in each quarter.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Neighbours(Vector512<float> a, Vector512<float> b) =>
        Avx512F.Shuffle(a, b, 0b_10_00_10_00) + Avx512F.Shuffle(a, b, 0b_11_01_11_01);

    /// <summary>Writes outputs n .. n + outputs − 1 of rows m and m + 1.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PutPair<T>(ref LinearJob job, int m, int n, int outputs, float* sums)
        where T : struct, IStoredWeight
    {
        if (outputs == OutputsAtOnce && job.Inputs % StepInputs == 0)
        {
            job.PutFour(m, n, Vector128.Load(sums));
            if (m + 1 < job.RowsByDots)
            {
                job.PutFour(m + 1, n, Vector128.Load(sums + OutputsAtOnce));
            }

            return;
        }

        PutRest<T>(ref job, m, n, outputs, sums);
    }

    /// <summary>Like <see cref="PutPair"/>, for a rest of inputs or fewer than four outputs.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void PutRest<T>(ref LinearJob job, int m, int n, int outputs, float* sums)
        where T : struct, IStoredWeight
    {
        int k = job.Inputs / StepInputs * StepInputs;
        for (int row = m; row < Math.Min(m + 2, job.RowsByDots); row++)
        {
            for (int i = 0; i < outputs; i++)
            {
                float sum = sums[((row - m) * OutputsAtOnce) + i];
                job.Put(row, n + i, k < job.Inputs ? sum + Tail<T>(job.Row<T>(n + i), job.X + ((nint)row * job.Inputs), k, job.Inputs) : sum);
            }
        }
    }

    private readonly struct OnePair : IPairs
    {
        public static int Count => 1;
    }

    private readonly struct TwoPairs : IPairs
    {
        public static int Count => 2;
    }

    private readonly struct ThreePairs : IPairs
    {
        public static int Count => 3;
    }

    private readonly struct FourPairs : IPairs
    {
        public static int Count => 4;
    }
}
