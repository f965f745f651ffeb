using MathNet.Numerics.LinearAlgebra;
using Tiller.Kernels;

namespace Tiller.Synthesis;

/// <summary>
/// A_k of every block, the mean of ∂f_k/∂x_k over calibration prompts (docs/math.md §1): the matrix as float32 holds it, and its products with thin
/// matrices.
/// </summary>
internal abstract class BlockMaps : IDisposable
{
    /// <summary>Called on the calling thread between two passes over the prompts; null for none. It may throw, which ends the product.</summary>
    public Action? BetweenPasses { get; set; }

    /// <summary>A_k // (D, D).</summary>
    /// <param name="k">The block.</param>
    /// <param name="result">Gets A_k, on the model's device.</param>
    /// <param name="cancellationToken">Checked while it is formed.</param>
    public abstract void Jacobian(int k, ColumnMajor result, CancellationToken cancellationToken);

    /// <summary>A_k // (D, D) in host memory.</summary>
    public abstract Matrix<double> Jacobian(int k, CancellationToken cancellationToken);

    /// <summary>A_k X, for X // (D, p).</summary>
    public abstract Matrix<double> Push(int k, Matrix<double> x, CancellationToken cancellationToken);

    /// <summary>A_k' Z, for Z // (D, p).</summary>
    public abstract Matrix<double> Pull(int k, Matrix<double> z, CancellationToken cancellationToken);

    /// <inheritdoc/>
    public abstract void Dispose();
}
