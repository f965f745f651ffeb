using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <content>Few rows: dot products.</content>
internal static unsafe partial class CpuLinear
{
    // Rows of W that all groups of rows use before the next ones: whole threes and eights, fewer if they are long. Two chunks fit the second cache.
    private const int OutputsOfChunk = 24;
    private const int ChunkInBytes = 128 * 1024;

    // Distance between the sums of two rows of four, with room for one that is not valid.
    private const int FourStride = OutputsOfChunk + 4;

    // The map for which this thread has prepared rows last, and where they are.
    [ThreadStatic]
    private static long t_prepared;

    [ThreadStatic]
    private static (nint X, nint Dots) t_rows;

    // The last number that this thread gave to a map. A thread counts from a number of its own, so that no two maps of the process have the same.
    [ThreadStatic]
    private static long t_lastNumber;

    private static long s_threads;

    private static long NextNumber()
    {
        if (t_lastNumber == 0)
        {
            t_lastNumber = Interlocked.Increment(ref s_threads) << 40;
        }

        return ++t_lastNumber;
    }

    /// <summary>
    /// The job with rows that this thread has prepared for itself, if there are few: normed, and then arranged as <see cref="Arrange"/> does. This
    /// takes less time than to wait for another thread, and to get the lines of the cache that it wrote.
    /// </summary>
    private static LinearJob WithRows<T>(ref LinearJob job)
        where T : struct, IStoredWeight
    {
        var own = job;
        if (job.Number == 0)
        {
            return own;
        }

        if (t_prepared != job.Number)
        {
            int rows = job.RowsByDots;
            long size = (long)rows * job.Inputs;
            float* normed = HostScratch.ForParts((2 * size) + job.Inputs);
            var x = new Floats((nint)job.X, rows, job.Inputs);
            if (!job.Norm.IsAbsent)
            {
                for (int m = 0; m < rows; m++)
                {
                    job.Norm.Apply(x.Row(m), normed + ((nint)m * job.Inputs), job.Inputs);
                }

                x = new Floats((nint)normed, rows, job.Inputs);
            }

            float* dots = x.Row(0);
            if (UsesArranged<T>(job.Wide, rows))
            {
                dots = normed + size;
                var arranged = new ArrangeJob { X = x, To = dots, InPairs = UsesPairs(job.Wide, rows) };
                ArrangeGroup<T>(ref arranged, 0);
            }

            t_rows = (x.Address, (nint)dots);
            t_prepared = job.Number;
        }

        own.X = (float*)t_rows.X;
        own.Dots = (float*)t_rows.Dots;
        return own;
    }

    // Whether rows are not multiplied as they are.
    private static bool UsesArranged<T>(Avx512Code wide, int rows)
        where T : struct, IStoredWeight => UsesPairs(wide, rows) || T.SplitsEvenOdd || rows >= 4;

