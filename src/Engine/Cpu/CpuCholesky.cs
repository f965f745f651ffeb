using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Tiller.Cpu;

/// <summary>
/// Cholesky factorisation and triangular solves in float64 on the host. They recurse on halves, so that all work except on blocks of 32 is matrix
/// products. The bits depend only on how the halves are cut, never on the number of threads.
/// </summary>
internal static unsafe class CpuCholesky
{
    private const int Leaf = 32;
    private const int Panel = 16;
    private const int PanelsPerPart = 2;
    private const int SquareLeaf = 96;

    // Below this, waking another thread takes longer than the work.
    private const long ParallelFlops = 1L << 19;

    /// <summary>Factors M = L L' in place: the lower triangle of M becomes L; the strict upper triangle is undefined afterwards // (n, n).</summary>
    /// <returns>-1, or the index of the first pivot that is not positive. Its value is then on the diagonal.</returns>
    public static int Factor(WorkerPool pool, Strided m, CancellationToken cancellationToken)
    {
        Debug.Assert(m.Rows == m.Columns, "Cholesky takes a square matrix.");
        int n = m.Rows;
        if (n <= Leaf)
        {
            return FactorLeaf(m);
        }

        int h = Half(n);
        int bad = Factor(pool, m.Block(0, 0, h, h), cancellationToken);
        if (bad >= 0)
        {
            return bad;
        }

        // L21 = M21 L11^{-T}, solved as L11 L21' = M21'; M22 −= L21 L21'
        var below = m.Block(h, 0, n - h, h);
        SolveLower(pool, m.Block(0, 0, h, h), below.T, cancellationToken);
        SubtractSquare(pool, below, m.Block(h, h, n - h, n - h), cancellationToken);
        bad = Factor(pool, m.Block(h, h, n - h, n - h), cancellationToken);
        return bad < 0 ? bad : h + bad;
    }

    /// <summary>Computes X = L^{-1} X in place // (n, n), (n, columns).</summary>
    public static void SolveLower(WorkerPool pool, Strided l, Strided x, CancellationToken cancellationToken)
    {
        int n = l.Rows;
        if (n <= Leaf)
        {
            SolveLeaf(pool, l, x, transposed: false);
            return;
        }

        // L11 Y1 = X1; L22 Y2 = X2 − L21 Y1
        int h = Half(n);
        SolveLower(pool, l.Block(0, 0, h, h), x.Block(0, 0, h, x.Columns), cancellationToken);
        CpuProduct.Multiply(pool, -1, l.Block(h, 0, n - h, h), x.Block(0, 0, h, x.Columns), 1, x.Block(h, 0, n - h, x.Columns), cancellationToken);
        SolveLower(pool, l.Block(h, h, n - h, n - h), x.Block(h, 0, n - h, x.Columns), cancellationToken);
    }

    /// <summary>Computes X = L^{-T} X in place // (n, n), (n, columns).</summary>
    public static void SolveLowerTransposed(WorkerPool pool, Strided l, Strided x, CancellationToken cancellationToken)
    {
        int n = l.Rows;
        if (n <= Leaf)
        {
            SolveLeaf(pool, l, x, transposed: true);
            return;
        }

        // L22' Y2 = X2; L11' Y1 = X1 − L21' Y2
        int h = Half(n);
        SolveLowerTransposed(pool, l.Block(h, h, n - h, n - h), x.Block(h, 0, n - h, x.Columns), cancellationToken);
        CpuProduct.Multiply(pool, -1, l.Block(h, 0, n - h, h).T, x.Block(h, 0, n - h, x.Columns), 1, x.Block(0, 0, h, x.Columns), cancellationToken);
        SolveLowerTransposed(pool, l.Block(0, 0, h, h), x.Block(0, 0, h, x.Columns), cancellationToken);
    }

    // Half of n, rounded up to whole leaves.
    private static int Half(int n) => ((n / 2) + Leaf - 1) / Leaf * Leaf;

