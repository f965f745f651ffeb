using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>A CUDA library that a computation needs is missing on this machine.</summary>
public sealed class SynthesisLibraryException : TillerException
{
    internal SynthesisLibraryException(string device, CudaLibraryMissingException cause)
        : base(
            $"A dense fit on {device} needs {cause.Library}, which is missing. Fit with FitOptions.Cost = FitCost.Feature or FitOptions.Order = p, "
            + $"which need no CUDA library, or on the CPU (LoadOptions.Device = Device.Cpu), or install it. {cause.Message}",
            cause)
    {
    }
}

/// <content>float64 algebra by cuBLAS and cuSOLVER, which are loaded on first use. Cholesky factors of small matrices need no cuSOLVER.</content>
internal sealed partial class CudaOps
{
    private CudaBlas? _blas64;
    private CudaSolveDense? _solver;
    private DeviceBuffer? _algebra;

    /// <inheritdoc/>
    public override long? FreeInBytes => _context.GetMemoryInfo().FreeInBytes;

    /// <inheritdoc/>
    public override void Multiply(double alpha, Factor a, Factor b, double beta, ColumnMajor c, CancellationToken cancellationToken = default)
    {
        Debug.Assert(a.Columns == b.Rows && a.Rows == c.Rows && b.Columns == c.Columns, "C = A B needs matching shapes.");
        cancellationToken.ThrowIfCancellationRequested();
        lock (_launching)
        {
            if (c.Length > 0)
            {
                Blas64().Dgemm(Operation(a), Operation(b), c.Rows, c.Columns, a.Columns, alpha, a.Matrix.Address, Math.Max(1, a.Matrix.Rows),
                    b.Matrix.Address, Math.Max(1, b.Matrix.Rows), beta, c.Address, c.Rows);
            }
        }
    }

    /// <inheritdoc/>
    public override void Add(double alpha, ColumnMajor x, ColumnMajor y)
    {
        lock (_launching)
        {
            _algebraKernels.Add(_stream, alpha, x, y);
        }
    }

    /// <inheritdoc/>
    public override void RoundToSingle(ColumnMajor y)
    {
        lock (_launching)
        {
            _algebraKernels.RoundToSingle(_stream, y);
        }
    }

    /// <inheritdoc/>
    public override void AddToDiagonal(double value, ColumnMajor m)
    {
        lock (_launching)
        {
            _algebraKernels.AddDiagonal(_stream, value, m);
        }
    }

    /// <inheritdoc/>
    public override double Symmetrise(ColumnMajor s)
    {
        Debug.Assert(s.Rows == s.Columns, "a square matrix");
        Span<double> sums = stackalloc double[2];
        lock (_launching)
        {
            long pairs = 2L * s.Rows;
            var scratch = AlgebraScratch<double>(2 + pairs);
            _algebraKernels.Symmetrise(_stream, s, scratch.Slice(2, pairs), scratch.Slice(0, 2));
            _stream.CopyToHost(scratch.Address, MemoryMarshal.AsBytes(sums));
        }

        return sums[1] == 0 ? 0 : Math.Sqrt(sums[0]) / Math.Sqrt(sums[1]);
    }

    /// <inheritdoc/>
    public override Pivots Cholesky(ColumnMajor m, CancellationToken cancellationToken = default)
    {
        Debug.Assert(m.Rows == m.Columns, "a square matrix");
        cancellationToken.ThrowIfCancellationRequested();
        if (m.Rows == 0)
        {
            return new Pivots(-1, double.NaN, 0, 0);
        }

        Span<double> ends = stackalloc double[2];
        lock (_launching)
        {
            int info;
            if (Solver(m.Rows) is { } solver)
            {
                info = solver.Potrf(CublasFillMode.Lower, m.Rows, CudaDataType.R64F, m.Address, m.Rows);
            }
            else
            {
                var failed = AlgebraScratch<int>(1);
                _cholesky.Factor(_stream, m, failed);
                info = 0;
                _stream.CopyToHost(failed.Address, MemoryMarshal.AsBytes(new Span<int>(ref info)));
            }

            if (info > 0)
            {
                return new Pivots(info - 1, double.NaN, 0, 0);
            }

            var extremes = AlgebraScratch<double>(2);
            _algebraKernels.DiagonalExtremes(_stream, m, extremes);
            _stream.CopyToHost(extremes.Address, MemoryMarshal.AsBytes(ends));

            // LAPACK's factorisations stop at pivots ≤ 0, but do not notice NaN.
            return double.IsNaN(ends[0]) ? new Pivots(FirstNaN(m), double.NaN, 0, 0) : new Pivots(-1, double.NaN, ends[0], ends[1]);
        }
    }

