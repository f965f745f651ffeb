using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>
/// Between the float32 rows of the model and the float64 matrices of the syntheses, which are row-major here. Kernels in panels.cu.
/// </summary>
public sealed unsafe class PanelKernels
{
    private const int Tile = 32;

    private readonly CudaKernel _identity;
    private readonly CudaKernel _accumulate;
    private readonly CudaKernel _toDouble;
    private readonly CudaKernel _toFloat;
    private readonly CudaKernel _symmetrise;
    private readonly CudaKernel _largest;
    private readonly CudaKernel _addDiagonal;
    private readonly CudaKernel _unitRows;

    /// <summary>Takes the kernels.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public PanelKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _identity = kernel("tillerIdentityRows");
        _accumulate = kernel("tillerAccumulateColumns");
        _toDouble = kernel("tillerToDouble");
        _toFloat = kernel("tillerToFloat");
        _symmetrise = kernel("tillerSymmetrise");
        _largest = kernel("tillerLargest");
        _addDiagonal = kernel("tillerAddDiagonal");
        _unitRows = kernel("tillerUnitRows");
    }

    /// <summary>Rows of the identity: row i · width + t is e_{first + t}, for every prompt i.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="x">Result, float32 // (prompts · width, D).</param>
    /// <param name="prompts">Value rows that the tangents stand at.</param>
    /// <param name="width">Tangents of each.</param>
    /// <param name="first">Column of the first one.</param>
    /// <param name="D">Width of a row.</param>
    public void Identity(CudaStream stream, nint x, int prompts, int width, int first, int D)
    {
        long count = (long)prompts * width * D;
        if (count == 0)
        {
            return;
        }

        var p = new IdentityParameters { X = x, Count = count, D = D, Width = width, First = first };
        _identity.Launch(new CudaLaunch(RowLaunch.Blocks(count, 1024), 1, 1, 256, Programmatic: true), stream, p);
    }

    /// <summary>
    /// A[:, first + t] += scale · row_{i · width + t}, prompts i in order: with the rows of pushed <see cref="Identity"/>, a sum of
    /// Jacobians.
    /// </summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="rows">float32 // (prompts · width, D).</param>
    /// <param name="prompts">Terms of the sum.</param>
    /// <param name="width">Columns.</param>
    /// <param name="D">Width of a row, and rows of A.</param>
    /// <param name="scale">Factor, such as 1 / (number of prompts in all).</param>
    /// <param name="a">A, float64 // (D, leadingDimension), row-major.</param>
    /// <param name="leadingDimension">Numbers from one row of A to the next.</param>
    /// <param name="first">Column of A that the first row goes to.</param>
    public void AccumulateColumns(CudaStream stream, nint rows, int prompts, int width, int D, double scale, nint a, int leadingDimension, int first)
    {
        if (prompts == 0 || width == 0)
        {
            return;
        }

        var p = new AccumulateParameters
        {
            Rows = rows,
            A = a,
            Scale = scale,
            Prompts = prompts,
            Width = width,
            D = D,
            Ld = leadingDimension,
            First = first,
        };
        _accumulate.Launch(new CudaLaunch(RowLaunch.Blocks(D, Tile), RowLaunch.Blocks(width, Tile), 1, 256, Programmatic: true), stream, p);
    }

    /// <summary>float64 from float32.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="from">float32 // (count).</param>
    /// <param name="to">float64 // (count).</param>
    /// <param name="count">Numbers.</param>
    public void ToDouble(CudaStream stream, nint from, nint to, long count) => Convert(_toDouble, stream, from, to, count);

    /// <summary>float32 from float64, to the nearest.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="from">float64 // (count).</param>
    /// <param name="to">float32 // (count).</param>
    /// <param name="count">Numbers.</param>
    public void ToFloat(CudaStream stream, nint from, nint to, long count) => Convert(_toFloat, stream, from, to, count);

    /// <summary>Scratch memory that <see cref="Symmetrise"/> needs.</summary>
    /// <param name="n">Order of the matrix.</param>
    public static long SymmetriseScratchSizeInBytes(int n) => 8L * RowLaunch.Blocks(n, Tile) * RowLaunch.Blocks(n, Tile);

    /// <summary>A ← (A + A')/2, and how far A was from symmetric.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="a">float64 // (n, leadingDimension).</param>
    /// <param name="n">Order.</param>
    /// <param name="leadingDimension">Numbers from one row to the next.</param>
    /// <param name="asymmetry">Gets max |A − A'| before, NaN where there is one; one float64.</param>
    /// <param name="scratch"><see cref="SymmetriseScratchSizeInBytes"/>.</param>
    public void Symmetrise(CudaStream stream, nint a, int n, int leadingDimension, nint asymmetry, nint scratch)
    {
        int side = RowLaunch.Blocks(n, Tile), tiles = checked(side * side);
        if (tiles == 0)
        {
            return;
        }

        var p = new SymmetriseParameters { A = a, Largest = scratch, N = n, Ld = leadingDimension, TilesPerSide = side };
        _symmetrise.Launch(new CudaLaunch(tiles, 1, 1, 256, Programmatic: true), stream, p);
        void** parameters = stackalloc void*[] { &scratch, &asymmetry, &tiles };
        _largest.Launch(new CudaLaunch(1, 1, 1, 256, Programmatic: true), stream, parameters);
    }

    /// <summary>A_ii += value.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="a">float64 // (n, leadingDimension).</param>
    /// <param name="n">Order.</param>
    /// <param name="leadingDimension">Numbers from one row to the next.</param>
    /// <param name="value">Added.</param>
    public void AddDiagonal(CudaStream stream, nint a, int n, int leadingDimension, double value)
    {
        if (n == 0)
        {
            return;
        }

        void** parameters = stackalloc void*[] { &a, &n, &leadingDimension, &value };
        _addDiagonal.Launch(new CudaLaunch(RowLaunch.Blocks(n, 256), 1, 1, 256, Programmatic: true), stream, parameters);
    }

    /// <summary>x ← x / |x| of every row; a row of zeros stays.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="x">float64 // (rows, n), in place.</param>
    /// <param name="rows">Rows.</param>
    /// <param name="n">Numbers of a row.</param>
    /// <param name="lengths">Gets |x| // (rows) float64.</param>
    public void UnitRows(CudaStream stream, nint x, int rows, int n, nint lengths)
    {
        if (rows == 0)
        {
            return;
        }

        var p = new UnitRowsParameters { X = x, Lengths = lengths, N = n };
        _unitRows.Launch(new CudaLaunch(rows, 1, 1, 256, Programmatic: true), stream, p);
    }

    private static void Convert(CudaKernel kernel, CudaStream stream, nint from, nint to, long count)
    {
        if (count == 0)
        {
            return;
        }

        void** parameters = stackalloc void*[] { &from, &to, &count };
        kernel.Launch(new CudaLaunch(RowLaunch.Blocks(count, 1024), 1, 1, 256, Programmatic: true), stream, parameters);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct IdentityParameters
    {
        public nint X;
        public long Count;
        public int D;
        public int Width;
        public int First;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct AccumulateParameters
    {
        public nint Rows;
        public nint A;
        public double Scale;
        public int Prompts;
        public int Width;
        public int D;
        public int Ld;
        public int First;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SymmetriseParameters
    {
        public nint A;
        public nint Largest;
        public int N;
        public int Ld;
        public int TilesPerSide;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct UnitRowsParameters
    {
        public nint X;
        public nint Lengths;
        public int N;
    }
}
