using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <content>Few rows: dot products.</content>
internal static unsafe partial class CpuLinear
{
    /// <summary>
    /// Arranges rows for the dot products: those of a group side by side if they run in pairs; else one after another, with even and odd elements
    /// split if the weight type needs it.
    /// </summary>
    /// <param name="wide">As <see cref="LinearJob.Wide"/>.</param>
    /// <param name="x">Rows // (M, K).</param>
    /// <param name="scratch">Memory for M + 1 rows.</param>
    private static float* Arrange<T>(Avx512Code wide, Floats x, float* scratch)
        where T : struct, IStoredWeight
    {
        if (UsesPairs(wide, x.Rows))
        {
            for (int first = 0; first < x.Rows; first += DotRows)
            {
                Pair<T>(x.Slice(first, Math.Min(DotRows, x.Rows - first)), scratch + ((nint)first * x.Columns));
            }

            return scratch;
        }

        if (!T.SplitsEvenOdd)
        {
            return (float*)x.Address;
        }

        for (int m = 0; m < x.Rows; m++)
        {
            SplitEvenOdd(x.Row(m), scratch + ((nint)m * x.Columns), x.Columns);
        }

        return scratch;
    }

    /// <summary>Reorders each full group of 16 numbers: first the even elements, then the odd ones.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SplitEvenOdd(float* x, float* split, int n)
    {
        int i = 0;
        for (; i <= n - 16; i += 16)
        {
            var (even, odd) = VectorMath.EvenOdd(x + i);
            even.Store(split + i);
            odd.Store(split + i + 8);
        }

        for (; i < n; i++)
        {
            split[i] = x[i];
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void DotPart<T>(ref LinearJob job, int part)
        where T : struct, IStoredWeight
    {
        int begin = part * job.OutputsPerPart;
        Dots<T>(ref job, begin, Math.Min(begin + job.OutputsPerPart, job.Outputs));
    }

    /// <summary>Computes outputs begin .. end − 1 for the rows that use dot products.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots<T>(ref LinearJob job, int begin, int end)
        where T : struct, IStoredWeight
    {
        if (UsesPairs(job.Wide, job.RowsByDots))
        {
            for (int first = 0; first < job.RowsByDots; first += DotRows)
            {
                DotPairs<T>(ref job, first, begin, end);
            }

            return;
        }

        float* sums = stackalloc float[8];
        int m = 0;
        while (m < job.RowsByDots)
        {
            int rows = job.RowsByDots - m >= 4 ? 4 : job.RowsByDots - m >= 2 ? 2 : 1;
            int step = 8 / rows;
            float* x = job.Dots + ((nint)m * job.Inputs);
            for (int n = begin; n < end; n += step)
            {
                if (rows == 1)
                {
                    Dots8x1<T>(ref job, n, end - 1, x, sums);
                }
                else if (rows == 2)
                {
                    Dots4x2<T>(ref job, n, end - 1, x, sums);
                }
                else
                {
                    Dots2x4<T>(ref job, n, end - 1, x, sums);
                }

                if (rows == 1 && end - n >= 8)
                {
                    job.PutEight(m, n, Vector256.Load(sums));
                    continue;
                }

                int outputs = Math.Min(step, end - n);
                for (int i = 0; i < outputs; i++)
                {
                    for (int j = 0; j < rows; j++)
                    {
                        job.Put(m + j, n + i, sums[(i * rows) + j]);
                    }
                }
            }

            m += rows;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots8x1<T>(ref LinearJob job, int n, int last, float* x, float* sums)
        where T : struct, IStoredWeight
    {
        int inputs = job.Inputs;
        byte* w0 = job.Row<T>(n), w1 = job.Row<T>(Math.Min(n + 1, last)), w2 = job.Row<T>(Math.Min(n + 2, last)),
            w3 = job.Row<T>(Math.Min(n + 3, last));
        byte* w4 = job.Row<T>(Math.Min(n + 4, last)), w5 = job.Row<T>(Math.Min(n + 5, last)), w6 = job.Row<T>(Math.Min(n + 6, last)),
            w7 = job.Row<T>(Math.Min(n + 7, last));
        Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default;
        int k = 0;
        nint next = 8 * (nint)inputs * T.SizeInBytes;
        for (; k <= inputs - 16; k += 16)
        {
            var xa = Vector256.Load(x + k);
            var xb = Vector256.Load(x + k + 8);
            nint at = (nint)k * T.SizeInBytes;
            if (BeginsLine<T>(k))
            {
                Ahead(w0 + at + next);
                Ahead(w1 + at + next);
                Ahead(w2 + at + next);
                Ahead(w3 + at + next);
                Ahead(w4 + at + next);
                Ahead(w5 + at + next);
                Ahead(w6 + at + next);
                Ahead(w7 + at + next);
            }

            T.Load(w0 + at, out var a, out var b);
            s0 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s0));
            T.Load(w1 + at, out a, out b);
            s1 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s1));
            T.Load(w2 + at, out a, out b);
            s2 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s2));
            T.Load(w3 + at, out a, out b);
            s3 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s3));
            T.Load(w4 + at, out a, out b);
            s4 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s4));
            T.Load(w5 + at, out a, out b);
            s5 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s5));
            T.Load(w6 + at, out a, out b);
            s6 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s6));
            T.Load(w7 + at, out a, out b);
            s7 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s7));
        }

        VectorMath.SumEach(s0, s1, s2, s3, s4, s5, s6, s7).Store(sums);
        if (k < inputs)
        {
            sums[0] += Tail<T>(w0, x, k, inputs);
            sums[1] += Tail<T>(w1, x, k, inputs);
            sums[2] += Tail<T>(w2, x, k, inputs);
            sums[3] += Tail<T>(w3, x, k, inputs);
            sums[4] += Tail<T>(w4, x, k, inputs);
            sums[5] += Tail<T>(w5, x, k, inputs);
            sums[6] += Tail<T>(w6, x, k, inputs);
            sums[7] += Tail<T>(w7, x, k, inputs);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots4x2<T>(ref LinearJob job, int n, int last, float* x, float* sums)
        where T : struct, IStoredWeight
    {
        int inputs = job.Inputs;
        float* y = x + inputs;
        byte* w0 = job.Row<T>(n), w1 = job.Row<T>(Math.Min(n + 1, last)), w2 = job.Row<T>(Math.Min(n + 2, last)),
            w3 = job.Row<T>(Math.Min(n + 3, last));
        Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default;
        int k = 0;
        nint next = 4 * (nint)inputs * T.SizeInBytes;
        for (; k <= inputs - 16; k += 16)
        {
            var xa = Vector256.Load(x + k);
            var xb = Vector256.Load(x + k + 8);
            var ya = Vector256.Load(y + k);
            var yb = Vector256.Load(y + k + 8);
            nint at = (nint)k * T.SizeInBytes;
            if (BeginsLine<T>(k))
            {
                Ahead(w0 + at + next);
                Ahead(w1 + at + next);
                Ahead(w2 + at + next);
                Ahead(w3 + at + next);
            }

            T.Load(w0 + at, out var a, out var b);
            s0 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s0));
            s1 = Vector256.MultiplyAddEstimate(b, yb, Vector256.MultiplyAddEstimate(a, ya, s1));
            T.Load(w1 + at, out a, out b);
            s2 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s2));
            s3 = Vector256.MultiplyAddEstimate(b, yb, Vector256.MultiplyAddEstimate(a, ya, s3));
            T.Load(w2 + at, out a, out b);
            s4 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s4));
            s5 = Vector256.MultiplyAddEstimate(b, yb, Vector256.MultiplyAddEstimate(a, ya, s5));
            T.Load(w3 + at, out a, out b);
            s6 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s6));
            s7 = Vector256.MultiplyAddEstimate(b, yb, Vector256.MultiplyAddEstimate(a, ya, s7));
        }

        VectorMath.SumEach(s0, s1, s2, s3, s4, s5, s6, s7).Store(sums);
        if (k < inputs)
        {
            sums[0] += Tail<T>(w0, x, k, inputs);
            sums[1] += Tail<T>(w0, y, k, inputs);
            sums[2] += Tail<T>(w1, x, k, inputs);
            sums[3] += Tail<T>(w1, y, k, inputs);
            sums[4] += Tail<T>(w2, x, k, inputs);
            sums[5] += Tail<T>(w2, y, k, inputs);
            sums[6] += Tail<T>(w3, x, k, inputs);
            sums[7] += Tail<T>(w3, y, k, inputs);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots2x4<T>(ref LinearJob job, int n, int last, float* x0, float* sums)
        where T : struct, IStoredWeight
    {
        int inputs = job.Inputs;
        float* x1 = x0 + inputs, x2 = x1 + inputs, x3 = x2 + inputs;
        byte* w0 = job.Row<T>(n), w1 = job.Row<T>(Math.Min(n + 1, last));
        Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default;
        int k = 0;
        nint next = 2 * (nint)inputs * T.SizeInBytes;
        for (; k <= inputs - 16; k += 16)
        {
            nint at = (nint)k * T.SizeInBytes;
            if (BeginsLine<T>(k))
            {
                Ahead(w0 + at + next);
                Ahead(w1 + at + next);
            }

            T.Load(w0 + at, out var a, out var b);
            T.Load(w1 + at, out var c, out var d);
            var xa = Vector256.Load(x0 + k);
            var xb = Vector256.Load(x0 + k + 8);
            s0 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s0));
            s4 = Vector256.MultiplyAddEstimate(d, xb, Vector256.MultiplyAddEstimate(c, xa, s4));
            xa = Vector256.Load(x1 + k);
            xb = Vector256.Load(x1 + k + 8);
            s1 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s1));
            s5 = Vector256.MultiplyAddEstimate(d, xb, Vector256.MultiplyAddEstimate(c, xa, s5));
            xa = Vector256.Load(x2 + k);
            xb = Vector256.Load(x2 + k + 8);
            s2 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s2));
            s6 = Vector256.MultiplyAddEstimate(d, xb, Vector256.MultiplyAddEstimate(c, xa, s6));
            xa = Vector256.Load(x3 + k);
            xb = Vector256.Load(x3 + k + 8);
            s3 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s3));
            s7 = Vector256.MultiplyAddEstimate(d, xb, Vector256.MultiplyAddEstimate(c, xa, s7));
        }

        VectorMath.SumEach(s0, s1, s2, s3, s4, s5, s6, s7).Store(sums);
        if (k < inputs)
        {
            sums[0] += Tail<T>(w0, x0, k, inputs);
            sums[1] += Tail<T>(w0, x1, k, inputs);
            sums[2] += Tail<T>(w0, x2, k, inputs);
            sums[3] += Tail<T>(w0, x3, k, inputs);
            sums[4] += Tail<T>(w1, x0, k, inputs);
            sums[5] += Tail<T>(w1, x1, k, inputs);
            sums[6] += Tail<T>(w1, x2, k, inputs);
            sums[7] += Tail<T>(w1, x3, k, inputs);
        }
    }

    // Whether the weight of input k, a multiple of sixteen, is the first one of a line of the cache, where the row begins with a line.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool BeginsLine<T>(int k)
        where T : struct, IStoredWeight => ((k * T.SizeInBytes) & (LineInBytes - 1)) == 0;

    // Asks for a line of the rows of W that come next, which the processor does not predict. Into the second cache: the first one has no room for it.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Ahead(byte* line)
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch1(line);
        }
    }

    private static float Tail<T>(byte* w, float* x, int k, int inputs)
        where T : struct, IStoredWeight
    {
        float sum = 0;
        for (; k < inputs; k++)
        {
            sum += T.LoadOne(w + ((nint)k * T.SizeInBytes)) * x[k];
        }

        return sum;
    }
}
