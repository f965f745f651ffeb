using System.Buffers;
using System.Numerics.Tensors;
using Tiller.Cpu;

namespace Tiller.Synthesis;

/// <summary>Cholesky factors of matrices that grow by rows: the rows of the lower triangle, each up to its diagonal.</summary>
internal static class SmallCholesky
{
    // From here on blocked products in a square copy are faster than one row at a time.
    private const int Blocked = 64;

    /// <summary>M x of a symmetric M.</summary>
    public static double[] Multiply(IReadOnlyList<double[]> m, double[] x)
    {
        double[] product = new double[x.Length];
        for (int i = 0; i < x.Length; i++)
        {
            product[i] += TensorPrimitives.Dot<double>(m[i], x.AsSpan(0, i + 1));
            TensorPrimitives.MultiplyAdd<double>(m[i].AsSpan(0, i), x[i], product.AsSpan(0, i), product.AsSpan(0, i));
        }

        return product;
    }

    /// <summary>Factors M = L L' in place; false if a pivot is not positive.</summary>
    public static bool Factor(double[][] m)
    {
        if (m.Length >= Blocked)
        {
            return FactorBlocked(m);
        }

        for (int i = 0; i < m.Length; i++)
        {
            double[] row = m[i];
            for (int j = 0; j < i; j++)
            {
                row[j] = (row[j] - TensorPrimitives.Dot<double>(row.AsSpan(0, j), m[j].AsSpan(0, j))) / m[j][j];
            }

            double pivot = row[i] - TensorPrimitives.SumOfSquares<double>(row.AsSpan(0, i));
            if (!(pivot > 0))
            {
                return false;
            }

            row[i] = Math.Sqrt(pivot);
        }

        return true;
    }

    private static unsafe bool FactorBlocked(double[][] m)
    {
        int n = m.Length;
        double[] square = ArrayPool<double>.Shared.Rent(n * n);
        for (int i = 0; i < n; i++)
        {
            m[i].CopyTo(square, i * n);
        }

        fixed (double* numbers = square)
        {
            if (CpuCholesky.Factor(CpuOps.Shared.Pool, new Strided(numbers, n, n, n, 1), CancellationToken.None) >= 0)
            {
                ArrayPool<double>.Shared.Return(square);
                return false;
            }
        }

        for (int i = 0; i < n; i++)
        {
            square.AsSpan(i * n, i + 1).CopyTo(m[i]);
        }

        ArrayPool<double>.Shared.Return(square);
        return true;
    }

    /// <summary>Computes x = (L L')^{-1} x in place.</summary>
    public static void Solve(double[][] l, double[] x)
    {
        for (int i = 0; i < l.Length; i++)
        {
            x[i] = (x[i] - TensorPrimitives.Dot<double>(l[i].AsSpan(0, i), x.AsSpan(0, i))) / l[i][i];
        }

        for (int i = l.Length - 1; i >= 0; i--)
        {
            x[i] /= l[i][i];
            TensorPrimitives.MultiplyAdd<double>(l[i].AsSpan(0, i), -x[i], x.AsSpan(0, i), x.AsSpan(0, i));
        }
    }
}
