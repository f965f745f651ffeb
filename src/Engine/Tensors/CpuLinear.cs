using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Tiller.Checkpoint;

namespace Tiller.Tensors;

/// <summary>How the CPU reads 16 stored weights as two float32 vectors.</summary>
internal unsafe interface IStoredWeight
{
    static abstract int SizeInBytes { get; }

    /// <summary>Whether <see cref="Load"/> gives the even and the odd elements instead of the lower and the upper eight.</summary>
    static abstract bool SplitsEvenOdd { get; }

    static abstract void Load(byte* p, out Vector256<float> a, out Vector256<float> b);

    /// <summary>Sixteen weights in their natural order.</summary>
    static abstract void LoadInOrder(byte* p, out Vector256<float> a, out Vector256<float> b);

    static abstract float LoadOne(byte* p);
}

/// <summary>bfloat16 is the upper half of float32.</summary>
internal readonly unsafe struct Bf16Weight : IStoredWeight
{
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
    public static void LoadInOrder(byte* p, out Vector256<float> a, out Vector256<float> b)
    {
        a = (Vector256.Create(Vector128.WidenLower(Vector128.Load((ushort*)p)), Vector128.WidenUpper(Vector128.Load((ushort*)p))) << 16).AsSingle();
        b = (Vector256.Create(Vector128.WidenLower(Vector128.Load((ushort*)p + 8)), Vector128.WidenUpper(Vector128.Load((ushort*)p + 8))) << 16).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* p) => BitConverter.UInt32BitsToSingle((uint)*(ushort*)p << 16);
}