    /// <summary>Subtracts A A' from the lower triangle of C. Above the diagonal, blocks of 96×96 may be changed too.</summary>
    private static void SubtractSquare(WorkerPool pool, Strided a, Strided c, CancellationToken cancellationToken)
    {
        int n = c.Rows;
        if (n <= SquareLeaf)
        {
            CpuProduct.Multiply(pool, -1, a, a.T, 1, c, cancellationToken);
            return;
        }

        int h = Half(n);
        var (upper, lower) = (a.Block(0, 0, h, a.Columns), a.Block(h, 0, n - h, a.Columns));
        SubtractSquare(pool, upper, c.Block(0, 0, h, h), cancellationToken);
        CpuProduct.Multiply(pool, -1, lower, upper.T, 1, c.Block(h, 0, n - h, h), cancellationToken);
        SubtractSquare(pool, lower, c.Block(h, h, n - h, n - h), cancellationToken);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int FactorLeaf(Strided m)
    {
        double* t = stackalloc double[Leaf * Leaf];
        int n = m.Rows, bad = -1;
        new Span<double>(t, Leaf * Leaf).Clear();
        for (int j = 0; j < n; j++)
        {
            for (int i = j; i < n; i++)
            {
                t[(j * Leaf) + i] = *m.At(i, j);
            }
        }

        for (int j = 0; j < n; j++)
        {
            double* column = t + (j * Leaf);
            if (!(column[j] > 0))
            {
                bad = j;
                break;
            }

            // l_jj = sqrt(m_jj), l_ij = m_ij / l_jj
            double root = column[j] = Math.Sqrt(column[j]);
            for (int i = j + 1; i < n; i++)
            {
                column[i] /= root;
            }

            // m_ic −= l_ij l_cj, c > j
            for (int c = j + 1; c < n; c++)
            {
                var factor = Vector256.Create(-column[c]);
                double* other = t + (c * Leaf);
                for (int i = c / 4 * 4; i < n; i += 4)
                {
                    Vector256.MultiplyAddEstimate(factor, Vector256.Load(column + i), Vector256.Load(other + i)).Store(other + i);
                }
            }
        }

        for (int j = 0; j < n; j++)
        {
            for (int i = j; i < n; i++)
            {
                *m.At(i, j) = t[(j * Leaf) + i];
            }
        }

        return bad;
    }

    private static void SolveLeaf(WorkerPool pool, Strided l, Strided x, bool transposed)
    {
        var job = new LeafJob { L = l, X = x, Transposed = transposed };
        int parts = (x.Columns + (Panel * PanelsPerPart) - 1) / (Panel * PanelsPerPart);
        if ((long)l.Rows * l.Rows * x.Columns >= ParallelFlops)
        {
            pool.Run(parts, ref job, &LeafPart);
            return;
        }

        for (int i = 0; i < parts; i++)
        {
            LeafPart(ref job, i);
        }
    }

    // L' read backwards is lower triangular too. So both solves run downwards on a copy T // (n, n) with contiguous rows, for panels of 16 columns.
    private static void LeafPart(ref LeafJob job, int part)
    {
        double* t = stackalloc double[Leaf * Leaf];
        double* inverse = stackalloc double[Leaf];
        double* panel = stackalloc double[Leaf * Panel];
        int n = job.L.Rows;
        bool reversed = job.Transposed;
        for (int i = 0; i < n; i++)
        {
            for (int d = 0; d < i; d++)
            {
                t[(i * Leaf) + d] = reversed ? -*job.L.At(n - 1 - d, n - 1 - i) : -*job.L.At(i, d);
            }

            int diagonal = reversed ? n - 1 - i : i;
            inverse[i] = 1 / *job.L.At(diagonal, diagonal);
        }

        int end = Math.Min(job.X.Columns, (part + 1) * Panel * PanelsPerPart);
        for (int j = part * Panel * PanelsPerPart; j < end; j += Panel)
        {
            var x = job.X.Block(0, j, n, Math.Min(Panel, end - j));
            Load(x, reversed, panel);
            SolveDown(t, inverse, n, panel);
            Store(panel, reversed, x);
        }
    }

    // x_i = (x_i + Σ_{d<i} t_id x_d) / l_ii for 16 columns, with t = −L
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SolveDown(double* t, double* inverse, int n, double* x)
    {
        int i = 0;
        for (; i <= n - 2; i += 2)
        {
            double* x0 = x + (i * Panel);
            double* x1 = x0 + Panel;
            double* t0 = t + (i * Leaf);
            double* t1 = t0 + Leaf;
            var a0 = Vector256.Load(x0);
            var a1 = Vector256.Load(x0 + 4);
            var a2 = Vector256.Load(x0 + 8);
            var a3 = Vector256.Load(x0 + 12);
            var b0 = Vector256.Load(x1);
            var b1 = Vector256.Load(x1 + 4);
            var b2 = Vector256.Load(x1 + 8);
            var b3 = Vector256.Load(x1 + 12);
            double* xd = x;
            for (int d = 0; d < i; d++, xd += Panel)
            {
                var f = Vector256.Create(t0[d]);
                var g = Vector256.Create(t1[d]);
                var y = Vector256.Load(xd);
                a0 = Vector256.MultiplyAddEstimate(f, y, a0);
                b0 = Vector256.MultiplyAddEstimate(g, y, b0);
                y = Vector256.Load(xd + 4);
                a1 = Vector256.MultiplyAddEstimate(f, y, a1);
                b1 = Vector256.MultiplyAddEstimate(g, y, b1);
                y = Vector256.Load(xd + 8);
                a2 = Vector256.MultiplyAddEstimate(f, y, a2);
                b2 = Vector256.MultiplyAddEstimate(g, y, b2);
                y = Vector256.Load(xd + 12);
                a3 = Vector256.MultiplyAddEstimate(f, y, a3);
                b3 = Vector256.MultiplyAddEstimate(g, y, b3);
            }

            var scale = Vector256.Create(inverse[i]);
            (a0, a1, a2, a3) = (scale * a0, scale * a1, scale * a2, scale * a3);
            a0.Store(x0);
            a1.Store(x0 + 4);
            a2.Store(x0 + 8);
            a3.Store(x0 + 12);
            var last = Vector256.Create(t1[i]);
            scale = Vector256.Create(inverse[i + 1]);
            (scale * Vector256.MultiplyAddEstimate(last, a0, b0)).Store(x1);
            (scale * Vector256.MultiplyAddEstimate(last, a1, b1)).Store(x1 + 4);
            (scale * Vector256.MultiplyAddEstimate(last, a2, b2)).Store(x1 + 8);
            (scale * Vector256.MultiplyAddEstimate(last, a3, b3)).Store(x1 + 12);
        }

        for (; i < n; i++)
        {
            for (int j = 0; j < Panel; j += 4)
            {
                var sum = Vector256.Load(x + (i * Panel) + j);
                for (int d = 0; d < i; d++)
                {
                    sum = Vector256.MultiplyAddEstimate(Vector256.Create(t[(i * Leaf) + d]), Vector256.Load(x + (d * Panel) + j), sum);
                }

                (sum * Vector256.Create(inverse[i])).Store(x + (i * Panel) + j);
            }
        }
    }

    // Copies x to panel // (n, 16) with contiguous rows, last row first if reversed; missing columns are 0
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Load(Strided x, bool reversed, double* panel)
    {
        var rows = Rows(x.Rows, reversed, panel);
        int i = 0;
        for (; IsTurned(x) && i <= x.Rows - 4; i += 4)
        {
            for (int j = 0; j < Panel; j += 4)
            {
                CpuProduct.Transpose4x4(x.At(i, j), x.ColumnStride, rows.At(i, j), rows.RowStride);
            }
        }

        for (; i < x.Rows; i++)
        {
            for (int j = 0; j < Panel; j++)
            {
                *rows.At(i, j) = j < x.Columns ? *x.At(i, j) : 0;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Store(double* panel, bool reversed, Strided x)
    {
        var rows = Rows(x.Rows, reversed, panel);
        int i = 0;
        for (; IsTurned(x) && i <= x.Rows - 4; i += 4)
        {
            for (int j = 0; j < Panel; j += 4)
            {
                CpuProduct.Transpose4x4(rows.At(i, j), rows.RowStride, x.At(i, j), x.ColumnStride);
            }
        }

        for (; i < x.Rows; i++)
        {
            for (int j = 0; j < x.Columns; j++)
            {
                *x.At(i, j) = *rows.At(i, j);
            }
        }
    }

    private static Strided Rows(int n, bool reversed, double* panel) =>
        new(reversed ? panel + ((n - 1) * Panel) : panel, n, Panel, reversed ? -Panel : Panel, 1);

    // Whether x has 16 contiguous columns.
    private static bool IsTurned(Strided x) => Avx.IsSupported && x.Columns == Panel && x.RowStride == 1;

    private struct LeafJob
    {
        public Strided L;
        public Strided X;
        public bool Transposed;
    }
}
