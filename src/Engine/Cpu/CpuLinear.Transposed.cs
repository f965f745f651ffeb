using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <content>
/// x̄ = ȳ W. For few rows, blocks of W's rows are read as they are stored. For many rows, blocks of a stripe of W's columns are converted and used in
/// tiles. Both sum in the same order: blocks of <see cref="RowBlock"/> products, each from zero, then the sums of the blocks.
/// </content>
internal static unsafe partial class CpuLinear
{
    private const int RowBlock = 128;
    private const int StripeColumns = 4 * TileColumns;

    /// <summary>Largest number of rows of ȳ for which weights are not converted first.</summary>
    public const int AddedRows = 64;

    /// <summary>Number of blocks of W's rows whose sums are stored before they are added, for at most <see cref="AddedRows"/> rows.</summary>
    public const int BlocksAtOnce = 16;

    // The rows of ȳ (in vectors of 512 bits, and of 256), rows of W and columns that one inner product takes.
    private const int WideRowsAtOnce = 8;
    private const int RowsAtOnce = 4;
    private const int WeightsAtOnce = 16;
    private const int ColumnsAtOnce = 512;

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
            Wide = Avx512.Code,
        };
        if (y.Rows > AddedRows)
        {
            pool.Run((w.Columns + StripeColumns - 1) / StripeColumns, ref job, &StripePart<T>, cancellation);
            return;
        }

        int blocks = (w.Rows + RowBlock - 1) / RowBlock;
        job.Packed = HostScratch.ForCaller(Math.Min(blocks, BlocksAtOnce) * job.BlockSums);
        for (job.Begin = 0; job.Begin < blocks; job.Begin += BlocksAtOnce)
        {
            job.Blocks = Math.Min(BlocksAtOnce, blocks - job.Begin);
            pool.Run(job.Blocks, ref job, &AddedPart<T>, cancellation);
            pool.Run((w.Columns + StripeColumns - 1) / StripeColumns, ref job, &AddBlocks, cancellation);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void StripePart<T>(ref LinearJob job, int part)
        where T : struct, IStoredWeight
    {
        const int PanelFloats = RowBlock * TileColumns;
        int begin = part * StripeColumns;
        int columns = Math.Min(StripeColumns, job.Inputs - begin);
        int panels = (columns + TileColumns - 1) / TileColumns;
        int padded = (job.End + TileRows - 1) / TileRows * TileRows;
        float* weights = HostScratch.ForPart((StripeColumns * RowBlock) + ((long)padded * StripeColumns) + (WeightBlock * RowBlock));
        float* sums = weights + (StripeColumns * RowBlock);
        float* rows = sums + ((nint)padded * StripeColumns);
        for (int n = 0; n < job.Outputs; n += RowBlock)
        {
            int depth = Math.Min(RowBlock, job.Outputs - n);
            for (int i = 0; i < depth; i++)
            {
                byte* row = job.Row<T>(n + i, begin);
                for (int panel = 0; panel < panels; panel++)
                {
                    float* to = weights + ((nint)panel * PanelFloats) + ((nint)i * TileColumns);
                    ConvertPadded<T>(row + ((nint)panel * TileColumns * T.SizeInBytes), to, Math.Min(TileColumns, columns - (panel * TileColumns)));
                }
            }

            for (int first = 0; first < padded; first += WeightBlock)
            {
                int count = Math.Min(WeightBlock, padded - first);
                for (int i = 0; i < count; i++)
                {
                    float* from = job.Y + ((nint)Math.Min(first + i, job.End - 1) * job.Outputs) + n;
                    Buffer.MemoryCopy(from, rows + ((nint)i * depth), 4L * depth, 4L * depth);
                }

                for (int panel = 0; panel < panels; panel++)
                {
                    float* sum = sums + ((nint)first * StripeColumns) + (panel * TileColumns);
                    Tiles(job.Wide, rows, depth, count, weights + ((nint)panel * PanelFloats), depth, sum, StripeColumns, add: n > 0);
                }
            }
        }

        for (int m = 0; m < job.End; m++)
        {
            Buffer.MemoryCopy(sums + ((nint)m * StripeColumns), job.X + ((nint)m * job.Inputs) + begin, 4L * columns, 4L * columns);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddedPart<T>(ref LinearJob job, int part)
        where T : struct, IStoredWeight
    {
        float* sums = job.Packed + (part * job.BlockSums);
        int first = (job.Begin + part) * RowBlock;
        int last = Math.Min(first + RowBlock, job.Outputs);
        for (int n = first; n < last; n += WeightsAtOnce)
        {
            int count = Math.Min(WeightsAtOnce, last - n);
            for (int begin = 0; begin < job.Inputs; begin += ColumnsAtOnce)
            {
                int end = Math.Min(begin + ColumnsAtOnce, job.Inputs);
                for (int m = 0; m < job.End;)
                {
                    float* to = sums + (m * job.SumsStride);
                    if (job.Wide == Avx512Code.Managed && job.End - m > RowsAtOnce)
                    {
                        AddWeightsWide<T>(ref job, n, count, m, begin, end, to, add: n > first);
                        m += WideRowsAtOnce;
                    }
                    else
                    {
                        AddWeights<T>(ref job, n, count, m, begin, end, to, add: n > first);
                        m += RowsAtOnce;
                    }
                }
            }
        }
    }

    /// <summary>Adds the sums of the blocks to x̄, in order, in one stripe of columns. The first block overwrites x̄.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddBlocks(ref LinearJob job, int part)
    {
        int begin = part * StripeColumns;
        int columns = Math.Min(StripeColumns, job.Inputs - begin);
        for (int m = 0; m < job.End; m++)
        {
            var x = new Span<float>(job.X + ((nint)m * job.Inputs) + begin, columns);
            for (int block = 0; block < job.Blocks; block++)
            {
                var sums = new ReadOnlySpan<float>(job.Packed + (block * job.BlockSums) + (m * job.SumsStride) + begin, columns);
                if (job.Begin + block == 0)
                {
                    sums.CopyTo(x);
                }
                else
                {
                    TensorPrimitives.Add(x, sums, x);
                }
            }
        }
    }

    /// <summary>
    /// Computes sums (+)= ȳ_m W_n over rows n .. n + count − 1 of W, for the four rows from m on. Missing rows are replaced by the last one.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddWeights<T>(ref LinearJob job, int n, int count, int m, int begin, int end, float* sums, bool add)
        where T : struct, IStoredWeight
    {
        nint stride = job.SumsStride, rowInBytes = (nint)job.Inputs * T.SizeInBytes;
        float* y0 = job.Y + ((nint)m * job.Outputs) + n;
        float* y1 = job.Y + ((nint)Math.Min(m + 1, job.End - 1) * job.Outputs) + n;
        float* y2 = job.Y + ((nint)Math.Min(m + 2, job.End - 1) * job.Outputs) + n;
        float* y3 = job.Y + ((nint)Math.Min(m + 3, job.End - 1) * job.Outputs) + n;
        byte* weights = job.Row<T>(n);
        int c = begin;
        for (; c <= end - TileColumns; c += TileColumns)
        {
            float* to = sums + c;
            Vector256<float> c00 = default, c01 = default, c10 = default, c11 = default, c20 = default, c21 = default, c30 = default, c31 = default;
            if (add)
            {
                (c00, c01) = (Vector256.Load(to), Vector256.Load(to + 8));
                (c10, c11) = (Vector256.Load(to + stride), Vector256.Load(to + stride + 8));
                (c20, c21) = (Vector256.Load(to + (2 * stride)), Vector256.Load(to + (2 * stride) + 8));
                (c30, c31) = (Vector256.Load(to + (3 * stride)), Vector256.Load(to + (3 * stride) + 8));
            }

            byte* w = weights + ((nint)c * T.SizeInBytes);
            AskForNext<T>(ref job, n, m, c);
            for (nint i = 0; i < count; i++, w += rowInBytes)
            {
                T.LoadInOrder(w, out var lower, out var upper);
                var y = Vector256.Create(y0[i]);
                c00 = Vector256.MultiplyAddEstimate(y, lower, c00);
                c01 = Vector256.MultiplyAddEstimate(y, upper, c01);
                y = Vector256.Create(y1[i]);
                c10 = Vector256.MultiplyAddEstimate(y, lower, c10);
                c11 = Vector256.MultiplyAddEstimate(y, upper, c11);
                y = Vector256.Create(y2[i]);
                c20 = Vector256.MultiplyAddEstimate(y, lower, c20);
                c21 = Vector256.MultiplyAddEstimate(y, upper, c21);
                y = Vector256.Create(y3[i]);
                c30 = Vector256.MultiplyAddEstimate(y, lower, c30);
                c31 = Vector256.MultiplyAddEstimate(y, upper, c31);
            }

            Store(to, c00, c01, add: false);
            Store(to + stride, c10, c11, add: false);
            Store(to + (2 * stride), c20, c21, add: false);
            Store(to + (3 * stride), c30, c31, add: false);
        }

        for (; c < end; c++)
        {
            for (int j = 0; j < RowsAtOnce; j++)
            {
                float* y = j == 0 ? y0 : j == 1 ? y1 : j == 2 ? y2 : y3;
                float sum = add ? sums[(j * stride) + c] : 0;
                for (int i = 0; i < count; i++)
                {
                    sum = float.MultiplyAddEstimate(y[i], T.LoadOne(weights + ((nint)c * T.SizeInBytes) + (i * rowInBytes)), sum);
                }

                sums[(j * stride) + c] = sum;
            }
        }
    }

    // The first rows of ȳ ask for the rows of W that come next, a line of each at a time, which the processor does not predict.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AskForNext<T>(ref LinearJob job, int n, int m, int c)
        where T : struct, IStoredWeight
    {
        if (m == 0 && BeginsLine<T>(c))
        {
            int last = Math.Min(n + (2 * WeightsAtOnce), job.Outputs);
            for (int i = n + WeightsAtOnce; i < last; i++)
            {
                Ahead(job.Row<T>(i, c));
            }
        }
    }

    /// <summary>As <see cref="AddWeights"/>, for the eight rows from m on. Missing rows are 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddWeightsWide<T>(ref LinearJob job, int n, int count, int m, int begin, int end, float* sums, bool add)
        where T : struct, IStoredWeight
    {
        // ȳ // (count, 8), so that one address serves all factors of a row of W
        float* factors = stackalloc float[WeightsAtOnce * WideRowsAtOnce];
        for (int j = 0; j < WideRowsAtOnce; j++)
        {
            float* y = job.Y + ((nint)(m + j) * job.Outputs) + n;
            for (int i = 0; i < count; i++)
            {
                factors[(i * WideRowsAtOnce) + j] = m + j < job.End ? y[i] : 0;
            }
        }

        nint stride = job.SumsStride, rowInBytes = (nint)job.Inputs * T.SizeInBytes;
        byte* weights = job.Row<T>(n);
        int c = begin;
        for (; c <= end - TileColumns; c += TileColumns)
        {
            AskForNext<T>(ref job, n, m, c);
            PanelTiles.Tile8<T>(
                factors, WideRowsAtOnce, weights + ((nint)c * T.SizeInBytes), rowInBytes, count, sums + c, stride, add);
        }

        for (; c < end; c++)
        {
            for (int j = 0; j < WideRowsAtOnce; j++)
            {
                float sum = add ? sums[(j * stride) + c] : 0;
                for (int i = 0; i < count; i++)
                {
                    float weight = T.LoadOne(weights + ((nint)c * T.SizeInBytes) + (i * rowInBytes));
                    sum = float.MultiplyAddEstimate(factors[(i * WideRowsAtOnce) + j], weight, sum);
                }

                sums[(j * stride) + c] = sum;
            }
        }
    }
}
