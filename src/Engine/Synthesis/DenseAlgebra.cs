using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Storage;
using Tiller.Cpu;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Synthesis;

/// <summary>
/// The engine's float64 algebra (<see cref="DeviceOps"/>) for MathNet matrices in host memory. For small matrices and for matrices of the caller.
/// </summary>
internal static unsafe class DenseAlgebra
{
    private static CpuOps Host => CpuOps.Shared;

    /// <summary>A B // (m, n).</summary>
    public static Matrix<double> Multiply(Matrix<double> a, Matrix<double> b, CancellationToken cancellationToken = default) =>
        Product(a, transposed: false, b, cancellationToken);

    /// <summary>A' B // (m, n).</summary>
    public static Matrix<double> TransposeMultiply(Matrix<double> a, Matrix<double> b, CancellationToken cancellationToken = default) =>
        Product(a, transposed: true, b, cancellationToken);

    /// <summary>Numbers in column-major order: those of the matrix itself if its storage is dense, else a copy.</summary>
    public static double[] Numbers(Matrix<double> m) =>
        m.Storage is DenseColumnMajorMatrixStorage<double> dense ? dense.Data : m.ToColumnMajorArray();

    /// <summary>The Frobenius norm |M|. MathNet's own method forms M M'.</summary>
    public static double Norm(Matrix<double> m) => TensorPrimitives.Norm<double>(Numbers(m));

    /// <summary>Factors M = L L' in place: the lower triangle becomes L; the strict upper triangle is undefined afterwards.</summary>
    public static Pivots Cholesky(Matrix<double> m, CancellationToken cancellationToken = default)
    {
        fixed (double* numbers = Numbers(m))
        {
            return Host.Cholesky(View(numbers, m), cancellationToken);
        }
    }

    /// <summary>Computes X = (L L')^{-1} X in place.</summary>
    public static void CholeskySolve(Matrix<double> l, Matrix<double> x)
    {
        fixed (double* factor = Numbers(l), numbers = Numbers(x))
        {
            Host.CholeskySolve(View(factor, l), View(numbers, x));
        }
    }

    /// <summary>Adds a number to each entry of M's diagonal.</summary>
    public static void AddToDiagonal(Matrix<double> m, double value)
    {
        fixed (double* numbers = Numbers(m))
        {
            Host.AddToDiagonal(value, View(numbers, m));
        }
    }

    /// <summary>Rounds each entry of M to the nearest float32.</summary>
    public static void RoundToSingle(Matrix<double> m)
    {
        fixed (double* numbers = Numbers(m))
        {
            Host.RoundToSingle(View(numbers, m));
        }
    }

    /// <summary>Replaces a nearly symmetric M by ½ (M + M').</summary>
    public static void Symmetrise(Matrix<double> m)
    {
        fixed (double* numbers = Numbers(m))
        {
            _ = Host.Symmetrise(View(numbers, m));
        }
    }

    /// <summary>Computes X = X L^{-T} in place.</summary>
    public static void SolveRight(Matrix<double> x, Matrix<double> l)
    {
        fixed (double* factor = Numbers(l), numbers = Numbers(x))
        {
            Host.SolveRight(View(numbers, x), View(factor, l));
        }
    }

    private static Matrix<double> Product(Matrix<double> a, bool transposed, Matrix<double> b, CancellationToken cancellationToken)
    {
        var c = Matrix<double>.Build.Dense(transposed ? a.ColumnCount : a.RowCount, b.ColumnCount);
        fixed (double* x = Numbers(a), y = Numbers(b), z = Numbers(c))
        {
            Host.Multiply(1, new Factor(View(x, a), transposed), View(y, b), 0, View(z, c), cancellationToken);
        }

        return c;
    }

    private static ColumnMajor View(double* numbers, Matrix<double> m) => new((nint)numbers, m.RowCount, m.ColumnCount);
}