    /// <inheritdoc/>
    public override void CholeskySolve(ColumnMajor l, ColumnMajor x, CancellationToken cancellationToken = default)
    {
        Debug.Assert(l.Rows == l.Columns && l.Rows == x.Rows, "as many rows as the factor");
        cancellationToken.ThrowIfCancellationRequested();
        if (x.Length == 0)
        {
            return;
        }

        lock (_launching)
        {
            if (Solver(l.Rows) is { } solver)
            {
                solver.Potrs(CublasFillMode.Lower, l.Rows, x.Columns, CudaDataType.R64F, l.Address, l.Rows, x.Address, x.Rows);
                return;
            }

            // L Y = X, then Lᵀ X = Y
            var succeeded = AlgebraScratch<int>(1);
            _stream.Clear(succeeded.Address, succeeded.SizeInBytes);
            _cholesky.Solve(_stream, l, succeeded, x, transposed: false);
            _cholesky.Solve(_stream, l, succeeded, x, transposed: true);
        }
    }

    /// <inheritdoc/>
    public override long FirstNonFinite(ColumnMajor m)
    {
        if (m.Length == 0)
        {
            return -1;
        }

        Span<long> firsts = stackalloc long[AlgebraKernels.MaxStretches];
        lock (_launching)
        {
            var scratch = AlgebraScratch<long>(AlgebraKernels.MaxStretches);
            int stretches = _algebraKernels.FirstBad(_stream, m, scratch);
            firsts = firsts[..stretches];
            _stream.CopyToHost(scratch.Address, MemoryMarshal.AsBytes(firsts));
        }

        int at = firsts.IndexOfAnyExcept(-1L);
        return at < 0 ? -1 : firsts[at];
    }

    /// <inheritdoc/>
    public override void IdentityRows(int column, Floats rows)
    {
        lock (_launching)
        {
            _algebraKernels.Identity(_stream, rows, column);
        }
    }

    /// <inheritdoc/>
    public override void SumPanels(Floats rows, ReadOnlySpan<double> scales, bool add, ColumnMajor result)
    {
        lock (_launching)
        {
            var onDevice = AlgebraScratch<double>(scales.Length);
            _stream.CopyToDevice(onDevice.Address, MemoryMarshal.AsBytes(scales));
            _algebraKernels.SumPanels(_stream, rows, onDevice, add, result);
        }
    }

    private int FirstNaN(ColumnMajor l)
    {
        double pivot = 0;
        for (int i = 0; i < l.Rows; i++)
        {
            _stream.CopyToHost(l.Address + (nint)(sizeof(double) * (long)i * (l.Rows + 1)), MemoryMarshal.AsBytes(new Span<double>(ref pivot)));
            if (double.IsNaN(pivot))
            {
                return i;
            }
        }

        throw new System.Diagnostics.UnreachableException("one of the pivots is NaN");
    }

    private static CublasOperation Operation(Factor f) => f.Transposed ? CublasOperation.Transpose : CublasOperation.NonTranspose;

    private DeviceSpan<T> AlgebraScratch<T>(long length)
        where T : unmanaged
    {
        long sizeInBytes = Unsafe.SizeOf<T>() * length;
        if (_algebra is null || _algebra.SizeInBytes < sizeInBytes)
        {
            _algebra?.Dispose();
            _algebra = null;
            _algebra = Allocate(sizeInBytes);
        }

        return new(_algebra.Address, length);
    }

    private CudaBlas Blas64()
    {
        try
        {
            return _blas64 ??= new CudaBlas(_context, _stream);
        }
        catch (CudaLibraryMissingException e)
        {
            throw new SynthesisLibraryException(Name, e);
        }
    }

    /// <summary>cuSOLVER; null if it is missing and the kernels of this repository can factor a matrix of this order.</summary>
    private CudaSolveDense? Solver(int order)
    {
        try
        {
            return _solver ??= new CudaSolveDense(_context, _stream);
        }
        catch (CudaLibraryMissingException e)
        {
            return order <= CholeskyKernels.MaxOrder ? null : throw new SynthesisLibraryException(Name, e);
        }
    }
}
