using Tiller.Features;

namespace Tiller.Tests.Features;

public sealed class FeatureTests
{
    [Test]
    public void DirectionsAreUnitAndTheDifferenceComesBack()
    {
        float[][] e = [[3, 0, 4], [0, 1e-3f, 0], [-2, 2, 1]];
        float[][] negative = [[1, 1, 1], [5, 6, 7], [0, 0, 3]];
        var feature = Feature.FromDifference(e, negative);
        Assert.That((feature.L, feature.D), Is.EqualTo((2, 3)));
        Assert.That(feature.Mu, Is.EqualTo(new[] { 5, 1e-3f, 3 }).Within(1e-6));
        Assert.That(feature.Origin, Is.EqualTo(new[] { 1.4f, 6, 1 }).Within(1e-6));
        for (int k = 0; k < 3; k++)
        {
            Assert.That(feature.Difference(k), Is.EqualTo(e[k]).Within(1e-6));
        }
    }

    [TestCase(9e-7f, 0)]
    [TestCase(1.1e-6f, 1)]
    public void ANegligibleDifferenceIsNoDirection(float size, int expected)
    {
        var feature = Feature.FromDifference([[1, 0], [size, 0]]);
        Assert.That(feature.V[1][0], Is.EqualTo(expected));
        Assert.That(feature.Mu[1], expected == 0 ? Is.Zero : Is.EqualTo(size));
    }

    [Test]
    public void BadRowsAreRefused()
    {
        Assert.Throws<ArgumentException>(() => Feature.FromDifference([[1, 0]]));
        Assert.Throws<ArgumentException>(() => Feature.FromDifference([[1, 0], [1, 0, 0]]));
        Assert.Throws<ArgumentException>(() => Feature.FromDifference([[1, 0], [float.NaN, 0]]));
        Assert.Throws<ArgumentException>(() => Feature.FromDifference([[1, 0], [1, 0]], [[1, 0]]));
        Assert.Throws<ArgumentException>(() => _ = new Feature([[1, 0], [2, 0]], [1, 1]));
        Assert.Throws<ArgumentException>(() => _ = new Feature([[1, 0], [1, 0]], [1, -1]));
        Assert.Throws<ArgumentException>(() => _ = new Feature([[1, 0], [1, 0]], [1, 1], [float.PositiveInfinity, 0]));
    }
}
