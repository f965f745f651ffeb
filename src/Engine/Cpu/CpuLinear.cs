using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <summary>
/// Y = X W' + b and X̄ = Ȳ W on the CPU, with weights in their stored type. Up to <see cref="MaxDotRows"/> rows, or fewer if they are short, use dot
/// products, in groups of <see cref="DotRows"/>: the first group reads W from memory, the others from the cache. More rows use a blocked product on
/// converted panels. If there are at least <see cref="TangentsAlone"/> tangents, up to <see cref="DotRows"/> value rows beside them still use
/// dot products. In each of the two forms, the bits of a row depend only on that row and W.
/// </summary>
internal static unsafe partial class CpuLinear
{
    /// <summary>Rows whose dot products share a reading of the weights.</summary>
    public const int DotRows = 8;

    /// <summary>
    /// Largest number of rows that use dot products: converting weights for so few takes longer than widening them again for each group of rows.
    /// </summary>
    public const int MaxDotRows = 8 * DotRows;

    /// <summary>The same if W has fewer than <see cref="LongRow"/> inputs, so that adding up a vector is much of a dot product.</summary>
    public const int MaxShortDotRows = 3 * DotRows;

    /// <summary>Number of inputs from which rows are long.</summary>
    public const int LongRow = 512;

    /// <summary>Smallest number of tangents beside which few value rows use dot products instead of sharing the tangents' panels.</summary>
    public const int TangentsAlone = 32;

    /// <summary>Rows of a tile in vectors of 256 bits.</summary>
    public const int TileRows = 6;

    private const int WideTileRows = 2 * TileRows;
    private const int TileColumns = 16;
    private const int LineInBytes = 64; // of the cache
    private const int DepthBlock = 256;
    private const int WeightBlock = 8 * TileRows;
    private const int RowChunk = 256;
    private const int FewPanels = 4;
    private const long WeightsPerPart = 128 * 1024;

    // Two, four and eight threads get the same number of parts.
    private const int PartsTogether = 8;

    // Rows of W between those that are multiplied and those that are asked for, where a group of rows reads them from memory.
    private const int RowsAhead = 8;

    // Smallest size of a first-level cache, and of a matrix that is likely to be read from memory.
    private const int FirstCacheInBytes = 32 * 1024;
    private const long OfMemoryInBytes = 512 * 1024;

    // For one row of x, a part of W whose rows are long is read in four quarters at once: blocks of four rows do not fit the first cache beside x.
    // The processor reads each quarter ahead by itself if it is large. An x that is too long for the first cache would lose more than that gains.
    private const long LongRowInBytes = 4096;
    private const int MaxQuartersInputs = 4096;
    private const long QuartersInBytes = 384 * 1024;
    private const long WeightsPerQuarters = 256 * 1024;

    // Distance of the lines that are asked for, behind a block of rows.
    private const int BytesAhead = 2048;

    // Reading a weight takes as long as its products with so many rows.
    private const int RowsPerRead = 8;

    /// <summary>Computes y = x W' + bias + residual for each row.</summary>
    /// <param name="pool">The threads.</param>
    /// <param name="x">Rows // (M, K).</param>
    /// <param name="w">Weights // (N, K).</param>
    /// <param name="values">Number of value rows. The rows after them are tangents.</param>
    /// <param name="bias">Bias // (1, N), or absent; added to value rows only.</param>
    /// <param name="residual">Residual // (M, N), or absent.</param>
    /// <param name="y">Result // (M, N).</param>
    /// <param name="gated">Where the gated values go, if the outputs are gates and then the values that they are for; or absent.</param>
    /// <param name="norm">The norm of the rows of x in front of the map, of <see cref="DotRows"/> value rows at most; or absent.</param>
    /// <param name="cancellation">As <see cref="RowBatch.Cancellation"/>.</param>
    public static void Forward(
        WorkerPool pool, Floats x, int values, Matrix w, Floats bias, Floats residual, Floats y, GatedOutput gated = default,
        InputNorm norm = default, CancellationToken cancellation = default)
    {
        Debug.Assert(x.Columns == w.Columns && y.Columns == w.Rows && x.Rows == y.Rows, "shapes of a linear map");
        Debug.Assert(norm.IsAbsent || (x.Rows <= DotRows && values == x.Rows), "few value rows");
        switch (w.Type)
        {
            case WeightType.BF16:
                Forward<Bf16Weight>(pool, x, values, w, bias, residual, y, gated, norm, cancellation);
                break;
            case WeightType.F16:
                Forward<F16Weight>(pool, x, values, w, bias, residual, y, gated, norm, cancellation);
                break;
            default:
                Forward<F32Weight>(pool, x, values, w, bias, residual, y, gated, norm, cancellation);
                break;
        }
    }

