namespace Tiller.Synthesis;

/// <summary>Weights of the quadratic cost Σ_k (q |δx_k|² + r |u_k|²) + qf |δx_L|² (docs/math.md §3). The constructor checks them.</summary>
public sealed record LqrWeights
{
    /// <summary>Checks and stores the weights.</summary>
    /// <param name="q">Weight of the state error at layers 0..L-1; finite, at least 0.</param>
    /// <param name="r">Weight of the effort; finite, above 0.</param>
    /// <param name="qf">Weight of the state error at the output of the last layer; finite, at least 0.</param>
    /// <exception cref="RiccatiException">A weight is out of range.</exception>
    public LqrWeights(double q, double r, double qf)
    {
        Q = CheckState("q", q);
        R = CheckEffort(r);
        Qf = CheckState("qf", qf);
    }

    /// <summary>Weight of the state error at layers 0..L-1.</summary>
    public double Q { get; }

    /// <summary>Weight of the effort.</summary>
    public double R { get; }

    /// <summary>Weight of the state error at the output of the last layer.</summary>
    public double Qf { get; }

    internal static double CheckEffort(double r) =>
        r > 0 && double.IsFinite(r)
            ? r
            : throw RiccatiException.Range("r", r, "finite and above 0; without a cost of the effort, the gain is undefined where Q is singular");

    private static double CheckState(string name, double value) =>
        value >= 0 && double.IsFinite(value) ? value : throw RiccatiException.Range(name, value, "finite and at least 0");
}
