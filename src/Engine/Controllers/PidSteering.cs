using Tiller.Features;

namespace Tiller.Controllers;

/// <summary>
/// PID Steering (arXiv:2510.04309; docs/math.md §6): a filter over depth turns the differences E_k into the directions k_p E_k + k_i Σ_{j≤k} E_j +
/// k_d (E_k − E_{k−1}); at k = 0 there is no k_d part. The directions are then added (<see cref="OpenLoopAddition"/>) or ablated
/// (<see cref="Ablation"/>) like those of any feature.
/// </summary>
public static class PidSteering
{
    /// <summary>Published k_p.</summary>
    public const double PublishedKp = 0.9;

    /// <summary>Published k_i.</summary>
    public const double PublishedKi = 0.01;

    /// <summary>Published k_d.</summary>
    public const double PublishedKd = 0.01;

    /// <summary>Makes the feature whose differences are these directions.</summary>
    /// <param name="feature">E_k = μ_k v_k.</param>
    /// <param name="kp">Gain on the difference.</param>
    /// <param name="ki">Gain on the sum of the differences up to the layer.</param>
    /// <param name="kd">Gain on the change from the previous layer; layer 0 has none.</param>
    /// <exception cref="ArgumentOutOfRangeException">A gain is not finite.</exception>
    public static Feature Directions(Feature feature, double kp = PublishedKp, double ki = PublishedKi, double kd = PublishedKd)
    {
        if (!(double.IsFinite(kp) && double.IsFinite(ki) && double.IsFinite(kd)))
        {
            throw new ArgumentOutOfRangeException(nameof(kp), $"{kp}, {ki}, {kd}", "The gains k_p, k_i, k_d must be finite.");
        }

        double[][] differences = [.. feature.V.Zip(feature.Mu, (v, mu) => Array.ConvertAll(v, x => (double)mu * x))];
        return Feature.FromDifference([.. Directions(differences, kp, ki, kd).Select(row => Array.ConvertAll(row, x => (float)x))]);
    }

    /// <summary>Computes the directions in float64 // (L+1, D).</summary>
    /// <param name="differences">E_0..E_L // (L+1, D).</param>
    /// <param name="kp">Gain on the difference.</param>
    /// <param name="ki">Gain on the sum.</param>
    /// <param name="kd">Gain on the change.</param>
    internal static double[][] Directions(double[][] differences, double kp, double ki, double kd)
    {
        double[] sum = new double[differences[0].Length];
        double[][] directions = new double[differences.Length][];
        for (int k = 0; k < differences.Length; k++)
        {
            directions[k] = new double[sum.Length];
            for (int i = 0; i < sum.Length; i++)
            {
                double difference = differences[k][i];
                sum[i] += difference;
                directions[k][i] = (kp * difference) + (ki * sum[i]) + (k == 0 ? 0 : kd * (difference - differences[k - 1][i]));
            }
        }

        return directions;
    }
}