    /// <summary>Computes x̄ = ȳ W for each row.</summary>
    public static void Transposed(WorkerPool pool, Floats y, Matrix w, Floats x, CancellationToken cancellation = default)
    {
        Debug.Assert(x.Columns == w.Columns && y.Columns == w.Rows && x.Rows == y.Rows, "shapes of a linear map");
        switch (w.Type)
        {
            case WeightType.BF16:
                Transposed<Bf16Weight>(pool, y, w, x, cancellation);
                break;
            case WeightType.F16:
                Transposed<F16Weight>(pool, y, w, x, cancellation);
                break;
            default:
                Transposed<F32Weight>(pool, y, w, x, cancellation);
                break;
        }
    }

    /// <summary>Copies row <paramref name="row"/> of <paramref name="w"/>, times <paramref name="scale"/>.</summary>
    public static void Gather(Matrix w, int row, float scale, float* destination)
    {
        byte* p = (byte*)w.Address + ((long)row * w.Columns * w.ElementSizeInBytes);
        for (int i = 0; i < w.Columns; i++)
        {
            destination[i] = scale * w.Type switch
            {
                WeightType.BF16 => Bf16Weight.LoadOne(p + (2 * i)),
                WeightType.F16 => F16Weight.LoadOne(p + (2 * i)),
                _ => F32Weight.LoadOne(p + (4 * i)),
            };
        }
    }

    /// <summary>Largest number of rows that use dot products with a matrix of so many inputs.</summary>
    internal static int LargestDotRows(int inputs) => inputs < LongRow ? MaxShortDotRows : MaxDotRows;

    private static void Forward<T>(
        WorkerPool pool, Floats x, int values, Matrix w, Floats bias, Floats residual, Floats y, GatedOutput gated, InputNorm norm,
        CancellationToken cancellation)
        where T : struct, IStoredWeight
    {
        int tangents = x.Rows - values;
        int byDots = x.Rows <= LargestDotRows(w.Columns) ? x.Rows : values <= DotRows && tangents >= TangentsAlone ? values : 0;

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
            Wide = Avx512.Code,
            Gated = gated,
            Norm = norm,
        };
        if (byDots == x.Rows)
        {
            job.RowsByDots = byDots;
            if (byDots <= DotRows)
            {
                job.Number = NextNumber();
            }
            else
            {
                job.Dots = Arrange<T>(pool, job.Wide, x, HostScratch.ForCaller((x.Rows + 1L) * x.Columns), cancellation);
            }

            int unit = UsesPairs(job.Wide, x.Rows) || x.Rows < 4 ? 8 : OutputsOfChunk;
            job.OutputsPerPart = OutputsPerPart(w, x.Rows, unit);
            if (!gated.Y.IsAbsent)
            {
                // So many gates, and as many values. Half as many would be too few, because reading W begins anew for each of the two.
                pool.Run(((w.Rows / 2) + job.OutputsPerPart - 1) / job.OutputsPerPart, ref job, &GatedPart<T>, cancellation);
                return;
            }

            pool.Run(job.Parts, ref job, &DotPart<T>, cancellation);
            return;
        }

        job.OutputsPerPart = w.Rows >= 8 * WeightBlock ? WeightBlock : WeightBlock / 2;
        for (job.Begin = byDots; job.Begin < x.Rows; job.Begin = job.End)
        {
            // The rows of dot products run together with the first chunk, while the weights are in the cache.
            job.End = Math.Min(job.Begin + RowChunk, x.Rows);
            job.RowsByDots = job.Begin == byDots ? byDots : 0;
            int panels = job.Panels;
            job.Packed = HostScratch.ForCaller(((long)panels * TileColumns * w.Columns) + ((job.RowsByDots + 1L) * w.Columns));
            job.Dots = Arrange<T>(
                pool, job.Wide, x.Slice(0, job.RowsByDots), job.Packed + ((nint)panels * TileColumns * w.Columns), cancellation);
            pool.Run(panels, ref job, &PackPanel, cancellation);
            pool.Run(job.Parts, ref job, &TilePart<T>, cancellation);
        }