/// <summary>IEEE half: sign, 5 bits of exponent, 10 of fraction; moved to float32's place and scaled by 2^112, which is exact.</summary>
internal readonly unsafe struct F16Weight : IStoredWeight
{
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
    public static void LoadInOrder(byte* p, out Vector256<float> a, out Vector256<float> b)
    {
        a = Widen(Vector256.Create(Vector128.WidenLower(Vector128.Load((ushort*)p)), Vector128.WidenUpper(Vector128.Load((ushort*)p))) << 16);
        b = Widen(Vector256.Create(Vector128.WidenLower(Vector128.Load((ushort*)p + 8)), Vector128.WidenUpper(Vector128.Load((ushort*)p + 8))) << 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* p) => (float)*(Half*)p;

    // The half stands in the upper 16 bits of each lane.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Widen(Vector256<uint> upper)
    {
        var magnitude = (upper & Vector256.Create(0x7FFF0000u)) >>> 3;
        var scaled = magnitude.AsSingle() * Vector256.Create(BitConverter.UInt32BitsToSingle((112u + 127u) << 23));
        // Infinity and NaN have all exponent bits set, which scaling does not carry over.
        var special = Vector256.GreaterThanOrEqual(magnitude, Vector256.Create(0x0F800000u));
        var finite = scaled.AsUInt32() | (special & Vector256.Create(0x7F800000u));
        return (finite | (upper & Vector256.Create(0x80000000u))).AsSingle();
    }
}

internal readonly unsafe struct F32Weight : IStoredWeight
{
    public static int SizeInBytes => 4;

    public static bool SplitsEvenOdd => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Load(byte* p, out Vector256<float> a, out Vector256<float> b) => LoadInOrder(p, out a, out b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void LoadInOrder(byte* p, out Vector256<float> a, out Vector256<float> b)
    {
        a = Vector256.Load((float*)p);
        b = Vector256.Load((float*)p + 8);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float LoadOne(byte* p) => *(float*)p;
}

/// <summary>
/// Y = X W' + b and X̄ = Ȳ W on the CPU, weights read in their stored type. Up to <see cref="DotRows"/> value rows, and as many tangents,
/// take dot products, one pass over W, limited by memory; more rows take a blocked product on converted panels, limited by arithmetic.
/// Either way a row's result depends on nothing but that row and W; and a value row's not on the tangents beside it.
/// </summary>
internal static unsafe class CpuLinear
{
    /// <summary>Most rows computed as dot products.</summary>
    public const int DotRows = 8;

    private const int TileRows = 6;
    private const int TileColumns = 16;
    private const int DepthBlock = 512;
    private const int WeightBlock = 8 * TileRows;
    private const int RowChunk = 256;
    private const int StripeColumns = 4 * TileColumns;
    private const long MultipliesPerPart = 128 * 1024;

    /// <summary>y = x W' + bias + residual, for each row.</summary>
    /// <param name="pool">Shares the work.</param>
    /// <param name="x">Rows // (M, W.Columns).</param>
    /// <param name="w">Weights // (N, K).</param>
    /// <param name="values">Value rows; those after them are tangents.</param>
    /// <param name="bias">(1, N), or absent; added to value rows only.</param>
    /// <param name="residual">(M, N), or absent.</param>
    /// <param name="y">Result // (M, N).</param>
    /// <param name="cancellation">See <see cref="RowBatch.Cancellation"/>.</param>
    public static void Forward(
        WorkerPool pool, Floats x, int values, Matrix w, Floats bias, Floats residual, Floats y, CancellationToken cancellation = default)
    {
        Debug.Assert(x.Columns == w.Columns && y.Columns == w.Rows && x.Rows == y.Rows, "shapes of a linear map");
        switch (w.Type)
        {
            case TensorType.BF16:
                Forward<Bf16Weight>(pool, x, values, w, bias, residual, y, cancellation);
                break;
            case TensorType.F16:
                Forward<F16Weight>(pool, x, values, w, bias, residual, y, cancellation);
                break;
            default:
                Forward<F32Weight>(pool, x, values, w, bias, residual, y, cancellation);
                break;
        }
    }

    /// <summary>x̄ = ȳ W, for each row.</summary>
    public static void Transposed(WorkerPool pool, Floats y, Matrix w, Floats x, CancellationToken cancellation = default)
    {
        Debug.Assert(x.Columns == w.Columns && y.Columns == w.Rows && x.Rows == y.Rows, "shapes of a linear map");
        switch (w.Type)
        {
            case TensorType.BF16:
                Transposed<Bf16Weight>(pool, y, w, x, cancellation);
                break;
            case TensorType.F16:
                Transposed<F16Weight>(pool, y, w, x, cancellation);
                break;
            default:
                Transposed<F32Weight>(pool, y, w, x, cancellation);
                break;
        }
    }

    /// <summary>Row <paramref name="row"/> of <paramref name="w"/>, times <paramref name="scale"/>.</summary>
    public static void Gather(Matrix w, int row, float scale, float* destination)
    {
        byte* p = (byte*)w.Address + ((long)row * w.Columns * w.ElementSizeInBytes);
        for (int i = 0; i < w.Columns; i++)
        {
            destination[i] = scale * w.Type switch
            {
                TensorType.BF16 => Bf16Weight.LoadOne(p + (2 * i)),
                TensorType.F16 => F16Weight.LoadOne(p + (2 * i)),
                _ => F32Weight.LoadOne(p + (4 * i)),
            };
        }
    }

    private static void Forward<T>(
        WorkerPool pool, Floats x, int values, Matrix w, Floats bias, Floats residual, Floats y, CancellationToken cancellation)
        where T : struct, IStoredWeight
    {
        int byDots = values <= DotRows ? values : 0;
        if (x.Rows - byDots <= DotRows)
        {
            byDots = x.Rows;
        }

        var job = new LinearJob
        {
            W = (byte*)w.Address,
            Inputs = w.Columns,
            Outputs = w.Rows,
            BiasedRows = bias.IsAbsent ? 0 : values,
            Bias = (float*)bias.Address,
            Residual = (float*)residual.Address,
            X = (float*)x.Address,
            Y = (float*)y.Address,
        };
        if (byDots == x.Rows)
        {
            job.Dots = Split<T>(x, HostScratch.ForCaller((long)x.Rows * x.Columns));
            job.RowsByDots = byDots;
            long perOutput = Math.Max(1, (long)w.Columns * x.Rows);
            job.OutputsPerPart = (int)Math.Clamp((MultipliesPerPart / perOutput + 7) / 8 * 8, 8, Math.Max(8, w.Rows));
            pool.Run((w.Rows + job.OutputsPerPart - 1) / job.OutputsPerPart, ref job, &DotPart<T>, cancellation);
            return;
        }

        job.OutputsPerPart = w.Rows >= 8 * WeightBlock ? WeightBlock : WeightBlock / 2;
        for (job.Begin = byDots; job.Begin < x.Rows; job.Begin = job.End)
        {
            // The rows of dot products go along with the first chunk, while the weights are in cache.
            job.End = Math.Min(job.Begin + RowChunk, x.Rows);
            job.RowsByDots = job.Begin == byDots ? byDots : 0;
            int panels = job.Panels;
            job.Packed = HostScratch.ForCaller(((long)panels * TileColumns * w.Columns) + ((long)job.RowsByDots * w.Columns));
            job.Dots = Split<T>(x.Slice(0, job.RowsByDots), job.Packed + ((nint)panels * TileColumns * w.Columns));
            pool.Run(panels, ref job, &PackPanel, cancellation);
            pool.Run((w.Rows + job.OutputsPerPart - 1) / job.OutputsPerPart, ref job, &TilePart<T>, cancellation);
        }
    }

    // ---- few rows: dot products ---------------------------------------------------------------------------------

    /// <summary>Rows as <see cref="IStoredWeight.Load"/> wants them: themselves, or split into <paramref name="scratch"/>.</summary>
    private static float* Split<T>(Floats x, float* scratch)
        where T : struct, IStoredWeight
    {
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

    /// <summary>Each full group of 16: the even elements, then the odd ones.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SplitEvenOdd(float* x, float* split, int n)
    {
        int i = 0;
        for (; i <= n - 16; i += 16)
        {
            for (int j = 0; j < 8; j++)
            {
                split[i + j] = x[i + (2 * j)];
                split[i + 8 + j] = x[i + (2 * j) + 1];
            }
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

    /// <summary>Outputs begin .. end − 1 of the rows of dot products.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dots<T>(ref LinearJob job, int begin, int end)
        where T : struct, IStoredWeight
    {
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
        byte* w0 = job.Row<T>(n), w1 = job.Row<T>(Math.Min(n + 1, last)), w2 = job.Row<T>(Math.Min(n + 2, last)), w3 = job.Row<T>(Math.Min(n + 3, last));
        byte* w4 = job.Row<T>(Math.Min(n + 4, last)), w5 = job.Row<T>(Math.Min(n + 5, last)), w6 = job.Row<T>(Math.Min(n + 6, last)), w7 = job.Row<T>(Math.Min(n + 7, last));
        Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default;
        int k = 0;
        for (; k <= inputs - 16; k += 16)
        {
            var xa = Vector256.Load(x + k);
            var xb = Vector256.Load(x + k + 8);
            nint at = (nint)k * T.SizeInBytes;
            T.Load(w0 + at, out var a, out var b);
            s0 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s0));
            T.Load(w1 + at, out a, out b);
            s1 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s1));
            T.Load(w2 + at, out a, out b);
            s2 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s2));
            T.Load(w3 + at, out a, out b);
            s3 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s3));
            T.Load(w4 + at, out a, out b);
            s4 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s4));
            T.Load(w5 + at, out a, out b);
            s5 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s5));
            T.Load(w6 + at, out a, out b);
            s6 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s6));
            T.Load(w7 + at, out a, out b);
            s7 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s7));
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
        byte* w0 = job.Row<T>(n), w1 = job.Row<T>(Math.Min(n + 1, last)), w2 = job.Row<T>(Math.Min(n + 2, last)), w3 = job.Row<T>(Math.Min(n + 3, last));
        Vector256<float> s0 = default, s1 = default, s2 = default, s3 = default, s4 = default, s5 = default, s6 = default, s7 = default;
        int k = 0;
        for (; k <= inputs - 16; k += 16)
        {
            var xa = Vector256.Load(x + k);
            var xb = Vector256.Load(x + k + 8);
            var ya = Vector256.Load(y + k);
            var yb = Vector256.Load(y + k + 8);
            nint at = (nint)k * T.SizeInBytes;
            T.Load(w0 + at, out var a, out var b);
            s0 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s0));
            s1 = Vector256.FusedMultiplyAdd(b, yb, Vector256.FusedMultiplyAdd(a, ya, s1));
            T.Load(w1 + at, out a, out b);
            s2 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s2));
            s3 = Vector256.FusedMultiplyAdd(b, yb, Vector256.FusedMultiplyAdd(a, ya, s3));
            T.Load(w2 + at, out a, out b);
            s4 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s4));
            s5 = Vector256.FusedMultiplyAdd(b, yb, Vector256.FusedMultiplyAdd(a, ya, s5));
            T.Load(w3 + at, out a, out b);
            s6 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s6));
            s7 = Vector256.FusedMultiplyAdd(b, yb, Vector256.FusedMultiplyAdd(a, ya, s7));
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
        for (; k <= inputs - 16; k += 16)
        {
            nint at = (nint)k * T.SizeInBytes;
            T.Load(w0 + at, out var a, out var b);
            T.Load(w1 + at, out var c, out var d);
            var xa = Vector256.Load(x0 + k);
            var xb = Vector256.Load(x0 + k + 8);
            s0 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s0));
            s4 = Vector256.FusedMultiplyAdd(d, xb, Vector256.FusedMultiplyAdd(c, xa, s4));
            xa = Vector256.Load(x1 + k);
            xb = Vector256.Load(x1 + k + 8);
            s1 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s1));
            s5 = Vector256.FusedMultiplyAdd(d, xb, Vector256.FusedMultiplyAdd(c, xa, s5));
            xa = Vector256.Load(x2 + k);
            xb = Vector256.Load(x2 + k + 8);
            s2 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s2));
            s6 = Vector256.FusedMultiplyAdd(d, xb, Vector256.FusedMultiplyAdd(c, xa, s6));
            xa = Vector256.Load(x3 + k);
            xb = Vector256.Load(x3 + k + 8);
            s3 = Vector256.FusedMultiplyAdd(b, xb, Vector256.FusedMultiplyAdd(a, xa, s3));
            s7 = Vector256.FusedMultiplyAdd(d, xb, Vector256.FusedMultiplyAdd(c, xa, s7));
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

    // ---- many rows: blocked product -----------------------------------------------------------------------------

    /// <summary>Sixteen rows of x turned on their side: packed // (K, 16), zero where there is no row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackPanel(ref LinearJob job, int panel)
    {
        int first = job.Begin + (panel * TileColumns);
        float* to = job.Packed + ((nint)panel * TileColumns * job.Inputs);
        float* from = job.X + ((nint)first * job.Inputs);
        int rows = Math.Min(TileColumns, job.End - first);
        for (int half = 0; half < TileColumns; half += 8)
        {
            int k = 0;
            if (rows - half >= 8)
            {
                for (; k <= job.Inputs - 8; k += 8)
                {
                    VectorMath.Transpose8x8(from + ((nint)half * job.Inputs) + k, job.Inputs, to + ((nint)k * TileColumns) + half, TileColumns);
                }
            }

            for (; k < job.Inputs; k++)
            {
                for (int j = half; j < half + 8; j++)
                {
                    to[((nint)k * TileColumns) + j] = j < rows ? from[((nint)j * job.Inputs) + k] : 0;
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void TilePart<T>(ref LinearJob job, int part)
        where T : struct, IStoredWeight
    {
        int begin = part * job.OutputsPerPart;
        int outputs = Math.Min(job.OutputsPerPart, job.Outputs - begin);
        int padded = (outputs + TileRows - 1) / TileRows * TileRows;
        int panels = job.Panels;
        float* weights = HostScratch.ForPart((WeightBlock * DepthBlock) + ((long)panels * WeightBlock * TileColumns));
        float* sums = weights + (WeightBlock * DepthBlock);
        for (int k = 0; k < job.Inputs; k += DepthBlock)
        {
            int depth = Math.Min(DepthBlock, job.Inputs - k);
            for (int n = 0; n < padded; n++)
            {
                Convert<T>(job.Row<T>(begin + Math.Min(n, outputs - 1), k), weights + ((nint)n * depth), depth);
            }

            for (int panel = 0; panel < panels; panel++)
            {
                float* x = job.Packed + (((nint)panel * job.Inputs) + k) * TileColumns;
                float* tile = sums + ((nint)panel * WeightBlock * TileColumns);
                Prefetch<T>(ref job, begin, k + DepthBlock, outputs * panel / panels, outputs * (panel + 1) / panels);
                for (int n = 0; n < padded; n += TileRows)
                {
                    Tile6x16(weights + ((nint)n * depth), depth, x, depth, tile + ((nint)n * TileColumns), TileColumns, add: k > 0);
                }
            }
        }

        for (int m = job.Begin; m < job.End; m += 8)
        {
            int at = m - job.Begin;
            float* tile = sums + ((nint)(at / TileColumns) * WeightBlock * TileColumns) + (at % TileColumns);
            PutTile(ref job, m, begin, tile, outputs);
        }

        Dots<T>(ref job, begin, begin + outputs);
    }

    /// <summary>Asks for the stored weights of outputs begin + first .. begin + last − 1 from input k on, which come next, while there is other work.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch<T>(ref LinearJob job, int begin, int k, int first, int last)
        where T : struct, IStoredWeight
    {
        const int LineInBytes = 64;
        if (!Sse.IsSupported || k >= job.Inputs)
        {
            return;
        }

        int bytes = Math.Min(DepthBlock, job.Inputs - k) * T.SizeInBytes;
        for (int n = first; n < last; n++)
        {
            byte* row = job.Row<T>(begin + n, k);
            for (int i = 0; i < bytes; i += LineInBytes)
            {
                Sse.Prefetch1(row + i);
            }
        }
    }

    /// <summary>Rows m .. m+7 of y from sums lying on their side // (outputs, 16), with bias and residual.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PutTile(ref LinearJob job, int m, int begin, float* sums, int outputs)
    {
        float* block = stackalloc float[64];
        int rows = Math.Min(8, job.End - m);
        bool plain = rows == 8 && m >= job.BiasedRows && job.Residual is null;
        for (int n = 0; n < outputs; n += 8)
        {
            int columns = Math.Min(8, outputs - n);
            nint first = ((nint)m * job.Outputs) + begin + n;
            if (plain && columns == 8)
            {
                VectorMath.Transpose8x8(sums + ((nint)n * TileColumns), TileColumns, job.Y + first, job.Outputs);
                continue;
            }

            VectorMath.Transpose8x8(sums + ((nint)n * TileColumns), TileColumns, block, 8);
            for (int i = 0; i < rows; i++)
            {
                nint at = first + ((nint)i * job.Outputs);
                float* bias = m + i < job.BiasedRows ? job.Bias + begin + n : null;
                if (columns == 8)
                {
                    var sum = Vector256.Load(block + (8 * i));
                    sum = bias is null ? sum : sum + Vector256.Load(bias);
                    (job.Residual is null ? sum : Vector256.Load(job.Residual + at) + sum).Store(job.Y + at);
                    continue;
                }

                for (int j = 0; j < columns; j++)
                {
                    float sum = block[(8 * i) + j];
                    sum = bias is null ? sum : sum + bias[j];
                    job.Y[at + j] = job.Residual is null ? sum : job.Residual[at + j] + sum;
                }
            }
        }
    }

    private static void Transposed<T>(WorkerPool pool, Floats y, Matrix w, Floats x, CancellationToken cancellation)
        where T : struct, IStoredWeight
    {
        var job = new LinearJob
        {
            W = (byte*)w.Address,
            Inputs = w.Columns,
            Outputs = w.Rows,
            End = y.Rows,
            X = (float*)x.Address,
            Y = (float*)y.Address,
        };
        pool.Run((w.Columns + StripeColumns - 1) / StripeColumns, ref job, &StripePart<T>, cancellation);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void StripePart<T>(ref LinearJob job, int part)
        where T : struct, IStoredWeight
    {
        const int PanelFloats = DepthBlock * TileColumns;
        int begin = part * StripeColumns;
        int columns = Math.Min(StripeColumns, job.Inputs - begin);
        int panels = (columns + TileColumns - 1) / TileColumns;
        int rowTiles = (job.End + TileRows - 1) / TileRows;
        float* weights = HostScratch.ForPart((StripeColumns * DepthBlock) + ((long)rowTiles * TileRows * StripeColumns) + (TileRows * DepthBlock));
        float* sums = weights + (StripeColumns * DepthBlock);
        float* rows = sums + ((nint)rowTiles * TileRows * StripeColumns);
        for (int n = 0; n < job.Outputs; n += DepthBlock)
        {
            int depth = Math.Min(DepthBlock, job.Outputs - n);
            for (int i = 0; i < depth; i++)
            {
                byte* row = job.W + (((nint)(n + i) * job.Inputs) + begin) * T.SizeInBytes;
                for (int panel = 0; panel < panels; panel++)
                {
                    float* to = weights + ((nint)panel * PanelFloats) + ((nint)i * TileColumns);
                    ConvertPadded<T>(row + ((nint)panel * TileColumns * T.SizeInBytes), to, Math.Min(TileColumns, columns - (panel * TileColumns)));
                }
            }

            for (int tile = 0; tile < rowTiles; tile++)
            {
                for (int i = 0; i < TileRows; i++)
                {
                    float* from = job.Y + ((nint)Math.Min((tile * TileRows) + i, job.End - 1) * job.Outputs) + n;
                    Buffer.MemoryCopy(from, rows + ((nint)i * depth), 4L * depth, 4L * depth);
                }

                for (int panel = 0; panel < panels; panel++)
                {
                    float* sum = sums + ((nint)tile * TileRows * StripeColumns) + (panel * TileColumns);
                    Tile6x16(rows, depth, weights + ((nint)panel * PanelFloats), depth, sum, StripeColumns, add: n > 0);
                }
            }
        }

        for (int m = 0; m < job.End; m++)
        {
            Buffer.MemoryCopy(sums + ((nint)m * StripeColumns), job.X + ((nint)m * job.Inputs) + begin, 4L * columns, 4L * columns);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Convert<T>(byte* from, float* to, int count)
        where T : struct, IStoredWeight
    {
        int i = 0;
        for (; i <= count - 16; i += 16)
        {
            T.LoadInOrder(from + ((nint)i * T.SizeInBytes), out var a, out var b);
            a.Store(to + i);
            b.Store(to + i + 8);
        }

        for (; i < count; i++)
        {
            to[i] = T.LoadOne(from + ((nint)i * T.SizeInBytes));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ConvertPadded<T>(byte* from, float* to, int count)
        where T : struct, IStoredWeight
    {
        if (count == TileColumns)
        {
            T.LoadInOrder(from, out var a, out var b);
            a.Store(to);
            b.Store(to + 8);
            return;
        }

        for (int i = 0; i < TileColumns; i++)
        {
            to[i] = i < count ? T.LoadOne(from + ((nint)i * T.SizeInBytes)) : 0;
        }
    }

    /// <summary>C (+)= A B: A // (6, depth) with rows <paramref name="aStride"/> apart, B // (depth, 16) packed, C // (6, 16).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile6x16(float* a, nint aStride, float* b, int depth, float* c, nint cStride, bool add)
    {
        float* a1 = a + aStride, a2 = a1 + aStride, a3 = a2 + aStride, a4 = a3 + aStride, a5 = a4 + aStride;
        Vector256<float> c00 = default, c01 = default, c10 = default, c11 = default, c20 = default, c21 = default;
        Vector256<float> c30 = default, c31 = default, c40 = default, c41 = default, c50 = default, c51 = default;
        for (nint k = 0; k < depth; k++)
        {
            var b0 = Vector256.Load(b);
            var b1 = Vector256.Load(b + 8);
            b += TileColumns;
            var x = Vector256.Create(a[k]);
            c00 = Vector256.FusedMultiplyAdd(x, b0, c00);
            c01 = Vector256.FusedMultiplyAdd(x, b1, c01);
            x = Vector256.Create(a1[k]);
            c10 = Vector256.FusedMultiplyAdd(x, b0, c10);
            c11 = Vector256.FusedMultiplyAdd(x, b1, c11);
            x = Vector256.Create(a2[k]);
            c20 = Vector256.FusedMultiplyAdd(x, b0, c20);
            c21 = Vector256.FusedMultiplyAdd(x, b1, c21);
            x = Vector256.Create(a3[k]);
            c30 = Vector256.FusedMultiplyAdd(x, b0, c30);
            c31 = Vector256.FusedMultiplyAdd(x, b1, c31);
            x = Vector256.Create(a4[k]);
            c40 = Vector256.FusedMultiplyAdd(x, b0, c40);
            c41 = Vector256.FusedMultiplyAdd(x, b1, c41);
            x = Vector256.Create(a5[k]);
            c50 = Vector256.FusedMultiplyAdd(x, b0, c50);
            c51 = Vector256.FusedMultiplyAdd(x, b1, c51);
        }

        Store(c, c00, c01, add);
        Store(c + cStride, c10, c11, add);
        Store(c + (2 * cStride), c20, c21, add);
        Store(c + (3 * cStride), c30, c31, add);
        Store(c + (4 * cStride), c40, c41, add);
        Store(c + (5 * cStride), c50, c51, add);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* c, Vector256<float> lower, Vector256<float> upper, bool add)
    {
        if (add)
        {
            lower += Vector256.Load(c);
            upper += Vector256.Load(c + 8);
        }

        lower.Store(c);
        upper.Store(c + 8);
    }

    private struct LinearJob
    {
        public byte* W;
        public float* X;
        public float* Y;
        public float* Bias;
        public float* Residual;
        public int Inputs;
        public int Outputs;
        public int OutputsPerPart;

        /// <summary>Rows before this one have a bias.</summary>
        public int BiasedRows;

        /// <summary>The first rows of X, by dot products, as <see cref="Split"/> left them.</summary>
        public float* Dots;
        public int RowsByDots;

        /// <summary>Rows Begin .. End − 1 of X, by tiles, packed.</summary>
        public float* Packed;
        public int Begin;
        public int End;

        public readonly int Panels => (End - Begin + TileColumns - 1) / TileColumns;

        public readonly byte* Row<T>(int n, int k = 0)
            where T : struct, IStoredWeight => W + ((((nint)n * Inputs) + k) * T.SizeInBytes);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public readonly void PutEight(int m, int n, Vector256<float> sums)
        {
            if (m < BiasedRows)
            {
                sums += Vector256.Load(Bias + n);
            }

            nint at = ((nint)m * Outputs) + n;
            (Residual is null ? sums : Vector256.Load(Residual + at) + sums).Store(Y + at);
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public readonly void Put(int m, int n, float sum)
        {
            if (m < BiasedRows)
            {
                sum += Bias[n];
            }

            nint at = ((nint)m * Outputs) + n;
            Y[at] = Residual is null ? sum : Residual[at] + sum;
        }
    }
}
