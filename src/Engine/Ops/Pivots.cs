namespace Tiller.Ops;

/// <summary>The pivots of a Cholesky factorisation.</summary>
/// <param name="Failed">Row of the first pivot that is not positive, or -1.</param>
/// <param name="Value">Value of that pivot if the device reports it, otherwise NaN.</param>
/// <param name="Smallest">Smallest L_ii; 0 after a failure.</param>
/// <param name="Largest">Largest L_ii; 0 after a failure.</param>
internal readonly record struct Pivots(int Failed, double Value, double Smallest, double Largest)
{
    /// <summary>(max L_ii / min L_ii)², a lower bound of the condition number; 1 for a matrix without rows.</summary>
    public double Condition => Largest == 0 ? 1 : Largest / Smallest * (Largest / Smallest);
}
