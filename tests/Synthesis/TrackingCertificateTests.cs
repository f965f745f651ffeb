using MathNet.Numerics.LinearAlgebra;
using Tiller.Synthesis;

namespace Tiller.Tests.Synthesis;

/// <summary>The bound on the tracking error where the truth is known (docs/math.md §7).</summary>
public sealed class TrackingCertificateTests
{
    private const int Steps = 5;
    private const int Width = 4;

    [Test]
    public void The_contraction_is_what_the_lyapunov_equation_says([Range(1, 4)] int seed)
    {
        var certificate = new TrackingCertificate(Problem.Plant(new Random(seed), Steps, Width, 1.3));
        for (int k = 0; k < Steps; k++)
        {
            double largest = certificate.P[k].Evd(Symmetricity.Symmetric).EigenValues[^1].Real;
            Assert.That(certificate.Contraction[k], Is.EqualTo(Math.Sqrt(1 - (1 / largest))).Within(1e-12).And.LessThan(1));
        }
    }

    [Test]
    public void A_linear_loop_is_inside_from_every_start_and_meets_the_bound_from_the_worst([Range(1, 4)] int seed)
    {
        var random = new Random(seed);
        var closed = Problem.Plant(random, Steps, Width, 1.2);
        var certificate = new TrackingCertificate(closed);
        double[] none = new double[Steps];
        double tightest = double.PositiveInfinity;
        for (int i = 0; i < 1000; i++)
        {
            var run = certificate.Check(Run(closed, null, 0, Problem.Gaussian(random, Width, 1).Column(0)), none);
            Assert.That(run.Inside);
            Assert.That(run.Bound, Is.EqualTo(run.Closed), "without a remainder nothing is fed back");
            tightest = Math.Min(tightest, run.Looseness);
        }

        // x_0 = C_0^{-T} y with y the right singular vector of C_L' Φ C_0^{-T}
        var phi = closed.Aggregate((product, next) => next * product);
        var root = certificate.P[0].Cholesky().Factor;
        var worst = root.Transpose().Solve((phi * root.Transpose().Inverse()).Svd().VT.Row(0));
        Assert.That(certificate.Check(Run(closed, null, 0, worst), none).Looseness, Is.EqualTo(1).Within(1e-11));
        Assert.That(tightest, Is.GreaterThanOrEqualTo(1 - 1e-12));
    }

    [Test]
    public void A_quadratic_remainder_stays_inside_for_ten_thousand_starts_and_a_larger_one_than_claimed_is_caught()
    {
        var random = new Random(7);
        var closed = Problem.Plant(random, Steps, Width, 0.9);
        var certificate = new TrackingCertificate(closed);
        Vector<double>[] g = [.. Enumerable.Range(0, Steps).Select(_ => Problem.Gaussian(random, Width, 1).Column(0))];
        const double C = 0.05;

        // |ρ_k| = (c/2) |x|² |g_k| and |x|² ≤ |x|²_P / λ_min(P_k)
        double[] curvatures = [.. Enumerable.Range(0, Steps).Select(k =>
            C * certificate.Length(k + 1, g[k].ToArray()) / certificate.P[k].Evd(Symmetricity.Symmetric).EigenValues[0].Real)];
        int outside = 0, caught = 0;
        double fullest = 0;
        for (int i = 0; i < 10_000; i++)
        {
            var start = Problem.Gaussian(random, Width, 1, 1 + (i % 7)).Column(0);
            var run = certificate.Check(Run(closed, g, C, start), curvatures);
            outside += run.Inside ? 0 : 1;
            fullest = Math.Max(fullest, Enumerable.Range(1, Steps).Max(k => run.Error[k] / run.Bound[k]));
            caught += certificate.Check(Run(closed, g, 50 * C, start), curvatures).Inside ? 0 : 1;
        }

        using (Assert.EnterMultipleScope())
        {
            Assert.That(outside, Is.Zero);
            Assert.That(fullest, Is.InRange(0.5, 1), "a bound that is met by nothing says little");
            Assert.That(caught, Is.GreaterThan(1000));
        }

        // What is measured on calibration runs is no more than the true constant, and near it.
        var measured = certificate.Curvatures(Enumerable.Range(0, 2000).Select(_ => Run(closed, g, C, Problem.Gaussian(random, Width, 1).Column(0))));
        for (int k = 0; k < Steps; k++)
        {
            Assert.That(measured[k] / curvatures[k], Is.InRange(k == 0 ? 0.8 : 0.05, 1 + 1e-9), $"step {k}");
        }
    }

    [Test]
    public void The_closed_bound_knows_the_first_error_alone_and_may_be_infinite()
    {
        var closed = Problem.Plant(new Random(3), Steps, Width);
        var certificate = new TrackingCertificate(closed);
        double[] curvatures = [.. Enumerable.Repeat(1e3, Steps)];
        var run = certificate.Check(Run(closed, null, 0, Vector<double>.Build.Dense(Width, 1e150)), curvatures);
        Assert.That(run.Closed[^1], Is.EqualTo(double.PositiveInfinity));
        Assert.That(run.Closed, Has.None.NaN);
    }

    [Test]
    public void A_spectral_norm_is_the_largest_singular_value()
    {
        var random = new Random(4);
        foreach (int n in new[] { 1, 2, 7, 8, 9, 40, 130 })
        {
            var m = Problem.Gaussian(random, n, n);
            double expected = m.Svd(computeVectors: false).S[0];
            foreach (double scale in new[] { 1e-200, 1, 1e200 })
            {
                Assert.That(SpectralNorm.Of(scale * m) / scale, Is.EqualTo(expected).Within(1e-12 * expected), $"{n}");
            }

            var orthogonal = Problem.Orthogonal(random, n);
            Assert.That(SpectralNorm.Of(orthogonal), Is.EqualTo(1).Within(1e-12), "every singular value is the largest");
            Assert.That(SpectralNorm.Of(0.0 * m), Is.Zero);
        }
    }

    [Test]
    public void What_has_no_certificate_is_refused()
    {
        Assert.Throws<ArgumentException>(() => _ = new TrackingCertificate([]));
        Assert.Throws<RiccatiException>(() => _ = new TrackingCertificate([Matrix<double>.Build.Dense(2, 3)]));
        Assert.Throws<RiccatiException>(() => _ = new TrackingCertificate([Matrix<double>.Build.Dense(2, 2, double.NaN)]));
    }

    private static double[][] Run(IReadOnlyList<Matrix<double>> closed, IReadOnlyList<Vector<double>>? g, double c, Vector<double> start)
    {
        var states = new List<Vector<double>> { start };
        for (int k = 0; k < closed.Count; k++)
        {
            var next = closed[k] * states[^1];
            states.Add(g is null ? next : next + (c / 2 * states[^1].DotProduct(states[^1]) * g[k]));
        }

        return [.. states.Select(x => x.ToArray())];
    }
}
