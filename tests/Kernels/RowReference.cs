using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

/// <summary>What the kernels compute for one row, in float64.</summary>
internal static class RowReference
{
    /// <summary>RMSNorm of x; x itself if there are no weights.</summary>
    public static double[] Norm(float[] x, float[]? g, float eps) => [.. x.Select((v, i) => g is null ? v : InverseRms(x, eps) * v * g[i])];

    /// <summary>The pushforward of <see cref="Norm"/> at x along dx.</summary>
    public static double[] Tangent(float[] x, float[] dx, float[]? g, float eps)
    {
        double s = InverseRms(x, eps), along = s * s * x.Zip(dx, (a, b) => (double)a * b).Sum() / x.Length;
        return [.. dx.Select((v, i) => g is null ? v : s * g[i] * (v - (along * x[i])))];
    }

    /// <summary>The pullback of <see cref="Norm"/> at x.</summary>
    public static double[] PullNorm(float[] x, double[] bar, float[]? g, float eps)
    {
        if (g is null)
        {
            return bar;
        }

        double s = InverseRms(x, eps), along = s * s * Enumerable.Range(0, x.Length).Sum(i => g[i] * bar[i] * x[i]) / x.Length;
        return [.. bar.Select((v, i) => s * ((g[i] * v) - (along * x[i])))];
    }

    /// <summary>RoPE with <paramref name="rotation"/>, which holds cosines, then sines; with sign -1 it rotates back.</summary>
    public static double[] Rotate(double[] x, float[] rotation, int sign)
    {
        int half = x.Length / 2;
        return [.. Enumerable.Range(0, x.Length).Select(e => e < half
            ? (x[e] * rotation[e]) - (sign * x[half + e] * rotation[half + e])
            : (x[e] * rotation[e - half]) + (sign * x[e - half] * rotation[e]))];
    }

    /// <summary>W x.</summary>
    /// <param name="w">Row-major, with as many columns as <paramref name="x"/> has numbers.</param>
    /// <param name="x">A vector.</param>
    public static double[] Times(float[] w, double[] x) =>
        [.. Enumerable.Range(0, w.Length / x.Length).Select(n => Enumerable.Range(0, x.Length).Sum(k => w[(n * x.Length) + k] * x[k]))];

    /// <summary>act(a) and act'(a).</summary>
    public static (double Value, double Slope) Activate(Activation activation, double a)
    {
        if (activation == Activation.Silu)
        {
            double s = 1 / (1 + Math.Exp(-a));
            return (a * s, s * (1 + (a * (1 - s))));
        }

        double kappa = Math.Sqrt(2 / Math.PI), t = Math.Tanh(kappa * (a + (0.044715 * a * a * a)));
        return (a * (1 + t) / 2, ((1 + t) / 2) + (a * (1 - (t * t)) * kappa * (1 + (0.134145 * a * a)) / 2));
    }

    private static double InverseRms(float[] x, float eps) => 1 / Math.Sqrt((x.Sum(v => (double)v * v) / x.Length) + eps);
}
