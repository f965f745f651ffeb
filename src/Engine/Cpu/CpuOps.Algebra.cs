using System.Diagnostics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <content>
/// float64 algebra and panels of tangents on the CPU. Products and factorisations are in <see cref="CpuProduct"/> and <see cref="CpuCholesky"/>.
/// </content>
internal sealed unsafe partial class CpuOps
{
    private const int NumbersPerPart = 8192;
    private const int SquareTile = 32;

    private static readonly Lazy<CpuOps> s_shared = new(() => new CpuOps());

    /// <summary>
    /// For matrices in host memory that belong to no model. It has one thread for each processor; idle threads sleep. It is never disposed of.
    /// </summary>
    internal static CpuOps Shared => s_shared.Value;

    /// <inheritdoc/>
    public override void WithHost(double[] source, int rows, Action<ColumnMajor> use)
    {
        fixed (double* numbers = source)
        {
            use(new ColumnMajor((nint)numbers, rows, rows == 0 ? 0 : source.Length / rows));
        }
    }

    /// <inheritdoc/>
    public override void Multiply(double alpha, Factor a, Factor b, double beta, ColumnMajor c, CancellationToken cancellationToken = default)
    {
        Debug.Assert(a.Columns == b.Rows && a.Rows == c.Rows && b.Columns == c.Columns, "C = A B needs matching shapes.");
        CpuProduct.Multiply(_pool, alpha, Strided.Of(a), Strided.Of(b), beta, Strided.Of(c), cancellationToken);
    }

    /// <inheritdoc/>
    public override void Add(double alpha, ColumnMajor x, ColumnMajor y)
    {
        Debug.Assert(x.Length == y.Length, "matrices of one size");
        var job = new AlgebraJob { X = x, Y = y, Scale = alpha };
        _pool.Run(Parts(x.Length), ref job, &AddPart);
    }

    /// <inheritdoc/>
    public override void RoundToSingle(ColumnMajor y)
    {
        var job = new AlgebraJob { Y = y };
        _pool.Run(Parts(y.Length), ref job, &RoundPart);
    }

    /// <inheritdoc/>
    public override void AddToDiagonal(double value, ColumnMajor m)
    {
        double* at = (double*)m.Address;
        for (int i = 0; i < Math.Min(m.Rows, m.Columns); i++, at += m.Rows + 1)
        {
            *at += value;
        }
    }

    /// <inheritdoc/>
    public override double Symmetrise(ColumnMajor s)
    {
        Debug.Assert(s.Rows == s.Columns, "a square matrix");
        int parts = (s.Rows + SquareTile - 1) / SquareTile;
        double* sums = (double*)HostScratch.ForCaller(4L * parts);
        var job = new AlgebraJob { Y = s, Sums = sums };
        _pool.Run(parts, ref job, &SymmetrisePart);
        double skew = 0, square = 0;
        for (int i = 0; i < parts; i++)
        {
            skew += sums[2 * i];
            square += sums[(2 * i) + 1];
        }

        return square == 0 ? 0 : Math.Sqrt(skew) / Math.Sqrt(square);
    }

    /// <inheritdoc/>
    public override Pivots Cholesky(ColumnMajor m, CancellationToken cancellationToken = default)
    {
        var view = Strided.Of(m);
        int failed = CpuCholesky.Factor(_pool, view, cancellationToken);
        if (failed >= 0)
        {
            return new Pivots(failed, *view.At(failed, failed), 0, 0);
        }

        double smallest = double.PositiveInfinity, largest = 0;
        for (int i = 0; i < m.Rows; i++)
        {
            smallest = Math.Min(smallest, *view.At(i, i));
            largest = Math.Max(largest, *view.At(i, i));
        }

        return new Pivots(-1, double.NaN, smallest, largest);
    }

    /// <inheritdoc/>
    public override void CholeskySolve(ColumnMajor l, ColumnMajor x, CancellationToken cancellationToken = default)
    {
        Debug.Assert(l.Rows == l.Columns && l.Rows == x.Rows, "as many rows as the factor");
        CpuCholesky.SolveLower(_pool, Strided.Of(l), Strided.Of(x), cancellationToken);
        CpuCholesky.SolveLowerTransposed(_pool, Strided.Of(l), Strided.Of(x), cancellationToken);
    }

    /// <summary>Computes X = X L^{-T} in place // (n, n), (rows, n).</summary>
    internal void SolveRight(ColumnMajor x, ColumnMajor l) => CpuCholesky.SolveLower(_pool, Strided.Of(l), Strided.Of(x.T), CancellationToken.None);