    /// <summary>
    /// Arranges rows for the dot products. Rows that run in pairs stand side by side. So do four rows that run together: // (K / 16, 2, 4, 8), a of
    /// <see cref="IStoredWeight.Load"/> for all four, then b. The others follow one after another, with even and odd elements split if the weight
    /// type needs it.
    /// </summary>
    /// <param name="pool">The threads; each takes whole groups of <see cref="DotRows"/> rows.</param>
    /// <param name="wide">As <see cref="LinearJob.Wide"/>.</param>
    /// <param name="x">Rows // (M, K).</param>
    /// <param name="scratch">Memory for M + 1 rows.</param>
    /// <param name="cancellation">As <see cref="RowBatch.Cancellation"/>.</param>
    private static float* Arrange<T>(WorkerPool pool, Avx512Code wide, Floats x, float* scratch, CancellationToken cancellation)
        where T : struct, IStoredWeight
    {
        if (!UsesArranged<T>(wide, x.Rows))
        {
            return (float*)x.Address;
        }

        var job = new ArrangeJob { X = x, To = scratch, InPairs = UsesPairs(wide, x.Rows) };
        pool.Run((x.Rows + DotRows - 1) / DotRows, ref job, &ArrangeGroup<T>, cancellation);
        return scratch;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void ArrangeGroup<T>(ref ArrangeJob job, int group)
        where T : struct, IStoredWeight
    {
        int first = group * DotRows;
        var x = job.X.Slice(first, Math.Min(DotRows, job.X.Rows - first));
        float* to = job.To + ((nint)first * x.Columns);
        if (job.InPairs)
        {
            Pair<T>(x, to);
            return;
        }

        int m = 0;
        for (; m < x.Rows / 4 * 4; m++)
        {
            Split<T>(x.Row(m), x.Columns, to + ((nint)(m / 4 * 4) * x.Columns) + (m % 4 * 8), 4);
        }

        for (; m < x.Rows; m++)
        {
            int whole = x.Columns / StepInputs * StepInputs;
            float* row = x.Row(m), alone = to + ((nint)m * x.Columns);
            Split<T>(row, x.Columns, alone, 1);
            new ReadOnlySpan<float>(row + whole, x.Columns - whole).CopyTo(new Span<float>(alone + whole, x.Columns - whole));
        }
    }

    /// <summary>Arranges a row that is one of <paramref name="together"/> as <see cref="IStoredWeight.Load"/> arranges weights.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Split<T>(float* x, int n, float* to, int together)
        where T : struct, IStoredWeight
    {
        for (int k = 0; k <= n - StepInputs; k += StepInputs, to += together * StepInputs)
        {
            var (a, b) = T.SplitsEvenOdd ? VectorMath.EvenOdd(x + k) : (Vector256.Load(x + k), Vector256.Load(x + k + 8));
            a.Store(to);
            b.Store(to + (together * 8));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void DotPart<T>(ref LinearJob job, int part)
        where T : struct, IStoredWeight
    {
        int begin = part * job.OutputsPerPart;
        var own = WithRows<T>(ref job);
        Dots<T>(ref own, begin, Math.Min(begin + job.OutputsPerPart, job.Outputs));
    }

    /// <summary>Computes a part of the gates, the same part of the values that they are for, and the gated values of both.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void GatedPart<T>(ref LinearJob job, int part)
        where T : struct, IStoredWeight
    {
        int half = job.Outputs / 2, begin = part * job.OutputsPerPart, end = Math.Min(begin + job.OutputsPerPart, half);
        var own = WithRows<T>(ref job);
        Dots<T>(ref own, begin, end, skip: half + begin - end);
        Dots<T>(ref own, half + begin, half + end, skip: -half);
        for (int m = 0; m < job.RowsByDots; m++)
        {
            Gate(ref job, m, begin, end);
        }
    }

    /// <summary>
    /// Computes outputs begin .. end − 1 for the rows that use dot products. After these outputs, the thread goes on <paramref name="skip"/> outputs
    /// further on.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots<T>(ref LinearJob job, int begin, int end, int skip = 0)
        where T : struct, IStoredWeight
    {
        if (UsesPairs(job.Wide, job.RowsByDots))
        {
            for (int first = 0; first < job.RowsByDots; first += DotRows)
            {
                DotPairs<T>(ref job, first, begin, end, skip);
            }

            return;
        }

        int chunk = job.RowsByDots < 4 ? end - begin
            : OutputsOfChunk * (long)job.Inputs * T.SizeInBytes <= ChunkInBytes ? OutputsOfChunk : OutputsOfChunk / 2;
        for (int n = begin; n < end; n += chunk)
        {
            int until = Math.Min(n + chunk, end), m = 0;
            for (; m <= job.RowsByDots - 4; m += 4)
            {
                DotFours<T>(ref job, m, n, until, job.Ahead<T>(n, chunk, end, skip));
            }

            if (job.RowsByDots - m >= 2)
            {
                DotTwos<T>(ref job, m, n, until);
                m += 2;
            }

            if (m < job.RowsByDots)
            {
                DotOnes<T>(ref job, m, n, until, skip);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void DotOnes<T>(ref LinearJob job, int m, int begin, int end, int skip)
        where T : struct, IStoredWeight
    {
        float* x = job.Dots + ((nint)m * job.Inputs), sums = stackalloc float[8];
        if (job.StreamsQuarters<T>(end - begin))
        {
            int quarter = (end - begin) / 4;
            nint apart = (nint)quarter * job.Inputs * T.SizeInBytes;
            for (int n = begin; n < begin + quarter; n++)
            {
                var four = Dots4x1<T>(job.Row<T>(n), apart, job.Inputs, x, null);
                for (int i = 0; i < 4; i++)
                {
                    job.Put(m, n + (i * quarter), four[i]);
                }
            }

            begin += 4 * quarter;
        }
        else if (job.StreamsBlocks<T>())
        {
            nint stride = (nint)job.Inputs * T.SizeInBytes;
            for (; begin <= end - 4; begin += 4)
            {
                job.PutFour(m, begin, Dots4x1<T>(job.Row<T>(begin), stride, job.Inputs, x, job.Ahead<T>(begin, 4, end, skip) + BytesAhead));
            }
        }

        for (int n = begin; n < end; n += 8)
        {
            Dots8x1<T>(ref job, n, end - 1, x, job.Ahead<T>(n, RowsAhead, end, skip), sums);
            job.PutAll(m, n, Math.Min(8, end - n), sums);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void DotTwos<T>(ref LinearJob job, int m, int begin, int end)
        where T : struct, IStoredWeight
    {
        float* x = job.Dots + ((nint)m * job.Inputs), sums = stackalloc float[8];
        for (int n = begin; n < end; n += 4)
        {
            Dots4x2<T>(ref job, n, end - 1, x, sums);
            for (int i = 0; i < Math.Min(4, end - n); i++)
            {
                job.Put(m, n + i, sums[2 * i]);
                job.Put(m + 1, n + i, sums[(2 * i) + 1]);
            }
        }
    }

    /// <summary>
    /// Computes outputs <paramref name="begin"/> .. <paramref name="end"/> − 1 of rows m .. m + 3, and asks for as many rows of W from
    /// <paramref name="ahead"/> on.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void DotFours<T>(ref LinearJob job, int m, int begin, int end, byte* ahead)
        where T : struct, IStoredWeight
    {
        int inputs = job.Inputs, whole = inputs / StepInputs * StepInputs, outputs = end - begin;
        nint rowInBytes = (nint)inputs * T.SizeInBytes;
        float* x = job.Dots + ((nint)m * inputs), sums = stackalloc float[4 * FourStride];
        for (int i = 0; i < outputs; i += 3)
        {
            Dots3x4<T>(ref job, begin + i, end - 1, x, ahead + (i * rowInBytes), sums + i);
        }

        for (int j = 0; j < 4; j++)
        {
            float* row = sums + (j * FourStride);
            for (int i = 0; whole < inputs && i < outputs; i++)
            {
                row[i] += Tail<T>(job.Row<T>(begin + i), job.X + ((nint)(m + j) * inputs), whole, inputs);
            }

            job.PutAll(m + j, begin, outputs, row);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots8x1<T>(ref LinearJob job, int n, int last, float* x, byte* ahead, float* sums)
        where T : struct, IStoredWeight
    {
        int inputs = job.Inputs;
        byte* w0 = job.Row<T>(n), w1 = job.Row<T>(Math.Min(n + 1, last)), w2 = job.Row<T>(Math.Min(n + 2, last)),
            w3 = job.Row<T>(Math.Min(n + 3, last));
        byte* w4 = job.Row<T>(Math.Min(n + 4, last)), w5 = job.Row<T>(Math.Min(n + 5, last)), w6 = job.Row<T>(Math.Min(n + 6, last)),
            w7 = job.Row<T>(Math.Min(n + 7, last));
        Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default;
        int k = 0;
        for (; k <= inputs - 16; k += 16)
        {
            var xa = Vector256.Load(x + k);
            var xb = Vector256.Load(x + k + 8);
            nint at = (nint)k * T.SizeInBytes;
            if (BeginsLine<T>(k))
            {
                Ahead(ahead);
                Ahead(ahead + LineInBytes);
                Ahead(ahead + (2 * LineInBytes));
                Ahead(ahead + (3 * LineInBytes));
                Ahead(ahead + (4 * LineInBytes));
                Ahead(ahead + (5 * LineInBytes));
                Ahead(ahead + (6 * LineInBytes));
                Ahead(ahead + (7 * LineInBytes));
                ahead += 8 * LineInBytes;
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

    /// <summary>
    /// Like <see cref="Dots8x1"/> for four outputs, whose rows are <paramref name="stride"/> bytes apart. It takes a line of each row at a time. If
    /// <paramref name="ahead"/> is not null, it asks for as many lines from there on, in the order of the memory, which the processor then reads
    /// ahead by itself.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Dots4x1<T>(byte* w, nint stride, int inputs, float* x, byte* ahead)
        where T : struct, IStoredWeight
    {
        byte* w0 = w, w1 = w + stride, w2 = w1 + stride, w3 = w2 + stride;
        Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default;
        int k = 0;
        for (; k <= inputs - 32; k += 32)
        {
            var xa = Vector256.Load(x + k);
            var xb = Vector256.Load(x + k + 8);
            var xc = Vector256.Load(x + k + 16);
            var xd = Vector256.Load(x + k + 24);
            nint at = (nint)k * T.SizeInBytes, next = at + (16 * T.SizeInBytes);
            if (ahead is not null)
            {
                Near(ahead, 4 * 32 * T.SizeInBytes);
                ahead += 128 * T.SizeInBytes;
            }

            T.Load(w0 + at, out var a, out var b);
            T.Load(w0 + next, out var c, out var d);
            s0 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s0));
            s0 = Vector256.MultiplyAddEstimate(d, xd, Vector256.MultiplyAddEstimate(c, xc, s0));
            T.Load(w1 + at, out a, out b);
            T.Load(w1 + next, out c, out d);
            s1 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s1));
            s1 = Vector256.MultiplyAddEstimate(d, xd, Vector256.MultiplyAddEstimate(c, xc, s1));
            T.Load(w2 + at, out a, out b);
            T.Load(w2 + next, out c, out d);
            s2 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s2));
            s2 = Vector256.MultiplyAddEstimate(d, xd, Vector256.MultiplyAddEstimate(c, xc, s2));
            T.Load(w3 + at, out a, out b);
            T.Load(w3 + next, out c, out d);
            s3 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s3));
            s3 = Vector256.MultiplyAddEstimate(d, xd, Vector256.MultiplyAddEstimate(c, xc, s3));
        }

        if (k <= inputs - 16)
        {
            var xa = Vector256.Load(x + k);
            var xb = Vector256.Load(x + k + 8);
            nint at = (nint)k * T.SizeInBytes;
            T.Load(w0 + at, out var a, out var b);
            s0 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s0));
            T.Load(w1 + at, out a, out b);
            s1 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s1));
            T.Load(w2 + at, out a, out b);
            s2 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s2));
            T.Load(w3 + at, out a, out b);
            s3 = Vector256.MultiplyAddEstimate(b, xb, Vector256.MultiplyAddEstimate(a, xa, s3));
            k += 16;
        }

