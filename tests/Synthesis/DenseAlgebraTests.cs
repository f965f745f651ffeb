using MathNet.Numerics.LinearAlgebra;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

public sealed class DenseAlgebraTests
{
    private static readonly int[] Sizes = [1, 5, 31, 33, 64, 127, 300];

    [Test]
    public void ProductsAgreeWithMathNetOverAwkwardSizes([ValueSource(nameof(Sizes))] int m, [Values(1, 7, 65, 270)] int n,
        [Values(1, 33, 259)] int depth)
    {
        var random = new Random(m + (n * 1000));
        var a = Problem.Gaussian(random, m, depth);
        var b = Problem.Gaussian(random, depth, n);
        Assert.That(Problem.Difference(DenseAlgebra.Multiply(a, b), a * b), Is.LessThan(1e-13));
        Assert.That(Problem.Difference(DenseAlgebra.TransposeMultiply(a.Transpose(), b), a * b), Is.LessThan(1e-13));
    }

    [Test]
    public void CholeskySolves([ValueSource(nameof(Sizes))] int n)
    {
        var random = new Random(n);
        var g = Problem.Gaussian(random, n, n);
        var s = g * g.Transpose();
        var x = Problem.Gaussian(random, n, 9);
        var factor = SpdFactor.OfGram(g.Transpose(), 1, 0);
        Assert.That(Problem.Difference(factor.Solve((s * x) + x), x), Is.LessThan(1e-9));
        Assert.That(Problem.Difference(factor.Lower * factor.Lower.Transpose(), s + Matrix<double>.Build.DenseIdentity(n)), Is.LessThan(1e-13));
    }

    [Test]
    public void A_factor_keeps_pivots_that_rounding_would_swallow()
    {
        // Z'Z is of rank 3 and up to 1e11; the other five pivots are of r = 1e-8 alone.
        var z = Problem.Gaussian(new Random(5), 3, 8, 1e5);
        const double R = 1e-8;
        var factor = SpdFactor.OfGram(z, R, 0);
        var gram = z.TransposeThisAndMultiply(z);
        Assert.That(Problem.Difference(factor.Lower * factor.Lower.Transpose(), gram), Is.LessThan(1e-14));
        Assert.That(factor.Lower.Diagonal(), Is.All.Positive);
        Assert.That(factor.Condition, Is.GreaterThan(1e16));
        var kernel = Matrix<double>.Build.DenseOfColumnVectors(z.Kernel());
        Assert.That(kernel.ColumnCount, Is.EqualTo(5));
        Assert.That(Problem.Difference(factor.Solve(R * kernel), kernel), Is.LessThan(1e-5));
    }

    [Test]
    public void Numbers_that_overflow_when_squared_have_no_factor()
    {
        var z = Matrix<double>.Build.Dense(4, 2, 1e200);
        var e = Assert.Throws<RiccatiException>(() => SpdFactor.OfGram(z, 1, 4));
        Assert.That((e!.Fault, e.Layer), Is.EqualTo((RiccatiFault.NotPositiveDefinite, (int?)4)));
        Assert.That(e.Message, Does.Contain("Likely causes"));
    }

    [TestCase(3)]
    [TestCase(70)]
    public void An_indefinite_matrix_names_its_pivot(int pivot)
    {
        var s = Matrix<double>.Build.DenseIdentity(100);
        s[pivot, pivot] = -3;
        Assert.That(SpdFactor.FirstBadPivot(s, 1), Is.EqualTo(pivot));
    }
}
