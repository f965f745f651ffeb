using Tiller.Kernels;

namespace Tiller.Cpu;

/// <summary>An RMSNorm of the rows in front of a map.</summary>
/// <param name="Weight">The weights g // (1, K), or absent for no norm.</param>
/// <param name="Epsilon">ε of the norm.</param>
internal readonly unsafe record struct InputNorm(Floats Weight, float Epsilon)
{
    /// <summary>Whether there is no norm.</summary>
    public bool IsAbsent => Weight.IsAbsent;

    /// <summary>y = g ∘ (s x) for one row of n numbers.</summary>
    public void Apply(float* x, float* y, int n) => CpuOps.NormRow(x, Weight.Row(0), y, n, Epsilon);
}
