using MathNet.Numerics.LinearAlgebra;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Synthesis;

/// <summary>
/// A_k of every block, the mean of ∂f_k/∂x_k over calibration prompts (docs/math.md §1): the matrix as float32 holds it, and its products with thin
/// matrices.
/// </summary>
/// <param name="ops">The model's device.</param>
internal abstract class BlockMaps(DeviceOps ops) : IDisposable
{
    /// <summary>Called on the calling thread between two passes over the prompts; null for none. It may throw, which ends the product.</summary>
    public Action? BetweenPasses { get; set; }

    /// <summary>The model's device.</summary>
    protected DeviceOps Ops => ops;

    /// <summary>A_k // (D, D) of a block, in host memory.</summary>
    public Matrix<double> Jacobian(int k, CancellationToken cancellationToken) => Jacobians([k], cancellationToken).Single();

    /// <summary>A_k // (D, D) of blocks in the order given, in host memory. Each is formed no later than it is asked for.</summary>
    public abstract IEnumerable<Matrix<double>> Jacobians(IReadOnlyList<int> blocks, CancellationToken cancellationToken);

    /// <summary>A_k // (D, D) of blocks in the order given, on the model's device. Each is there until the next is asked for.</summary>
    public virtual IEnumerable<ColumnMajor> JacobiansOnDevice(IReadOnlyList<int> blocks, CancellationToken cancellationToken)
    {
        DeviceBuffer? memory = null;
        try
        {
            ColumnMajor onDevice = default;
            foreach (var a in Jacobians(blocks, cancellationToken))
            {
                memory ??= ops.Allocate(a.RowCount, a.ColumnCount, out onDevice);
                ops.Upload(DenseAlgebra.Numbers(a), onDevice);
                yield return onDevice;
            }
        }
        finally
        {
            memory?.Dispose();
        }
    }

    /// <summary>A_k X, for X // (D, p).</summary>
    public abstract Matrix<double> Push(int k, Matrix<double> x, CancellationToken cancellationToken);

    /// <summary>A_k' Z, for Z // (D, p).</summary>
    public abstract Matrix<double> Pull(int k, Matrix<double> z, CancellationToken cancellationToken);

    /// <inheritdoc/>
    public abstract void Dispose();
}
