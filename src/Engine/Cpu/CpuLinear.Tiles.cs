using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <content>Many rows: a blocked product on converted panels of weights and packed panels of rows.</content>
internal static unsafe partial class CpuLinear
{
    /// <summary>Transposes sixteen rows of x: packed // (K, 16), with zeros for missing rows.</summary>
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

        // With few rows, the converted weights of one tile stay in the first-level cache; with many rows, a panel of the rows does.
        int block = panels > FewPanels ? WeightBlock : job.Wide != Avx512Code.None ? WideTileRows : TileRows;
        float* weights = HostScratch.ForPart((WeightBlock * DepthBlock) + ((long)panels * WeightBlock * TileColumns));
        float* sums = weights + (WeightBlock * DepthBlock);
        for (int k = 0; k < job.Inputs; k += DepthBlock)
        {
            int depth = Math.Min(DepthBlock, job.Inputs - k);
            for (int first = 0; first < padded; first += block)
            {
                int rows = Math.Min(block, padded - first);
                for (int n = 0; n < rows; n++)
                {
                    Convert<T>(job.Row<T>(begin + Math.Min(first + n, outputs - 1), k), weights + ((nint)n * depth), depth);
                }

                for (int panel = 0; panel < panels; panel++)
                {
                    float* x = job.Packed + (((nint)panel * job.Inputs) + k) * TileColumns;
                    float* tile = sums + (((nint)panel * WeightBlock) + first) * TileColumns;
                    PrefetchNext<T>(ref job, part, k, first + (rows * panel / panels), first + (rows * (panel + 1) / panels));
                    Tiles(job.Wide, weights, depth, rows, x, depth, tile, TileColumns, add: k > 0);
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

    /// <summary>
    /// Prefetches stored weights that are used next: outputs first .. last − 1 of this part at the next inputs, or, at the end of the inputs, of the
    /// thread's next part.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PrefetchNext<T>(ref LinearJob job, int part, int k, int first, int last)
        where T : struct, IStoredWeight
    {
        k += DepthBlock;
        if (k >= job.Inputs)
        {
            (part, k) = (part + 1, 0);
        }

        int begin = part * job.OutputsPerPart;
        int depth = Math.Min(DepthBlock, job.Inputs - k);
        for (int n = begin + first; n < Math.Min(begin + last, job.Outputs); n++)
        {
            Prefetch(job.Row<T>(n, k), depth * T.SizeInBytes);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* first, int sizeInBytes)
    {
        if (Sse.IsSupported)
        {
            for (int i = 0; i < sizeInBytes; i += LineInBytes)
            {
                Sse.Prefetch1(first + i);
            }
        }
    }

    /// <summary>Writes rows m .. m+7 of y from transposed sums // (outputs, 16), with bias and residual.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PutTile(ref LinearJob job, int m, int begin, float* sums, int outputs)
    {
        float* block = stackalloc float[64];
        int rows = Math.Min(8, job.End - m);
        for (int n = 0; n < outputs; n += 8)
        {
            int columns = Math.Min(8, outputs - n);
            nint first = ((nint)m * job.Outputs) + begin + n;
            if (rows == 8 && columns == 8 && m >= job.BiasedRows)
            {
                VectorMath.Transpose8x8(
                    sums + ((nint)n * TileColumns), TileColumns, job.Y + first, job.Outputs, job.Residual is null ? null : job.Residual + first);
                continue;
            }

            VectorMath.Transpose8x8(sums + ((nint)n * TileColumns), TileColumns, block, 8);
            for (int i = 0; i < rows; i++)
            {
                for (int j = 0; j < columns; j++)
                {
                    job.Put(m + i, begin + n + j, block[(8 * i) + j]);
                }
            }
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

    /// <summary>
    /// Computes C (+)= A B for a multiple of six rows of A and C, with the widest vectors available. The bits do not depend on the width.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Tiles(Avx512Code wide, float* a, nint aStride, int rows, float* b, int depth, float* c, nint cStride, bool add)
    {
        int n = 0;
        if (wide == Avx512Code.Native)
        {
            n = rows / WideTileRows * WideTileRows;
            Avx512.Tiles(a, aStride, n, b, depth, c, cStride, add ? 1 : 0);
        }

        for (; wide == Avx512Code.Managed && n <= rows - WideTileRows; n += WideTileRows)
        {
            Tile12x16(a + (n * aStride), aStride, b, depth, c + (n * cStride), cStride, add);
        }

        for (; n < rows; n += TileRows)
        {
            Tile6x16(a + (n * aStride), aStride, b, depth, c + (n * cStride), cStride, add);
        }
    }

    /// <summary>Like <see cref="Tile6x16"/> for twelve rows, in vectors of 512 bits. Twelve independent sums hide the latency in both.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Tile12x16(float* a, nint aStride, float* b, int depth, float* c, nint cStride, bool add)
    {
        float* a1 = a + aStride, a2 = a1 + aStride, a3 = a2 + aStride, a4 = a3 + aStride, a5 = a4 + aStride;
        float* a6 = a5 + aStride, a7 = a6 + aStride, a8 = a7 + aStride, a9 = a8 + aStride, a10 = a9 + aStride, a11 = a10 + aStride;
        Vector512<float> c0 = default, c1 = default, c2 = default, c3 = default, c4 = default, c5 = default;
        Vector512<float> c6 = default, c7 = default, c8 = default, c9 = default, c10 = default, c11 = default;
        for (nint k = 0; k < depth; k++)
        {
            var x = Vector512.Load(b);
            b += TileColumns;
            c0 = Vector512.MultiplyAddEstimate(Vector512.Create(a[k]), x, c0);
            c1 = Vector512.MultiplyAddEstimate(Vector512.Create(a1[k]), x, c1);
            c2 = Vector512.MultiplyAddEstimate(Vector512.Create(a2[k]), x, c2);
            c3 = Vector512.MultiplyAddEstimate(Vector512.Create(a3[k]), x, c3);
            c4 = Vector512.MultiplyAddEstimate(Vector512.Create(a4[k]), x, c4);
            c5 = Vector512.MultiplyAddEstimate(Vector512.Create(a5[k]), x, c5);
            c6 = Vector512.MultiplyAddEstimate(Vector512.Create(a6[k]), x, c6);
            c7 = Vector512.MultiplyAddEstimate(Vector512.Create(a7[k]), x, c7);
            c8 = Vector512.MultiplyAddEstimate(Vector512.Create(a8[k]), x, c8);
            c9 = Vector512.MultiplyAddEstimate(Vector512.Create(a9[k]), x, c9);
            c10 = Vector512.MultiplyAddEstimate(Vector512.Create(a10[k]), x, c10);
            c11 = Vector512.MultiplyAddEstimate(Vector512.Create(a11[k]), x, c11);
        }

        Store(c, c0, add);
        Store(c + cStride, c1, add);
        Store(c + (2 * cStride), c2, add);
        Store(c + (3 * cStride), c3, add);
        Store(c + (4 * cStride), c4, add);
        Store(c + (5 * cStride), c5, add);
        Store(c + (6 * cStride), c6, add);
        Store(c + (7 * cStride), c7, add);
        Store(c + (8 * cStride), c8, add);
        Store(c + (9 * cStride), c9, add);
        Store(c + (10 * cStride), c10, add);
        Store(c + (11 * cStride), c11, add);
    }

    /// <summary>Computes C (+)= A B: A // (6, depth) with rows <paramref name="aStride"/> apart, B // (depth, 16) packed, C // (6, 16).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Tile6x16(float* a, nint aStride, float* b, int depth, float* c, nint cStride, bool add)
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
            c00 = Vector256.MultiplyAddEstimate(x, b0, c00);
            c01 = Vector256.MultiplyAddEstimate(x, b1, c01);
            x = Vector256.Create(a1[k]);
            c10 = Vector256.MultiplyAddEstimate(x, b0, c10);
            c11 = Vector256.MultiplyAddEstimate(x, b1, c11);
            x = Vector256.Create(a2[k]);
            c20 = Vector256.MultiplyAddEstimate(x, b0, c20);
            c21 = Vector256.MultiplyAddEstimate(x, b1, c21);
            x = Vector256.Create(a3[k]);
            c30 = Vector256.MultiplyAddEstimate(x, b0, c30);
            c31 = Vector256.MultiplyAddEstimate(x, b1, c31);
            x = Vector256.Create(a4[k]);
            c40 = Vector256.MultiplyAddEstimate(x, b0, c40);
            c41 = Vector256.MultiplyAddEstimate(x, b1, c41);
            x = Vector256.Create(a5[k]);
            c50 = Vector256.MultiplyAddEstimate(x, b0, c50);
            c51 = Vector256.MultiplyAddEstimate(x, b1, c51);
        }

        Store(c, c00, c01, add);
        Store(c + cStride, c10, c11, add);
        Store(c + (2 * cStride), c20, c21, add);
        Store(c + (3 * cStride), c30, c31, add);
        Store(c + (4 * cStride), c40, c41, add);
        Store(c + (5 * cStride), c50, c51, add);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* c, Vector512<float> row, bool add) => (add ? row + Vector512.Load(c) : row).Store(c);

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
}
