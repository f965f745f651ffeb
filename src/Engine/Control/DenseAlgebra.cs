using System.Buffers;
using System.Diagnostics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Control;

/// <summary>
/// The two products and the Cholesky solve of a Riccati step in float64, on all cores: C += α A B by 6×8 register tiles over packed
/// panels. Every entry of C is summed by one thread in one order, so the number of cores never changes a result. Measured against
/// MathNet's managed provider on two cores at D = 512 and 1024: products 4 to 5 times, factor and solve 3 to 10 times as fast. The loops skip
/// tiered compilation: a fit runs them for the first time when it matters.
/// </summary>
internal static class DenseAlgebra
{
    private const int TileRows = 6;
    private const int TileColumns = 8;
    private const int RowBlock = 48;
    private const int DepthBlock = 256;
    private const int ColumnBlock = 1024;
    private const int FactorBlock = 64;
    private const long ParallelFlops = 1L << 20;

    /// <summary>A B // (m, n).</summary>
    public static Matrix<double> Multiply(Matrix<double> a, Matrix<double> b, CancellationToken cancellationToken = default) =>
        Multiply(MatrixView.Of(a), MatrixView.Of(b), cancellationToken);

    /// <summary>A' B // (m, n).</summary>
    public static Matrix<double> TransposeMultiply(Matrix<double> a, Matrix<double> b, CancellationToken cancellationToken = default) =>
        Multiply(MatrixView.Of(a).T, MatrixView.Of(b), cancellationToken);

