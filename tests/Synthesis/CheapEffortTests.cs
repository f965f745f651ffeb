using MathNet.Numerics.LinearAlgebra;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>
/// Gains where effort costs next to nothing, against the textbook's recursion in decimals of 28 digits. The factor Z of S keeps what is of the size
/// of r to rounding times √(|S|/r); S itself only to rounding times |S|/r, whatever is done with it afterwards.
/// </summary>
public sealed class CheapEffortTests
{
    private const int Layers = 4;
    private const int Width = 5;

    // 2⁻²⁷, about 7.5e-9, exact in both kinds of numbers.
    private const double R = 1.0 / (1 << 27);
    private const double Rounding = 1.1e-16;

    [Test]
    public void The_factored_gains_lose_the_root_of_what_the_dense_ones_must()
    {
        double factored = 0, swept = 0, dense = 0;
        for (int seed = 1; seed <= 8; seed++)
        {
            // Numbers of a few binary places, so that decimals hold them exactly.
            var random = new Random(seed);
            Matrix<double> Draw(int columns) => Matrix<double>.Build.Dense(Width, columns, (_, _) => random.Next(-24, 25) / 16.0);
            Matrix<double>[] a = [.. Enumerable.Range(0, Layers).Select(_ => Draw(Width))];
            Matrix<double>[] c = [.. Enumerable.Range(0, Layers + 1).Select(_ => Draw(1))];
            var exact = Exact(a, c);
            var cost = new FactoredCost(c, R);
            double Error(RiccatiSolution solution) => Enumerable.Range(0, Layers).Max(k => Enumerable.Range(0, Width).Max(j =>
            {
                double[] column = solution.Gains[k].Apply(Vector<double>.Build.Dense(Width, i => i == j ? 1 : 0).ToArray());
                double scale = exact[k].Cast<decimal>().Max(x => (double)Math.Abs(x));
                return Enumerable.Range(0, Width).Max(i => Math.Abs((double)((decimal)column[i] - exact[k][i, j]))) / scale;
            }));
            Matrix<double> Pull(int k, Matrix<double> z) => a[k].TransposeThisAndMultiply(z);
            factored = Math.Max(factored, Error(FactoredRiccati.Solve(Layers, Pull, cost)));
            swept = Math.Max(swept, Error(WeightSweep.Solve(Layers, Pull, c, [new LqrWeights(1, R, 1)])[0]));
            dense = Math.Max(dense, Error(DenseRiccati.Solve(Layers, k => a[k], cost)));
        }

        // |S| is some tens, so that √(|S|/r) is 1e5 and |S|/r 1e10.
        using (Assert.EnterMultipleScope())
        {
            Assert.That(factored, Is.LessThan(1e5 * Rounding));
            Assert.That(swept, Is.LessThan(1e5 * Rounding));
            Assert.That(dense, Is.GreaterThan(1e6 * Rounding).And.LessThan(1e10 * Rounding), "the limit of S in float64");
        }
    }

    // K_k = (S + rI)⁻¹ S A_k, S ← C C' + r A_k' K_k
    private static decimal[][,] Exact(Matrix<double>[] a, Matrix<double>[] c)
    {
        decimal r = (decimal)1 / (1 << 27);
        var gains = new decimal[Layers][,];
        var s = new decimal[Width, Width];
        Charge(s, c[Layers]);
        for (int k = Layers - 1; k >= 0; k--)
        {
            decimal[,] left = new decimal[Width, Width], right = new decimal[Width, Width];
            for (int i = 0; i < Width; i++)
            {
                for (int j = 0; j < Width; j++)
                {
                    left[i, j] = s[i, j] + (i == j ? r : 0);
                    for (int m = 0; m < Width; m++)
                    {
                        right[i, j] += s[i, m] * (decimal)a[k][m, j];
                    }
                }
            }

            gains[k] = Solve(left, right);
            s = new decimal[Width, Width];
            Charge(s, c[k]);
            for (int i = 0; i < Width; i++)
            {
                for (int j = 0; j < Width; j++)
                {
                    for (int m = 0; m < Width; m++)
                    {
                        s[i, j] += r * (decimal)a[k][m, i] * gains[k][m, j];
                    }
                }
            }
        }

        return gains;
    }

    private static void Charge(decimal[,] s, Matrix<double> c)
    {
        for (int i = 0; i < Width; i++)
        {
            for (int j = 0; j < Width; j++)
            {
                s[i, j] += (decimal)c[i, 0] * (decimal)c[j, 0];
            }
        }
    }

    // Gauss with the largest pivot; both are overwritten.
    private static decimal[,] Solve(decimal[,] left, decimal[,] right)
    {
        for (int column = 0; column < Width; column++)
        {
            int pivot = Enumerable.Range(column, Width - column).MaxBy(i => Math.Abs(left[i, column]));
            for (int j = 0; j < Width; j++)
            {
                (left[column, j], left[pivot, j]) = (left[pivot, j], left[column, j]);
                (right[column, j], right[pivot, j]) = (right[pivot, j], right[column, j]);
            }

            for (int i = 0; i < Width; i++)
            {
                decimal times = i == column ? 0 : left[i, column] / left[column, column];
                for (int j = 0; j < Width; j++)
                {
                    left[i, j] -= times * left[column, j];
                    right[i, j] -= times * right[column, j];
                }
            }
        }

        for (int i = 0; i < Width; i++)
        {
            for (int j = 0; j < Width; j++)
            {
                right[i, j] /= left[i, i];
            }
        }

        return right;
    }
}
