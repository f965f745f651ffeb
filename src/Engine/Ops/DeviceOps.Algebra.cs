using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Kernels;

namespace Tiller.Ops;

/// <content>
/// The operations that controller synthesis needs in addition to the block: float64 algebra on matrices that stay on the device, and the panels of
/// tangents that form a Jacobian. Results are bit for bit independent of the number of threads.
/// </content>
internal abstract partial class DeviceOps
{
    /// <summary>Free memory of the device in bytes; null if the device uses the host's memory.</summary>
    public virtual long? FreeInBytes => null;

    /// <summary>Allocates a zeroed matrix on the device.</summary>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="matrix">A view of all the memory // (rows, columns).</param>
    /// <exception cref="DeviceMemoryException">There is not enough memory.</exception>
    public DeviceBuffer Allocate(int rows, int columns, out ColumnMajor matrix)
    {
        var memory = Allocate(sizeof(double) * (long)rows * columns);
        matrix = new ColumnMajor(memory.Address, rows, columns);
        return memory;
    }

    /// <summary>Writes a matrix from column-major numbers.</summary>
    public void Upload(ReadOnlySpan<double> source, ColumnMajor destination)
    {
        Debug.Assert(source.Length == destination.Length, "one matrix");
        Upload(MemoryMarshal.AsBytes(source), destination.Address);
    }

    /// <summary>Reads a matrix into column-major numbers.</summary>
    public void Download(ColumnMajor source, Span<double> destination)
    {
        Debug.Assert(destination.Length == source.Length, "one matrix");
        Download(source.Address, MemoryMarshal.AsBytes(destination));
    }

    /// <summary>destination = source.</summary>
    public void Copy(ColumnMajor source, ColumnMajor destination)
    {
        Debug.Assert(source.Length == destination.Length, "matrices of one size");
        Copy(source.Address, destination.Address, source.SizeInBytes);
    }

    /// <summary>
    /// Calls <paramref name="use"/> with a view of host numbers. The view is in place if the device can read host memory, and a copy otherwise.
    /// </summary>
    /// <param name="source">Column-major numbers.</param>
    /// <param name="rows">Number of rows of the view.</param>
    /// <param name="use">Must neither write to the view nor keep it.</param>
    public virtual void WithHost(double[] source, int rows, Action<ColumnMajor> use)
    {
        using var memory = Allocate(rows, rows == 0 ? 0 : source.Length / rows, out var copy);
        Upload(source, copy);
        use(copy);
    }

    /// <summary>C = α A B + β C. With β = 0, C is not read.</summary>
    /// <param name="alpha">α.</param>
    /// <param name="a">A // (m, depth).</param>
    /// <param name="b">B // (depth, n).</param>
    /// <param name="beta">β.</param>
    /// <param name="c">C // (m, n); must overlap neither factor.</param>
    /// <param name="cancellationToken">Checked between parts on the CPU. After a cancellation C is not valid.</param>
    public abstract void Multiply(double alpha, Factor a, Factor b, double beta, ColumnMajor c, CancellationToken cancellationToken = default);

    /// <summary>Y += α X.</summary>
    public abstract void Add(double alpha, ColumnMajor x, ColumnMajor y);

    /// <summary>Rounds every number to the nearest float32; one beyond its range becomes infinite.</summary>
    public abstract void RoundToSingle(ColumnMajor y);

    /// <summary>M += value I.</summary>
    public abstract void AddToDiagonal(double value, ColumnMajor m);

    /// <summary>S = (S + S')/2.</summary>
    /// <returns>|S − S'| / |S|, Frobenius; 0 for S = 0.</returns>
    public abstract double Symmetrise(ColumnMajor s);

    /// <summary>
    /// Factors M = L L' in place, M symmetric // (n, n). L is the lower triangle; the strict upper triangle is undefined afterwards.
    /// </summary>
    public abstract Pivots Cholesky(ColumnMajor m, CancellationToken cancellationToken = default);

    /// <summary>X = (L L')^{-1} X in place, with L from <see cref="Cholesky"/> // (n, n), (n, columns).</summary>
    public abstract void CholeskySolve(ColumnMajor l, ColumnMajor x, CancellationToken cancellationToken = default);

    /// <summary>Column-major index of the first entry that is NaN or infinite, or -1.</summary>
    public abstract long FirstNonFinite(ColumnMajor m);

    /// <summary>rows[j] = e_{column + j}: <paramref name="rows"/> of the identity // (p, D).</summary>
    public abstract void IdentityRows(int column, Floats rows);

    /// <summary>result[:, j] (+)= scales[j] Σ_i rows[i p + j] in float64, i ascending: the transposed sum of the panels of all prompts.</summary>
    /// <param name="rows">Panels of p rows, one after another // (panels · p, D).</param>
    /// <param name="scales">One factor for each column of the result // (p).</param>
    /// <param name="add">Whether to add to the result instead of overwriting it.</param>
    /// <param name="result">// (D, p).</param>
    public abstract void SumPanels(Floats rows, ReadOnlySpan<double> scales, bool add, ColumnMajor result);

    /// <summary>Makes all panels of p rows equal to the first.</summary>
    /// <param name="rows">Panels of p rows, one after another // (panels · p, D).</param>
    /// <param name="p">Number of rows in a panel.</param>
    public void RepeatPanel(Floats rows, int p)
    {
        // The copied part doubles, so the number of copies is the logarithm of the number of panels.
        for (int done = p; done < rows.Rows; done *= 2)
        {
            int count = Math.Min(done, rows.Rows - done);
            Copy(rows.Address, rows.Slice(done, count).Address, sizeof(float) * (long)count * rows.Columns);
        }
    }
}
