namespace Tiller.Features;

/// <summary>
/// A direction at each layer that separates two prompt sets (docs/math.md §2). By default, E_k = mean(x_k | positive) − mean(x_k | negative) at the
/// last token, μ_k = |E_k| and v_k = E_k/μ_k, k = 0..L. If |E_k| is below <see cref="Negligible"/>, v_k and μ_k are 0 and the layer is not steered.
/// </summary>
public sealed record Feature
{
    /// <summary>Differences E_k shorter than this count as 0.</summary>
    public const double Negligible = 1e-6;

    /// <summary>Makes a feature of measured directions and lengths.</summary>
    /// <param name="v">v_0..v_L, unit vectors or 0 // (L+1, D).</param>
    /// <param name="mu">μ_0..μ_L // (L+1).</param>
    /// <param name="origin">v_k·mean(x_k | negative), for affine setpoints // (L+1); null if not measured.</param>
    /// <exception cref="ArgumentException">
    /// Lengths disagree, a number is not finite, a v_k is neither 0 nor of unit length, or a μ_k is negative.
    /// </exception>
    public Feature(IReadOnlyList<float[]> v, IReadOnlyList<float> mu, IReadOnlyList<float>? origin = null)
    {
        if (v.Count < 2 || mu.Count != v.Count || (origin is not null && origin.Count != v.Count))
        {
            throw new ArgumentException($"A feature has L+1 ≥ 2 rows; got {v.Count} directions, {mu.Count} lengths, {origin?.Count ?? v.Count} "
                + "origins.", nameof(v));
        }

        for (int k = 0; k < v.Count; k++)
        {
            if (v[k].Length != v[0].Length || v[k].Length == 0)
            {
                throw new ArgumentException($"Direction {k} has {v[k].Length} numbers, direction 0 has {v[0].Length}.", nameof(v));
            }

            double length = Length(v[k]);
            if (length != 0 && !(Math.Abs(length - 1) < 1e-5))
            {
                throw new ArgumentException($"Direction {k} has length {length}; it must be of unit length, or 0 where nothing is steered.",
                    nameof(v));
            }

            if (!(mu[k] >= 0 && float.IsFinite(mu[k])) || (origin is not null && !float.IsFinite(origin[k])))
            {
                throw new ArgumentException($"At layer {k} μ is {mu[k]} and the origin {origin?[k] ?? 0}; both must be finite, μ at least 0.",
                    nameof(mu));
            }
        }

        V = v;
        Mu = mu;
        Origin = origin;
    }

    /// <summary>v_0..v_L, unit vectors or 0 // (L+1, D).</summary>
    public IReadOnlyList<float[]> V { get; }

    /// <summary>μ_0..μ_L // (L+1).</summary>
    public IReadOnlyList<float> Mu { get; }

    /// <summary>v_k·mean(x_k | negative) // (L+1); null if not measured.</summary>
    public IReadOnlyList<float>? Origin { get; }

    /// <summary>Number of blocks of the model; there are L+1 directions.</summary>
    public int L => V.Count - 1;

    /// <summary>Width of the model.</summary>
    public int D => V[0].Length;

    /// <summary>Makes a feature of the differences of the two means.</summary>
    /// <param name="difference">E_0..E_L // (L+1, D).</param>
    /// <param name="negativeMean">mean(x_k | negative), for affine setpoints // (L+1, D); null for a feature without an origin.</param>
    /// <exception cref="ArgumentException">Lengths disagree or a number is not finite.</exception>
    public static Feature FromDifference(IReadOnlyList<float[]> difference, IReadOnlyList<float[]>? negativeMean = null)
    {
        if (negativeMean is not null && negativeMean.Count != difference.Count)
        {
            throw new ArgumentException($"{difference.Count} differences, but {negativeMean.Count} means of the negative prompts.",
                nameof(negativeMean));
        }

        var v = new float[difference.Count][];
        float[] mu = new float[difference.Count];
        float[]? origin = negativeMean is null ? null : new float[difference.Count];
        for (int k = 0; k < v.Length; k++)
        {
            double length = Length(difference[k]);
            if (!double.IsFinite(length))
            {
                throw new ArgumentException($"The difference of means at layer {k} holds NaN or an infinity.", nameof(difference));
            }

            v[k] = new float[difference[k].Length];
            if (length < Negligible)
            {
                continue;
            }

            mu[k] = (float)length;
            for (int i = 0; i < v[k].Length; i++)
            {
                v[k][i] = (float)(difference[k][i] / length);
            }

            if (origin is not null)
            {
                origin[k] = (float)Dot(v[k], negativeMean![k]);
            }
        }

        return new Feature(v, mu, origin);
    }

    /// <summary>E_k = μ_k v_k // (D).</summary>
    /// <param name="k">Layer, 0..L.</param>
    public float[] Difference(int k) => Array.ConvertAll(V[k], x => x * Mu[k]);

    private static double Length(float[] x) => Math.Sqrt(Dot(x, x));

    /// <summary>a · b, summed in float64.</summary>
    internal static double Dot(float[] a, float[] b)
    {
        if (a.Length != b.Length)
        {
            throw new ArgumentException($"Vectors of {a.Length} and {b.Length} numbers.", nameof(b));
        }

        double sum = 0;
        for (int i = 0; i < a.Length; i++)
        {
            sum += (double)a[i] * b[i];
        }

        return sum;
    }
}
