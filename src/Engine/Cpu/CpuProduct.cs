using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Tiller.Cpu;

/// <summary>
/// C = α A B + β C in float64 on the host. A is packed in strips of 8 rows and B in strips of 6 columns, 256 deep. A tile of C, 8×6, is held in
/// twelve registers. A strip of B (12 KiB) stays in the first-level cache, and the part's rows of A in the second-level cache. The sum over the depth
/// has one fixed order, so that the bits depend neither on the number of threads nor on how C is cut. The loops skip tiered compilation, because a
/// fit may run them only for a short time.
/// </summary>
internal static unsafe class CpuProduct
{
    private const int TileRows = 8;
    private const int TileColumns = 6;
    private const int DepthBlock = 256;

    // Rows of A and columns of B that are packed at once: 8 MiB each.
    private const int PackedBlock = 4096;
    private const int StripsPerPart = 8;

    // Below this, waking another thread takes longer than the work.
    private const long ParallelFlops = 1L << 19;

    /// <summary>Computes C = α A B + β C; with β = 0, C is not read.</summary>
    /// <exception cref="OperationCanceledException">Cancelled between two blocks; C is then undefined.</exception>
    public static void Multiply(WorkerPool pool, double alpha, Strided a, Strided b, double beta, Strided c, CancellationToken cancellationToken)
    {
        if (c.RowStride != 1)
        {
            // C' = B'A'
            (a, b, c) = (b.T, a.T, c.T);
        }

        Debug.Assert(c.RowStride == 1 && a.Rows == c.Rows && b.Columns == c.Columns && a.Columns == b.Rows, "C += A B needs matching shapes.");
        if (a.Columns == 0)
        {
            Scale(beta, c);
            return;
        }

        for (int j = 0; j < c.Columns; j += PackedBlock)
        {
            int columns = Math.Min(PackedBlock, c.Columns - j);
            for (int i = 0; i < c.Rows; i += PackedBlock)
            {
                int rows = Math.Min(PackedBlock, c.Rows - i);
                for (int d = 0; d < a.Columns; d += DepthBlock)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    int depth = Math.Min(DepthBlock, a.Columns - d);
                    Add(pool, alpha, a.Block(i, d, rows, depth), b.Block(d, j, depth, columns), d == 0 ? beta : 1, c.Block(i, j, rows, columns));
                }
            }
        }
    }

    /// <summary>Numbers of one factor that are packed at once, for a product of this width.</summary>
    public static long PackedInNumbers(int width) => (long)Math.Min(width, PackedBlock) * Math.Min(width, DepthBlock);

    private static void Add(WorkerPool pool, double alpha, Strided a, Strided b, double beta, Strided c)
    {
        int rowStrips = Strips(c.Rows, TileRows), columnStrips = Strips(c.Columns, TileColumns);
        int depth = a.Columns;
        long packedA = (long)rowStrips * TileRows * depth;
        double* scratch = (double*)HostScratch.ForCaller(2 * (packedA + ((long)columnStrips * TileColumns * depth)));
        var job = new Job
        {
            A = a,
            B = b.T,
            C = c,
            Alpha = alpha,
            Beta = beta,
            Depth = depth,
            PackedA = scratch,
            PackedB = scratch + packedA,
            PartsOfA = Strips(rowStrips, StripsPerPart),

            // Parts of 96×192 if that gives enough of them, else 48×48.
            RowsPerPart = c.Rows >= 384 ? 96 : 48,
            ColumnsPerPart = c.Columns >= 384 ? 192 : 48,
        };
        job.PartsPerColumn = Strips(c.Rows, job.RowsPerPart);
        int packs = job.PartsOfA + Strips(columnStrips, StripsPerPart);
        int tiles = job.PartsPerColumn * Strips(c.Columns, job.ColumnsPerPart);
        if (2L * c.Rows * c.Columns * depth >= ParallelFlops)
        {
            pool.Run(packs, ref job, &PackPart);
            pool.Run(tiles, ref job, &TilePart);
            return;
        }

        for (int i = 0; i < packs; i++)
        {
            PackPart(ref job, i);
        }

        for (int i = 0; i < tiles; i++)
        {
            TilePart(ref job, i);
        }
    }

    private static void PackPart(ref Job job, int part)
    {
        bool left = part < job.PartsOfA;
        var from = left ? job.A : job.B;
        int width = left ? TileRows : TileColumns;
        int begin = (left ? part : part - job.PartsOfA) * StripsPerPart * width;
        int end = Math.Min(begin + (StripsPerPart * width), from.Rows);
        double* to = (left ? job.PackedA : job.PackedB) + ((nint)begin * job.Depth);
        for (int i = begin; i < end; i += width, to += (nint)width * job.Depth)
        {
            int rows = Math.Min(width, end - i);
            if (rows == width && from.ColumnStride == 1)
            {
                PackAcross(from.At(i, 0), from.RowStride, width, job.Depth, to);
            }
            else if (rows == width && from.RowStride == 1)
            {
                PackAlong(from.At(i, 0), from.ColumnStride, width, job.Depth, to);
            }
            else
            {
                PackSome(from.Block(i, 0, rows, job.Depth), width, to);
            }
        }
    }

    // Contiguous rows: to[d, i] = from[i, d], by 4×4 transposes.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackAcross(double* from, nint rowStride, int width, int depth, double* to)
    {
        int d = 0;
        for (; Avx.IsSupported && d <= depth - 4; d += 4)
        {
            int i = 0;
            for (; i <= width - 4; i += 4)
            {
                Transpose4x4(from + (i * rowStride) + d, rowStride, to + ((nint)d * width) + i, width);
            }

            for (; i < width; i++)
            {
                double* row = from + (i * rowStride) + d;
                double* column = to + ((nint)d * width) + i;
                column[0] = row[0];
                column[width] = row[1];
                column[2 * width] = row[2];
                column[3 * width] = row[3];
            }
        }

        for (; d < depth; d++)
        {
            for (int i = 0; i < width; i++)
            {
                to[((nint)d * width) + i] = from[(i * rowStride) + d];
            }
        }
    }

    // Contiguous columns: copies eight or six numbers of each.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackAlong(double* from, nint columnStride, int width, int depth, double* to)
    {
        for (int d = 0; d < depth; d++, from += columnStride, to += width)
        {
            Vector256.Load(from).Store(to);
            if (width == TileRows)
            {
                Vector256.Load(from + 4).Store(to + 4);
            }
            else
            {
                Vector128.Load(from + 4).Store(to + 4);
            }
        }
    }

    // The last strip, with zeros for missing rows.
    private static void PackSome(Strided from, int width, double* to)
    {
        for (int d = 0; d < from.Columns; d++, to += width)
        {
            for (int i = 0; i < width; i++)
            {
                to[i] = i < from.Rows ? *from.At(i, d) : 0;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static void Transpose4x4(double* from, nint fromStride, double* to, nint toStride)
    {
        var a = Avx.LoadVector256(from);
        var b = Avx.LoadVector256(from + fromStride);
        var c = Avx.LoadVector256(from + (2 * fromStride));
        var d = Avx.LoadVector256(from + (3 * fromStride));
        var ab0 = Avx.UnpackLow(a, b);
        var ab1 = Avx.UnpackHigh(a, b);
        var cd0 = Avx.UnpackLow(c, d);
        var cd1 = Avx.UnpackHigh(c, d);
        Avx.Permute2x128(ab0, cd0, 0x20).Store(to);
        Avx.Permute2x128(ab1, cd1, 0x20).Store(to + toStride);
        Avx.Permute2x128(ab0, cd0, 0x31).Store(to + (2 * toStride));
        Avx.Permute2x128(ab1, cd1, 0x31).Store(to + (3 * toStride));
    }

    private static void TilePart(ref Job job, int part)
    {
        int i0 = part % job.PartsPerColumn * job.RowsPerPart, i1 = Math.Min(i0 + job.RowsPerPart, job.C.Rows);
        int j0 = part / job.PartsPerColumn * job.ColumnsPerPart, j1 = Math.Min(j0 + job.ColumnsPerPart, job.C.Columns);
        double* edge = stackalloc double[TileRows * TileColumns];
        for (int j = j0; j < j1; j += TileColumns)
        {
            int columns = Math.Min(TileColumns, j1 - j);
            double* b = job.PackedB + ((nint)j * job.Depth);
            for (int i = i0; i < i1; i += TileRows)
            {
                int rows = Math.Min(TileRows, i1 - i);
                double* a = job.PackedA + ((nint)i * job.Depth);
                var c = job.C.Block(i, j, rows, columns);
                if (rows == TileRows && columns == TileColumns)
                {
                    Tile8x6(a, b, job.Depth, job.Alpha, job.Beta, c.Data, c.ColumnStride);
                    continue;
                }

                Tile8x6(a, b, job.Depth, job.Alpha, 0, edge, TileRows);
                for (int jj = 0; jj < columns; jj++)
                {
                    for (int ii = 0; ii < rows; ii++)
                    {
                        double sum = edge[(jj * TileRows) + ii];
                        *c.At(ii, jj) = job.Beta == 0 ? sum : (job.Beta * *c.At(ii, jj)) + sum;
                    }
                }
            }
        }
    }

    // C(8, 6) = α Σ_d a(d, 8) b(d, 6)' + β C
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile8x6(double* a, double* b, int depth, double alpha, double beta, double* c, nint stride)
    {
        Vector256<double> c00 = default, c01 = default, c10 = default, c11 = default, c20 = default, c21 = default;
        Vector256<double> c30 = default, c31 = default, c40 = default, c41 = default, c50 = default, c51 = default;
        for (int d = 0; d < depth; d++, a += TileRows, b += TileColumns)
        {
            var a0 = Vector256.Load(a);
            var a1 = Vector256.Load(a + 4);
            var x = Vector256.Create(b[0]);
            c00 = Vector256.MultiplyAddEstimate(a0, x, c00);
            c01 = Vector256.MultiplyAddEstimate(a1, x, c01);
            x = Vector256.Create(b[1]);
            c10 = Vector256.MultiplyAddEstimate(a0, x, c10);
            c11 = Vector256.MultiplyAddEstimate(a1, x, c11);
            x = Vector256.Create(b[2]);
            c20 = Vector256.MultiplyAddEstimate(a0, x, c20);
            c21 = Vector256.MultiplyAddEstimate(a1, x, c21);
            x = Vector256.Create(b[3]);
            c30 = Vector256.MultiplyAddEstimate(a0, x, c30);
            c31 = Vector256.MultiplyAddEstimate(a1, x, c31);
            x = Vector256.Create(b[4]);
            c40 = Vector256.MultiplyAddEstimate(a0, x, c40);
            c41 = Vector256.MultiplyAddEstimate(a1, x, c41);
            x = Vector256.Create(b[5]);
            c50 = Vector256.MultiplyAddEstimate(a0, x, c50);
            c51 = Vector256.MultiplyAddEstimate(a1, x, c51);
        }

        var scale = Vector256.Create(alpha);
        Put(c, scale * c00, scale * c01, beta);
        Put(c + stride, scale * c10, scale * c11, beta);
        Put(c + (2 * stride), scale * c20, scale * c21, beta);
        Put(c + (3 * stride), scale * c30, scale * c31, beta);
        Put(c + (4 * stride), scale * c40, scale * c41, beta);
        Put(c + (5 * stride), scale * c50, scale * c51, beta);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(double* c, Vector256<double> upper, Vector256<double> lower, double beta)
    {
        if (beta != 0)
        {
            upper += beta * Vector256.Load(c);
            lower += beta * Vector256.Load(c + 4);
        }

        upper.Store(c);
        lower.Store(c + 4);
    }

    private static void Scale(double beta, Strided c)
    {
        for (int j = 0; j < c.Columns; j++)
        {
            for (int i = 0; i < c.Rows; i++)
            {
                *c.At(i, j) = beta == 0 ? 0 : beta * *c.At(i, j);
            }
        }
    }

    private static int Strips(int count, int width) => (count + width - 1) / width;

    private struct Job
    {
        public Strided A;
        public Strided B;
        public Strided C;
        public double Alpha;
        public double Beta;
        public double* PackedA;
        public double* PackedB;
        public int Depth;
        public int PartsOfA;
        public int PartsPerColumn;
        public int RowsPerPart;
        public int ColumnsPerPart;
    }
}