        if (!gated.Y.IsAbsent)
        {
            pool.Run(x.Rows, ref job, &GateRow, cancellation);
        }
    }

    private static void GateRow(ref LinearJob job, int row) => Gate(ref job, row, 0, job.Outputs / 2);

    private static void Gate(ref LinearJob job, int row, int begin, int end)
    {
        float* gates = job.Y + ((nint)row * job.Outputs) + begin;
        GatedUnit.Values(
            job.Gated.Activation, job.Gated.Scale, gates, gates + (job.Outputs / 2), job.Gated.Y.Row(row) + begin, end - begin);
    }

    private static bool HasQuarters(int inputs, int sizeInBytes) => inputs <= MaxQuartersInputs && (long)inputs * sizeInBytes >= LongRowInBytes;

    // A part's outputs are a multiple of the unit. A map that is worth only one part stays whole.
    private static int OutputsPerPart(Matrix w, int rows, int unit)
    {
        long cost = (long)w.Rows * w.Columns * (RowsPerRead + rows) / (RowsPerRead + 1);
        long weights = rows == 1 && HasQuarters(w.Columns, w.ElementSizeInBytes) ? WeightsPerQuarters : WeightsPerPart;
        long parts = (cost + weights - 1) / weights;
        parts = parts == 1 ? 1 : (parts + PartsTogether - 1) / PartsTogether * PartsTogether;
        return (int)((w.Rows + (unit * parts) - 1) / (unit * parts)) * unit;
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
        public Avx512Code Wide;

        /// <summary>Number of rows that get the bias.</summary>
        public int BiasedRows;

        /// <summary>What becomes of the outputs of a gated map.</summary>
        public GatedOutput Gated;

        /// <summary>The norm of the rows of X, if there is one.</summary>
        public InputNorm Norm;

        /// <summary>The number of this map if each thread prepares X and Dots for itself, as with few rows; else 0.</summary>
        public long Number;

        /// <summary>The first rows of X, for dot products, as <see cref="Arrange"/> wrote them.</summary>
        public float* Dots;
        public int RowsByDots;

        /// <summary>Rows Begin .. End − 1 of X, packed for tiles.</summary>
        public float* Packed;
        public int Begin;
        public int End;

        /// <summary>Number of blocks of W's rows, from Begin on, whose sums are in Packed.</summary>
        public int Blocks;

        /// <summary>Distance between the sums of two blocks, in numbers.</summary>
        public readonly nint BlockSums => (End + RowsAtOnce - 1) / RowsAtOnce * RowsAtOnce * SumsStride;

        /// <summary>
        /// Distance between the sums of two rows, in numbers. It is not a power of two, because that would map all rows to few lines of the cache.
        /// </summary>
        public readonly nint SumsStride => ((Inputs + 15) / 16 * 16) + 16;

        /// <summary>Number of parts of the outputs.</summary>
        public readonly int Parts => (Outputs + OutputsPerPart - 1) / OutputsPerPart;

        public readonly int Panels => (End - Begin + TileColumns - 1) / TileColumns;

        public readonly byte* Row<T>(int n, int k = 0)
            where T : struct, IStoredWeight => W + ((((nint)n * Inputs) + k) * T.SizeInBytes);

        /// <summary>
        /// Whether W is likely to be read from memory, and blocks of four of its rows fit the first cache twice, the one in use and the next.
        /// </summary>
        public readonly bool StreamsBlocks<T>()
            where T : struct, IStoredWeight =>
            2L * 4 * Inputs * T.SizeInBytes <= FirstCacheInBytes && (long)Outputs * Inputs * T.SizeInBytes >= OfMemoryInBytes;

        /// <summary>Whether so many rows of W are read in four quarters at once.</summary>
        public readonly bool StreamsQuarters<T>(int outputs)
            where T : struct, IStoredWeight =>
            HasQuarters(Inputs, T.SizeInBytes) && (long)outputs * Inputs * T.SizeInBytes >= QuartersInBytes;

        /// <summary>
        /// The weights to ask for while row <paramref name="n"/> is multiplied: those so many rows further on. From row <paramref name="end"/> on
        /// they are <paramref name="skip"/> rows further still, where the thread goes on after these rows.
        /// </summary>
        public readonly byte* Ahead<T>(int n, int rows, int end, int skip)
            where T : struct, IStoredWeight => Row<T>(n + rows < end ? n + rows : n + rows + skip);

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
        public readonly void PutFour(int m, int n, Vector128<float> sums)
        {
            if (m < BiasedRows)
            {
                sums += Vector128.Load(Bias + n);
            }

            nint at = ((nint)m * Outputs) + n;
            (Residual is null ? sums : Vector128.Load(Residual + at) + sums).Store(Y + at);
        }

        /// <summary>Writes outputs n .. n + count − 1 of row m.</summary>
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public readonly void PutAll(int m, int n, int count, float* sums)
        {
            int i = 0;
            for (; i <= count - 8; i += 8)
            {
                PutEight(m, n + i, Vector256.Load(sums + i));
            }

            for (; i < count; i++)
            {
                Put(m, n + i, sums[i]);
            }
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
