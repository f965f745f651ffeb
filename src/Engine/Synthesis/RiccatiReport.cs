namespace Tiller.Synthesis;

/// <summary>Accuracy of one step of the recursion.</summary>
/// <param name="Layer">Block k.</param>
/// <param name="Residual">
/// The larger of two relative residuals on random probes z: of the gain equation (S_{k+1} + rI) K_k = S_{k+1} A_k, and of the equation for S_k.
/// </param>
/// <param name="SymmetryError">|S_k − S_k'| / |S_k| (Frobenius) before symmetrising; 0 if S is symmetric by construction.</param>
/// <param name="Condition">(max L_ii / min L_ii)² of the step's Cholesky factor, a lower bound of the condition number; 1 without an input.</param>
/// <param name="Rank">Rank of the representation of S_{k+1}: D if dense, the number of columns p if factored or reduced.</param>
/// <param name="DroppedEnergy">Share of the trace of S_k that compression dropped; 0 without compression.</param>
/// <param name="Leakage">
/// |A_k W_k − W_{k+1} Ã_k| / |A_k W_k| (Frobenius), the part outside the next reduced basis; 0 for dense and factored solves.
/// </param>
public sealed record RiccatiStep(int Layer, double Residual, double SymmetryError, double Condition, int Rank, double DroppedEnergy, double Leakage);

/// <summary>Accuracy of a whole recursion.</summary>
/// <param name="Steps">One entry for each layer, k = 0..L-1.</param>
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

    /// <summary>Largest share that compression dropped at a layer; 0 without compression.</summary>
    public double DroppedEnergy => Steps.Count == 0 ? 0 : Steps.Max(s => s.DroppedEnergy);

    /// <summary>Largest leakage of all layers; 0 for dense and factored solves.</summary>
    public double Leakage => Steps.Count == 0 ? 0 : Steps.Max(s => s.Leakage);
}

/// <summary>Gains and the accuracy of their solution.</summary>
/// <param name="Gains">K_k for k = 0..L-1.</param>
/// <param name="Report">Residuals, ranks and condition estimates.</param>
public sealed record RiccatiSolution(IReadOnlyList<Gain> Gains, RiccatiReport Report);
