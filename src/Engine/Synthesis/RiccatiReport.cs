namespace Tiller.Synthesis;

/// <summary>How well one step of the recursion was solved.</summary>
/// <param name="Layer">Block k.</param>
/// <param name="Residual">
/// The larger of two relative residuals on random probes z: of the gain equation (S_{k+1} + rI) K_k = S_{k+1} A_k, and of the value
/// equation for S_k.
/// </param>
/// <param name="SymmetryError">|S_k − S_k'| / |S_k| (Frobenius) before symmetrising; 0 where S is symmetric by construction.</param>
/// <param name="Condition">(max L_ii / min L_ii)² of the Cholesky factor that was solved with: a lower bound of its condition number.</param>
/// <param name="Rank">Columns or rows that S_{k+1} is carried with: D dense, p factored and reduced.</param>
/// <param name="DroppedEnergy">Share of trace S_k that compression dropped; 0 without compression.</param>
/// <param name="Leakage">|A_k W_k − W_{k+1} Ã_k| / |A_k W_k| (Frobenius): what a reduced basis does not hold; 0 otherwise.</param>
public sealed record RiccatiStep(int Layer, double Residual, double SymmetryError, double Condition, int Rank, double DroppedEnergy, double Leakage);

/// <summary>How well a whole recursion was solved.</summary>
/// <param name="Steps">One entry per layer, k = 0..L-1.</param>
public sealed record RiccatiReport(IReadOnlyList<RiccatiStep> Steps)
{
    /// <summary>Largest residual of all layers; 0 without layers.</summary>
    public double Residual => Steps.Count == 0 ? 0 : Steps.Max(s => s.Residual);

    /// <summary>Largest symmetry error of all layers; 0 without layers.</summary>
    public double SymmetryError => Steps.Count == 0 ? 0 : Steps.Max(s => s.SymmetryError);

    /// <summary>Largest rank of all layers; 0 without layers.</summary>
    public int Rank => Steps.Count == 0 ? 0 : Steps.Max(s => s.Rank);

    /// <summary>Largest condition estimate of all layers; 1 without layers.</summary>
    public double Condition => Steps.Count == 0 ? 1 : Steps.Max(s => s.Condition);

    /// <summary>Largest share that a compression dropped; 0 without compression.</summary>
    public double DroppedEnergy => Steps.Count == 0 ? 0 : Steps.Max(s => s.DroppedEnergy);

    /// <summary>Largest share of a tangent that left the reduced basis; 0 for dense and factored solves.</summary>
    public double Leakage => Steps.Count == 0 ? 0 : Steps.Max(s => s.Leakage);
}

/// <summary>Gains and how well they were solved.</summary>
/// <param name="Gains">K_k for k = 0..L-1.</param>
/// <param name="Report">Residuals, ranks and condition estimates.</param>
public sealed record RiccatiSolution(IReadOnlyList<Gain> Gains, RiccatiReport Report);
