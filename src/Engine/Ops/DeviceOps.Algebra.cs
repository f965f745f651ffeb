using System.Diagnostics;
using System.Runtime.InteropServices;
using Tiller.Kernels;

namespace Tiller.Ops;

/// <content>
/// What controller synthesis needs beside the block: float64 algebra on matrices that stay on the device, and the panels of tangents a
/// Jacobian is made of. Results do not depend on the number of threads, bit for bit.
/// </content>
internal abstract partial class DeviceOps
{
    /// <summary>Memory of the device's own that is free; null where it is the host's.</summary>
    public virtual long? FreeInBytes => null;

    /// <summary>A zeroed matrix on the device.</summary>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns.</param>
    /// <param name="matrix">The whole of the memory // (rows, columns).</param>
    /// <exception cref="DeviceMemoryException">There is no room.</exception>
    public DeviceBuffer Allocate(int rows, int columns, out ColumnMajor matrix)
    {
        var memory = Allocate(sizeof(double) * (long)rows * columns);
        matrix = new ColumnMajor(memory.Address, rows, columns);
        return memory;
    }

    /// <summary>Writes a matrix, columns one after another.</summary>
    public void Upload(ReadOnlySpan<double> source, ColumnMajor destination)
    {
        Debug.Assert(source.Length == destination.Length, "one matrix");
        Upload(MemoryMarshal.AsBytes(source), destination.Address);
    }

    /// <summary>Reads a matrix, columns one after another.</summary>
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

    /// <summary>Calls <paramref name="use"/> with a view of host numbers, in place where the device can read them there.</summary>
    /// <param name="source">Columns one after another.</param>
    /// <param name="rows">Rows of the view.</param>
    /// <param name="use">Must not write to the view nor keep it.</param>
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
    /// <param name="c">C // (m, n); overlaps neither factor.</param>
    /// <param name="cancellationToken">Checked between parts on the CPU; C is of no use once cancelled.</param>
    public abstract void Multiply(double alpha, Factor a, Factor b, double beta, ColumnMajor c, CancellationToken cancellationToken = default);

    /// <summary>Y += α X.</summary>
    public abstract void Add(double alpha, ColumnMajor x, ColumnMajor y);

    /// <summary>M += value I.</summary>
    public abstract void AddToDiagonal(double value, ColumnMajor m);

    /// <summary>S = (S + S')/2.</summary>
    /// <returns>|S − S'| / |S|, Frobenius; 0 for S = 0.</returns>
    public abstract double Symmetrise(ColumnMajor s);

    /// <summary>M = L L' in place, M symmetric // (n, n): L is the lower triangle; what the strict upper one holds is undefined.</summary>
    public abstract Pivots Cholesky(ColumnMajor m, CancellationToken cancellationToken = default);

    /// <summary>X = (L L')^{-1} X in place, from what <see cref="Cholesky"/> left // (n, n), (n, columns).</summary>
    public abstract void CholeskySolve(ColumnMajor l, ColumnMajor x, CancellationToken cancellationToken = default);

    /// <summary>Position of the first entry that is NaN or infinite, counted down the columns, or -1.</summary>
    public abstract long FirstNonFinite(ColumnMajor m);

    /// <summary>rows[j] = e_{column + j}: <paramref name="rows"/> of the identity // (p, D).</summary>
    public abstract void IdentityRows(int column, Floats rows);

    /// <summary>
    /// result[:, j] (+)= scales[j] Σ_i rows[i p + j] in float64, i ascending: the sum of the panels of all prompts, turned on its side.
    /// </summary>
    /// <param name="rows">Panels of p rows, one after another // (panels · p, D).</param>
    /// <param name="scales">One number a column // (p).</param>
    /// <param name="add">Whether to add to the result; it is overwritten else.</param>
    /// <param name="result">// (D, p).</param>
    public abstract void SumPanels(Floats rows, ReadOnlySpan<double> scales, bool add, ColumnMajor result);

    /// <summary>Makes all panels of p rows equal to the first.</summary>
    /// <param name="rows">Panels of p rows, one after another // (panels · p, D).</param>
    /// <param name="p">Rows of a panel.</param>
    public void RepeatPanel(Floats rows, int p)
    {
        // Doubling: the number of copies is the logarithm of the number of panels.
        for (int done = p; done < rows.Rows; done *= 2)
        {
            int count = Math.Min(done, rows.Rows - done);
            Copy(rows.Address, rows.Slice(done, count).Address, sizeof(float) * (long)count * rows.Columns);
        }
    }
}
