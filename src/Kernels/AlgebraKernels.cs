using System.Diagnostics;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// Operations of controller synthesis on float64 matrices, column-major without gaps, that cuBLAS and cuSOLVER do not have. Kernels in algebra.cu.
/// </summary>
internal sealed unsafe class AlgebraKernels
{
    /// <summary>Maximum number of stretches into which <see cref="FirstBad"/> divides a matrix. Each is a block of threads.</summary>
    public const int MaxStretches = 1024;

    private const int Threads = 256;
    private const int MaxBlocks = 4096;

    private readonly CudaKernel _sum, _identity, _add, _round, _diagonal, _symmetrise, _pairs, _extremes, _bad;

    /// <summary>Finds the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public AlgebraKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _sum = kernel("tillerSumPanels");
        _identity = kernel("tillerIdentityRows");
        _add = kernel("tillerAddScaled64");
        _round = kernel("tillerRoundToSingle");
        _diagonal = kernel("tillerAddDiagonal64");
        _symmetrise = kernel("tillerSymmetrise64");
        _pairs = kernel("tillerSumPairs64");
        _extremes = kernel("tillerDiagonalExtremes64");
        _bad = kernel("tillerFirstBad64");
    }

    /// <summary>result[:, j] (+)= scales[j] Σ_i rows[i p + j], summed in float64 with rising i.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">Panels of p rows // (panels · p, D).</param>
    /// <param name="scales">Factors of the sums // (p).</param>
    /// <param name="add">Whether the sums are added to the result.</param>
    /// <param name="result">Result // (D, p).</param>
    public void SumPanels(CudaStream stream, Floats rows, DeviceSpan<double> scales, bool add, ColumnMajor result)
    {
        int p = (int)scales.Length, d = rows.Columns;
        Debug.Assert(p > 0 && rows.Rows % p == 0 && result.Rows == d && result.Columns == p, "rows // (panels · p, D), result // (D, p)");
        var parameters = new SumParameters
        {
            Rows = rows.Address,
            Scales = scales.Address,
            Result = result.Address,
            Panels = rows.Rows / p,
            P = p,
            D = d,
            Add = add ? 1 : 0,
        };
        _sum.Launch(Elements(result.Length), stream, parameters);
    }

    /// <summary>rows[j] = e_{first + j}.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="rows">Result // (count, D).</param>
    /// <param name="first">The coordinate of row 0 that is one.</param>
    public void Identity(CudaStream stream, Floats rows, int first)
    {
        var (address, count, d) = (rows.Address, rows.Rows, rows.Columns);
        void** parameters = stackalloc void*[] { &address, &count, &d, &first };
        _identity.Launch(Elements((long)count * d), stream, parameters);
    }

    /// <summary>y += α x.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="alpha">α.</param>
    /// <param name="x">A matrix of the same length as y.</param>
    /// <param name="y">Result.</param>
    public void Add(CudaStream stream, double alpha, ColumnMajor x, ColumnMajor y)
    {
        Debug.Assert(x.Length == y.Length, "matrices of one size");
        var (from, to, count) = (x.Address, y.Address, y.Length);
        void** parameters = stackalloc void*[] { &alpha, &from, &to, &count };
        _add.Launch(Elements(count), stream, parameters);
    }

    /// <summary>Rounds every number to the nearest float32.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="y">Any matrix.</param>
    public void RoundToSingle(CudaStream stream, ColumnMajor y)
    {
        var (address, count) = (y.Address, y.Length);
        void** parameters = stackalloc void*[] { &address, &count };
        _round.Launch(Elements(count), stream, parameters);
    }

    /// <summary>m_ii += value.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="value">The value to add.</param>
    /// <param name="m">Any matrix.</param>
    public void AddDiagonal(CudaStream stream, double value, ColumnMajor m)
    {
        var (address, rows, order) = (m.Address, m.Rows, Math.Min(m.Rows, m.Columns));
        void** parameters = stackalloc void*[] { &value, &address, &order, &rows };
        _diagonal.Launch(new CudaLaunch((order + Threads - 1) / Threads, 1, 1, Threads, Programmatic: true), stream, parameters);
    }

    /// <summary>s = (s + s')/2, where s' is the transpose. Also computes |s − s'|² before, and |s|² after.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="s">A square matrix // (n, n).</param>
    /// <param name="sums">Scratch // (2n).</param>
    /// <param name="result">Result: the two squared norms // (2).</param>
    public void Symmetrise(CudaStream stream, ColumnMajor s, DeviceSpan<double> sums, DeviceSpan<double> result)
    {
        Debug.Assert(s.Rows == s.Columns && sums.Length >= 2L * s.Rows && result.Length >= 2, "s // (n, n), sums // (2n), result // (2)");
        var (matrix, n, rows, norms) = (s.Address, s.Rows, sums.Address, result.Address);
        void** parameters = stackalloc void*[] { &matrix, &n, &rows };
        _symmetrise.Launch(new CudaLaunch(n, 1, 1, Threads, Programmatic: true), stream, parameters);
        void** pairs = stackalloc void*[] { &rows, &n, &norms };
        _pairs.Launch(new CudaLaunch(1, 1, 1, Threads, Programmatic: true), stream, pairs);
    }

    /// <summary>The smallest and the largest m_ii; NaN if any m_ii is NaN.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="m">A square matrix // (n, n), n at least 1.</param>
    /// <param name="result">Result // (2).</param>
    public void DiagonalExtremes(CudaStream stream, ColumnMajor m, DeviceSpan<double> result)
    {
        Debug.Assert(m.Rows == m.Columns && m.Rows > 0 && result.Length >= 2, "m // (n, n), result // (2)");
        var (matrix, n, ends) = (m.Address, m.Rows, result.Address);
        void** parameters = stackalloc void*[] { &matrix, &n, &ends };
        _extremes.Launch(new CudaLaunch(1, 1, 1, Threads, Programmatic: true), stream, parameters);
    }

    /// <summary>For each stretch of a matrix, the position of its first number that is NaN or infinite, or −1 if there is none.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="m">A matrix with at least one number.</param>
    /// <param name="firsts">Result // (<see cref="MaxStretches"/>).</param>
    /// <returns>The number of stretches, which are in the order of the matrix.</returns>
    public int FirstBad(CudaStream stream, ColumnMajor m, DeviceSpan<long> firsts)
    {
        var (address, count, to) = (m.Address, m.Length, firsts.Address);
        long stretch = Math.Max(16 * Threads, (count + MaxStretches - 1) / MaxStretches);
        int stretches = (int)((count + stretch - 1) / stretch);
        Debug.Assert(count > 0 && firsts.Length >= stretches, "a number at least, and a place for each stretch");
        void** parameters = stackalloc void*[] { &address, &count, &stretch, &to };
        _bad.Launch(new CudaLaunch(stretches, 1, 1, Threads, Programmatic: true), stream, parameters);
        return stretches;
    }

    private static CudaLaunch Elements(long count) =>
        new((int)Math.Clamp((count + Threads - 1) / Threads, 1, MaxBlocks), 1, 1, Threads, Programmatic: true);

    [System.Runtime.InteropServices.StructLayout(System.Runtime.InteropServices.LayoutKind.Sequential)]
    private struct SumParameters
    {
        public nint Rows, Scales, Result;
        public int Panels, P, D, Add;
    }
}
