using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Tests.Synthesis;

namespace Tiller.Tests.Features;

/// <summary>Directions between two sets of states, each by the property that defines it.</summary>
public sealed class DirectionRuleTests
{
    private static IEnumerable<DirectionRule> Rules => DirectionRule.All;

    [TestCaseSource(nameof(Rules))]
    public void A_direction_is_of_unit_length_and_points_to_the_positive_states(DirectionRule rule)
    {
        foreach (int seed in Enumerable.Range(1, 5))
        {
            foreach ((int count, int width) in new[] { (2, 9), (6, 6), (40, 5) })
            {
                var pair = Random(seed, count, width);
                double[] direction = rule.Of(pair), turned = rule.Of(new StatePair(pair.Negative, pair.Positive));
                Assert.That(TensorPrimitives.Norm<double>(direction), Is.EqualTo(1).Within(1e-12));
                Assert.That(TensorPrimitives.Dot<double>(direction, pair.Difference), Is.Not.Negative);
                Assert.That(turned, Is.EqualTo(Array.ConvertAll(direction, x => -x)).Within(1e-9));
            }
        }
    }

    [TestCaseSource(nameof(Rules))]
    public void Sets_with_one_mean_have_no_direction(DirectionRule rule)
    {
        var rows = Problem.Gaussian(new Random(1), 4, 7);
        Assert.That(rule.Of(new StatePair(rows, rows)), Is.All.Zero);
    }

    // Whitening turns the discriminant away from an axis along which the clouds are long.
    private static IEnumerable<DirectionRule> Unwhitened => DirectionRule.All.Where(rule => rule != DirectionRule.Discriminant);

    [TestCaseSource(nameof(Unwhitened))]
    public void Two_clouds_apart_along_an_axis_give_that_axis(DirectionRule rule)
    {
        var random = new Random(2);
        var rows = Problem.Gaussian(random, 30, 6, 0.02);
        var pair = new StatePair(
            Matrix<double>.Build.Dense(30, 6, (i, j) => rows[i, j] + (j == 2 ? 1 + (i / 100.0) : 0)),
            Matrix<double>.Build.Dense(30, 6, (i, j) => rows[29 - i, j] - (j == 2 ? 1 + (i / 100.0) : 0)));
        Assert.That(rule.Of(pair)[2], Is.GreaterThan(0.99));
    }

    [Test]
    public void Principal_components_are_those_of_a_singular_value_decomposition([Values(3, 12)] int count)
    {
        var pair = Random(3, count, 7);
        var centred = pair.Differences - Vector<double>.Build.Dense(count, 1).OuterProduct(pair.Differences.ColumnSums() / count);
        foreach (var (rule, rows) in new[] { (DirectionRule.Pca, pair.Differences), (DirectionRule.CentredPca, centred) })
        {
            double along = rows.Svd().VT.Row(0).DotProduct(Vector<double>.Build.DenseOfArray(rule.Of(pair)));
            Assert.That(Math.Abs(along), Is.EqualTo(1).Within(1e-12), rule.Name);
        }
    }

    [Test]
    public void The_discriminant_is_the_difference_solved_with_the_covariance([Values(3, 12)] int count)
    {
        var pair = Random(4, count, 5);
        var covariance = (Scatter(pair.Positive) + Scatter(pair.Negative)) / ((2 * count) - 2);
        var shrunk = covariance + (0.1 * covariance.Trace() / 5 * Matrix<double>.Build.DenseIdentity(5));
        var expected = shrunk.Solve(Vector<double>.Build.DenseOfArray(pair.Difference)).Normalize(2);
        Assert.That(DirectionRule.Discriminant.Of(pair), Is.EqualTo(expected.ToArray()).Within(1e-12));

        static Matrix<double> Scatter(Matrix<double> x)
        {
            var c = x - Vector<double>.Build.Dense(x.RowCount, 1).OuterProduct(x.ColumnSums() / x.RowCount);
            return c.TransposeThisAndMultiply(c);
        }
    }

    [Test]
    public void A_probe_leaves_no_gradient([Values(2, 5, 40)] int count, [Values(0.1, 1, 300)] double scale)
    {
        var random = Random(5, count, 8);
        var pair = new StatePair(random.Positive * scale, random.Negative * scale);
        var probe = LogisticProbe.Fit(pair);
        double[] gradient = [.. probe.Weights];
        double intercept = 0, size = 0;
        for (int i = 0; i < 2 * count; i++)
        {
            double[] x = pair.All.Row(i).ToArray();
            double sign = i < count ? 1 : -1, margin = sign * (TensorPrimitives.Dot<double>(x, probe.Weights) + probe.Intercept);
            double pull = -sign / (1 + Math.Exp(margin));
            TensorPrimitives.MultiplyAdd(x, pull, gradient, gradient);
            intercept += pull;
            size += Math.Abs(pull) * TensorPrimitives.Norm<double>(x);
        }

        Assert.That(TensorPrimitives.Norm<double>(gradient), Is.LessThan(1e-10 * Math.Max(size, 1)));
        Assert.That(intercept, Is.Zero.Within(1e-10));
    }

    [Test]
    public void Pairs_that_are_not_as_many_are_refused()
    {
        var random = new Random(6);
        var pair = new StatePair(Problem.Gaussian(random, 3, 4), Problem.Gaussian(random, 2, 4));
        foreach (var rule in DirectionRule.All)
        {
            if (rule.NeedsPairs)
            {
                Assert.That(Assert.Throws<ContrastSetException>(() => rule.Of(pair))!.Message, Does.Contain("3 positive and 2 negative"));
            }
            else
            {
                Assert.That(rule.Of(pair), Has.Some.Not.Zero, rule.Name);
            }
        }
    }

    private static StatePair Random(int seed, int count, int width)
    {
        var random = new Random(seed);
        var shift = Problem.Gaussian(random, 1, width).Row(0);
        var ones = Vector<double>.Build.Dense(count, 1);
        return new StatePair(Problem.Gaussian(random, count, width) + ones.OuterProduct(shift), Problem.Gaussian(random, count, width));
    }
}