    /// <summary>C += α A B; C's rows or columns are contiguous.</summary>
    /// <exception cref="OperationCanceledException">Cancelled between two panels; C is then of no use.</exception>
    public static void MultiplyAdd(MatrixView c, double alpha, MatrixView a, MatrixView b, CancellationToken cancellationToken = default)
    {
        if (c.ColumnStride != 1)
        {
            // (AB)' = B'A'
            (c, a, b) = (c.T, b.T, a.T);
        }

        Debug.Assert(c.ColumnStride == 1 && a.Rows == c.Rows && b.Columns == c.Columns && a.Columns == b.Rows, "C += A B needs matching shapes.");
        double[] panel = ArrayPool<double>.Shared.Rent(DepthBlock * RoundUp(Math.Min(ColumnBlock, b.Columns), TileColumns));
        try
        {
            for (int j = 0; j < b.Columns; j += ColumnBlock)
            {
                int n = Math.Min(ColumnBlock, b.Columns - j);
                for (int d = 0; d < a.Columns; d += DepthBlock)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    int depth = Math.Min(DepthBlock, a.Columns - d);
                    Pack(panel, b.Block(d, j, depth, n).T, TileColumns);
                    MultiplyPanel(c.Block(0, j, c.Rows, n), alpha, a.Block(0, d, a.Rows, depth), panel);
                }
            }
        }
        finally
        {
            ArrayPool<double>.Shared.Return(panel);
        }
    }

    /// <summary>M = L L' in place: the lower triangle of M (rows contiguous) becomes L.</summary>
    /// <returns>-1, or the first pivot that is not positive, whose value then stands on the diagonal.</returns>
    /// <exception cref="OperationCanceledException">Cancelled between two blocks; M is then of no use.</exception>
    public static int Cholesky(MatrixView m, CancellationToken cancellationToken = default)
    {
        Debug.Assert(m.ColumnStride == 1 && m.Rows == m.Columns, "Cholesky takes a square, row-contiguous matrix.");
        int n = m.Rows;
        for (int k = 0; k < n; k += FactorBlock)
        {
            int width = Math.Min(FactorBlock, n - k), below = k + width;
            int bad = FactorDiagonal(m, k, below);
            if (bad >= 0)
            {
                return bad;
            }

            // L21 = M21 L11^{-T}
            For(below, n, (long)width * width, i => SolveRow(m, i, k, below));

            // M22 −= L21 L21', lower blocks only
            for (int i = below; i < n; i += DepthBlock)
            {
                int rows = Math.Min(DepthBlock, n - i);
                MultiplyAdd(m.Block(i, below, rows, i + rows - below), -1, m.Block(i, k, rows, width), m.Block(below, k, i + rows - below, width).T, cancellationToken);
            }
        }

        return -1;
    }

    /// <summary>X = (L L')^{-1} X in place, X's columns contiguous // (n, m).</summary>
    /// <exception cref="OperationCanceledException">Cancelled between two blocks; X is then of no use.</exception>
    public static void CholeskySolve(MatrixView l, MatrixView x, CancellationToken cancellationToken = default)
    {
        Debug.Assert(x.RowStride == 1 && l.ColumnStride == 1 && l.Rows == x.Rows, "The right-hand side is column-contiguous.");
        int n = l.Rows;
        for (int k = 0; k < n; k += FactorBlock)
        {
            int from = k, to = Math.Min(k + FactorBlock, n);

            // L11 Y1 = X1; X2 −= L21 Y1
            For(0, x.Columns, (long)(to - from) * (to - from), j => Forward(l, x, j, from, to));
            if (to < n)
            {
                MultiplyAdd(x.Block(to, 0, n - to, x.Columns), -1, l.Block(to, from, n - to, to - from), x.Block(from, 0, to - from, x.Columns), cancellationToken);
            }
        }

        for (int k = (n - 1) / FactorBlock * FactorBlock; k >= 0; k -= FactorBlock)
        {
            int from = k, to = Math.Min(k + FactorBlock, n);

            // X1 −= L21' X2; L11' X1 = X1
            if (to < n)
            {
                MultiplyAdd(x.Block(from, 0, to - from, x.Columns), -1, l.Block(to, from, n - to, to - from).T, x.Block(to, 0, n - to, x.Columns), cancellationToken);
            }

            For(0, x.Columns, (long)(to - from) * (to - from), j => Backward(l, x, j, from, to));
        }
    }

    /// <summary>S = (S + S')/2 in place.</summary>
    /// <returns>|S − S'| / |S|, Frobenius; 0 for S = 0.</returns>
    public static double Symmetrise(Matrix<double> s)
    {
        var view = MatrixView.Of(s);
        double[] data = view.Data;
        int n = view.Rows;
        double skew = 0;
        const int tile = 32;
        for (int i0 = 0; i0 < n; i0 += tile)
        {
            for (int j0 = 0; j0 <= i0; j0 += tile)
            {
                for (int i = i0; i < Math.Min(i0 + tile, n); i++)
                {
                    for (int j = j0; j < Math.Min(j0 + tile, i); j++)
                    {
                        double a = data[view.Index(i, j)], b = data[view.Index(j, i)];
                        skew += 2 * (a - b) * (a - b);
                        data[view.Index(i, j)] = data[view.Index(j, i)] = 0.5 * (a + b);
                    }
                }
            }
        }

        double norm = TensorPrimitives.Norm<double>(data);
        return norm == 0 ? 0 : Math.Sqrt(skew) / norm;
    }

    private static Matrix<double> Multiply(MatrixView a, MatrixView b, CancellationToken cancellationToken)
    {
        var c = Matrix<double>.Build.Dense(a.Rows, b.Columns);
        MultiplyAdd(MatrixView.Of(c), 1, a, b, cancellationToken);
        return c;
    }

    private static void MultiplyPanel(MatrixView c, double alpha, MatrixView a, double[] panel)
    {
        int blocks = (a.Rows + RowBlock - 1) / RowBlock;
        For(0, blocks, 2L * RowBlock * a.Columns * c.Columns, block =>
        {
            int i = block * RowBlock, rows = Math.Min(RowBlock, a.Rows - i);
            double[] strip = ArrayPool<double>.Shared.Rent(RoundUp(rows, TileRows) * a.Columns);
            Pack(strip, a.Block(i, 0, rows, a.Columns), TileRows);
            for (int jj = 0; jj < c.Columns; jj += TileColumns)
            {
                for (int ii = 0; ii < rows; ii += TileRows)
                {
                    var target = c.Block(i + ii, jj, Math.Min(TileRows, rows - ii), Math.Min(TileColumns, c.Columns - jj));
                    Tile(target, alpha, a.Columns, strip.AsSpan(ii * a.Columns), panel.AsSpan(jj * a.Columns));
                }
            }

            ArrayPool<double>.Shared.Return(strip);
        });
    }

    /// <summary>Rows in groups of <paramref name="group"/>, group after group, each depth first; missing rows are zero.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Pack(double[] to, MatrixView from, int group)
    {
        int at = 0;
        double[] data = from.Data;
        for (int i = 0; i < from.Rows; i += group)
        {
            int rows = Math.Min(group, from.Rows - i);
            for (int d = 0; d < from.Columns; d++, at += group)
            {
                int source = from.Index(i, d);
                for (int ii = 0; ii < rows; ii++, source += from.RowStride)
                {
                    to[at + ii] = data[source];
                }

                to.AsSpan(at + rows, group - rows).Clear();
            }
        }
    }

    // c(6×8) += α Σ_d a(6, d) b(d, 8), twelve accumulators in registers
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Tile(MatrixView c, double alpha, int depth, ReadOnlySpan<double> strip, ReadOnlySpan<double> panel)
    {
        ref double a = ref MemoryMarshal.GetReference(strip);
        ref double b = ref MemoryMarshal.GetReference(panel);
        Vector256<double> c00 = default, c01 = default, c10 = default, c11 = default, c20 = default, c21 = default;
        Vector256<double> c30 = default, c31 = default, c40 = default, c41 = default, c50 = default, c51 = default;
        for (nuint d = 0, ia = 0, ib = 0; d < (nuint)depth; d++, ia += TileRows, ib += TileColumns)
        {
            var b0 = Vector256.LoadUnsafe(ref b, ib);
            var b1 = Vector256.LoadUnsafe(ref b, ib + 4);
            var x = Vector256.Create(Unsafe.Add(ref a, ia));
            c00 = Vector256.MultiplyAddEstimate(x, b0, c00);
            c01 = Vector256.MultiplyAddEstimate(x, b1, c01);
            x = Vector256.Create(Unsafe.Add(ref a, ia + 1));
            c10 = Vector256.MultiplyAddEstimate(x, b0, c10);
            c11 = Vector256.MultiplyAddEstimate(x, b1, c11);
            x = Vector256.Create(Unsafe.Add(ref a, ia + 2));
            c20 = Vector256.MultiplyAddEstimate(x, b0, c20);
            c21 = Vector256.MultiplyAddEstimate(x, b1, c21);
            x = Vector256.Create(Unsafe.Add(ref a, ia + 3));
            c30 = Vector256.MultiplyAddEstimate(x, b0, c30);
            c31 = Vector256.MultiplyAddEstimate(x, b1, c31);
            x = Vector256.Create(Unsafe.Add(ref a, ia + 4));
            c40 = Vector256.MultiplyAddEstimate(x, b0, c40);
            c41 = Vector256.MultiplyAddEstimate(x, b1, c41);
            x = Vector256.Create(Unsafe.Add(ref a, ia + 5));
            c50 = Vector256.MultiplyAddEstimate(x, b0, c50);
            c51 = Vector256.MultiplyAddEstimate(x, b1, c51);
        }

        Span<double> tile = stackalloc double[TileRows * TileColumns];
        c00.CopyTo(tile);
        c01.CopyTo(tile[4..]);
        c10.CopyTo(tile[8..]);
        c11.CopyTo(tile[12..]);
        c20.CopyTo(tile[16..]);
        c21.CopyTo(tile[20..]);
        c30.CopyTo(tile[24..]);
        c31.CopyTo(tile[28..]);
        c40.CopyTo(tile[32..]);
        c41.CopyTo(tile[36..]);
        c50.CopyTo(tile[40..]);
        c51.CopyTo(tile[44..]);
        for (int i = 0; i < c.Rows; i++)
        {
            var row = c.Data.AsSpan(c.Index(i, 0), c.Columns);
            for (int j = 0; j < row.Length; j++)
            {
                row[j] += alpha * tile[(i * TileColumns) + j];
            }
        }
    }

    private static int FactorDiagonal(MatrixView m, int from, int to)
    {
        for (int i = from; i < to; i++)
        {
            SolveRow(m, i, from, i);
            var row = m.Data.AsSpan(m.Index(i, from), i - from);
            double pivot = m.Data[m.Index(i, i)] -= TensorPrimitives.Dot<double>(row, row);
            if (!(pivot > 0))
            {
                return i;
            }

            m.Data[m.Index(i, i)] = Math.Sqrt(pivot);
        }

        return -1;
    }

    // l_ij = (m_ij − Σ_{d<j} l_id l_jd) / l_jj, from <= j < to
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SolveRow(MatrixView m, int i, int from, int to)
    {
        var row = m.Data.AsSpan(m.Index(i, from), to - from);
        for (int j = from; j < to; j++)
        {
            var other = m.Data.AsSpan(m.Index(j, from), j - from);
            row[j - from] = (row[j - from] - TensorPrimitives.Dot<double>(row[..(j - from)], other)) / m.Data[m.Index(j, j)];
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Forward(MatrixView l, MatrixView x, int column, int from, int to)
    {
        var y = x.Data.AsSpan(x.Index(from, column), to - from);
        for (int i = from; i < to; i++)
        {
            var row = l.Data.AsSpan(l.Index(i, from), i - from);
            y[i - from] = (y[i - from] - TensorPrimitives.Dot<double>(row, y[..(i - from)])) / l.Data[l.Index(i, i)];
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Backward(MatrixView l, MatrixView x, int column, int from, int to)
    {
        var y = x.Data.AsSpan(x.Index(from, column), to - from);
        for (int i = to - 1; i >= from; i--)
        {
            double value = y[i - from] /= l.Data[l.Index(i, i)];
            var rest = y[..(i - from)];
            TensorPrimitives.MultiplyAdd(l.Data.AsSpan(l.Index(i, from), i - from), -value, rest, rest);
        }
    }

    private static void For(int from, int to, long flopsEach, Action<int> body)
    {
        if (to - from > 1 && flopsEach * (to - from) >= ParallelFlops)
        {
            Parallel.For(from, to, body);
            return;
        }

        for (int i = from; i < to; i++)
        {
            body(i);
        }
    }

    private static int RoundUp(int value, int multiple) => (value + multiple - 1) / multiple * multiple;
}