    /// <inheritdoc/>
    public override long FirstNonFinite(ColumnMajor m)
    {
        const int Run = 1 << 20;
        for (long at = 0; at < m.Length; at += Run)
        {
            var numbers = new ReadOnlySpan<double>((double*)m.Address + at, (int)Math.Min(Run, m.Length - at));
            int bad = numbers.IndexOfAnyExceptInRange(double.MinValue, double.MaxValue);
            if (bad >= 0)
            {
                return at + bad;
            }
        }

        return -1;
    }

    /// <inheritdoc/>
    public override void IdentityRows(int column, Floats rows)
    {
        for (int j = 0; j < rows.Rows; j++)
        {
            var row = rows.HostRow(j);
            row.Clear();
            row[column + j] = 1;
        }
    }

    /// <inheritdoc/>
    public override void SumPanels(Floats rows, ReadOnlySpan<double> scales, bool add, ColumnMajor result)
    {
        Debug.Assert(rows.Columns == result.Rows && scales.Length == result.Columns && rows.Rows % scales.Length == 0, "whole panels");
        int columnsPerPart = (int)Math.Max(1, (long)NumbersPerPart * result.Columns / ((long)rows.Rows * result.Rows));
        fixed (double* first = scales)
        {
            var job = new AlgebraJob { Rows = rows, Y = result, Sums = first, Accumulate = add, ColumnsPerPart = columnsPerPart };
            _pool.Run((result.Columns + columnsPerPart - 1) / columnsPerPart, ref job, &SumPart);
        }
    }

    private static int Parts(long numbers) => (int)((numbers + NumbersPerPart - 1) / NumbersPerPart);

    private static void AddPart(ref AlgebraJob job, int part)
    {
        long begin = (long)part * NumbersPerPart;
        int count = (int)Math.Min(NumbersPerPart, job.X.Length - begin);
        var y = new Span<double>((double*)job.Y.Address + begin, count);
        TensorPrimitives.MultiplyAdd(new ReadOnlySpan<double>((double*)job.X.Address + begin, count), job.Scale, y, y);
    }

    private static void RoundPart(ref AlgebraJob job, int part)
    {
        long begin = (long)part * NumbersPerPart;
        VectorMath.RoundToSingle((double*)job.Y.Address + begin, (int)Math.Min(NumbersPerPart, job.Y.Length - begin));
    }

    // Rows part·32 .. of the lower triangle and their mirror images; sums |S − S'|² and |S|² over both.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SymmetrisePart(ref AlgebraJob job, int part)
    {
        nint n = job.Y.Rows;
        double* s = (double*)job.Y.Address;
        int i0 = part * SquareTile, i1 = (int)Math.Min(i0 + SquareTile, n);
        double skew = 0, square = 0;
        for (int j0 = 0; j0 < i1; j0 += SquareTile)
        {
            for (int j = j0; j < Math.Min(j0 + SquareTile, i1); j++)
            {
                for (int i = Math.Max(i0, j); i < i1; i++)
                {
                    double a = s[(j * n) + i], b = s[(i * n) + j];
                    double mean = 0.5 * (a + b);
                    s[(j * n) + i] = s[(i * n) + j] = mean;
                    skew += 2 * (a - b) * (a - b);
                    square += (i == j ? 1 : 2) * mean * mean;
                }
            }
        }

        job.Sums[2 * part] = skew;
        job.Sums[(2 * part) + 1] = square;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SumPart(ref AlgebraJob job, int part)
    {
        int p = job.Y.Columns, d = job.Y.Rows;
        int end = Math.Min(p, (part + 1) * job.ColumnsPerPart);
        for (int j = part * job.ColumnsPerPart; j < end; j++)
        {
            double* to = (double*)job.Y.Address + ((nint)j * d);
            var scale = Vector256.Create(job.Sums[j]);
            int e = 0;
            for (; e <= d - 8; e += 8)
            {
                var lower = job.Accumulate ? Vector256.Load(to + e) : default;
                var upper = job.Accumulate ? Vector256.Load(to + e + 4) : default;
                for (int row = j; row < job.Rows.Rows; row += p)
                {
                    var (x, y) = Vector256.Widen(Vector256.Load(job.Rows.Row(row) + e));
                    lower += scale * x;
                    upper += scale * y;
                }

                lower.Store(to + e);
                upper.Store(to + e + 4);
            }

            for (; e < d; e++)
            {
                double sum = job.Accumulate ? to[e] : 0;
                for (int row = j; row < job.Rows.Rows; row += p)
                {
                    sum += job.Sums[j] * job.Rows.Row(row)[e];
                }

                to[e] = sum;
            }
        }
    }

    private struct AlgebraJob
    {
        public ColumnMajor X;
        public ColumnMajor Y;
        public Floats Rows;
        public double* Sums;
        public double Scale;
        public int ColumnsPerPart;
        public bool Accumulate;
    }
}
