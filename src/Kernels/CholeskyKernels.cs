using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>Cholesky and triangular solves of small float64 matrices, column-major and lower, without cuSOLVER. Kernels in cholesky.cu.</summary>
internal sealed class CholeskyKernels
{
    /// <summary>The largest matrix.</summary>
    public const int MaxOrder = 128;

    private readonly CudaKernel _factor;
    private readonly CudaKernel _solve;

    /// <summary>Takes the kernels and lets them use the shared memory that the largest matrix needs, 66 KiB.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public CholeskyKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _factor = kernel("tillerCholesky");
        _solve = kernel("tillerTriangularSolve");
        _factor.MaxDynamicSharedInBytes = PackedSizeInBytes(MaxOrder);
        _solve.MaxDynamicSharedInBytes = PackedSizeInBytes(MaxOrder);
    }

    /// <summary>A = L L', L in place of A's lower half.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="a">Symmetric, only the lower half is read // (p, p), column-major float64.</param>
    /// <param name="p">Order, 1 to <see cref="MaxOrder"/>.</param>
    /// <param name="leadingDimension">Numbers from one column to the next, at least p.</param>
    /// <param name="failed">Gets 0, or the number, from 1, of the first pivot that is not positive and finite; A is then as it was. One int.</param>
    public void Factor(CudaStream stream, nint a, int p, int leadingDimension, nint failed)
    {
        CheckOrder(p);
        var parameters = new FactorParameters { A = a, Failed = failed, P = p, Ld = leadingDimension };
        _factor.Launch(new CudaLaunch(1, 1, 1, 512, SharedInBytes: PackedSizeInBytes(p), Programmatic: true), stream, parameters);
    }

    /// <summary>L X = B, or L' X = B, X in place of B; nothing after a failed <see cref="Factor"/>.</summary>
    /// <param name="stream">Where it runs.</param>
    /// <param name="l">What <see cref="Factor"/> left // (p, p), column-major float64.</param>
    /// <param name="p">Order, 1 to <see cref="MaxOrder"/>.</param>
    /// <param name="leadingDimension">Numbers from one column of L to the next.</param>
    /// <param name="failed">What <see cref="Factor"/> reported, one int.</param>
    /// <param name="b">Right-hand sides // (p, n) float64.</param>
    /// <param name="n">Right-hand sides; 0 launches nothing.</param>
    /// <param name="rowStride">Numbers from one row of B to the next: 1 where B is column-major.</param>
    /// <param name="columnStride">Numbers from one column of B to the next: 1 where B is row-major.</param>
    /// <param name="transposed">Whether L' is solved with.</param>
    public void Solve(
        CudaStream stream, nint l, int p, int leadingDimension, nint failed, nint b, int n, long rowStride, long columnStride, bool transposed)
    {
        CheckOrder(p);
        if (n == 0)
        {
            return;
        }

        var parameters = new SolveParameters
        {
            L = l,
            Failed = failed,
            B = b,
            RowStride = rowStride,
            ColumnStride = columnStride,
            P = p,
            Ld = leadingDimension,
            N = n,
            Transposed = transposed ? 1 : 0,
        };
        var shape = new CudaLaunch(RowLaunch.Blocks(n, 32), 1, 1, 256, SharedInBytes: PackedSizeInBytes(p), Programmatic: true);
        _solve.Launch(shape, stream, parameters);
    }

    private static int PackedSizeInBytes(int p) => 8 * p * (p + 1) / 2;

    private static void CheckOrder(int p)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(p);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(p, MaxOrder);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct FactorParameters
    {
        public nint A;
        public nint Failed;
        public int P;
        public int Ld;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SolveParameters
    {
        public nint L;
        public nint Failed;
        public nint B;
        public long RowStride;
        public long ColumnStride;
        public int P;
        public int Ld;
        public int N;
        public int Transposed;
    }
}
