namespace Tiller.Tests.Model;

/// <summary>Random vectors and distances between vectors, in float64.</summary>
internal static class Numbers
{
    /// <summary>Standard normal numbers.</summary>
    public static float[] Gaussian(Random random, int n, double scale = 1) =>
        [.. Enumerable.Range(0, n)
            .Select(_ => (float)(scale * Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble())))];

    /// <summary>A random direction.</summary>
    public static float[] Unit(Random random, int n)
    {
        float[] x = Gaussian(random, n);
        double norm = Norm(x);
        return Array.ConvertAll(x, value => (float)(value / norm));
    }

    public static double Dot(ReadOnlySpan<float> x, ReadOnlySpan<float> y)
    {
        double sum = 0;
        for (int i = 0; i < x.Length; i++)
        {
            sum += (double)x[i] * y[i];
        }

        return sum;
    }

    public static double Norm(ReadOnlySpan<float> x) => Math.Sqrt(Dot(x, x));

    /// <summary>|actual − expected| / |expected|.</summary>
    public static double Error(ReadOnlySpan<float> actual, ReadOnlySpan<float> expected)
    {
        Assert.That(actual.Length, Is.EqualTo(expected.Length));
        double sum = 0;
        for (int i = 0; i < actual.Length; i++)
        {
            sum += ((double)actual[i] - expected[i]) * ((double)actual[i] - expected[i]);
        }

        double norm = Norm(expected);
        return norm == 0 ? Math.Sqrt(sum) : Math.Sqrt(sum) / norm;
    }

    public static float[] Add(float[] x, double a, float[] y) => [.. x.Zip(y, (u, v) => (float)(u + (a * v)))];
}
