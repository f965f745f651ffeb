using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <content>
/// Two to eight rows in vectors of 512 bits, two rows in one: a row's half goes through the operations of <see cref="Dots8x1"/>, so that its bits
/// are the same. Each weight is read and widened once for all rows.
/// </content>
internal static unsafe partial class CpuLinear
{
    // Inputs of one step, and numbers of a pair of rows in it.
    private const int StepInputs = 16;
    private const int StepNumbers = 2 * StepInputs;

    // Rows of W at a time: with four pairs 16 sums, 8 vectors of weights and 2 of activations are in registers, of which there are 32.
    private const int OutputsAtOnce = 4;

    private interface IPairs
    {
        static abstract int Count { get; }
    }

    /// <summary>
    /// Whether so many rows of dot products go in pairs. A program built ahead of time for processors without AVX-512 has no such code, since its
    /// compiler takes these instructions for certain or not at all.
    /// </summary>
    private static bool UsesPairs(int rows) => Avx512F.IsSupported && rows > 1;

    /// <summary>
    /// Rows side by side // (K / 16, pairs, 2, 16): for each step and pair, what <see cref="IStoredWeight.Load"/> calls a of both rows, then b of
    /// both. The last row of an odd number has zeros beside it.
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

    private static void DotPairs<T>(ref LinearJob job, int begin, int end)
        where T : struct, IStoredWeight
    {
        switch ((job.RowsByDots + 1) / 2)
        {
            case 1:
                DotPairs<T, OnePair>(ref job, begin, end);
                break;
            case 2:
                DotPairs<T, TwoPairs>(ref job, begin, end);
                break;
            case 3:
                DotPairs<T, ThreePairs>(ref job, begin, end);
                break;
            default:
                DotPairs<T, FourPairs>(ref job, begin, end);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void DotPairs<T, TPairs>(ref LinearJob job, int begin, int end)
        where T : struct, IStoredWeight
        where TPairs : struct, IPairs
    {
        int inputs = job.Inputs, last = end - 1;
        for (int n = begin; n < end; n += OutputsAtOnce)
        {
            byte* w0 = job.Row<T>(n), w1 = job.Row<T>(Math.Min(n + 1, last));
            byte* w2 = job.Row<T>(Math.Min(n + 2, last)), w3 = job.Row<T>(Math.Min(n + 3, last));

            // s_ij: output i, pair j
            Vector512<float> s00 = default, s10 = default, s20 = default, s30 = default, s01 = default, s11 = default, s21 = default, s31 = default;
            Vector512<float> s02 = default, s12 = default, s22 = default, s32 = default, s03 = default, s13 = default, s23 = default, s33 = default;
            float* x = job.Dots;
            int k = 0;
            for (; k <= inputs - StepInputs; k += StepInputs, x += TPairs.Count * StepNumbers)
            {
                nint at = (nint)k * T.SizeInBytes;
                Both<T>(w0 + at, out var a0, out var b0);
                Both<T>(w1 + at, out var a1, out var b1);
                Both<T>(w2 + at, out var a2, out var b2);
                Both<T>(w3 + at, out var a3, out var b3);
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
            }

            PutPair<T>(ref job, 0, n, end, k, s00, s10, s20, s30);
            if (TPairs.Count > 1)
            {
                PutPair<T>(ref job, 2, n, end, k, s01, s11, s21, s31);
            }

            if (TPairs.Count > 2)
            {
                PutPair<T>(ref job, 4, n, end, k, s02, s12, s22, s32);
            }

            if (TPairs.Count > 3)
            {
                PutPair<T>(ref job, 6, n, end, k, s03, s13, s23, s33);
            }
        }
    }

    /// <summary>Sixteen weights as <see cref="IStoredWeight.Load"/> gives them, for two rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Both<T>(byte* w, out Vector512<float> a, out Vector512<float> b)
        where T : struct, IStoredWeight
    {
        T.Load(w, out var lower, out var upper);
        a = Avx512F.InsertVector256(lower.ToVector512Unsafe(), lower, 1);
        b = Avx512F.InsertVector256(upper.ToVector512Unsafe(), upper, 1);
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

    /// <summary>Outputs n .. n + 3 of the rows m and m + 1, from the sums up to input k.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PutPair<T>(
        ref LinearJob job, int m, int n, int end, int k, Vector512<float> s0, Vector512<float> s1, Vector512<float> s2, Vector512<float> s3)
        where T : struct, IStoredWeight
    {
        var sums = VectorMath.SumEach(
            s0.GetLower(), s1.GetLower(), s2.GetLower(), s3.GetLower(), s0.GetUpper(), s1.GetUpper(), s2.GetUpper(), s3.GetUpper());
        if (k == job.Inputs && end - n >= OutputsAtOnce)
        {
            job.PutFour(m, n, sums.GetLower());
            if (m + 1 < job.RowsByDots)
            {
                job.PutFour(m + 1, n, sums.GetUpper());
            }

            return;
        }

        PutRest<T>(ref job, m, n, end, k, sums);
    }

    /// <summary>As <see cref="PutPair"/>, where inputs are left or outputs are fewer than four.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void PutRest<T>(ref LinearJob job, int m, int n, int end, int k, Vector256<float> sums)
        where T : struct, IStoredWeight
    {
        for (int row = m; row < Math.Min(m + 2, job.RowsByDots); row++)
        {
            for (int i = 0; i < Math.Min(OutputsAtOnce, end - n); i++)
            {
                float sum = sums.GetElement(((row - m) * OutputsAtOnce) + i);
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
