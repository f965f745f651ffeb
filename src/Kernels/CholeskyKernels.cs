using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Interop;

namespace Tiller.Kernels;

/// <summary>Cholesky and triangular solves of small float64 matrices, column-major and lower, without cuSOLVER. Kernels in cholesky.cu.</summary>
internal sealed class CholeskyKernels
{
    /// <summary>The largest order p.</summary>
    public const int MaxOrder = 128;

    private readonly CudaKernel _factor;
    private readonly CudaKernel _solve;

    /// <summary>Finds the kernels, and allows them the shared memory that the largest matrix needs, 66 KiB.</summary>
    /// <param name="kernel">Finds a kernel by name.</param>
    public CholeskyKernels(Func<string, CudaKernel> kernel)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        _factor = kernel("tillerCholesky");
        _solve = kernel("tillerTriangularSolve");
        _factor.MaxDynamicSharedInBytes = PackedSizeInBytes(MaxOrder);
        _solve.MaxDynamicSharedInBytes = PackedSizeInBytes(MaxOrder);
    }

    /// <summary>Factors A = L L'. L replaces the lower half of A.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="a">
    /// A symmetric matrix with contiguous columns, of which only the lower half is read // (p, p), p from 1 to <see cref="MaxOrder"/>.
    /// </param>
    /// <param name="failed">
    /// Result: 0, or the number, counted from 1, of the first pivot that is not positive and finite. A is unchanged then // (1).
    /// </param>
    public void Factor(CudaStream stream, in StridedDoubles a, DeviceSpan<int> failed)
    {
        CheckOrder(a);
        Debug.Assert(failed.Length == 1, "one number");
        var parameters = new FactorParameters { A = a.Address, Failed = failed.Address, P = a.Rows, Ld = (int)a.ColumnStride };
        _factor.Launch(new CudaLaunch(1, 1, 1, 512, SharedInBytes: PackedSizeInBytes(a.Rows), Programmatic: true), stream, parameters);
    }

    /// <summary>Solves L X = B or L' X = B. X replaces B. Does nothing after a failed <see cref="Factor"/>.</summary>
    /// <param name="stream">The stream in which the kernels run.</param>
    /// <param name="l">The result of <see cref="Factor"/> // (p, p).</param>
    /// <param name="failed">The report of <see cref="Factor"/> // (1).</param>
    /// <param name="b">Right-hand sides // (p, n); if n is 0, nothing is launched.</param>
    /// <param name="transposed">Whether to solve with L' instead of L.</param>
    public void Solve(CudaStream stream, in StridedDoubles l, DeviceSpan<int> failed, in StridedDoubles b, bool transposed)
    {
        CheckOrder(l);
        if (b.Columns == 0)
        {
            return;
        }

        Debug.Assert(failed.Length == 1 && b.Rows == l.Rows, "one number, B // (p, n)");
        var parameters = new SolveParameters
        {
            L = l.Address,
            Failed = failed.Address,
            B = b.Address,
            RowStride = b.RowStride,
            ColumnStride = b.ColumnStride,
            P = l.Rows,
            Ld = (int)l.ColumnStride,
            N = b.Columns,
            Transposed = transposed ? 1 : 0,
        };
        var shape = new CudaLaunch(RowLaunch.Blocks(b.Columns, 32), 1, 1, 256, SharedInBytes: PackedSizeInBytes(l.Rows), Programmatic: true);
        _solve.Launch(shape, stream, parameters);
    }

    private static int PackedSizeInBytes(int p) => 8 * p * (p + 1) / 2;

    private static void CheckOrder(in StridedDoubles m)
    {
        Debug.Assert(m.Rows == m.Columns && m.RowStride == 1 && m.ColumnStride >= m.Rows, "a square matrix of contiguous columns");
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(m.Rows);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(m.Rows, MaxOrder);
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