        var sums = VectorMath.SumEach(s0, s1, s2, s3);
        return k == inputs ? sums
            : sums + Vector128.Create(Tail<T>(w0, x, k, inputs), Tail<T>(w1, x, k, inputs), Tail<T>(w2, x, k, inputs), Tail<T>(w3, x, k, inputs));
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

    /// <summary>
    /// Computes sums // (4, <see cref="FourStride"/>) of three rows of W over the whole steps of four rows of x, in twelve registers, which hide the
    /// latency of the multiply-adds. Each three sums are followed by one that is not valid. Rows of W beyond the last one are replaced by it.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots3x4<T>(ref LinearJob job, int n, int last, float* x, byte* ahead, float* sums)
        where T : struct, IStoredWeight
    {
        byte* w0 = job.Row<T>(n), w1 = job.Row<T>(Math.Min(n + 1, last)), w2 = job.Row<T>(Math.Min(n + 2, last));

        // s_ij: output i, row j
        Vector256<float> s00 = default, s10 = default, s20 = default, s01 = default, s11 = default, s21 = default;
        Vector256<float> s02 = default, s12 = default, s22 = default, s03 = default, s13 = default, s23 = default;

        // 0, which the compiler does not know: it would store the weights of the first loads on the stack for the second ones.
        nint again = job.Inputs >> 31;
        for (int k = 0; k <= job.Inputs - StepInputs; k += StepInputs, x += 4 * StepInputs)
        {
            // In the order of the memory: three rows side by side would be slower by a quarter.
            if (BeginsLine<T>(k))
            {
                Ahead(ahead);
                Ahead(ahead + LineInBytes);
                Ahead(ahead + (2 * LineInBytes));
                ahead += 3 * LineInBytes;
            }

            nint at = (nint)k * T.SizeInBytes;
            T.Load(w0 + at, out var v0, out _);
            T.Load(w1 + at, out var v1, out _);
            T.Load(w2 + at, out var v2, out _);
            var y = Vector256.Load(x);
            s00 = Vector256.MultiplyAddEstimate(v0, y, s00);
            s10 = Vector256.MultiplyAddEstimate(v1, y, s10);
            s20 = Vector256.MultiplyAddEstimate(v2, y, s20);
            y = Vector256.Load(x + 8);
            s01 = Vector256.MultiplyAddEstimate(v0, y, s01);
            s11 = Vector256.MultiplyAddEstimate(v1, y, s11);
            s21 = Vector256.MultiplyAddEstimate(v2, y, s21);
            y = Vector256.Load(x + 16);
            s02 = Vector256.MultiplyAddEstimate(v0, y, s02);
            s12 = Vector256.MultiplyAddEstimate(v1, y, s12);
            s22 = Vector256.MultiplyAddEstimate(v2, y, s22);
            y = Vector256.Load(x + 24);
            s03 = Vector256.MultiplyAddEstimate(v0, y, s03);
            s13 = Vector256.MultiplyAddEstimate(v1, y, s13);
            s23 = Vector256.MultiplyAddEstimate(v2, y, s23);

            at += again;
            T.Load(w0 + at, out _, out v0);
            T.Load(w1 + at, out _, out v1);
            T.Load(w2 + at, out _, out v2);
            y = Vector256.Load(x + 32);
            s00 = Vector256.MultiplyAddEstimate(v0, y, s00);
            s10 = Vector256.MultiplyAddEstimate(v1, y, s10);
            s20 = Vector256.MultiplyAddEstimate(v2, y, s20);
            y = Vector256.Load(x + 40);
            s01 = Vector256.MultiplyAddEstimate(v0, y, s01);
            s11 = Vector256.MultiplyAddEstimate(v1, y, s11);
            s21 = Vector256.MultiplyAddEstimate(v2, y, s21);
            y = Vector256.Load(x + 48);
            s02 = Vector256.MultiplyAddEstimate(v0, y, s02);
            s12 = Vector256.MultiplyAddEstimate(v1, y, s12);
            s22 = Vector256.MultiplyAddEstimate(v2, y, s22);
            y = Vector256.Load(x + 56);
            s03 = Vector256.MultiplyAddEstimate(v0, y, s03);
            s13 = Vector256.MultiplyAddEstimate(v1, y, s13);
            s23 = Vector256.MultiplyAddEstimate(v2, y, s23);
        }

        var two = VectorMath.SumEach(s00, s10, s20, s20, s01, s11, s21, s21);
        two.GetLower().Store(sums);
        two.GetUpper().Store(sums + FourStride);
        two = VectorMath.SumEach(s02, s12, s22, s22, s03, s13, s23, s23);
        two.GetLower().Store(sums + (2 * FourStride));
        two.GetUpper().Store(sums + (3 * FourStride));
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

    // The same into the first cache, for several lines. The processor does not drop such a request if it has many, so that none is missed.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Near(byte* first, int sizeInBytes)
    {
        for (int i = 0; Sse.IsSupported && i < sizeInBytes; i += LineInBytes)
        {
            Sse.Prefetch0(first + i);
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

    private struct ArrangeJob
    {
        public Floats X;
        public float* To;
        public bool InPairs;
    }
}
