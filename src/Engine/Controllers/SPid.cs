using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// S-PID over depth, as in the published code of arXiv:2604.19018. With α_k = λ μ_k − v_k·x_k, u_k = k_p α_k v_k + k_i Σ_j α_j v_j + k_d (α_k v_k −
/// α_{k−1} v_{k−1}). The published code clears the sum at every layer divisible by 10, after adding to it and before using it, so that j runs over
/// 10⌊k/10⌋+1 .. k. The error before layer 0 is the error of the previous token's last layer, 0 before the first token. All layers are steered.
/// </summary>
public sealed class SPid : SteeringMethod
{
    private const int Window = 10;

    /// <summary>Makes the method.</summary>
    /// <param name="feature">v and μ.</param>
    /// <param name="kp">Gain on the error, finite.</param>
    /// <param name="ki">Gain on the sum of errors, finite.</param>
    /// <param name="kd">
    /// Gain on the change of the error, finite. It must be 0 for a model of one layer: the law cannot use the previous token's error of the same
    /// layer.
    /// </param>
    public SPid(Feature feature, double kp, double ki, double kd)
        : base(feature, null)
    {
        if (!(float.IsFinite((float)kp) && float.IsFinite((float)ki) && float.IsFinite((float)kd)))
        {
            throw new ArgumentOutOfRangeException(nameof(kp), $"{kp}, {ki}, {kd}", "The gains k_p, k_i, k_d must be finite.");
        }

        if (feature.L == 1 && kd != 0)
        {
            throw new ArgumentOutOfRangeException(nameof(kd), kd, "A model of one layer has no earlier layer to take a difference with; "
                + "k_d must be 0.");
        }

        Kp = kp;
        Ki = ki;
        Kd = kd;
    }

    /// <inheritdoc/>
    public override string Name => "s-pid";

    /// <summary>k_p.</summary>
    public double Kp { get; }

    /// <summary>k_i.</summary>
    public double Ki { get; }

    /// <summary>k_d.</summary>
    public double Kd { get; }

    private protected override IEnumerable<double> Parameters => [Kp, Ki, Kd];

    private protected override string? IdleGain() => Kp == 0 && Ki == 0 && Kd == 0 ? "the gains k_p, k_i and k_d are 0" : null;

    private protected override void Compile(double lambda, LawParts parts)
    {
        int[] sensorOf = new int[Feature.L];
        Array.Fill(sensorOf, -1);
        foreach (int k in Steered())
        {
            sensorOf[k] = parts.Add(new Sensor(k, Feature.V[k], (float)(lambda * Feature.Mu[k])));
        }

        for (int k = 0; k < Feature.L; k++)
        {
            int before = k == 0 ? Feature.L - 1 : k - 1;
            int start = (k / Window * Window) + 1;

            // Coefficient of α_j v_j in u_k.
            for (int j = 0; j < Feature.L; j++)
            {
                double s = (j == k ? Kp + Kd : 0) + (j >= start && j <= k ? Ki : 0) - (j == before && j != k ? Kd : 0);
                if (s != 0 && sensorOf[j] >= 0)
                {
                    parts.Terms.Add(new Term(k, Feature.V[j], 0, new Feed(sensorOf[j], (float)s)));
                }
            }
        }
    }
}
