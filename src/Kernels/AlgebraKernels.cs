using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>What controller synthesis does to float64 matrices beside cuBLAS and cuSOLVER: column-major without gaps. Kernels in algebra.cu.</summary>
internal sealed unsafe class AlgebraKernels
{
    /// <summary>Blocks that <see cref="FirstBad"/> cuts a matrix into, at most.</summary>
    public const int MostStretches = 1024;

    private const int Threads = 256;
    private const int MostBlocks = 4096;

    private readonly CudaKernel _sum, _identity, _add, _diagonal, _symmetrise, _pairs, _extremes, _bad;

    /// <summary>Takes the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public AlgebraKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _sum = kernel("tillerSumPanels");
        _identity = kernel("tillerIdentityRows");
        _add = kernel("tillerAddScaled64");
        _diagonal = kernel("tillerAddDiagonal64");
        _symmetrise = kernel("tillerSymmetrise64");
        _pairs = kernel("tillerSumPairs64");
        _extremes = kernel("tillerDiagonalExtremes64");
        _bad = kernel("tillerFirstBad64");
    }

    /// <summary>result[:, j] (+)= scales[j] Σ_i rows[i p + j] in float64, i ascending.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows">float32 // (panels · p, D).</param>
    /// <param name="panels">Terms of each sum.</param>
    /// <param name="p">Columns.</param>
    /// <param name="D">Width of a row.</param>
    /// <param name="scales">float64 // (p).</param>
    /// <param name="add">Whether to add to the result.</param>
    /// <param name="result">float64 // (D, p).</param>
    public void SumPanels(CudaStream stream, nint rows, int panels, int p, int D, nint scales, bool add, nint result)
    {
        var parameters = new SumParameters { Rows = rows, Scales = scales, Result = result, Panels = panels, P = p, D = D, Add = add ? 1 : 0 };
        _sum.Launch(Elements((long)p * D), stream, parameters);
    }

    /// <summary>rows[j] = e_{first + j}.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows">float32 // (count, D).</param>
    /// <param name="count">Rows.</param>
    /// <param name="D">Width of a row.</param>
    /// <param name="first">Column of the first row's one.</param>
    public void Identity(CudaStream stream, nint rows, int count, int D, int first)
    {
        void** parameters = stackalloc void*[] { &rows, &count, &D, &first };
        _identity.Launch(Elements((long)count * D), stream, parameters);
    }

    /// <summary>y += α x.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="alpha">α.</param>
    /// <param name="x">float64 // (count).</param>
    /// <param name="y">float64 // (count).</param>
    /// <param name="count">Numbers.</param>
    public void Add(CudaStream stream, double alpha, nint x, nint y, long count)
    {
        void** parameters = stackalloc void*[] { &alpha, &x, &y, &count };
        _add.Launch(Elements(count), stream, parameters);
    }

    /// <summary>m_ii += value.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="value">Added.</param>
    /// <param name="m">float64 // (rows, columns).</param>
    /// <param name="order">min(rows, columns).</param>
    /// <param name="rows">Rows.</param>
    public void AddDiagonal(CudaStream stream, double value, nint m, int order, int rows)
    {
        void** parameters = stackalloc void*[] { &value, &m, &order, &rows };
        _diagonal.Launch(new CudaLaunch((order + Threads - 1) / Threads, 1, 1, Threads, Programmatic: true), stream, parameters);
    }

    /// <summary>s = (s + s')/2; |s − s'|² before and |s|² after.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="s">float64 // (n, n).</param>
    /// <param name="n">Order.</param>
    /// <param name="sums">Scratch, float64 // (n, 2).</param>
    /// <param name="result">float64 // (2).</param>
    public void Symmetrise(CudaStream stream, nint s, int n, nint sums, nint result)
    {
        void** parameters = stackalloc void*[] { &s, &n, &sums };
        _symmetrise.Launch(new CudaLaunch(n, 1, 1, Threads, Programmatic: true), stream, parameters);
        void** pairs = stackalloc void*[] { &sums, &n, &result };
        _pairs.Launch(new CudaLaunch(1, 1, 1, Threads, Programmatic: true), stream, pairs);
    }

    /// <summary>Smallest and largest m_ii; NaN where any is.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="m">float64 // (n, n), n at least 1.</param>
    /// <param name="n">Order.</param>
    /// <param name="result">float64 // (2).</param>
    public void DiagonalExtremes(CudaStream stream, nint m, int n, nint result)
    {
        void** parameters = stackalloc void*[] { &m, &n, &result };
        _extremes.Launch(new CudaLaunch(1, 1, 1, Threads, Programmatic: true), stream, parameters);
    }

    /// <summary>Position of the first number of each stretch that is NaN or infinite, or -1.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="m">float64 // (count).</param>
    /// <param name="count">Numbers, at least 1.</param>
    /// <param name="firsts">Result, 64-bit // (<see cref="MostStretches"/>).</param>
    /// <returns>Stretches, in order.</returns>
    public int FirstBad(CudaStream stream, nint m, long count, nint firsts)
    {
        long stretch = Math.Max(16 * Threads, (count + MostStretches - 1) / MostStretches);
        int stretches = (int)((count + stretch - 1) / stretch);
        void** parameters = stackalloc void*[] { &m, &count, &stretch, &firsts };
        _bad.Launch(new CudaLaunch(stretches, 1, 1, Threads, Programmatic: true), stream, parameters);
        return stretches;
    }

    private static CudaLaunch Elements(long count) =>
        new((int)Math.Clamp((count + Threads - 1) / Threads, 1, MostBlocks), 1, 1, Threads, Programmatic: true);

    [System.Runtime.InteropServices.StructLayout(System.Runtime.InteropServices.LayoutKind.Sequential)]
    private struct SumParameters
    {
        public nint Rows, Scales, Result;
        public int Panels, P, D, Add;
    }
}
