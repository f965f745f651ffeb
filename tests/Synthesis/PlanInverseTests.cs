using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>The inverse of half a plan's Hessian, against that Hessian.</summary>
public sealed class PlanInverseTests
{
    private static readonly LqrWeights s_weights = new(0.4, 0.6, 1.5);

    [TestCase(0, 0.0)]
    [TestCase(0, 3.0)]
    [TestCase(2, 0.5)]
    [TestCase(2, 1e6)]
    [TestCase(4, 3.0)]
    public void The_product_with_the_hessian_is_what_was_given(int begin, double size)
    {
        // Wide enough for threads to share a product.
        var random = new Random(11);
        var a = Problem.Plant(random, 5, 260, 1.1);
        double[] nu = [.. a.Select(_ => size * random.NextDouble())];
        var inverse = PlanInverse.Of(a, Narrow(a), s_weights, 0, Array.ConvertAll(nu, x => s_weights.R + x), CancellationToken.None);
        var plant = new PlannedPlant([.. a.Skip(begin)], s_weights);
        double[] y = [.. Enumerable.Range(0, plant.Steps * plant.Width).Select(_ => Problem.Normal(random))];
        double[] u = Array.ConvertAll(inverse.Solve(begin, Array.ConvertAll(y, x => (float)x)), x => (double)x), product = new double[y.Length];
        plant.Gradient(u, new double[plant.Width], product);
        for (int k = 0; k < plant.Steps; k++)
        {
            var part = product.AsSpan(k * plant.Width, plant.Width);
            TensorPrimitives.MultiplyAdd(u.AsSpan(k * plant.Width, plant.Width), nu[begin + k], part, part);
        }

        Assert.That(TensorPrimitives.Distance<double>(product, y) / TensorPrimitives.Norm<double>(y), Is.LessThan(1e-4));
    }

    [Test]
    public void A_shorter_horizon_than_the_inverse_has_no_use_for_it()
    {
        var a = Problem.Plant(new Random(2), 4, 5);
        var late = PlanInverse.Of(a, Narrow(a), s_weights, 2, [1, 2], CancellationToken.None);
        Assert.That(late.Mismatch(1, [1, 1, 2]), Is.EqualTo(double.PositiveInfinity));
        Assert.That(late.Mismatch(2, [1, 2]), Is.EqualTo(1));
        Assert.That(late.Mismatch(2, [1, 8]), Is.EqualTo(4));
        Assert.That(late.Mismatch(3, [0.5]), Is.EqualTo(4), "the last step alone");
    }

    [Test]
    public void A_better_inverse_is_made_for_a_plan_that_needs_many_directions()
    {
        var a = Problem.Plant(new Random(4), 3, 8, 1.4);
        var inverses = new PlanInverses(a, s_weights, CancellationToken.None);
        var plant = new PlannedPlant(a, s_weights);
        double[] nu = [50, 5, 0], y = [.. Enumerable.Range(0, 24).Select(i => Math.Sin(i))], product = new double[24];
        double Off(int tried)
        {
            double[] u = inverses.Direction(0, nu, y, tried);
            plant.Gradient(u, new double[8], product);
            for (int i = 0; i < u.Length; i++)
            {
                product[i] += nu[i / 8] * u[i];
            }

            return 1 - (TensorPrimitives.Dot<double>(product, y) / TensorPrimitives.Norm<double>(product) / TensorPrimitives.Norm<double>(y));
        }

        double before = Off(1);
        Assert.That(before, Is.GreaterThan(1e-3), "the inverse of H itself");
        Assert.That(Enumerable.Range(2, 20).Select(Off).Min(), Is.LessThan(1e-9));
        Assert.That(Off(1), Is.LessThan(1e-9), "it is kept");
        nu = [51, 5.1, 0];
        Assert.That(Off(1), Is.LessThan(1e-3), "and serves plans near it");
    }

    private static float[][] Narrow(Matrix<double>[] a) => [.. a.Select(m => Array.ConvertAll(DenseAlgebra.Numbers(m), x => (float)x))];
}
