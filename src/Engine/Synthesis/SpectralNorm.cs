using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Synthesis;

/// <summary>
/// σ_max of a matrix by Lanczos' method on M'M with full reorthogonalisation, which takes some tens of products with a vector instead of a
/// decomposition (Golub and Van Loan, Matrix Computations, chapter 10). A Ritz value with the residual ε is within ε of an eigenvalue. For the
/// largest eigenvalue, the error is at most ε² divided by the gap to the next one.
/// </summary>
internal static class SpectralNorm
{
    private const double Converged = 1e-12;

    // Number of steps between two solutions of the small eigenvalue problem.
    private const int Between = 8;

    public static double Of(Matrix<double> m)
    {
        int n = m.ColumnCount;
        double[] numbers = DenseAlgebra.Numbers(m), image = new double[m.RowCount];
        double largest = Math.Abs(TensorPrimitives.MaxMagnitude<double>(numbers));
        if (largest == 0)
        {
            return 0;
        }

        var random = new Random(1);
        var basis = new List<double[]>(Math.Min(n, 64)) { Normalised([.. Enumerable.Range(0, n).Select(_ => random.NextDouble() - 0.5)]) };
        var (diagonal, beside) = (new List<double>(), new List<double>());
        while (true)
        {
            double[] next = Square(basis[^1]);
            diagonal.Add(TensorPrimitives.Dot<double>(next, basis[^1]));
            for (int pass = 0; pass < 2; pass++)
            {
                foreach (double[] v in basis)
                {
                    TensorPrimitives.MultiplyAdd(v, -TensorPrimitives.Dot<double>(v, next), next, next);
                }
            }

            double rest = TensorPrimitives.Norm<double>(next);
            bool complete = basis.Count == n || rest == 0;
            if (complete || basis.Count % Between == 0)
            {
                var (value, last) = Largest(diagonal, beside);
                if (complete || rest * Math.Abs(last) <= Converged * value)
                {
                    return largest * Math.Sqrt(Math.Max(0, value));
                }
            }

            beside.Add(rest);
            basis.Add(Normalised(next));
        }

        // (M/largest)' (M/largest) v. The scaling keeps squares from overflow and underflow.
        double[] Square(double[] v)
        {
            Array.Clear(image);
            for (int j = 0; j < n; j++)
            {
                TensorPrimitives.MultiplyAdd(numbers.AsSpan(j * image.Length, image.Length), v[j] / largest, image, image);
            }

            double[] square = new double[n];
            for (int j = 0; j < n; j++)
            {
                square[j] = TensorPrimitives.Dot<double>(numbers.AsSpan(j * image.Length, image.Length), image) / largest;
            }

            return square;
        }
    }

    // The largest eigenvalue of a tridiagonal matrix, and the last component of its eigenvector.
    private static (double Value, double Last) Largest(List<double> diagonal, List<double> beside)
    {
        int n = diagonal.Count;
        var small = Matrix<double>.Build.Dense(n, n, (i, j) => i == j ? diagonal[i] : Math.Abs(i - j) == 1 ? beside[Math.Min(i, j)] : 0);
        var eigen = small.Evd(Symmetricity.Symmetric);
        return (eigen.EigenValues[n - 1].Real, eigen.EigenVectors[n - 1, n - 1]);
    }

    private static double[] Normalised(double[] x)
    {
        TensorPrimitives.Divide(x, TensorPrimitives.Norm<double>(x), x);
        return x;
    }
}
