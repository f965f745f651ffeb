using MathNet.Numerics.LinearAlgebra;
using Tiller.Control;

namespace Tiller.Tests.Control;

public sealed class DenseAlgebraTests
{
    private static readonly int[] Sizes = [1, 5, 31, 33, 64, 127, 300];

    [Test]
    public void ProductsAgreeWithMathNetOverAwkwardSizes([ValueSource(nameof(Sizes))] int m, [Values(1, 7, 65, 270)] int n, [Values(1, 33, 259)] int depth)
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
        var factor = SpdFactor.OfShifted(s, 1, 0);
        Assert.That(Problem.Difference(factor.Solve((s * x) + x), x), Is.LessThan(1e-9));
        Assert.That(Problem.Difference(factor.Lower * factor.Lower.Transpose(), s + Matrix<double>.Build.DenseIdentity(n)), Is.LessThan(1e-13));
    }

    [TestCase(3)]
    [TestCase(70)]
    public void AnIndefiniteMatrixNamesItsPivot(int pivot)
    {
        var s = Matrix<double>.Build.DenseIdentity(100);
        s[pivot, pivot] = -3;
        var e = Assert.Throws<RiccatiException>(() => SpdFactor.OfShifted(s, 1, 4));
        Assert.That((e!.Fault, e.Layer, e.Row), Is.EqualTo((RiccatiFault.NotPositiveDefinite, (int?)4, (int?)pivot)));
        Assert.That(e.Message, Does.Contain("Likely causes"));
    }
}
